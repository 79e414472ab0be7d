"""A run, or the predictions of one, against known labels.

In: a folder with the clusters of n images, labels by path. Out: ACC, NMI, ARI and the coverage.
"""

import csv
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from mfavbs.errors import RunError
from mfavbs.files import path_from_spreadsheet, user_path
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


def read_truth(path: Path) -> dict[str, str]:
    """Known labels by path, from a CSV with the columns path and label.

    A row whose label is empty is as good as none.

    Raises
    ------
    RunError
        If the file is missing, has not those columns or a path twice.
    """
    truth: dict[str, str] = {}
    seen: dict[str, int] = {}
    try:
        with user_path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"path", "label"} <= set(rows.fieldnames or []):
                raise RunError(
                    f"{path} has the columns {rows.fieldnames}; expected path and label, "
                    "with the paths of labels.csv."
                )
            for row in rows:
                key = path_from_spreadsheet(row["path"] or "")
                if key in seen:
                    raise RunError(
                        f"{path} has {key!r} in line {seen[key]} and again in line "
                        f"{rows.line_num}; expected one row for each image."
                    )
                seen[key] = rows.line_num
                if (row["label"] or "").strip():
                    truth[key] = path_from_spreadsheet(row["label"])
    except UnicodeDecodeError as error:
        raise RunError(f"The truth {path} is no text in UTF-8; save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"The truth {path} cannot be read: {reason}.") from error
    return truth
