"""What new images are compared with, kept in the run: ``reference.safetensors``.

In: arrays by name. Out: the same, read back.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mfavbs.errors import RunError
from mfavbs.files import write_whole
from mfavbs.runs.writing import REFERENCE, unwritable


def write_reference(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write ``reference.safetensors``, whole or not at all."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        write_whole(folder / REFERENCE, lambda file: file.write(save(contiguous)))
    except OSError as error:
        raise unwritable(folder, error) from error


def read_reference(folder: Path) -> dict[str, np.ndarray]:
    """The arrays by name; none, where the run is of an earlier version.

    Raises
    ------
    RunError
        The file is damaged.
    """
    path = folder / REFERENCE
    if not path.exists():
        return {}
    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}); remove it, and `mfavbs report {folder}` makes it again."
        ) from error
