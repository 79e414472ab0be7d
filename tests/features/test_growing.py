"""A store that is brought up to date: what it knows by content costs nothing, the rest is the same
as made at once."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from command_line import mfavbs as run
from counting import Counting
from image_files import encoded, noise, write
from PIL import Image

import mfavbs.features.embedding
import mfavbs.features.pieces
from mfavbs.encoders import Encoder, load_encoder
from mfavbs.encoders.towers import PixelsTower
from mfavbs.errors import StoreError
from mfavbs.features import FeatureStore, SegmentedFeatures, compact, embed
from mfavbs.images import open_images


@pytest.fixture
def n_encoded(monkeypatch):
    return Counting(monkeypatch)


@pytest.fixture
def source(tmp_path):
    for i in range(12):
        write(tmp_path / f"images/{i % 3}/{i:02d}.png", encoded(noise(20 + i, 24)))
    write(tmp_path / "images/broken.png", b"no image")
    return tmp_path / "images"


def make(source, out, **options):
    options = {"n_views": 2, "device": "cpu", "n_workers": 0, "verbose": False} | options
    encoder = load_encoder("pixels", image_size=8)
    return embed(open_images(source), out, encoder, **options)


def content(store):
    features = {key: f.tobytes() for key, f in zip(store.keys, store.features[:])}
    return features, store.hashes, store.labels, store.failures, store.notes, store.state


def files(out):
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
    }


def test_only_what_is_new_is_encoded(source, tmp_path, n_encoded):
    make(source, tmp_path / "store")
    assert n_encoded() == 12
    make(source, tmp_path / "store")
    assert n_encoded() == 0
    write(source / "0/new.png", encoded(noise(99, 24)))
    write(source / "0/00.png", encoded(noise(98, 24)))  # another picture under an old name
    (source / "1/01.png").rename(source / "2/moved.png")
    shutil.copy(source / "2/02.png", source / "2/copied.png")
    os.utime(source / "2/05.png", (1, 1))
    (source / "0/03.png").unlink()
    images = open_images(source)
    diff = FeatureStore.open(tmp_path / "store").diff(images)
    assert diff.new == ["0/new.png", "2/copied.png", "2/moved.png"]
    assert diff.changed == ["0/00.png", "2/05.png"]
    assert diff.gone == ["0/03.png", "1/01.png"]
    assert str(diff) == "3 new, 2 changed, 2 gone, 9 kept"
    store = make(source, tmp_path / "store")
    assert n_encoded() == 2
    assert isinstance(store.features, SegmentedFeatures)
    assert content(store) == content(make(source, tmp_path / "at-once"))
    since = dict(zip(store.keys, store.manifest["since"].to_pylist()))
    assert [key for key, number in since.items() if number > 1] == ["0/00.png", "0/new.png"]
    assert not store.diff(images)


def test_a_picture_that_comes_back_costs_nothing_until_the_store_is_compact(
    source, tmp_path, n_encoded
):
    out = tmp_path / "store"
    make(source, out)
    shutil.move(source / "0", tmp_path / "away")
    make(source, out)
    n_encoded()
    shutil.move(tmp_path / "away", source / "0")
    make(source, out)
    assert n_encoded() == 0
    shutil.move(source / "0", tmp_path / "away")
    make(source, out)
    compact(out)
    shutil.move(tmp_path / "away", source / "0")
    make(source, out)
    assert n_encoded() == 4


def test_a_tar_and_a_list_grow_too(source, tmp_path, n_encoded):
    paths = sorted(source.rglob("*.png"))
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, paths[:6])))
    make(listed, tmp_path / "of-list")
    listed.write_text("\n".join(map(str, paths[3:9])))
    n_encoded()
    assert len(make(listed, tmp_path / "of-list").keys) == 6
    assert n_encoded() == 3
    for n in (5, 8):
        folder = tmp_path / "packed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in paths[:n]:
            shutil.copy2(path, folder)
        shutil.make_archive(str(tmp_path / "images"), "tar", folder)
        n_encoded()
        make(tmp_path / "images.tar", tmp_path / "of-tar")
    assert n_encoded() == 3


def test_a_file_that_only_looks_the_same_is_found_by_verifying(source, tmp_path, n_encoded):
    out = tmp_path / "store"
    make(source, out)
    path = source / "0/00.png"
    stat, other = path.stat(), bytearray(path.read_bytes())
    other[-1] ^= 1  # of the checksum of the last chunk
    path.write_bytes(other)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    n_encoded()
    before = make(source, out).hashes
    assert n_encoded() == 0
    after = make(source, out, verify=True).hashes
    assert n_encoded() == 1
    assert sum(a != b for a, b in zip(before, after)) == 1


def test_a_change_can_be_refused(source, tmp_path):
    make(source, tmp_path / "store")
    make(source, tmp_path / "store", update=False)
    write(source / "0/new.png", encoded(noise(99, 24)))
    with pytest.raises(StoreError, match=r"1 new, 0 changed, 0 gone, 13 kept.*update=True"):
        make(source, tmp_path / "store", update=False)


def test_failures_are_tried_again_when_they_change(source, tmp_path, n_encoded):
    store = make(source, tmp_path / "store")
    assert [key for key, _ in store.failures] == ["broken.png"]
    write(source / "broken.png", encoded(noise(50, 24)))
    n_encoded()
    store = make(source, tmp_path / "store")
    assert n_encoded() == 1
    assert store.failures == []


def test_a_file_that_changes_while_it_is_read(source, tmp_path, monkeypatch):
    """Once: it is read again. Always: it is listed as changing."""
    read, times = mfavbs.features.reading.read_content, {"0/00.png": 1, "0/03.png": 9}

    def growing(images, row, *rest):
        found = read(images, row, *rest)
        key = images.keys[row]
        if times.get(key, 0) > 0:
            times[key] -= 1
            write(source / key, encoded(noise(40 + times[key], 24)))
            os.utime(source / key, (100 + times[key], 100 + times[key]))
        return found

    monkeypatch.setattr(mfavbs.features.reading, "read_content", growing)
    store = make(source, tmp_path / "store")
    assert dict(store.failures)["0/03.png"].startswith("it changes while it is read")
    assert "0/00.png" in store.keys
    times.clear()
    (source / "0/03.png").unlink()
    assert content(make(source, tmp_path / "store")) == content(make(source, tmp_path / "again"))


def test_a_source_in_which_nothing_can_be_read_any_more_leaves_the_store(source, tmp_path):
    out = tmp_path / "store"
    make(source, out)
    before = files(out)
    for path in source.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="none of 13 can"):
        make(source, out)
    assert files(out) == before


class Killed(BaseException):
    pass


@pytest.mark.parametrize("seed", range(3))
def test_any_history_reads_as_made_at_once(source, tmp_path, monkeypatch, seed):
    """Random changes and ends at random moments; compact, the files are those made at once."""
    monkeypatch.setattr(mfavbs.features.pieces, "IMAGES", 2)
    rng = np.random.default_rng(seed)
    out, replace = tmp_path / "store", os.replace
    for step in range(20):
        paths = sorted(source.rglob("*.png"))
        path = paths[rng.integers(len(paths))]
        match rng.integers(5):
            case 0:
                write(source / f"{step % 3}/new{step}.png", encoded(noise(200 + step, 24)))
            case 1:
                path.write_bytes(encoded(noise(300 + step, 24)))
            case 2:
                path.rename(path.with_name(f"renamed{step}.png"))
            case 3:
                shutil.copy(path, path.with_name(f"copied{step}.png"))
            case 4 if len(paths) > 5:
                path.unlink()
        left = rng.integers(1, 12)

        def some(a, b):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            replace(a, b)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", some)
            try:
                make(source, out)
            except Killed:
                continue
    store = make(source, out)
    at_once = make(source, tmp_path / "at-once")
    assert content(store) == content(at_once)
    compact(out)
    assert files(out) == files(tmp_path / "at-once")


def test_a_store_made_compact_is_cut_off_without_harm(source, tmp_path, monkeypatch):
    out, replace = tmp_path / "store", os.replace
    make(source, out)
    write(source / "0/new.png", encoded(noise(99, 24)))
    expected = content(make(source, out))
    for touch in range(10):
        left = touch

        def some(a, b):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            replace(a, b)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", some)
            try:
                compact(out)
            except Killed:
                assert content(FeatureStore.open(out)) == expected
    make(source, tmp_path / "at-once")
    assert files(out) == files(tmp_path / "at-once")


def looks(store):
    return {key: look.tobytes() for key, look in zip(store.keys, store.looks)}


def test_looks_come_with_the_features_of_a_content_and_stay_with_them(source, tmp_path):
    cache = tmp_path / "cache"
    out = tmp_path / "store"
    first = looks(make(source, out, cache=cache))
    os.rename(source / "0/00.png", source / "0/renamed.png")
    write(source / "0/new.png", encoded(noise(99, 30)))
    grown = make(source, out)
    sizes = [Image.open(source / key).size for key in grown.keys]
    assert list(zip(*(grown.looks[name].tolist() for name in ("width", "height")))) == sizes
    assert looks(grown)["0/renamed.png"] == first["0/00.png"]
    before = looks(grown)
    compact(out)
    assert looks(FeatureStore.open(out)) == before
    shutil.rmtree(out)
    (source / "0/new.png").unlink()
    assert looks(make(source, out, cache=cache)).items() - first.items() == {
        ("0/renamed.png", first["0/00.png"])
    }


def test_a_store_of_before_looks_has_none_and_grows_some(source, tmp_path):
    out = tmp_path / "store"
    made = make(source, out)
    (path,) = (out / "segments").glob("*/looks.npy")
    path.unlink()
    assert FeatureStore.open(out).looks is None
    write(source / "0/new.png", encoded(noise(99, 30)))
    grown = make(source, out)
    assert dict(zip(grown.keys, grown.looks["width"] > 0)) == {
        key: key == "0/new.png" for key in grown.keys
    }
    assert content(grown)[0].items() >= content(made)[0].items()
    before = looks(grown)
    compact(out)
    assert looks(FeatureStore.open(out)) == before


def test_what_is_left_out_is_kept_up_to_date(source, tmp_path, n_encoded):
    make(source, tmp_path / "store")
    write(source / "notes.txt", b"x")
    n_encoded()
    assert ("notes.txt", "not an image by its name") in make(source, tmp_path / "store").skipped
    assert n_encoded() == 0


def test_from_the_command_line(source, tmp_path):
    command = ("embed", "images", "--out", "store", "--encoder", "pixels", "--image-size", 8)
    command = (*command, "--workers", 0, "--json")
    first = run(*command, folder=tmp_path)
    assert first.code == 0, first.err
    assert json.loads(first.out)["changes"] == {}
    assert json.loads(first.out)["views_nearest_own"]["n_images"] == 12
    again = run(*command, folder=tmp_path)
    assert (again.code, "Nothing to do: 0 new, 0 changed, 0 gone, 13 kept" in again.err) == (
        0,
        True,
    )
    write(source / "0/new.png", encoded(noise(99, 24)))
    (source / "0/00.png").unlink()
    grown = run(*command, folder=tmp_path)
    assert json.loads(grown.out)["changes"] == {"new": 1, "changed": 0, "gone": 1, "kept": 12}
    assert "Since store was made: 1 new, 0 changed, 1 gone, 12 kept" in grown.err
    assert json.loads(grown.out)["shape"][0] == 12
    assert run(*command, "--verify", folder=tmp_path).code == 0
    assert len(list((tmp_path / "store/segments").iterdir())) == 2
    assert run(*command, "--compact", folder=tmp_path).code == 0
    assert len(list((tmp_path / "store/segments").iterdir())) == 1


def test_that_nothing_has_changed_is_told_without_torch(source, tmp_path):
    command = [*(sys.executable, "-m", "mfavbs", "embed", "images", "--out", "store"),
               *("--encoder", "pixels", "--image-size", "8", "--workers", "0")]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], cwd=tmp_path, capture_output=True, text=True
    )
    assert "Nothing to do" in done.stderr
    assert "| torch" not in done.stderr


def test_stores_of_two_encoders_are_joined_by_content(tmp_path):
    """The same rows, and of the same crops: a view of 8 pixels is one of 16 made smaller."""
    rng = np.random.default_rng(0)
    for i in range(6):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        write(
            tmp_path / f"images/{i}.png", encoded(coarse.resize((64, 64), Image.Resampling.BICUBIC))
        )
    small, large = (
        embed(
            open_images(tmp_path / "images"),
            tmp_path / f"store-{size}",
            Encoder("pixels", PixelsTower(0), size, (0.0,) * 3, (1.0,) * 3),
            **{"n_views": 4, "n_workers": 0, "verbose": False},
        )
        for size in (8, 16)
    )
    assert small.hashes == large.hashes
    halved = large.features[:].reshape(6, 4, 3, 8, 2, 8, 2).mean((4, 6), dtype=np.float32)
    ours = small.features[:].reshape(halved.shape).astype(np.float32)
    same = np.abs(ours - halved).mean(axis=(2, 3, 4))
    others = np.abs(ours[:, [1, 2, 3]] - halved[:, [2, 3, 1]]).mean(axis=(2, 3, 4))
    assert np.median(same) < np.median(others) / 3
