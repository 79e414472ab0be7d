"""The file that an interrupted training goes on from; nothing in it is code.

In: what a run depends on, and after every epoch its weights, optimiser and losses.
Out: the same when it is run again; of another run it is refused by name.
"""

import io
from pathlib import Path
from typing import Any

import torch

from mfavbs.errors import RunError
from mfavbs.files import write_whole

_PARTS = {"about", "network", "optimizer", "history", "neighbours"}
_SCHEMA = 3
# What `about` has a hash of, which says nothing to a person.
_HASHED = {
    "features": "features",
    "pixels": "pixels or crops",
    "frozen": "weights of the frozen run",
}


class Checkpoint:
    """A run's state in a file, compared with this run before anything is computed.

    Parameters
    ----------
    path
        The file; ``None`` keeps nothing.
    about
        All that the run depends on: every parameter, ``seed``, and ``features``, a hash of them.
    any_seed
        Go on with the file's seed, whatever it is.

    Attributes
    ----------
    about
        The same, with the seed of what is gone on with.
    state
        What an earlier, interrupted run of the same left: ``network``, ``optimizer``,
        ``history``, ``neighbours``; ``None`` where there is none.

    Raises
    ------
    RunError
        If the file is damaged or of another run; it names the first thing that differs.
    """

    def __init__(self, path: Path | None, about: dict[str, Any], *, any_seed: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self.about = {"schema": _SCHEMA, **about}
        self.state: dict[str, Any] | None = None
        if self.path is not None and self.path.exists():
            self.state = self._read(self.path, any_seed)

    def _read(self, path: Path, any_seed: bool) -> dict[str, Any]:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)  # runs no code
            whole = state.keys() >= _PARTS and isinstance(state["about"], dict)
        except Exception as error:  # torch's own texts run to pages and advise weights_only=False
            raise self._unusable() from error
        if not whole:
            raise self._unusable()
        before = state["about"]
        if any_seed:
            self.about["seed"] = before.get("seed")
        for name, value in self.about.items():
            if before.get(name) == value:
                continue
            if name in _HASHED:
                raise self._refused(f"it is of other {_HASHED[name]}")
            raise self._refused(
                f"it is of a run with {name}={before.get(name)!r}, this one has {name}={value!r}"
            )
        return state

    @staticmethod
    def look_up(path: Path | None, name: str) -> Any:
        """What an interrupted run noted about itself under a name, or None."""
        if path is None or not Path(path).exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return state["about"].get(name)
        except Exception:  # said when it is to be gone on with
            return None

    def restore(self, **parts: Any) -> list[dict]:
        """Load the state of every part, by name; the losses of the epochs that are done."""
        if self.state is None:
            return []
        try:
            for name, part in parts.items():
                part.load_state_dict(self.state[name])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._unusable() from error
        return list(self.state["history"])

    def write(self, history: list[dict], neighbours: torch.Tensor, **parts: Any) -> None:
        """Replace the file, whole or not at all."""
        if self.path is None:
            return
        states = {name: part.state_dict() for name, part in parts.items()}
        state = {"about": self.about, "history": history, "neighbours": neighbours.cpu(), **states}
        content = io.BytesIO()  # torch words a full disk in its own way, a plain file does not
        torch.save(state, content)
        try:
            write_whole(self.path, lambda file: file.write(content.getbuffer()))
        except OSError as error:
            raise RunError(
                f"The checkpoint {self.path} cannot be written: {error.strerror or error}. Make "
                "room and run the same command again: it goes on from the epoch before."
            ) from error

    def _unusable(self) -> RunError:
        return self._refused("it is damaged, or of a network of another shape")

    def _refused(self, reason: str) -> RunError:
        return RunError(
            f"The checkpoint {self.path} cannot be resumed: {reason}. Remove it to start over."
        )
