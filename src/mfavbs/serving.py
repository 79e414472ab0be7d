"""A small web service: a finished run answers new images.

In: requests. Out: JSON. One thread computes; what waits for it is bounded, and so is all that one
request may hold and how long it may take.
"""

import asyncio
import hmac
import json
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from mfavbs.errors import MfavbsError, SourceError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

    from mfavbs.answering import Answer, Answering

_TOGETHER = 64  # images that are answered in one go, of one request or of several
_HERE = ("127.0.0.1", "localhost", "::1")
_NOT_READ = 422
_TOO_LARGE = 413
_MB = 10**6


def check_host(host: str, token: str | None) -> None:
    """Refuse to listen to other machines without a token.

    Raises
    ------
    MfavbsError
        ``host`` is not this machine alone, and there is no token.
    """
    if host not in _HERE and not token:
        raise MfavbsError(
            f"host={host} listens to other machines: give a token, which every request has to "
            "bring (MFAVBS_TOKEN in the environment), or leave the host at 127.0.0.1"
        )


class Batches:
    """One thread that answers what is asked, of several requests together.

    Parameters
    ----------
    answer
        Contents -> answers.
    most_waiting
        Requests; more are refused.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[tuple[str, bytes]]], list["Answer"]],
        most_waiting: int = 64,
    ) -> None:
        self._answer = answer
        self._waiting: queue.Queue[tuple[list[tuple[str, bytes]], Future]] = queue.Queue(
            most_waiting
        )
        threading.Thread(target=self._work, name="answers", daemon=True).start()

    def __len__(self) -> int:
        return self._waiting.qsize()

    def ask(self, contents: list[tuple[str, bytes]]) -> "Future[list[Answer]]":
        """Their answers, later; raises `queue.Full` where too many wait."""
        future: Future[list[Answer]] = Future()
        self._waiting.put_nowait((contents, future))
        return future

    def _work(self) -> None:
        while True:
            together = self._next()
            together = [(c, f) for c, f in together if f.set_running_or_notify_cancel()]
            try:
                answers = iter(self._answer([one for c, _ in together for one in c]))
                for contents, future in together:
                    future.set_result([next(answers) for _ in contents])
            except Exception as error:  # the service goes on; who asked is told
                for _, future in together:
                    if not future.done():
                        future.set_exception(error)

    def _next(self) -> list[tuple[list[tuple[str, bytes]], Future]]:
        """The next request, and those behind it that are answered with it."""
        found = [self._waiting.get()]
        while sum(len(contents) for contents, _ in found) < _TOGETHER:
            try:
                found.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return found


def application(
    answering: "Answering",
    *,
    token: str | None = None,
    max_images: int = 64,
    max_mb: int = 100,
    seconds: float = 60,
) -> "FastAPI":
    """The web application of a run.

    Parameters
    ----------
    answering
        The run.
    token
        That requests for answers bring as ``Authorization: Bearer TOKEN``; None asks for none.
    max_images, max_mb, seconds
        Of one request: images or rows of features, megabytes, and time from its first byte to its
        answer.

    Returns
    -------
    FastAPI
        ``GET /health``, and ``POST /predict`` with files named ``images`` or with JSON
        ``{"features": [...]}``.
    """
    import anyio
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.responses import JSONResponse

    app = FastAPI(title="mfavbs", docs_url=None, redoc_url=None, openapi_url=None)
    batches = Batches(answering.images)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "n_clusters": answering.n_clusters, "waiting": len(batches)}

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        if token and not _brings(request, token):
            raise HTTPException(401, "expected the header Authorization: Bearer TOKEN")
        try:
            with anyio.fail_after(seconds):
                kind = request.headers.get("content-type", "")
                if kind.startswith("multipart/form-data"):
                    contents = await _contents(request, max_images, max_mb)
                    answers = await asyncio.wrap_future(batches.ask(contents))
                else:
                    features = await _features(request, max_images, max_mb)
                    answers = await asyncio.to_thread(answering.features, features)
        except TimeoutError:
            raise HTTPException(503, f"no answer within {seconds:g} seconds; try later") from None
        except queue.Full:
            raise HTTPException(503, "too many requests wait; try later") from None
        except _Refused as refused:
            raise HTTPException(refused.status, str(refused)) from None
        except (MfavbsError, ValueError) as error:
            raise HTTPException(_NOT_READ, str(error)) from None
        return JSONResponse({"images": answers})

    return app


class _Refused(Exception):
    """A request that is not answered, with the status that says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def _brings(request: "Request", token: str) -> bool:
    brought = request.headers.get("authorization", "")
    return hmac.compare_digest(brought.encode(), f"Bearer {token}".encode())


async def _body(request: "Request", max_mb: int) -> bytes:
    """The whole body, unless it is too large, whatever its header says."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_mb * _MB:
            raise _Refused(_TOO_LARGE, f"expected at most {max_mb} MB in a request")
    return bytes(body)


async def _contents(request: "Request", max_images: int, max_mb: int) -> list[tuple[str, bytes]]:
    """(name, bytes) of the files named ``images``."""
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    body = await _body(request, max_mb)

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, whole(), max_files=max_images).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        why = getattr(error, "message", None) or "expected multipart/form-data"
        raise _Refused(_NOT_READ, f"{why}; at most {max_images} images in a request") from error
    try:
        files = [file for file in form.getlist("images") if isinstance(file, UploadFile)]
        if not files:
            raise _Refused(_NOT_READ, "expected files in the field 'images', got none")
        return [(file.filename or str(n), await file.read()) for n, file in enumerate(files)]
    finally:
        await form.close()


async def _features(request: "Request", max_images: int, max_mb: int) -> np.ndarray:
    """The array in ``{"features": [...]}``."""
    body = await _body(request, max_mb)
    try:
        asked = json.loads(body)
        features = np.asarray(asked["features"], dtype=np.float32)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _Refused(
            _NOT_READ,
            "expected files in the field 'images', or JSON {\"features\": [[...], ...]} with rows "
            "of one length",
        ) from error
    if features.ndim < 2 or not 0 < len(features) <= max_images:
        raise _Refused(
            _NOT_READ,
            f"expected 1 to {max_images} rows of features, got shape {features.shape}",
        )
    return features


def serve(
    answering: "Answering",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    **bounds: Any,
) -> None:
    """Answer requests until interrupted.

    Parameters
    ----------
    answering
        The run.
    host, port
        Where to listen.
    token, **bounds
        As in :func:`application`.

    Raises
    ------
    MfavbsError
        The host is open to others without a token, or the port is taken.
    """
    check_host(host, token)
    try:
        import uvicorn
    except ImportError as error:
        raise SourceError("mfavbs serve needs FastAPI: pip install 'mfavbs[serve]'") from error
    import socket

    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise MfavbsError(
            f"{host}:{port} cannot be listened at: {error.strerror}; give another port"
        ) from error
    app = application(answering, token=token, **bounds)
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=5, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])
