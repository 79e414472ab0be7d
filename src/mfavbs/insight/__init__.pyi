from .identity import Changes, changes, continue_numbers

__all__ = [
    "Changes",
    "changes",
    "continue_numbers",
]
