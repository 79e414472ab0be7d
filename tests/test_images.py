"""In: files made in a temporary folder. Out: each is decoded rightly, or named with its reason."""

import gzip
import io
import os
import pickle
import tarfile
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, features
from torch.utils.data import DataLoader, Dataset

from mfavbs.errors import ImageError, SourceError
from mfavbs.images import content_hash, decode, folder_labels, open_images

RED = (200, 40, 30)


def encoded(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def red(width=24, height=16, mode="RGB"):
    return Image.new("RGB", (width, height), RED).convert(mode)


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(red()) if content is None else content)
    return path


def close(image, colour, tolerance=6):
    assert image.mode == "RGB"
    return np.abs(np.asarray(image).astype(int) - colour).max() <= tolerance


def reasons(images):
    out = {}
    for row, key in enumerate(images.keys):
        try:
            decode(images.read(row))
        except ImageError as error:
            out[key] = str(error)
            assert "\n" not in out[key]
    return out


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


def noise(width=64, height=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


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

    monkeypatch.setattr("mfavbs.decoding.Image.open", fail)
    with pytest.raises(ImageError, match=r"^damaged: MemoryError"):
        decode(b"x")


# ---- folder ----


def test_folder(tmp_path):
    names = ["b/x.jpg", "a/x.png", "a/deep/er/ü ber.PNG", "z.jpeg", "a b/x.webp"]
    for name in names:
        write(tmp_path / name)
    for name in (".hidden.png", ".git/x.png", "__MACOSX/x.png", "a/._x.png"):
        write(tmp_path / name)
    for name in ("notes.txt", "Thumbs.DB", "a/README", "two.HEIC", "a/one.heic"):
        write(tmp_path / name)
    images = open_images(tmp_path)
    assert (images.kind, images.location) == ("folder", str(tmp_path))
    assert images.keys == sorted(names)
    assert len(images) == 5
    assert images.ignored == {".txt": 1, ".db": 1, "": 1, ".heic": 2}
    assert reasons(images) == {}
    row = images.keys.index("a/deep/er/ü ber.PNG")
    assert images.stat(row)[0] == len(images.read(row))
    assert images.stat(row)[1] > 0
    assert open_images(str(tmp_path)).keys == images.keys


def test_relative_source_has_an_absolute_location(tmp_path, monkeypatch):
    write(tmp_path / "in" / "x.png")
    monkeypatch.chdir(tmp_path)
    images = open_images("in")
    assert images.location == str(tmp_path / "in")
    monkeypatch.chdir("/")
    assert images.read(0)


def test_unreadable_files_are_rows(tmp_path):
    write(tmp_path / "good.png")
    write(tmp_path / "empty.jpg", b"")
    write(tmp_path / "page.jpg", b"<!DOCTYPE html>")
    write(tmp_path / "cut.jpg", encoded(noise(), "JPEG")[:900])
    write(tmp_path / "gone.png")
    os.symlink(tmp_path / "nowhere", tmp_path / "broken.png")
    os.symlink(tmp_path / "self.png", tmp_path / "self.png")
    images = open_images(tmp_path)
    (tmp_path / "gone.png").unlink()
    why = reasons(images)
    assert set(why) == {"broken.png", "cut.jpg", "empty.jpg", "gone.png", "page.jpg", "self.png"}
    assert why["empty.jpg"] == "empty file (0 bytes)"
    assert why["cut.jpg"].startswith("truncated")
    assert why["gone.png"] == why["broken.png"] == "No such file or directory"
    assert images.stat(images.keys.index("gone.png")) == (-1, 0.0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_permission_denied(tmp_path):
    write(tmp_path / "x.png").chmod(0)
    write(tmp_path / "shut" / "y.png")
    (tmp_path / "shut").chmod(0)
    try:
        assert reasons(open_images(tmp_path)) == {
            "x.png": "Permission denied",
            "shut": "Permission denied",
        }
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_folder_that_cannot_be_listed_is_a_row(tmp_path, monkeypatch):
    """The same for root, before whom nothing is shut."""
    write(tmp_path / "x.png")
    write(tmp_path / "shut" / "y.png")
    scandir = os.scandir

    def shut(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    images = open_images(tmp_path)
    assert images.keys == ["shut", "x.png"]
    assert reasons(images) == {"shut": "Permission denied"}
    with pytest.raises(SourceError, match="readable folder"):
        open_images(tmp_path / "shut")


def test_linked_folders_are_entered_once(tmp_path):
    write(tmp_path / "data" / "z" / "x.png")
    write(tmp_path / "elsewhere" / "y.png")
    os.symlink(tmp_path / "data", tmp_path / "data" / "z" / "loop")
    os.symlink(tmp_path / "data" / "z", tmp_path / "data" / "alias")
    os.symlink(tmp_path / "elsewhere", tmp_path / "data" / "linked")
    os.symlink(tmp_path / "elsewhere" / "y.png", tmp_path / "data" / "file.png")
    assert open_images(tmp_path / "data").keys == ["file.png", "linked/y.png", "z/x.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_is_never_waited_for(tmp_path):
    write(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe.png")
    images = open_images(tmp_path)
    assert images.keys == ["x.png"]
    assert images.ignored == {".png (not a file)": 1}
    assert reasons(open_images([tmp_path / "pipe.png"])) == {"pipe.png": "not a regular file"}


def test_name_that_is_not_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write(encoded(red()))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    images = open_images(tmp_path)
    assert images.keys == ["caf\\udce9.png"]
    images.keys[0].encode()
    assert reasons(images) == {}


def test_what_is_no_source(tmp_path):
    with pytest.raises(SourceError, match=r"expected a folder .* does not exist"):
        open_images(tmp_path / "nowhere")
    write(tmp_path / "no" / "a.heic")
    write(tmp_path / "no" / "b.HEIC")
    with pytest.raises(SourceError, match=r"found none in .*passed over: 2 \.heic"):
        open_images(tmp_path / "no")
    with pytest.raises(SourceError, match="give its folder"):
        open_images(write(tmp_path / "one.png"))
    with pytest.raises(SourceError, match=r"got the file .*x\.zip; unpack"):
        open_images(write(tmp_path / "x.zip"))
    for source in ([], [np.zeros((4, 4))]):
        with pytest.raises(SourceError, match="expected"):
            open_images(source)


# ---- tar ----


def tarred(path, members):
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "x.png"
            else:
                info.size, info.mtime = len(content), 1234
            tar.addfile(info, io.BytesIO(content or b""))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".TAR"])
def test_tar(tmp_path, suffix):
    path = tmp_path / f"images{suffix.lower()}"
    members = [("./z/x.png", encoded(red())), ("a/y.jpg", encoded(noise(), "JPEG"))]
    extras = [("a/._y.jpg", b"x"), ("notes.txt", b"x"), ("link.png", None), (".d/x.png", b"x")]
    odd = [("/abs/x.png", encoded(red())), ("../up.png", encoded(red())), ("e.png", b"")]
    tarred(path, members + extras + odd)
    path = path.rename(tmp_path / f"images{suffix}")
    images = open_images(path)
    assert (images.kind, images.location) == ("tar", str(path))
    assert images.keys == ["z/x.png", "a/y.jpg", "abs/x.png", "__/up.png", "e.png"]
    assert images.ignored == {".txt": 1, ".png (not a file)": 1}
    assert images.stat(0) == (len(members[0][1]), 1234.0)
    for row in (1, 0, 1):  # backwards too
        assert images.read(row) == members[row][1]
    assert reasons(images) == {"e.png": "empty file (0 bytes)"}


def test_last_of_equal_members_wins(tmp_path):
    members = [("x.png", b"old"), ("y.png", b"y"), ("./x.png", b"new")]
    images = open_images(tarred(tmp_path / "i.tar", members))
    assert images.keys == ["y.png", "x.png"]
    assert images.read(1) == b"new"
    assert images.ignored == {"(duplicate)": 1}


def test_damaged_tar(tmp_path):
    whole = tarred(tmp_path / "i.tar", [(f"{n}.png", b"x" * 5000) for n in range(3)]).read_bytes()
    for name, content in {
        "cut.tar": whole[:8000],
        "no.tar": b"<!DOCTYPE html>" * 99,
        "cut.tgz": gzip.compress(whole)[:60],
        "plain.tgz": whole,
    }.items():
        with pytest.raises(SourceError, match="expected a whole tar"):
            open_images(write(tmp_path / name, content))
    with pytest.raises(SourceError, match="found none"):
        open_images(tarred(tmp_path / "none.tar", [("a.txt", b"x")]))
    images = open_images(tmp_path / "i.tar")
    write(tmp_path / "i.tar", whole[:8000])
    assert images.read(0)
    with pytest.raises(ImageError, match="truncated"):
        images.read(2)


class Hashes(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return content_hash(self.images.read(row))


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_tar_in_workers(tmp_path, suffix):
    """After a fork with an open handle, and pickled as for a spawned worker."""
    members = [(f"{n}.png", bytes([n]) * 3000) for n in range(40)]
    images = open_images(tarred(tmp_path / f"i{suffix}", members))
    expected = [content_hash(content) for _, content in members]
    for workers in (0, 2):
        loader = DataLoader(Hashes(images), batch_size=4, num_workers=workers)
        assert [digest for batch in loader for digest in batch] == expected
    copy = pickle.loads(pickle.dumps(images))
    assert [content_hash(copy.read(row)) for row in range(40)] == expected


# ---- lists ----


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_list_file(tmp_path, encoding, newline):
    write(tmp_path / "lists" / "ü" / "x 1.png")
    write(tmp_path / "lists" / "b.png")
    other = write(tmp_path / "other" / "y.png")
    rows = ["ü/x 1.png", "", "b.png", "gone.png", str(other), "./b.png", "  ", "../other/y.png"]
    path = write(tmp_path / "lists" / "all.txt", newline.join(rows).encode(encoding))
    images = open_images(path)
    assert (images.kind, images.location) == ("list", str(path))
    assert images.keys == ["ü/x 1.png", "b.png", "gone.png", other.as_posix()]
    assert images.ignored == {"(duplicate)": 2}
    assert reasons(images) == {"gone.png": "No such file or directory"}


def test_list_file_that_is_none(tmp_path):
    with pytest.raises(SourceError, match="binary"):
        open_images(write(tmp_path / "a.txt", encoded(red())))
    with pytest.raises(SourceError, match="found none"):
        open_images(write(tmp_path / "b.lst", b"\n \r\n"))


def test_python_list(tmp_path):
    paths = [write(tmp_path / "b" / "x.png"), write(tmp_path / "a" / "c" / "x.png")]
    images = open_images([*paths, str(paths[0]), tmp_path / "a" / "null\0.png"])
    assert (images.kind, images.location) == ("list", "")
    assert images.keys[:2] == ["b/x.png", "a/c/x.png"]
    assert images.ignored == {"(duplicate)": 1}
    assert list(reasons(images)) == images.keys[2:]
    assert images.stat(2) == (-1, 0.0)
    assert open_images(paths[:1]).keys == ["x.png"]


# ---- arrays ----


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_array(shape, dtype):
    pixels = np.full((12, 8, 6, *shape), 51, np.uint8)
    if shape == (4,):
        pixels[..., 3] = 255
    images = open_images(pixels if dtype == np.uint8 else (pixels / 255).astype(dtype))
    assert (images.kind, images.location, len(images)) == ("array", "", 12)
    assert images.keys[:2] + images.keys[-1:] == ["00", "01", "11"]
    assert images.stat(0)[1] == 0.0
    image = decode(images.read(3), at_least=2)
    assert image.size == (6, 8)
    assert close(image, 51, 1)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((5, 7)), r"got shape \(5, 7\); give features"),
        (np.zeros((5, 3, 8, 8)), "moveaxis"),
        (np.zeros((5, 8, 8, 2)), r"got shape \(5, 8, 8, 2\)"),
        (np.zeros((0, 8, 8)), "at least one image"),
        (np.zeros((5, 8, 8), np.int64), "got int64"),
        (np.full((5, 8, 8), 16.0), r"got float64 in 16\.\.16; divide"),
        (np.full((5, 8, 8), np.nan), "in nan"),
        (np.full((5, 8, 8), -0.1), "in -0.1"),
    ],
)
def test_array_that_is_none(pixels, message):
    with pytest.raises(SourceError, match=message):
        open_images(pixels)


# ---- hashes and labels ----


def test_content_hash():
    assert content_hash(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert len({content_hash(np.zeros(s, np.uint8)) for s in [(4, 4), (2, 8), (4, 4, 1)]}) == 3
    image = noise()
    assert content_hash(np.asarray(image)) == content_hash(np.asarray(image)[::-1][::-1])


def test_folder_labels():
    assert folder_labels(["a/x.png", "b/c/x.png", "a/y.png"]) == ["a", "b/c", "a"]
    assert folder_labels(["a/x.png", "x.png"]) == ["a", "."]
    assert folder_labels(["x.png", "y.png"]) is None
    assert folder_labels(["a/x.png", "a/y.png"]) is None
    assert folder_labels([]) is None
