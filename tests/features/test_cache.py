"""A cache that runs share changes no byte and encodes nothing twice, whatever happens to it."""

import contextlib
import errno
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from command_line import mfavbs
from counting import Counting
from image_files import encoded, noise, write

from mfavbs.clustering import cluster_images
from mfavbs.encoders import load_encoder
from mfavbs.errors import StoreError
from mfavbs.features import cache_folder, embed, list_cache, prune_cache
from mfavbs.features.cache import FeatureCache
from mfavbs.images import open_images
from mfavbs.prediction import predict_images

RECIPE = {"encoder": "none", "n_views": 2}
SHAPE = (2, 1, 48)
# The features of a content are drawn from it, so that any process knows them.
FILL = """
import sys
import numpy as np
from pathlib import Path
from mfavbs.features.cache import FeatureCache

def features(number):
    return np.random.default_rng(number).normal(size=(2, 1, 48)).astype(np.float16)

folder, first, step, n = Path(sys.argv[1]), *map(int, sys.argv[2:])
with FeatureCache.open(folder, {"encoder": "none", "n_views": 2}) as cache:
    for number in range(first, n, step):
        content = f"{number:032x}"
        cache.get([content])
        cache.put([content], features(number)[None], {content: f"note {number}"})
        if number % 7 == 0:
            cache.flush()
            print(number, flush=True)
    cache.flush()
"""


@pytest.fixture
def n_encoded(monkeypatch):
    return Counting(monkeypatch)


@pytest.fixture
def source(tmp_path):
    for i in range(12):
        write(tmp_path / f"images/{i % 3}/{i:02d}.png", encoded(noise(20 + i, 24)))
    write(tmp_path / "images/broken.png", b"no image")
    write(tmp_path / "images/cut.jpg", encoded(noise(64, 64), "JPEG")[:-400])  # read, with a note
    return tmp_path / "images"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def make(source, out, **options):
    options = {"n_views": 2, "device": "cpu", "n_workers": 0, "verbose": False} | options
    encoder = load_encoder("pixels", image_size=8)
    return embed(open_images(source), out, encoder, **options)


def files(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def only(folder):
    (path,) = folder.iterdir()
    return path


def truth(number):
    return np.random.default_rng(number).normal(size=SHAPE).astype(np.float16)


def check_entries(folder, numbers):
    """How many of these are there; every one of them has to be right."""
    with FeatureCache.open(folder, RECIPE) as cache:
        found = cache.get(f"{number:032x}" for number in numbers)
    for content, entry in found.items():
        number = int(content, 16)
        assert entry.features.tobytes() == truth(number).tobytes()
        assert entry.note == f"note {number}"
    return len(found)


def fill(folder, first, step, n):
    command = [sys.executable, "-c", FILL, folder, *map(str, (first, step, n))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_another_folder_and_a_sub_folder_encode_nothing_and_get_the_same_bytes(
    source, cache, tmp_path, n_encoded, n_workers
):
    make(source, tmp_path / "without")
    make(source, tmp_path / "first", cache=cache, n_workers=n_workers)
    assert n_encoded() == 26
    make(source, tmp_path / "second", cache=cache, n_workers=n_workers)
    make(source / "0", tmp_path / "part", cache=cache, n_workers=n_workers)
    assert n_encoded() == 0
    source.rename(tmp_path / "moved")
    write(tmp_path / "moved/new.png", encoded(noise(99, 24)))
    (tmp_path / "moved").rename(source)
    store = make(source, tmp_path / "third", cache=cache, n_workers=n_workers)
    assert n_encoded() == 1
    assert [key for key, _ in store.notes] == ["cut.jpg"]
    assert files(tmp_path / "first") == files(tmp_path / "second") == files(tmp_path / "without")
    make(source / "0", tmp_path / "part-without")
    assert files(tmp_path / "part") == files(tmp_path / "part-without")


def test_a_run_and_its_predictions_share_it(source, cache, tmp_path, n_encoded):
    options = {"cache": cache, "device": "cpu", "n_workers": 0, "verbose": False}
    quick = {"encoder": "pixels", "image_size": 8, "n_views": 2, "epochs": 1}
    embed_only = make(source, tmp_path / "store", cache=cache)
    assert n_encoded() == 13
    run = cluster_images(source, 2, out=tmp_path / "run", **quick, **options)
    out = predict_images(run.folder, source / "0", **options)
    assert n_encoded() == 0
    assert run.paths == embed_only.keys
    assert (out / "labels.csv").exists()


def test_it_is_off_unless_asked_for(source, tmp_path, monkeypatch, cache):
    monkeypatch.delenv("MFAVBS_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "place")
    assert cache_folder(None) is None
    assert cache_folder("auto") == tmp_path / "place" / "features"
    make(source, tmp_path / "none")
    assert not (tmp_path / "place").exists()
    monkeypatch.setenv("MFAVBS_CACHE", str(cache))
    assert cache_folder(None) == cache
    assert cache_folder("off") is None
    make(source, tmp_path / "off", cache="off")
    assert not cache.exists()
    make(source, tmp_path / "on")
    assert list_cache(cache)[0].n_entries == 13
    monkeypatch.setenv("MFAVBS_CACHE", "")
    assert cache_folder(None) is None


def test_recipes_are_kept_apart(source, cache, tmp_path, n_encoded, monkeypatch):
    make(source, tmp_path / "a", cache=cache)
    n_encoded()
    others = ({"seed": 1}, {"n_views": 3}, {"value_range": (0, 100)}, {"augment": "rotate"})
    for number, options in enumerate(others):
        make(source, tmp_path / f"other{number}", cache=cache, **options)
        assert n_encoded() == 13
    now = list_cache(cache)[0].recipe["precision"]
    other = {"bfloat16": torch.float32, "float32": torch.bfloat16}[now]
    monkeypatch.setattr("mfavbs.encoders.encoder.precision_on", lambda device: other)
    make(source, tmp_path / "precision", cache=cache)
    assert n_encoded() == 13
    assert len(list_cache(cache)) == 6
    assert {file.recipe["precision"] for file in list_cache(cache)} == {"bfloat16", "float32"}


def test_an_entry_that_is_gone_or_damaged_between_look_up_and_fetch_is_encoded(
    source, cache, tmp_path, n_encoded, monkeypatch
):
    expected = files(make(source, tmp_path / "first", cache=cache).path)
    n_encoded()
    get = FeatureCache.get
    monkeypatch.setattr(
        FeatureCache,
        "get",
        lambda self, some: {k: v for k, v in get(self, some).items() if k[0] in "01234567"},
    )
    store = make(source, tmp_path / "second", cache=cache)
    assert n_encoded() == sum(content[0] not in "01234567" for content in store.hashes) > 0
    assert files(store.path) == expected


def test_a_damaged_entry_is_made_again(source, cache, tmp_path, n_encoded):
    expected = files(make(source, tmp_path / "first", cache=cache).path)
    n_encoded()
    with contextlib.closing(sqlite3.connect(only(cache))) as database, database:
        for column, value in (
            ("features", b"x"),
            ("shape", "4,1,96"),
            ("note", b"\xff"),
            ("checksum", None),
            ("features", 7),
        ):
            database.execute(
                f"UPDATE entries SET {column} = ? WHERE rowid = (SELECT rowid FROM entries "
                "WHERE used > 0 LIMIT 1)",
                (value,),
            )
            database.execute(
                "UPDATE entries SET used = -1 WHERE rowid = (SELECT rowid FROM entries WHERE "
                "used > 0 LIMIT 1)"
            )
    assert files(make(source, tmp_path / "second", cache=cache).path) == expected
    assert n_encoded() == 5
    assert files(make(source, tmp_path / "third", cache=cache).path) == expected
    assert n_encoded() == 0


@pytest.mark.parametrize("seed", range(12))
def test_bytes_flipped_anywhere_change_no_feature(source, cache, tmp_path, seed):
    expected = files(make(source, tmp_path / "first", cache=cache).path)
    path, draw = only(cache), np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for at in draw.integers(0, len(content), 1 + 40 * (seed % 3)):
        content[at] ^= 1 << draw.integers(8)
    path.write_bytes(content)
    for name in ("second", "third"):
        assert files(make(source, tmp_path / name, cache=cache).path) == expected


@pytest.mark.parametrize("damage", ["garbage", "truncated", "header", "column", "another", "text"])
def test_a_damaged_file_is_made_again(source, cache, tmp_path, n_encoded, damage):
    expected = files(make(source, tmp_path / "first", cache=cache).path)
    path = only(cache)
    content = path.read_bytes()
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as database, database:
        database.execute("CREATE TABLE photos (name TEXT)")
    path.write_bytes(
        {
            "garbage": np.random.default_rng(0).bytes(len(content)),
            "truncated": content[: len(content) // 2],
            "header": b"\0" * 100 + content[100:],
            "column": content.replace(b"checksum", b"checksun"),
            "another": other.read_bytes(),
            "text": b"hello",
        }[damage]
    )
    n_encoded()
    assert files(make(source, tmp_path / "second", cache=cache).path) == expected
    make(source, tmp_path / "third", cache=cache)
    n_encoded()
    assert files(make(source, tmp_path / "fourth", cache=cache).path) == expected
    assert n_encoded() == 0
    assert list_cache(cache)[0].n_entries == 13


def test_a_file_under_the_name_of_another_recipe_is_not_taken(tmp_path):
    with FeatureCache.open(tmp_path / "a", {"n": 1}) as one:
        one.put(["0" * 32], truth(0)[None], {})
        one.flush()
    with FeatureCache.open(tmp_path / "a", {"n": 2}) as two:
        two.path.write_bytes(one.path.read_bytes())
    with FeatureCache.open(tmp_path / "a", {"n": 2}) as two:
        assert not two.find("0" * 32)


def test_it_is_its_owners_alone(source, cache, tmp_path):
    make(source, tmp_path / "first", cache=cache)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert only(cache).stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners are POSIX's")
@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_another_owns_is_not_trusted(source, cache, tmp_path, n_encoded, monkeypatch, which):
    expected = files(make(source, tmp_path / "first", cache=cache).path)
    n_encoded()
    before = only(cache).read_bytes()
    if os.getuid() == 0:
        os.chown(cache if which == "folder" else only(cache), 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.warns(UserWarning, match="another owner and not trusted.*goes on without") as told:
        assert files(make(source, tmp_path / "second", cache=cache).path) == expected
    assert len(told) == 1
    assert n_encoded() == 13
    assert only(cache).read_bytes() == before
    with pytest.raises(StoreError, match="another owner"):
        list_cache(cache)


def test_a_folder_that_others_may_write_in_is_not_trusted(source, cache, tmp_path):
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.warns(UserWarning, match="chmod 700"):
        make(source, tmp_path / "store", cache=cache)
    assert not list(cache.iterdir())


def test_a_place_that_is_no_folder(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.warns(UserWarning, match="this run goes on without it") as told:
            make(source, tmp_path / f"store-{place.name}", cache=place)
        assert len(told) == 1
    assert (tmp_path / "file").read_text() == "mine"


def refusing(word, why):
    """`sqlite3.connect` whose connections refuse statements that begin with ``word``."""
    connect = sqlite3.connect

    class Refusing(sqlite3.Connection):
        def executemany(self, statement, rows):
            if statement.startswith(word):
                raise sqlite3.OperationalError(why)
            return super().executemany(statement, rows)

    return lambda *args, **options: connect(*args, factory=Refusing, **options)


@pytest.mark.parametrize(
    "why", ["database or disk is full", "attempt to write a readonly database", "disk I/O error"]
)
def test_without_room_or_rights_it_goes_on_and_says_so_once(
    source, cache, tmp_path, n_encoded, monkeypatch, why
):
    make(source / "0", tmp_path / "part", cache=cache)
    n_encoded()
    monkeypatch.setattr("mfavbs.features.pieces.IMAGES", 1)  # a flush after every batch
    monkeypatch.setattr("mfavbs.features.parts._FORWARD", {"cpu": 2})
    monkeypatch.setattr(sqlite3, "connect", refusing("INSERT", why))
    with pytest.warns(UserWarning, match=f"{why}.*not kept there") as told:
        store = make(source, tmp_path / "store", cache=cache)
    assert len(told) == 1
    assert n_encoded() == 9  # what it has is still read
    monkeypatch.undo()
    assert files(store.path) == files(make(source, tmp_path / "without").path)


def test_a_disk_that_is_full_when_the_cache_is_begun(source, cache, tmp_path, monkeypatch):
    opened = os.open

    def full(path, *rest, **options):
        if str(path).endswith(".mfavbs-features"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, *rest, **options)

    monkeypatch.setattr(os, "open", full)
    with pytest.warns(UserWarning, match="No space left on device.*goes on without") as told:
        make(source, tmp_path / "store", cache=cache)
    assert len(told) == 1


def test_a_file_that_another_holds_for_long(source, cache, tmp_path, monkeypatch):
    make(source / "0", tmp_path / "part", cache=cache)
    monkeypatch.setattr("mfavbs.features.cache_files._PATIENCE", 0.1)
    with contextlib.closing(sqlite3.connect(only(cache), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.warns(UserWarning, match="database is locked"):
            store = make(source, tmp_path / "store", cache=cache)
    assert files(store.path) == files(make(source, tmp_path / "without").path)


def test_two_processes_fill_one_cache(cache):
    n = 400
    both = [fill(cache, first, 1, n) for first in (0, 100)]  # most of them both have
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert check_entries(cache, range(n)) == n
    assert list_cache(cache)[0].n_entries == n


def test_killed_while_it_writes(cache):
    written = set()
    for seed in range(4):
        process = fill(cache, 7 * seed, 1, 100_000)
        for _ in range(3 + seed):
            written.add(int(process.stdout.readline()))
        time.sleep(0.003 * seed)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert check_entries(cache, written) == len(written)
    check_entries(cache, range(2000))


def test_it_goes_to_other_processes(cache):
    with FeatureCache.open(cache, RECIPE) as one:
        one.put([f"{3:032x}"], truth(3)[None], {})
        one.flush()
        other = pickle.loads(pickle.dumps(one))
        assert other.find(f"{3:032x}")
        assert not other.find(f"{4:032x}")
        other.close()


def test_made_again_or_pruned_by_another_while_it_is_open(cache):
    with FeatureCache.open(cache, RECIPE) as one:
        one.put([f"{0:032x}"], truth(0)[None], {f"{0:032x}": "note 0"})
        one.flush()
        prune_cache(cache, max_size=0)
        assert not one.find(f"{0:032x}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one.put([f"{1:032x}"], truth(1)[None], {f"{1:032x}": "note 1"})
            one.flush()
        assert one.find(f"{1:032x}")
    assert check_entries(cache, range(2)) == 1


def test_pruned_by_age_and_by_size(cache):
    n = 300
    with FeatureCache.open(cache, RECIPE) as one:
        contents = [f"{i:032x}" for i in range(n)]
        notes = {content: f"note {i}" for i, content in enumerate(contents)}
        one.put(contents, np.stack([truth(i) for i in range(n)]), notes)
        one.flush()
        path, now = one.path, int(time.time())
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for i, content in enumerate(contents):
            used = (now - 86400 * i, bytes.fromhex(content))
            database.execute("UPDATE entries SET used = ? WHERE hash = ?", used)
    full = path.stat().st_size
    prune_cache(cache, max_age=199.5)
    assert check_entries(cache, range(200)) == list_cache(cache)[0].n_entries == 200
    assert path.stat().st_size < 0.75 * full
    with FeatureCache.open(cache, RECIPE) as one:  # a use counts
        one.get([f"{199:032x}"])
        one.flush()
    prune_cache(cache, max_size=full / 3)
    assert full / 4 < path.stat().st_size <= full / 3
    kept = list_cache(cache)[0].n_entries
    assert check_entries(cache, [199, *range(kept - 1)]) == kept
    prune_cache(cache, max_size=0)
    assert not list(cache.iterdir())


def test_pruned_where_there_is_no_room_for_a_journal(cache, monkeypatch):
    with FeatureCache.open(cache, RECIPE) as one:
        one.put([f"{0:032x}"], truth(0)[None], {})
        one.flush()
        size = one.path.stat().st_size
    connect, journals = sqlite3.connect, []

    class Full(sqlite3.Connection):
        def executemany(self, statement, rows):
            journals.append(self.execute("PRAGMA journal_mode").fetchone()[0])
            if journals[-1] != b"memory":
                raise sqlite3.OperationalError("database or disk is full")
            return super().executemany(statement, rows)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Full, **k))
    prune_cache(cache, max_size=size - 1)
    assert journals == [b"delete", b"memory"]
    assert not list(cache.iterdir())


def test_other_files_are_left_alone(cache, tmp_path):
    with FeatureCache.open(cache, RECIPE) as one:
        damaged = one.path
    damaged.write_bytes(b"x" * 9000)
    (cache / "thesis.tex").write_text("do not touch")
    (cache / f"{0:032x}.mfavbs-features").touch()  # a process was killed at once
    with FeatureCache.open(cache, {"nothing": "encoded"}):
        pass
    assert sorted(file.recipe is None for file in list_cache(cache)) == [False, True, True]
    prune_cache(cache, max_age=0)
    assert [path.name for path in cache.iterdir()] == ["thesis.tex"]


def test_the_command_line(source, tmp_path):
    quick = ["--encoder", "pixels", "--image-size", 8, "--views", 2, "--workers", 0]
    quick += ["--augment", "rotate"]
    for out in ("a", "b"):
        result = mfavbs("embed", source, "--out", out, "--cache", "c", *quick, folder=tmp_path)
        assert result.code == 0, result.err
    result = mfavbs("cache", "--cache", "c", "--json", folder=tmp_path)
    assert result.code == 0, result.err
    about = json.loads(result.out)
    (file,) = about["files"]
    assert (file["encoder"], file["image_size"], file["n_views"]) == ("pixels", 8, 2)
    assert file["n_images"] == 13
    assert about["bytes"] == file["bytes"] == only(tmp_path / "c").stat().st_size
    assert file["augment"] == "rotate"
    assert "pixels, 8 px, 2 views (rotate), " in result.err
    result = mfavbs("cache", "--cache", "c", "--max-age", 30, "--json", folder=tmp_path)
    assert json.loads(result.out)["removed_bytes"] == 0
    result = mfavbs("cache", "--cache", "c", "--max-size", 0, "--json", folder=tmp_path)
    assert json.loads(result.out) | {"cache": ""} == {
        "cache": "",
        "bytes": 0,
        "removed_bytes": about["bytes"],
        "files": [],
        "copies": [],
    }
    result = mfavbs("cache", "--cache", "nowhere", folder=tmp_path)
    assert result.code == 0
    (tmp_path / "file").write_text("mine")
    result = mfavbs("cache", "--cache", "file", folder=tmp_path)
    assert result.code == 1
    assert "the cache file cannot be used" in result.err
