"""Days on which pictures were taken."""

import pytest
from image_files import encoded, red, write
from PIL import Image

from mfavbs.images import day_taken, open_images


def with_exif(**tags):
    exif = Image.Exif()
    for tag, value in tags.items():
        if tag == "original":
            exif.get_ifd(0x8769)[0x9003] = value
        else:
            exif[0x0132] = value
    return encoded(red(), "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("content", "day"),
    [
        (with_exif(original="2019:07:14 10:00:00"), "2019-07-14"),
        (with_exif(original="2019:07:14 10:00:00", changed="2021:01:01 00:00:00"), "2019-07-14"),
        (with_exif(changed="2021:01:01 00:00:00"), "2021-01-01"),
        (with_exif(original="0000:00:00 00:00:00"), None),
        (with_exif(original="2019:13:41 00:00:00"), None),
        (with_exif(original="   "), None),
        (encoded(red()), None),
        (b"no image", None),
        (b"", None),
        (with_exif(original="2019:07:14 10:00:00")[:60], None),
    ],
)
def test_the_day_is_the_one_of_exif(tmp_path, content, day):
    write(tmp_path / "a.jpg", content)
    assert day_taken(open_images(tmp_path), 0) == day
