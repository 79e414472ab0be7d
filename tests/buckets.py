"""A server of S3 on this machine, for as long as a test takes."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Its file system, with an empty bucket ``photos``; processes started within it see it too."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # Servers of one process share what they hold.
        urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
        files = fsspec.filesystem("s3", use_listings_cache=False)
        files.mkdir("photos")
        yield files
    finally:
        server.stop()
        fsspec.filesystem("s3").clear_instance_cache()
