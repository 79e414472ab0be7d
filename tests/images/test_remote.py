"""In: images at URLs: in memory, on a local web server, in a bucket. Out: as on a disk."""

import functools
import http.server
import io
import pickle
import threading
import urllib.parse

import fsspec
import pytest
from buckets import s3_server
from image_files import encoded, noise, reasons, red
from picture_archives import PICTURES, datasets_table, tarred, written

from mfavbs import urls
from mfavbs.errors import SourceError
from mfavbs.images import open_images
from mfavbs.urls import without_secrets

FILES = {"a/x.png": encoded(red()), "b/y.jpg": encoded(noise(), "JPEG")}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(urls, "_WAIT", 0.01)


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    for key, content in (FILES | {"notes.txt": b"x", "b/empty.png": b""}).items():
        files.pipe_file(f"/photos/{key}", content)
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_a_folder(memory):
    images = open_images("memory://photos", exclude=["none"])
    assert (images.kind, images.location) == ("remote", "memory://photos")
    assert images.keys == ["a/x.png", "b/empty.png", "b/y.jpg"]
    assert images.read(0) == FILES["a/x.png"]
    assert images.stat(0)[0] == len(FILES["a/x.png"])
    assert images.stat(0)[1] > 0
    assert reasons(images) == {"b/empty.png": "empty file (0 bytes)"}
    assert images.skipped == [("notes.txt", "not an image by its name")]
    assert pickle.loads(pickle.dumps(images)).read(2) == FILES["b/y.jpg"]
    assert open_images("memory://photos/", exclude=["b"]).keys == ["a/x.png"]


def test_an_object_that_is_gone_is_a_failure(memory):
    images = open_images("memory://photos")
    memory.rm("/photos/a/x.png")
    assert reasons(images)["a/x.png"] == "no such file"


def test_archives(memory, tmp_path):
    tarred(tmp_path / "x.tar", list(FILES.items()))
    tarred(tmp_path / "x.tgz", list(FILES.items()))
    table = datasets_table(PICTURES, [f"{n}.png" for n in range(3)], [0, 1, 1])
    written(table, tmp_path / "x.parquet")
    for name in ("x.tar", "x.tgz", "x.parquet"):
        memory.pipe_file(f"/{name}", (tmp_path / name).read_bytes())
        here, there = open_images(tmp_path / name), open_images(f"memory://{name}")
        assert (there.kind, there.keys, there.labels) == (here.kind, here.keys, here.labels)
        assert [there.read(row) for row in range(len(here))] == [
            here.read(row) for row in range(len(here))
        ]
    for n in range(2):
        memory.pipe_file(f"/shards/s-{n}.tar", (tmp_path / "x.tar").read_bytes())
    keys = [f"s-{n}.tar/{key}" for n in range(2) for key in FILES]
    assert open_images("memory://shards").keys == keys
    assert open_images("memory://shards/s-{0..1}.tar").keys == keys


def test_a_list_of_urls(memory, tmp_path):
    (tmp_path / "list.txt").write_text("memory://photos/a/x.png\nmemory://photos/no.png\n")
    images = open_images(tmp_path / "list.txt")
    assert images.read(0) == FILES["a/x.png"]
    assert reasons(images) == {"memory://photos/no.png": "no such file"}


def test_a_place_that_cannot_be_read():
    with pytest.raises(SourceError, match="expected a path or a URL as s3://"):
        open_images("nowhere://photos")
    with pytest.raises(SourceError, match="memory://empty"):
        open_images("memory://empty")


def test_secrets_are_not_shown():
    signed = "https://me:secret@host/x.tar?X-Amz-Signature=secret#secret"
    assert without_secrets(signed) == "https://host/x.tar"
    assert without_secrets("photos/what?.png") == "photos/what?.png"
    assert without_secrets("s3://bucket/photos") == "s3://bucket/photos"


class _Unsteady(http.server.SimpleHTTPRequestHandler):
    """Answers each path wrongly as often as it is told, then as it should."""

    wrong: dict

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        left = self.wrong.get(path, [])
        if left:
            self.send_error(left.pop())
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    pytest.importorskip("aiohttp")
    for key, content in FILES.items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(content)
    wrong = {}
    handler = type("Handler", (_Unsteady,), {"wrong": wrong})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=tmp_path)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", wrong
        server.shutdown()


def test_a_web_server_that_fails_now_and_then(web, tmp_path):
    url, wrong = web
    (tmp_path / "list.txt").write_text(f"{url}/a/x.png\n{url}/b/y.jpg?key=secret\n{url}/no.png\n")
    images = open_images(tmp_path / "list.txt")
    assert images.keys == [f"{url}/a/x.png", f"{url}/b/y.jpg", f"{url}/no.png"]
    wrong["/a/x.png"] = [503, 502]  # twice, then it is there
    assert images.read(0) == FILES["a/x.png"]
    wrong["/a/x.png"] = [503] * 99
    wrong["/b/y.jpg"] = [403]
    found = reasons(images)
    assert found[f"{url}/no.png"] == "no such file"
    assert found[f"{url}/a/x.png"].endswith("after 4 tries")
    assert found[f"{url}/b/y.jpg"].startswith("access denied")
    assert "secret" not in str(found)


def test_a_tar_on_a_web_server(web, tmp_path):
    url, _ = web
    tarred(tmp_path / "x.tar", list(FILES.items()))
    images = open_images(f"{url}/x.tar?key=secret")
    assert images.location == f"{url}/x.tar"
    assert images.keys == list(FILES)
    assert images.read(1) == FILES["b/y.jpg"]
    with pytest.raises(SourceError, match=r"/no\.tar cannot be read.*no such file") as error:
        open_images(f"{url}/no.tar?key=secret")
    assert "secret" not in str(error.value)


@pytest.mark.slow
def test_a_bucket(monkeypatch):
    with s3_server(monkeypatch) as bucket:
        for key, content in FILES.items():
            bucket.pipe_file(f"photos/2026/{key}", content)
        buffer = io.BytesIO()
        images = open_images("s3://photos/2026")
        assert images.keys == list(FILES)
        assert images.read(1) == FILES["b/y.jpg"]
        assert images.stat(0)[1] > 1e9  # a date
        with pytest.raises(SourceError, match=r"s3://none/2026") as error:
            open_images("s3://none/2026")
        assert "topsecret" not in str(error.value) + buffer.getvalue().decode()
