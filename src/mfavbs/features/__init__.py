"""The feature store: every view of every image through the encoder once, onto disk; it grows.

Other rooms may use what ``__init__.pyi`` names; it is imported when it is first asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
