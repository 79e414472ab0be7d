"""What a person has called the clusters of a run: ``names.json``.

In: a run folder. Out: names by the number of the cluster. A person's name wins over any suggestion.
"""

from collections.abc import Mapping
from pathlib import Path

from mfavbs.errors import RunError, StoreError
from mfavbs.files import read_json, write_json
from mfavbs.runs.labels import damaged

NAMES = "names.json"


def read_names(folder: Path) -> dict[int, str]:
    """Names that were given in a run folder; none where there is no file."""
    path = folder / NAMES
    try:
        content = read_json(path) or {}
        names = content.get("names", {})
        return {int(cluster): str(name) for cluster, name in names.items()}
    except (StoreError, ValueError, AttributeError) as error:
        raise damaged(path, "names of clusters as JSON", error) from error


def write_names(folder: Path, names: Mapping[int, str]) -> None:
    """Write the names of a run's clusters; empty ones are taken away."""
    kept = {str(cluster): name for cluster, name in sorted(names.items()) if name.strip()}
    try:
        write_json(folder / NAMES, {"schema": 1, "names": kept})
    except OSError as error:
        raise RunError(f"{folder / NAMES} cannot be written: {error.strerror or error}") from error
