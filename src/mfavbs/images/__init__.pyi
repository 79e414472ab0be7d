from .candidates import Images, folder_labels
from .decoding import content_hash, decode
from .finding import SUFFIXES
from .opening import open_images, reopen_images
from .tar import TAR_SUFFIXES
from .views import VIEWS_VERSION, Views

__all__ = [
    "SUFFIXES",
    "TAR_SUFFIXES",
    "VIEWS_VERSION",
    "Images",
    "Views",
    "content_hash",
    "decode",
    "folder_labels",
    "open_images",
    "reopen_images",
]
