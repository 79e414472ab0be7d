"""In: encoded images, whole and damaged. Out: upright RGB of the right colours, or a reason."""

import io
import multiprocessing
import re
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from image_files import RED, close, encoded, noise, red
from PIL import Image, ImageCms, ImageFile, features

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
        ((RAMP * 65537 - 2**31).astype(np.int32), "TIFF"),
        ((RAMP / 65535).astype(np.float32), "TIFF"),
    ],
)
def test_wide_values_have_the_range_of_their_type(values, file_format):
    notes = []
    decoded = decode(encoded(Image.fromarray(values), file_format), notes=notes)
    assert close(decoded, (RAMP / 257)[..., None].round(), 1)
    assert not notes


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_given_range_is_one_scale_for_all_images(dtype):
    """Counts of a camera from 100 to 160: the same count has the same grey in every image."""
    dark, light = np.full((4, 4), 130, dtype), np.full((4, 4), 130, dtype)
    dark[0], light[0] = 100, 160
    decoded = [
        np.asarray(decode(encoded(Image.fromarray(v), "TIFF"), value_range=(100, 160)))[..., 0]
        for v in (dark, light)
    ]
    assert decoded[0][0, 0] == 0
    assert decoded[1][0, 0] == 255
    assert decoded[0][1:].tolist() == decoded[1][1:].tolist() == [[128] * 4] * 3


def test_a_range_clips_and_leaves_8_bits_and_colour_alone():
    hounsfield = Image.fromarray(np.array([[-3000, -1000, 0, 1000, 3000]], np.int32))
    decoded = decode(encoded(hounsfield, "TIFF"), value_range=(-1000, 1000))
    assert np.asarray(decoded)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    barely = Image.fromarray(np.array([[0, 0.5, 1.004]], np.float32))
    assert np.asarray(decode(encoded(barely, "TIFF")))[0, :, 0].tolist() == [0, 128, 255]
    for image in (Image.new("L", (3, 3), 7), red()):
        content = encoded(image)
        assert decode(content, value_range=(5, 9)).tobytes() == decode(content).tobytes()


def test_a_range_that_shows_nothing_is_noted():
    notes = []
    counts = Image.fromarray(np.arange(100, 160, dtype=np.uint16).reshape(6, 10))
    decode(encoded(counts), notes=notes)
    assert notes == [
        "values from 100 to 159 are one grey in the range 0 to 65535: give another (--range LOW "
        "HIGH or auto)"
    ]
    notes.clear()
    decode(encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), notes=notes)
    assert "mostly outside the range 0 to 1" in notes[0]


@pytest.mark.parametrize("bits", [16, 32])
def test_tiff_types_that_pillow_does_not_tell_apart(bits):
    """Signed, unsigned and white-is-zero, by the tags of the file."""
    full = 2**bits - 1
    unsigned = np.array([[0, full // 4, full]], f"<u{bits // 8}")
    signed = (unsigned.astype(np.int64) - 2 ** (bits - 1)).astype(f"<i{bits // 8}")
    expected = [0, 64, 255]
    assert np.asarray(decode(tiff(unsigned)))[0, :, 0].tolist() == expected
    assert np.asarray(decode(tiff(signed)))[0, :, 0].tolist() == expected
    if bits == 16:
        inverted = np.asarray(decode(tiff(unsigned, photometric=0)))[0, :, 0]
        assert inverted.tolist() == [255, 191, 0]
        inverted = decode(tiff(unsigned, photometric=0), value_range=(0, full // 4))
        assert np.asarray(inverted)[0, :, 0].tolist() == [255, 0, 0]


def tiff(values, photometric=1):
    """An uncompressed grey TIFF, written by its specification."""
    height, width = values.shape
    tags = {256: width, 257: height, 258: values.dtype.itemsize * 8, 259: 1, 262: photometric}
    tags |= {273: 200, 277: 1, 278: height, 279: values.nbytes}
    tags[339] = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in sorted(tags.items()))
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(200, b"\0") + values.tobytes()


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


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_white_ink_is_on_black_paper(mode):
    """A white drawing on nothing, as a logo for dark pages: on white it would be gone."""
    white = Image.new("RGBA", (20, 20), (255, 255, 255, 0))
    white.paste((250, 250, 250, 255), (5, 5, 15, 15))
    content = encoded(white.quantize(4) if mode == "P" else white.convert(mode))
    decoded = decode(content)
    assert close(decoded.crop((0, 0, 5, 5)), 0, 0)
    assert close(decoded.crop((6, 6, 14, 14)), 250)
    assert decode(content).tobytes() == decoded.tobytes()


def test_paper_by_the_ink_alone():
    for tone, paper in ((0, 255), (120, 255), (180, 255), (200, 0), (255, 0)):
        image = Image.new("LA", (10, 10), (tone, 0))
        image.putpixel((4, 4), (tone, 255))  # a hundredth of it is ink
        assert decode(encoded(image)).getpixel((0, 0)) == (paper,) * 3
    hidden = Image.new("RGBA", (10, 10), (255, 255, 255, 0))  # white where nothing is to be seen
    hidden.paste((10, 10, 10, 255), (0, 0, 3, 3))
    assert decode(encoded(hidden)).getpixel((9, 9)) == (255, 255, 255)
    assert close(decode(encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 0)))), 255)
    assert close(decode(encoded(Image.new("RGBA", (4, 4), (240, 240, 240, 255)))), 240, 0)


# ---- decoding: formats of extras ----


def test_heif():
    pillow_heif = pytest.importorskip("pillow_heif")
    scene = Image.new("RGB", (64, 32), "white")
    scene.paste(RED, (0, 0, 16, 16))
    file = io.BytesIO()
    pillow_heif.from_pillow(scene).save(file, quality=95)
    assert file.getvalue()[4:8] == b"ftyp"
    decoded = decode(file.getvalue(), name="a.heic")
    assert decoded.size == (64, 32)
    assert close(decoded.crop((2, 2, 12, 12)), RED, 20)
    assert "HEIF" not in Image.OPEN  # the caller's Pillow is as it was
    # The container says how it is turned, and libheif has turned it: EXIF must not turn it again.
    exif = Image.Exif()
    exif[0x0112] = 6
    scene.info["exif"] = exif.tobytes()
    file = io.BytesIO()
    pillow_heif.from_pillow(scene).save(file, quality=95)
    assert decode(file.getvalue()).size == (64, 32)
    with pytest.raises(ImageError):
        decode(file.getvalue()[:-200])


def dng(values, orientation=1):
    """An uncompressed DNG with a Bayer pattern of red, green, green and blue."""
    height, width = values.shape
    short, long, ascii_, byte, rational, srational = 3, 4, 2, 1, 5, 10
    ones = [10_000, 10_000] * 3
    matrix = [n for row in np.eye(3, dtype=int) for n in row for n in (int(n) * 10_000, 10_000)]
    entries = [
        *((254, long, [0]), (256, long, [width]), (257, long, [height]), (258, short, [16])),
        *((259, short, [1]), (262, short, [32803]), (271, ascii_, b"Maker\0")),
        *((272, ascii_, b"Model\0"), (273, long, [2000]), (274, short, [orientation])),
        *((277, short, [1]), (278, long, [height]), (279, long, [values.nbytes])),
        *((33421, short, [2, 2]), (33422, byte, bytes([0, 1, 1, 2])), (50706, byte, b"\1\4\0\0")),
        *((50708, ascii_, b"Maker Model\0"), (50717, long, [65535])),
        *((50721, srational, matrix), (50728, rational, ones), (50778, short, [21])),
    ]
    codes = {short: "H", long: "I", rational: "I", srational: "i"}
    directory, extra, at = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        packed = (
            value
            if isinstance(value, bytes)
            else struct.pack(f"<{len(value)}{codes[kind]}", *value)
        )
        count = len(value) // (2 if kind in (rational, srational) else 1)
        directory += struct.pack("<HHI", tag, kind, count)
        if len(packed) <= 4:
            directory += packed.ljust(4, b"\0")
        else:
            directory += struct.pack("<I", at + len(extra))
            extra += packed
    return (b"II*\0\x08\0\0\0" + directory + b"\0" * 4 + extra).ljust(
        2000, b"\0"
    ) + values.tobytes()


def test_raw():
    pytest.importorskip("rawpy")
    values = np.zeros((64, 96), "<u2")
    values[0:32:2, 0:48:2] = 60_000  # red cells of the upper left quarter
    decoded = decode(dng(values), name="shot/A.DNG")
    assert decoded.size == (48, 32)
    red_, green, blue = decoded.getpixel((10, 8))
    assert red_ > 200
    assert max(green, blue) < 60
    assert max(decoded.getpixel((40, 24))) < 20
    turned = decode(dng(values, orientation=6), name="b.dng")
    assert turned.size == (32, 48)
    assert turned.getpixel((24, 10))[0] > 200
    with pytest.raises(ImageError, match="too large: 96 x 64"):
        decode(dng(values), name="b.dng", image_memory=0)
    with pytest.raises(ImageError, match="LibRaw"):
        decode(b"II*\0 no such file", name="b.nef")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_raw_in_a_forked_process_says_nothing():
    pytest.importorskip("rawpy")

    def decode_without_a_warning():
        warnings.simplefilter("error")
        decode(dng(np.zeros((64, 96), "<u2")), name="a.dng")

    process = multiprocessing.get_context("fork").Process(target=decode_without_a_warning)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize(
    ("module", "content", "name", "extra"),
    [
        ("pillow_heif", b"\0\0\0\x18ftypheic\0\0\0\0", "a.heic", "mfavbs[heif]"),
        ("rawpy", b"II*\0", "a.nef", "mfavbs[raw]"),
    ],
)
def test_without_the_extra_it_is_named(module, content, name, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError, match=re.escape(f'pip install "{extra}"')):
        decode(content, name=name)


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
            decode(whole[: len(whole) // 3])
        for cut in draw.integers(0, len(whole), 25):
            refused_or_decoded(whole[:cut])
        for _ in range(25):
            broken = bytearray(whole)
            for at in draw.integers(0, min(len(whole), 400), 4):
                broken[at] ^= int(draw.integers(1, 256))
            refused_or_decoded(bytes(broken))


def changed(content, draw):
    """Cut, overwritten, with bits turned over, a piece copied elsewhere or taken out."""
    data = bytearray(content)
    kind, at = draw.integers(5), draw.integers(len(data))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        for place in draw.integers(0, len(data), 4):
            data[place] = draw.integers(256)
    elif kind == 2:
        for place in draw.integers(0, min(len(data), 200), 4):
            data[place] ^= 1 << draw.integers(8)
    elif kind == 3:
        start = draw.integers(len(data))
        data[at : at + 40] = data[start : start + 40]
    else:
        del data[at : at + draw.integers(1, 30)]
    return bytes(data)


WIDE = Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64))
PHOTO = noise(8, 6).resize((64, 48))
SAMPLES = {
    "JPEG": encoded(PHOTO, "JPEG"),
    "progressive JPEG": encoded(PHOTO, "JPEG", progressive=True),
    "CMYK JPEG": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "PNG": encoded(PHOTO),
    "PNG of 16 bits": encoded(WIDE),
    "PNG with alpha": encoded(PHOTO.convert("RGBA")),
    "PNG with a palette": encoded(PHOTO.quantize(16), transparency=1),
    "TIFF": encoded(PHOTO, "TIFF"),
    "TIFF of 16 bits": encoded(WIDE, "TIFF"),
    "LZW TIFF": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "WebP": encoded(PHOTO, "WEBP"),
    "GIF": encoded(PHOTO, "GIF"),
    "BMP": encoded(PHOTO, "BMP"),
}


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", SAMPLES)
def test_any_damage_ends_in_an_image_or_a_reason(kind, n):
    draw = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(n):
            refused_or_decoded(changed(SAMPLES[kind], draw))


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


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "PPM", "GIF"])
def test_cut_short_the_rows_that_are_there_are_read(file_format):
    options = {"interlace": 0} if file_format == "GIF" else {}
    content = encoded(noise(200, 200), file_format, **options)
    notes = []
    with pytest.raises(ImageError, match=r"^truncated: \d+ of 200 rows are there"):
        decode(content[: len(content) * 2 // 5], notes=notes)
    assert not notes
    part = decode(content[: len(content) * 2 // 3], notes=notes)
    assert part.width == 200
    assert 120 <= part.height <= 150
    assert len(notes) == 1
    assert notes[0].startswith("image file is truncated")
    assert notes[0].endswith(f"; {200 - part.height} of 200 rows left out")
    whole = np.asarray(decode(content)).astype(int)
    rows = slice(200 - part.height, 200) if file_format == "BMP" else slice(0, part.height)
    # The last block of a JPEG is partly there.
    same = (np.abs(whole[rows] - np.asarray(part)).max(axis=(1, 2)) < 3).mean()
    assert same > (0.8 if file_format == "JPEG" else 0.99)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": True}])
def test_last_bytes_of_a_jpeg(options):
    exif = Image.Exif()
    exif[0x0112] = 6  # its first row is the right-hand side
    options = options | ({"exif": exif} if "exif" in options else {})
    scene = Image.linear_gradient("L").convert("RGB")
    content = encoded(scene, "JPEG", **options)
    notes = []
    decoded = decode(content[:-30], notes=notes)
    assert notes
    if "exif" in options:  # kept, so still upright
        assert decoded.getpixel((decoded.width - 10, 100))[0] < 20
        assert decoded.getpixel((10, 100))[0] > 200
    else:
        assert decoded.getpixel((100, 10))[0] < 20


def test_interlaced_gif_cut_short():
    content = encoded(noise(200, 201), "GIF", interlace=1)
    with pytest.raises(ImageError, match=r"^truncated"):
        decode(content[: len(content) // 2])
    part = decode(content[: len(content) * 9 // 10])
    assert part.height in range(140, 170)
    whole = np.asarray(decode(content))
    assert (whole[: part.height] == np.asarray(part)).mean() > 0.99


def test_16_bit_png_cut_short():
    values = np.random.default_rng(0).integers(0, 65536, (100, 80)).astype(np.uint16)
    content = encoded(Image.fromarray(values))
    part = decode(content[: len(content) * 3 // 4])
    assert part.height in range(72, 76)
    assert close(part, np.rint(values[: part.height, :, None] / 257), 1)


def chunk(kind, data, crc=None):
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def test_interlaced_png_cut_short():
    """Seven passes by the specification; the rows are those that all passes have reached."""
    values = np.random.default_rng(0).integers(0, 256, (80, 50), np.uint8)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    raw = b""
    for top, left, down, across in [*passes, (1, 0, 2, 1)]:
        part = values[top::down, left::across]
        raw += b"".join(b"\0" + row.tobytes() for row in part)
    header = struct.pack(">IIBBBBB", 50, 80, 8, 0, 0, 0, 1)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    whole = start + chunk(b"IDAT", zlib.compress(raw, 0)) + chunk(b"IEND", b"")
    assert close(decode(whole), values[..., None], 0)
    part = decode(whole[: len(whole) * 9 // 10])
    assert part.height in range(58, 66)
    assert close(part, values[: part.height, :, None], 0)
    with pytest.raises(ImageError, match=r"^truncated: \d+ of 80 rows"):
        decode(whole[: len(whole) * 6 // 10])


@pytest.mark.parametrize("after_the_pixels", [False, True])
@pytest.mark.parametrize(
    "bad",
    [
        chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"tEXt", b"note\0text", crc=1),
        chunk(b"tIME", b"\7\xe8\1\1\0\0\0", crc=1),
        chunk(b"pHYs", b"\0"),
        chunk(b"gAMA", b""),
    ],
    ids=lambda bad: bad[4:8].decode(),
)
def test_png_with_a_bad_ancillary_chunk(bad, after_the_pixels):
    image = noise()
    whole = encoded(image)
    at = len(whole) - 12 if after_the_pixels else 33
    decoded = decode(whole[:at] + bad + whole[at:])
    assert decoded.tobytes() == image.tobytes()


def test_png_with_a_wrong_checksum_of_its_text_says_so_and_keeps_the_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(Image.new("RGB", (8, 4)), exif=exif)
    notes = []
    decoded = decode(whole[:33] + chunk(b"tEXt", b"a\0b", crc=1) + whole[33:], notes=notes)
    assert decoded.size == (4, 8)
    assert notes == ["broken PNG file (bad header checksum in b'tEXt')"]


def test_jpeg_with_a_damaged_application_segment():
    whole = encoded(red(), "JPEG")
    for marker, data in ((0xE2, b"MPF\0II*\0\xff\xff\xff\xff"), (0xED, b"Photoshop 3.0\x008BIM\4")):
        segment = bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data
        assert close(decode(whole[:2] + segment + whole[2:]), RED)


def test_damaged_exif_is_noted():
    notes = []
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\xff"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing may reach the screen: it would name no file
        assert close(decode(encoded(red(), "JPEG", exif=exif), notes=notes), RED)
    assert len(notes) == 1
    assert "EXIF" in notes[0]


def test_a_png_that_ends_early_without_an_error_is_no_picture():
    """157 bytes that claim 13,370 x 13,370 pixels; and one with enough bytes, but too few rows."""
    for width, rows in ((13_370, 3), (100, 10)):
        data = zlib.compress(np.random.default_rng(0).bytes((1 + 2 * width) * rows)[:10_000], 0)
        if width > 1000:
            data = zlib.compress(bytes((1 + 2 * width) * rows))
        header = struct.pack(">IIBBBBB", width, width, 16, 0, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)
        content += chunk(b"IEND", b"")
        with pytest.raises(ImageError, match=r"^truncated"):
            decode(content)


def test_no_image_says_what_it_starts_with():
    with pytest.raises(ImageError, match=r"not an image Pillow knows \(starts with b'<!DOCTYPE"):
        decode(b"<!DOCTYPE html><html><body>404 Not found</body></html>")
    with pytest.raises(ImageError, match="0 bytes"):
        decode(b"")
    with pytest.raises(ImageError, match="not an image"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # never to Ghostscript


def test_too_large_is_refused_before_it_is_decoded(monkeypatch):
    content = encoded(red(2000, 1000), "JPEG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"^too large: 2000 x 1000 pixels take 8 MB.*; 7 MB are"):
        decode(content, image_memory=7)
    monkeypatch.undo()
    assert decode(content, image_memory=8).size == (2000, 1000)
    assert decode(content, 100, image_memory=1).size == (250, 125)  # at an eighth of its size
    progressive = encoded(red(2000, 1000), "JPEG", progressive=True)
    with pytest.raises(ImageError, match="too large"):  # its coefficients are held at full size
        decode(progressive, 100, image_memory=1)


def test_pillows_own_limit_does_not_matter(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(red(100, 100))).size == (100, 100)


def test_no_memory(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("mfavbs.images.decoding.identify", fail)
    with pytest.raises(ImageError, match=r"^too large: no memory"):
        decode(b"x")


# ---- hashes ----


def test_content_hash():
    assert content_hash(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert len({content_hash(np.zeros(s, np.uint8)) for s in [(4, 4), (2, 8), (4, 4, 1)]}) == 3
    image = noise()
    assert content_hash(np.asarray(image)) == content_hash(np.asarray(image)[::-1][::-1])
