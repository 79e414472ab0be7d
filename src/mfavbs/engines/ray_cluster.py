"""A Ray to work on: one of its own on this machine, or a cluster's.

In: an address, or none. Out: a connection, which ends; so does what was started for it.
"""

import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from mfavbs.errors import EngineError

# A socket's path has 107 characters at most, and Ray makes one of 70 in its folder.
_LONGEST = 35


@contextlib.contextmanager
def connected(address: str | None, n_workers: int | None) -> Iterator[None]:
    """Be connected to Ray until the block ends.

    Parameters
    ----------
    address
        Of a cluster; None starts a Ray on this machine, and ends it.
    n_workers
        Processes of that one; None for as many as there are cores.

    Raises
    ------
    EngineError
        It cannot be started or reached, is of another version, or wants a token.
    """
    import ray

    from mfavbs.features import n_cores  # it imports torch

    if ray.is_initialized():  # the caller's own: left as it is
        yield
        return
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address is None:
            options |= {"address": "local", "include_dashboard": False}
            options["num_cpus"] = n_workers or n_cores()
            folder = tempfile.mkdtemp(prefix="mfavbs-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            if len(folder) <= _LONGEST:
                options["_temp_dir"] = folder
        else:
            options["address"] = address
        stack.callback(ray.shutdown)
        try:
            ray.init(**options)
        except Exception as error:
            raise _why_not(address, error) from error
        yield


def set_up(address: str | None) -> None:
    """Before Ray is imported: nothing is reported to anybody, and nothing listens to others.

    Ray takes these settings from the environment alone.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Of a process that is lost it would write on stdout, where `--json` has its object.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if address is not None:  # of 40 s each where something else listens there
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    elif "ray" not in sys.modules:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # what listens does so on 127.0.0.1
        if "RAY_AUTH_MODE" not in os.environ and "RAY_AUTH_TOKEN" not in os.environ:
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else a file in the home folder


def check_workers(n_workers: int | None) -> None:
    """Refuse to have no process."""
    if n_workers == 0:
        raise EngineError("engine='ray' needs n_workers=1 at least; without it all cores are used")


def n_cpus() -> int:
    """How many processes the Ray that this one is connected to has room for now."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _why_not(address: str | None, error: Exception) -> EngineError:
    causes = [error, error.__cause__, getattr(error.__cause__, "__cause__", None)]
    text = " ".join("; ".join(str(each) for each in causes if each).split())
    if address is None:
        return EngineError(
            f"Ray cannot be started on this machine ({text}); leave engine='ray' out"
        )
    if "Version mismatch" in text:
        return EngineError(
            f"the Ray cluster at {address} is of another version: {text}; install the same Ray and "
            "the same Python on both sides"
        )
    if "AuthToken" in text or "authentication" in text.lower():
        return EngineError(
            f"the Ray cluster at {address} wants its token; set RAY_AUTH_MODE to token, and "
            "RAY_AUTH_TOKEN to the one of its head, or RAY_AUTH_TOKEN_PATH to a file with it"
        )
    return EngineError(
        f"the Ray cluster at {address} cannot be used ({str(error).strip()}); see that Ray and "
        "nothing else listens there, and make this machine one of its nodes by `ray start "
        "--address HOST:PORT`"
    )
