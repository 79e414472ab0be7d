"""In: encoded images, whole and damaged. Out: upright RGB of the right colours, or a reason."""

import warnings

import numpy as np
import pytest
from image_files import RED, close, encoded, noise, red
from PIL import Image, ImageCms, features

from mfavbs.errors import ImageError
from mfavbs.images import content_hash, decode

# ---- decoding: formats and modes ----


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "MPO"]
)
def test_formats(file_format):
    if file_format in ("AVIF", "WEBP") and not features.check(file_format.lower()):
        pytest.skip(f"this Pillow is without {file_format}")
    image = decode(encoded(red(), file_format))
    assert image.size == (24, 16)
    assert close(image, RED)


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        *[("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LAB", "TIFF")],
        *[("P", "PNG"), ("P", "TIFF"), ("RGBA", "PNG"), ("RGBA", "WEBP")],
    ],
)
def test_colour_modes(mode, file_format):
    image = red() if mode in ("LAB", "P") else red(mode=mode)
    if mode == "P":
        image = image.quantize(4)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert close(decode(encoded(image, file_format)), RED, 8)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "GIF", "JPEG", "PPM"])
def test_grey(file_format):
    assert close(decode(encoded(Image.new("L", (9, 7), 77), file_format)), 77)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_one_bit(file_format):
    image = Image.new("1", (9, 7), 1)
    image.putpixel((0, 0), 0)
    decoded = decode(encoded(image, file_format))
    assert decoded.getpixel((0, 0)) == (0, 0, 0)
    assert decoded.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "GIF"])
def test_transparency_is_over_white(file_format):
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))  # black where nothing is to be seen
    image.paste((*RED, 255), (0, 0, 5, 10))
    decoded = decode(
        encoded(image, file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    )
    assert close(decoded.crop((0, 0, 4, 10)), RED)
    assert close(decoded.crop((6, 0, 10, 10)), (255, 255, 255))


def test_half_transparent_and_grey_alpha_and_colour_key():
    half = Image.new("LA", (4, 4), (0, 128))
    assert close(decode(encoded(half)), 127)
    keyed = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))
    assert close(decode(keyed), 255)
    palette = red().quantize(4)
    assert close(decode(encoded(palette, transparency=palette.getpixel((0, 0)))), 255)


RAMP = np.linspace(0, 65535, 12 * 10).reshape(10, 12)


@pytest.mark.parametrize(
    ("values", "file_format"),
    [
        (RAMP.astype(np.uint16), "PNG"),
        (RAMP.astype(np.uint16), "TIFF"),
        (RAMP.astype(np.uint16), "PPM"),
        (RAMP.astype(np.int32), "TIFF"),
        (RAMP.astype(np.float32), "TIFF"),
        ((RAMP / 65535).astype(np.float32), "TIFF"),
        ((RAMP / 257).astype(np.float32), "TIFF"),
        ((RAMP * 9 - 5000).astype(np.float32), "TIFF"),
        ((RAMP * 9 - 5000).astype(np.int32), "TIFF"),
    ],
)
def test_wide_values_are_scaled_not_clipped(values, file_format):
    decoded = decode(encoded(Image.fromarray(values), file_format))
    assert close(decoded, (RAMP / 257)[..., None].round(), 1)


def test_big_endian_16_bit_tiff():
    values = RAMP.astype(">u2")
    image = Image.frombytes("I;16B", (12, 10), values.tobytes())
    assert close(decode(encoded(image, "TIFF")), (RAMP / 257)[..., None].round(), 1)


def test_float_with_nan_and_nothing_but_nan():
    values = (RAMP / 65535).astype(np.float32)
    values[0, 0] = np.nan
    assert close(decode(encoded(Image.fromarray(values), "TIFF")), (RAMP / 257)[..., None], 2)
    values[:] = np.nan
    with pytest.raises(ImageError, match="no finite pixel value"):
        decode(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, file_format):
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste(RED, (0, 0, 8, 8))
    stored = {  # how a camera held like this stores the upright scene
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    image = upright
    for step in stored:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encoded(image, file_format, exif=exif))
    assert decoded.size == (32, 16)
    assert close(decoded.crop((1, 1, 7, 7)), RED, 40)
    assert close(decoded.crop((16, 0, 32, 16)), 255, 10)


def test_damaged_exif_does_not_spoil_the_image():
    content = encoded(red(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says that the EXIF is corrupt
        assert close(decode(content), RED)


def test_first_frame():
    frames = [red(), Image.new("RGB", (24, 16), "blue")]
    for file_format in ("GIF", "TIFF", "WEBP"):
        content = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
        assert close(decode(content), RED, 10)


@pytest.mark.parametrize("file_format", ["JPEG", "MPO"])
def test_at_least_keeps_the_shorter_edge(file_format):
    content = encoded(red(800, 400), file_format)
    for at_least in (40, 64, 99, 100, 101, 250, 400, 1000):
        image = decode(content, at_least)
        assert min(image.size) >= min(at_least, 400)
        assert close(image, RED)
    assert decode(content, 100).size == (200, 100)
    assert decode(encoded(red(800, 400)), 100).size == (800, 400)


# ---- decoding: what cannot be ----


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF"]
)
def test_any_damage_is_an_image_error(file_format):
    """Cut anywhere and with bytes turned over, an image is decoded or refused, and no worse."""
    if file_format in ("AVIF", "WEBP") and not features.check(file_format.lower()):
        pytest.skip(f"this Pillow is without {file_format}")
    whole = encoded(noise(), file_format)
    draw = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError):
            decode(whole[: len(whole) // 2])
        for cut in draw.integers(0, len(whole), 25):
            refused_or_decoded(whole[:cut])
        for _ in range(25):
            broken = bytearray(whole)
            for at in draw.integers(0, min(len(whole), 400), 4):
                broken[at] ^= int(draw.integers(1, 256))
            refused_or_decoded(bytes(broken))


def refused_or_decoded(content):
    try:
        image = decode(content)
    except ImageError as error:
        reason = str(error)
    else:
        reason = image.mode
        assert reason == "RGB"
    assert reason
    assert "\n" not in reason


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_truncated_says_so(file_format):
    content = encoded(noise(200, 200), file_format)
    with pytest.raises(ImageError, match=r"^truncated"):
        decode(content[: len(content) * 2 // 3])


def test_no_image_says_what_it_starts_with():
    with pytest.raises(ImageError, match=r"not an image Pillow knows \(starts with b'<!DOCTYPE"):
        decode(b"<!DOCTYPE html><html><body>404 Not found</body></html>")
    with pytest.raises(ImageError, match="0 bytes"):
        decode(b"")
    with pytest.raises(ImageError, match="not an image"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # never to Ghostscript


def test_bomb(monkeypatch):
    content = encoded(red(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"^too large: .*10000 pixels.* limit of 2000"):
        decode(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)  # Pillow would only warn
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(content).size == (100, 100)


def test_any_exception_of_pillow(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("mfavbs.images.decoding.Image.open", fail)
    with pytest.raises(ImageError, match=r"^damaged: MemoryError"):
        decode(b"x")


# ---- hashes ----


def test_content_hash():
    assert content_hash(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert len({content_hash(np.zeros(s, np.uint8)) for s in [(4, 4), (2, 8), (4, 4, 1)]}) == 3
    image = noise()
    assert content_hash(np.asarray(image)) == content_hash(np.asarray(image)[::-1][::-1])
