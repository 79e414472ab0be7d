from .writing import write_page, write_report

__all__ = [
    "write_page",
    "write_report",
]
