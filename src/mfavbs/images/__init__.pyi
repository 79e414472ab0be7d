from .arrays import is_of_images, is_of_paths
from .augmenting import AUGMENTS, views_of
from .batched import ELEMENTS, views_of_bases
from .candidates import Images, folder_labels, not_empty
from .dates import day_taken
from .decoding import content_hash, decode
from .finding import HEIF_SUFFIXES, RAW_SUFFIXES, SUFFIXES
from .framing import FITS, Framing
from .grey_levels import Range, checked_range, recorded_range
from .looks import LOOK, look_of
from .memory import IMAGE_MEMORY
from .opening import open_images, reopen_images
from .reading import measure_range, picture_of, read_content, read_image
from .recipes import RECIPES, changed_in_part
from .replaying import recolour, replay_crops
from .shards import is_archive
from .tar import TAR_SUFFIXES
from .views import VIEWS_VERSION, Base, Views

__all__ = [
    "AUGMENTS",
    "ELEMENTS",
    "FITS",
    "HEIF_SUFFIXES",
    "IMAGE_MEMORY",
    "LOOK",
    "RAW_SUFFIXES",
    "RECIPES",
    "SUFFIXES",
    "TAR_SUFFIXES",
    "VIEWS_VERSION",
    "Base",
    "Framing",
    "Images",
    "Range",
    "Views",
    "changed_in_part",
    "checked_range",
    "content_hash",
    "day_taken",
    "decode",
    "folder_labels",
    "is_archive",
    "is_of_images",
    "is_of_paths",
    "look_of",
    "measure_range",
    "not_empty",
    "open_images",
    "picture_of",
    "read_content",
    "read_image",
    "recolour",
    "recorded_range",
    "reopen_images",
    "replay_crops",
    "views_of",
    "views_of_bases",
]
