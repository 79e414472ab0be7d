from .asking import ENGINES, check_engine, engine_of

__all__ = ["ENGINES", "check_engine", "engine_of"]
