"""A run, or the predictions of one, against known labels.

In: a folder with the clusters of n images, labels by path. Out: ACC, NMI, ARI and the coverage.
"""

import unicodedata
from collections.abc import Mapping
from pathlib import Path

from mfavbs.errors import RunError
from mfavbs.files import user_path
from mfavbs.runs.reading import read_clusters


def evaluate_run(folder: str | Path, truth: Mapping[str, str]) -> dict[str, float]:
    """Score a finished run, or a folder of predictions, against known labels by path.

    Parameters
    ----------
    folder
        A run folder, or what :func:`mfavbs.predict_images` wrote.
    truth
        Label by path. An empty label is none. Names composed and decomposed (NFC, NFD) match.

    Returns
    -------
    dict
        ``acc``, ``nmi`` and ``ari`` of the images whose label is known, and ``coverage``, their
        share of all, in (0, 1].

    Raises
    ------
    RunError
        If no image has a label in ``truth``.
    """
    paths, clusters = read_clusters(user_path(folder))
    composed = {_composed(path): label for path, label in truth.items()}
    labels = [truth.get(path) or composed.get(_composed(path)) for path in paths]
    if not any(labels):
        named = f"{paths[0]!r} the first" if paths else "of which there are none"
        example = f", which has {next(iter(truth))!r} for one" if truth else ""
        raise RunError(
            f"None of the {len(paths)} images of {folder}, {named}, has a label in the truth given"
            f"{example}. Expected rows `path,label` with the paths of labels.csv."
        )
    from mfavbs.metrics import score_known  # scikit-learn, which a wrong path need not wait for

    return score_known(labels, clusters)


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)
