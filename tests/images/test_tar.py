"""In: tars, plain and gzipped, whole and damaged. Out: members by key, in every process."""

import gzip
import pickle

import pytest
from image_files import encoded, noise, reasons, red, write
from picture_archives import tarred
from torch.utils.data import DataLoader, Dataset

from mfavbs.errors import ImageError, SourceError
from mfavbs.images import content_hash, open_images


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
    assert dict(images.skipped) == {
        ".d/": "hidden: its name begins with a dot",
        "a/._y.jpg": "hidden: its name begins with a dot",
        "link.png": "not a regular file, but a link or another special one",
        "notes.txt": "not an image by its name",
    }
    assert images.stat(0) == (len(members[0][1]), 1234.0)
    for row in (1, 0, 1):  # backwards too
        assert images.read(row) == members[row][1]
    assert reasons(images) == {"e.png": "empty file (0 bytes)"}


def test_last_of_equal_members_wins(tmp_path):
    members = [("x.png", b"old"), ("y.png", b"y"), ("./x.png", b"new")]
    images = open_images(tarred(tmp_path / "i.tar", members))
    assert images.keys == ["y.png", "x.png"]
    assert images.read(1) == b"new"
    assert images.skipped == [("x.png", "again further on in the tar, where it is read")]


def test_what_is_nobodys_picture_is_one_row_for_each_folder(tmp_path):
    members = [("b/Previews/1.png", b"x"), ("b/Previews/2.png", b"x")]
    members += [(f"a/@eaDir/{n}.jpg", b"x") for n in range(5)] + [("a/x.png", b"x")]
    images = open_images(tarred(tmp_path / "i.tar", members), exclude=["Previews"])
    assert images.keys == ["a/x.png"]
    assert dict(images.skipped) == {
        "a/@eaDir/": "thumbnails and indexes of a Synology NAS",
        "b/Previews/": "left out by the pattern Previews",
    }


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
