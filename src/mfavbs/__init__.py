"""Cluster images without labels: multiple fusing-augmenting ViT blocks on frozen features.

What ``__init__.pyi`` names is imported when it is first asked for: torch takes seconds, and
``mfavbs --help`` needs none of it.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
