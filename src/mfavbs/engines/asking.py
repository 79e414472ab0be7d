"""Which engine is asked for, and whether it can be had; told without torch and without Ray.

In: the name of an engine, and the address of a cluster. Out: what :func:`mfavbs.embed` works with.
"""

import functools
import importlib.util
import socket
from typing import TYPE_CHECKING

from mfavbs.engines.ray_cluster import check_workers
from mfavbs.errors import EngineError

if TYPE_CHECKING:  # it imports torch
    from mfavbs.features import Engine

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)
_SECONDS = 10.0  # that a cluster may take to answer a knock


def check_engine(engine: str, ray_address: str | None = None, n_workers: int | None = None) -> None:
    """Refuse an engine that cannot be had.

    Parameters
    ----------
    engine
        ``"local"`` or ``"ray"``.
    ray_address
        ``HOST:PORT`` of the head of a Ray cluster, ``"auto"`` for the one that this machine is a
        node of, or None for a Ray of one's own on this machine.
    n_workers
        Processes that are asked for; None is as many as there are cores.

    Raises
    ------
    EngineError
        There is no such engine, its package is missing, or nobody answers at the address.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine={engine!r} should be {' or '.join(ENGINES)}")
    if engine == LOCAL:
        if ray_address is not None:
            raise EngineError(f"ray_address={ray_address} is for engine={RAY}; give that as well")
        return
    check_workers(n_workers)
    if importlib.util.find_spec("ray") is None:
        raise EngineError(
            f"engine={RAY} needs the package ray, which is not installed: "
            f"pip install 'mfavbs[ray]', or leave engine={RAY} out"
        )
    if ray_address is not None and ray_address != "auto":
        _knock(ray_address)


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or int(port) > 65535:
        raise EngineError(
            f"expected ray_address=HOST:PORT of the head of a cluster, or auto on one of its "
            f"nodes, got {address!r}; `ray start --head` prints it"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise EngineError(
            f"nobody answers at ray_address={address} ({why}); see that `ray start --head "
            "--port PORT` runs there and that this machine may reach it"
        ) from error


def engine_of(engine: str, ray_address: str | None = None) -> "Engine":
    """What an engine is for :func:`mfavbs.embed`; nothing is started before there is work."""
    if engine == LOCAL:
        from mfavbs.features import encoded_here

        return encoded_here
    from mfavbs.engines.ray_cluster import set_up

    set_up(ray_address)  # before Ray is imported
    from mfavbs.engines.ray_engine import encoded_by_ray

    return functools.partial(encoded_by_ray, ray_address)
