"""The day on which a picture was taken, as its EXIF says.

In: a source and a row of it. Out: a day as 2019-07-14, or None.
"""

import io
import re

import numpy as np
from PIL import ExifTags

from mfavbs.errors import ImageError
from mfavbs.images.candidates import Images
from mfavbs.images.formats import identify

_HEAD = 2**18  # bytes, before which cameras write it
_DAY = re.compile(r"((?:19|20)\d\d)[:/-](\d\d)[:/-](\d\d)")


def day_taken(images: Images, row: int) -> str | None:
    """The day on which a picture was taken; None where it does not say, whatever the reason.

    Only the beginning of a file is read.
    """
    try:
        path = images.file(row)
        content = images.read(row) if path is None else None
        if isinstance(content, np.ndarray):
            return None
        with open(path, "rb") if path else io.BytesIO(content or b"") as file:
            exif = identify(file.read(_HEAD)).getexif()
        said = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
        found = _DAY.match(str(said or exif.get(ExifTags.Base.DateTime) or ""))
    except ImageError:
        return None
    except Exception:  # Pillow's parsers of damaged files raise whatever they run into
        return None
    year, month, day = found.groups() if found else ("", "00", "00")
    return f"{year}-{month}-{day}" if "01" <= month <= "12" and "01" <= day <= "31" else None
