"""How many clusters a run has, and how many there may be, for a person.

In: embeddings (n, d), the run's number of clusters; what was told when it was found.
Out: the choice, what was second, the curve, and a sentence.
"""

from typing import Any

import numpy as np
import torch

from mfavbs.model import FEWEST, tell_number

_CURVE = ("numbers", "evidence", "modularity", "silhouette")


def describe_number(
    embeddings: np.ndarray, k: int, told: dict[str, Any] | None, seed: int
) -> dict[str, Any]:
    """Describe the number of clusters of a run, in plain values.

    Parameters
    ----------
    embeddings
        (n, d) of unit length.
    k
        Clusters that the run has.
    told
        From :func:`mfavbs.model.tell_number`, where the number was found; else it is asked now.
    seed
        Of what is drawn.

    Returns
    -------
    dict
        ``chosen``, which is k; ``asked``, ``best``, ``second`` and ``one`` as there; ``curve``
        with its columns; and ``sentence``. Of fewer than 20 images ``chosen`` and ``sentence``.
    """
    if told is None and len(embeddings) < FEWEST:
        return {
            "chosen": k,
            "sentence": f"{len(embeddings)} images do not tell how many clusters there are.",
        }
    if told is None:
        told = tell_number(torch.from_numpy(embeddings), k, seed)
    about = {name: value for name, value in told.items() if name not in _CURVE}
    curve = {name: told[name] for name in _CURVE}
    return {"chosen": k, **about, "sentence": _sentence(k, told), "curve": curve}


def _sentence(k: int, told: dict[str, Any]) -> str:
    evidence = dict(zip(told["numbers"], told["evidence"], strict=True))
    best, second = told["best"], told["second"]
    least, most = min(evidence), max(evidence)
    then = "" if second is None else f", and then {second} ({evidence[second]:.2f})"
    found = f"from {least} to {most}, {best} have most evidence ({evidence[best]:.2f}){then}."
    if not isinstance(told["asked"], int):
        said = f"{k} clusters were found: {found}"
    else:
        own = f" (evidence {evidence[k]:.2f})" if k in evidence and k != best else ""
        said = f"{k} clusters were asked for{own}; {found}"
    if told["one"]:
        said += " But they are hardly clearer than clusters of a single cloud of points."
    return said
