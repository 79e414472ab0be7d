"""In: a store at a URL: in memory, on a web server. Out: byte for byte what it is in a folder;
and what one machine has begun another goes on with.
"""

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import fsspec
import numpy as np
import pytest
from buckets import s3_server
from counting import Counting
from image_files import encoded, noise, write
from killing import wait_until

from mfavbs import cluster_images, urls
from mfavbs.cutting import is_run
from mfavbs.encoders import load_encoder
from mfavbs.errors import MfavbsError, SourceError, StoreError
from mfavbs.features import (
    FeatureStore,
    check_store,
    compact,
    embed,
    embedding,
    is_store,
    list_cache,
    list_copies,
    prune,
    sending,
    store_folder,
)
from mfavbs.images import open_images
from mfavbs.runs import read_run
from mfavbs.sources import ImageSource, StoreSource, open_source

URL = "memory://bucket/store"
ENCODER = load_encoder("pixels", image_size=8)


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Another machine of the same network, whenever it is called: one with an empty cache."""
    monkeypatch.setattr(urls, "_WAIT", 0.01)
    monkeypatch.setattr(sending, "_SECONDS", 0.01)

    def other(name):
        monkeypatch.setenv("MFAVBS_CACHE", str(tmp_path / name))

    other("first")
    return other


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def source(tmp_path):
    for i in range(12):
        write(tmp_path / f"images/{i % 3}/{i:02d}.png", encoded(noise(20 + i, 24)))
    write(tmp_path / "images/broken.png", b"no image")
    return tmp_path / "images"


def make(source, out, **options):
    options = {"n_views": 2, "device": "cpu", "n_workers": 0, "verbose": False} | options
    return embed(open_images(source), out, ENCODER, **options)


def here(folder):
    found = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): digest(p.read_bytes()) for p in found}


def there(memory, url=URL):
    root = url.removeprefix("memory:/")
    return {p[len(root) + 1 :]: digest(memory.cat_file(p)) for p in memory.find(root)}


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_it_is_what_it_is_in_a_folder(source, tmp_path, memory):
    stored = make(source, tmp_path / "store")
    made = make(source, URL)
    assert there(memory) == here(tmp_path / "store")
    assert made.location == URL
    assert made.keys == stored.keys
    assert np.array_equal(made.features, stored.features)
    assert is_store(URL)
    assert not is_store("memory://bucket")


def test_another_machine_reads_it_and_makes_it_grow(source, tmp_path, memory, machine):
    make(source, URL)
    machine("second")
    read = FeatureStore.open(URL)
    assert (read.location, len(read.features), len(read.failures)) == (URL, 12, 1)
    write(source / "0/new.png", encoded(noise(99, 24)))
    (source / "1/01.png").unlink()
    grown = make(source, URL)
    assert (len(grown.features), grown.parameters["number"]) == (12, 2)
    machine("first")
    again = FeatureStore.open(URL)  # its copy is of before
    assert again.keys == grown.keys
    assert again.state == grown.state
    make(source, tmp_path / "store")
    compact(URL)
    assert there(memory) == here(tmp_path / "store")
    machine("second")
    assert np.array_equal(FeatureStore.open(URL).features, again.features[:])


def test_only_what_is_new_is_fetched_and_sent(source, memory, monkeypatch):
    make(source, URL)
    sent, fetched = [], []
    put, cat = type(memory).put_file, type(memory).cat_file
    monkeypatch.setattr(
        type(memory), "put_file", lambda self, a, b, **o: sent.append(b) or put(self, a, b, **o)
    )
    monkeypatch.setattr(
        type(memory), "cat_file", lambda self, a, **o: fetched.append(a) or cat(self, a, **o)
    )
    FeatureStore.open(URL)
    assert [name.rpartition("/")[2] for name in fetched] == ["store.json"]
    make(source, URL)
    assert [name.rpartition("/")[2] for name in sent] == [".mfavbs.writing"]
    assert not [name for name in fetched if name.endswith((".npy", ".parquet"))]


class Gone(Exception):
    """A machine that ends at once."""


def interrupted(monkeypatch, source, after):
    """Make a store until a piece with so many images is there, and end as a kill does."""
    from mfavbs.features import pieces

    monkeypatch.setattr(pieces, "SECONDS", 0.0)
    monkeypatch.setattr("mfavbs.features.embedding.batch_size", lambda *_: 2)
    n = 0

    def flush(self, flush=pieces.Pieces.flush):
        nonlocal n
        flush(self)
        n += 1
        if n == after:
            monkeypatch.setattr(pieces.Pieces, "flush", lambda self: None)
            raise Gone

    with monkeypatch.context() as patched:
        patched.setattr(pieces.Pieces, "flush", flush)
        with pytest.raises(Gone):
            make(source, URL)


def test_another_machine_goes_on_with_it(source, tmp_path, memory, machine, monkeypatch):
    interrupted(monkeypatch, source, after=3)
    assert "progress.json" in there(memory)
    assert sum(name.startswith("pieces/") for name in there(memory)) == 3
    machine("second")
    n_encoded = Counting(monkeypatch)
    make(source, URL)
    assert 0 < n_encoded() <= 12 - 2 * 2
    make(source, tmp_path / "store")
    assert there(memory) == here(tmp_path / "store")


def test_what_another_process_has_written_meanwhile_stays(
    source, tmp_path, memory, machine, monkeypatch
):
    make(source, URL)
    write(source / "0/new.png", encoded(noise(99, 24)))

    def meanwhile(dataset, *rest, encode=embedding._encode):
        encode(dataset, *rest)
        monkeypatch.setattr("mfavbs.features.embedding._encode", encode)
        machine("second")
        write(source / "0/newer.png", encoded(noise(100, 24)))
        with pytest.warns(UserWarning, match="has begun to write to memory://bucket/store"):
            make(source, URL)
        machine("first")

    monkeypatch.setattr("mfavbs.features.embedding._encode", meanwhile)
    with pytest.raises(StoreError, match="another process has written to memory://bucket/store"):
        make(source, URL)
    assert len(FeatureStore.open(URL).features) == 14
    assert len(make(source, URL).features) == 14


def test_one_that_comes_while_it_is_sent(source, memory, machine, monkeypatch):
    write(source / "0/new.png", encoded(noise(99, 24)))
    put = type(memory).put_file

    def meanwhile(self, path, name, **options):
        put(self, path, name, **options)
        if "/segments/" in name:
            monkeypatch.setattr(type(memory), "put_file", put)
            machine("second")
            write(source / "0/newer.png", encoded(noise(100, 24)))
            with pytest.warns(UserWarning, match="has begun to write"):
                make(source, URL)
            machine("first")

    monkeypatch.setattr(type(memory), "put_file", meanwhile)
    with pytest.raises(StoreError, match="another process has written"):
        make(source, URL)
    machine("third")
    assert len(FeatureStore.open(URL).features) == 14
    machine("first")
    assert len(make(source, URL).features) == 14


def test_a_copy_that_was_removed_by_hand(source, memory):
    made = make(source, URL)
    shutil.rmtree(made.path)
    with pytest.raises(StoreError, match="memory://bucket/store was made with n_views=2"):
        make(source, URL, n_views=3)
    assert np.array_equal(FeatureStore.open(URL).features, made.features)


def test_a_fetch_that_was_interrupted_before_the_store_was_made_anew(
    source, tmp_path, memory, machine, monkeypatch
):
    make(source, URL)
    machine("second")
    cat = type(memory).cat_file

    def cut(self, path, **options):
        if path.endswith("manifest.parquet"):
            raise Gone
        return cat(self, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(type(memory), "cat_file", cut)
        patched.setattr(urls, "_TRIES", 1)
        with pytest.raises(StoreError, match="cannot be reached"):
            FeatureStore.open(URL)
    machine("first")
    memory.rm("/bucket/store", recursive=True)
    anew = make(source, URL, seed=1)
    machine("second")
    assert np.array_equal(FeatureStore.open(URL).features, anew.features)


def test_pieces_of_another_recipe(source, tmp_path, memory, machine, monkeypatch):
    interrupted(monkeypatch, source, after=2)
    memory.rm("/bucket/store", recursive=True)
    machine("second")
    hidden = [path.rename(tmp_path / path.name) for path in (source / "1").iterdir()]
    make(source, URL, seed=1)
    for path in hidden:
        path.rename(source / "1" / path.name)
    machine("first")
    make(source, URL, seed=1)
    compact(URL)
    make(source, tmp_path / "store", seed=1)
    assert there(memory) == here(tmp_path / "store")


def test_a_reader_while_it_is_replaced(source, memory, machine, monkeypatch):
    make(source, URL)
    write(source / "0/new.png", encoded(noise(99, 24)))
    machine("second")
    cat = type(memory).cat_file

    def meanwhile(self, path, **options):
        found = cat(self, path, **options)
        if path.endswith("hashes.txt"):
            monkeypatch.setattr(type(memory), "cat_file", cat)
            machine("first")
            make(source, URL)
            machine("second")
        return found

    monkeypatch.setattr(type(memory), "cat_file", meanwhile)
    assert len(FeatureStore.open(URL).features) == 13


def test_a_copy_loses_what_is_superseded(source, memory, machine):
    first = make(source, URL)
    machine("second")
    write(source / "0/new.png", encoded(noise(99, 24)))
    make(source, URL)
    compact(URL)
    machine("first")
    FeatureStore.open(URL)
    assert len(list((first.path / "segments").iterdir())) == 1
    assert len(list((first.path / "tables").iterdir())) == 1


def test_a_run_of_it_is_cut_and_updated(source, tmp_path, memory):
    make(source, URL)
    options = {"verbose": False, "device": "cpu", "with_map": False}
    cluster_images(URL, 3, out=tmp_path / "run", epochs=2, **options)
    run = cluster_images(tmp_path / "run", 2, out=tmp_path / "cut", **options)
    assert run.record["source"]["name"] == f"features {URL}"
    write(source / "0/new.png", encoded(noise(99, 24)))
    make(source, URL)
    run = cluster_images(URL, 3, out=tmp_path / "run", epochs=2, update=True, **options)
    assert len(run.cluster) == 13


def test_a_connection_that_breaks_at_the_end(source, memory, machine, monkeypatch, tmp_path):
    put = type(memory).put_file

    def broken(self, path, name, **options):
        if name.endswith("store.json"):
            raise ConnectionError("https://user:secret@host")
        put(self, path, name, **options)

    monkeypatch.setattr(type(memory), "put_file", broken)
    with pytest.raises(StoreError, match="the same command goes on with it") as error:
        make(source, URL)
    assert "secret" not in str(error.value)
    with pytest.raises(StoreError, match="was not written to its end"):
        FeatureStore.open(URL)
    prune(tmp_path / "first", max_size=0)
    assert len(list_copies(tmp_path / "first")) == 1  # it was not sent
    machine("second")
    with pytest.raises(StoreError, match="unfinished"):
        FeatureStore.open(URL)
    machine("first")
    monkeypatch.setattr(type(memory), "put_file", put)
    make(source, URL)
    make(source, tmp_path / "store")
    assert there(memory) == here(tmp_path / "store")


def test_what_may_not_be_written_is_told_before_anything_is_encoded(source, memory, monkeypatch):
    def refused(*_, **__):
        raise PermissionError("no")

    monkeypatch.setattr(type(memory), "put_file", refused)
    with pytest.raises(StoreError, match="access denied"):
        make(source, URL)
    assert not there(memory)


def test_what_is_no_store_is_left_alone(source, memory):
    memory.pipe_file("/bucket/store/holiday.jpg", b"x")
    with pytest.raises(StoreError, match=r"is not a feature store: holiday\.jpg lies there"):
        make(source, URL)
    assert list(there(memory)) == ["holiday.jpg"]


def test_nothing_readable_leaves_nothing(tmp_path, memory):
    write(tmp_path / "none/broken.png", b"no image")
    with pytest.raises(SourceError, match="none of 1 can"):
        make(tmp_path / "none", URL)
    assert not there(memory)


def test_other_parameters_are_refused(source, memory, machine):
    make(source, URL)
    machine("second")
    with pytest.raises(StoreError, match="n_views=2, now n_views=3"):
        make(source, URL, n_views=3)
    with pytest.raises(StoreError, match="n_views=2, now n_views=4"):
        check_store(URL, {"n_views": 4})


def test_one_that_was_made_anew(source, memory, machine):
    make(source, URL)
    machine("second")
    FeatureStore.open(URL)
    machine("third")
    memory.rm("/bucket/store", recursive=True)
    make(source, URL, n_views=3)
    machine("second")
    assert FeatureStore.open(URL).features.shape[1] == 3
    memory.rm("/bucket/store", recursive=True)
    with pytest.raises(StoreError, match="is not a feature store"):
        FeatureStore.open(URL)


@pytest.mark.parametrize("name", ["../../../../escaped", "/etc", 3])
def test_names_that_lead_elsewhere(source, memory, tmp_path, name):
    make(source, URL)
    about = json.loads(memory.cat_file("/bucket/store/store.json"))
    about["segments"] = [name]
    memory.pipe_file("/bucket/evil/store.json", json.dumps(about).encode())
    memory.pipe_file("/bucket/escaped/features.npy", b"x")
    with pytest.raises(StoreError, match="damaged"):
        FeatureStore.open("memory://bucket/evil")
    assert not list(tmp_path.rglob("escaped*"))


def test_a_file_that_is_cut_short(source, memory, machine):
    make(source, URL)
    name = next(n for n in memory.store if n.endswith("features.npy"))
    memory.pipe_file(name, memory.cat_file(name)[:-9])
    machine("second")
    with pytest.raises(StoreError, match="is damaged"):
        FeatureStore.open(URL)


def test_a_source_is_told_from_a_store(source, memory):
    make(source, URL)
    for path in source.rglob("*.png"):
        memory.pipe_file(f"/photos/{path.relative_to(source).as_posix()}", path.read_bytes())
    opened = open_source(URL)
    assert isinstance(opened, StoreSource)
    assert (opened.name, opened.identity) == ("store", f"features {URL}")
    assert isinstance(open_source("memory://photos"), ImageSource)
    assert not is_run(URL)
    assert is_store("file:///nowhere") is False


def test_a_url_of_a_file_is_a_path(source, tmp_path, monkeypatch):
    made = make(source, f"file://{tmp_path}/store")
    assert made.path == tmp_path / "store"
    assert isinstance(open_source(f"file://{tmp_path}/store"), StoreSource)
    assert len(open_source(f"file://{source}").images) == 13
    monkeypatch.chdir(tmp_path)
    assert store_folder("file://store") == tmp_path / "store"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://host/store", "can be read, not written"),
        ("memory://me:secret@host/store", "without password or key"),
        ("memory://host/store?key=secret", "without password or key"),
        ("simplecache::memory://bucket/store", "a chain"),
        ("nothing://host/store", "nothing installed reads it"),
    ],
)
def test_urls_that_are_refused(source, url, said):
    with pytest.raises(MfavbsError, match=said) as error:
        make(source, url)
    assert "secret" not in str(error.value)


def test_copies_are_listed_and_pruned(source, memory, tmp_path):
    make(source, URL)
    make(source, URL + "-2")
    listed = list_copies(tmp_path / "first")
    assert [copy.url for copy in listed] == [URL + "-2", URL]
    features = sum(file.n_bytes for file in list_cache(tmp_path / "first"))
    prune(tmp_path / "first", max_size=features + 1.5 * listed[0].n_bytes)
    assert features == sum(file.n_bytes for file in list_cache(tmp_path / "first"))
    assert [copy.url for copy in list_copies(tmp_path / "first")] == [URL + "-2"]
    prune(tmp_path / "first", max_age=1)
    assert len(list_copies(tmp_path / "first")) == 1
    prune(tmp_path / "first", max_age=0)
    assert not list_copies(tmp_path / "first")
    assert len(FeatureStore.open(URL).features) == 12
    assert store_folder(URL).parent.stat().st_mode & 0o077 == 0


def test_a_web_server_can_be_read(source, tmp_path):
    stored = make(source, tmp_path / "web/store")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        read = FeatureStore.open(f"{url}/store")
        assert read.state == stored.state
        assert np.array_equal(read.features, stored.features)
        with pytest.raises(StoreError, match="can be read, not written"):
            make(source, f"{url}/store")
        with pytest.raises(StoreError, match="not a feature store"):
            FeatureStore.open(f"{url}/none")
        server.shutdown()


MAKE = """
import sys, time
from mfavbs.encoders import load_encoder
from mfavbs.features import embed, embedding, pieces, sending
from mfavbs.images import open_images
pieces.SECONDS, sending._SECONDS = 0.0, 0.01
embedding.batch_size = lambda *_: 2
add = pieces.Pieces.add
pieces.Pieces.add = lambda *a: time.sleep(float(sys.argv[3])) or add(*a)
embed(open_images(sys.argv[1]), sys.argv[2], load_encoder("pixels", image_size=8), n_views=2)
"""


@pytest.mark.slow
def test_a_bucket_and_a_machine_that_dies(source, tmp_path, monkeypatch):
    with s3_server(monkeypatch) as bucket:
        for path in source.rglob("*.png"):
            bucket.put_file(str(path), f"photos/in/{path.relative_to(source).as_posix()}")
        url = "s3://photos/out/store"

        def started(name, *words):
            environment = os.environ | {"MFAVBS_CACHE": str(tmp_path / name)}
            command = [sys.executable, *map(str, words)]
            return subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )

        first = started("first", "-c", MAKE, "s3://photos/in", url, 0.5)
        wait_until(lambda: len(bucket.find("photos/out/store/pieces")) > 1)
        first.kill()
        first.communicate()
        assert not bucket.exists("photos/out/store/store.json")
        second = started("second", "-c", MAKE, "s3://photos/in", url, 0)
        _, said = second.communicate()
        assert second.returncode == 0, said
        assert "has begun to write to s3://photos/out/store" in said
        embed(open_images("s3://photos/in"), tmp_path / "store", ENCODER, n_views=2)
        found = {
            path.removeprefix("photos/out/store/"): digest(bucket.cat_file(path))
            for path in bucket.find("photos/out/store")
        }
        assert found == here(tmp_path / "store")
        words = ("-m", "mfavbs", "cluster", url, "-k", 2, "--out", tmp_path / "run", "--json")
        third = started("third", *words)
        out, said = third.communicate()
        assert third.returncode == 0, said
        assert json.loads(out)["n_images"] == 12
        assert read_run(tmp_path / "run").record["source"]["location"] == "s3://photos/in"
        words = ("-m", "mfavbs", "embed", source, "--out", "s3://none/store")
        fourth = started("fourth", *words, "--encoder", "pixels")
        _, said = fourth.communicate()
        assert fourth.returncode == 1
        assert "Error: the feature store s3://none/store cannot be reached" in said
        assert "Traceback" not in said


def test_large_files_come_in_blocks(memory, tmp_path, monkeypatch):
    from mfavbs.features import transfer

    monkeypatch.setattr(transfer, "_BLOCK", 1000)
    content = np.random.default_rng(0).bytes(123_456)
    memory.pipe_file("/bucket/x", content)
    came = []
    transfer.Place("memory://bucket").fetch("x", tmp_path / "x", len(content), came.append)
    assert (tmp_path / "x").read_bytes() == content
    assert sum(came) == len(content)
    with pytest.raises(OSError, match="instead of"):
        transfer.Place("memory://bucket").fetch("x", tmp_path / "y", 200_000, came.append)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["x"]
