"""What the estimator's ``"auto"`` and ``None`` stand for.

In: the estimator's parameters, the number of images. Out: the same with a value each.
"""

import math
from typing import Any

from mfavbs.errors import SourceError

# Measured: docs/experiments.md, "Start, gates and rates" and "The paper's objective".
AUTO: dict[str, dict[str, Any]] = {
    "disjoint": {
        "fusion": "none",
        "gate": 0.05,
        "init": "k-means++",
        "n_cluster_heads": 8,
        "instance_weight": 0.0,
        "balance_weight": 0.1,
    },
    "paper": {
        "fusion": "token",
        "gate": None,
        "init": "random",
        "n_cluster_heads": 1,
        "instance_weight": 1.0,
        "balance_weight": 1.0,
    },
}
_BATCH = 256
_FEW_STEPS = 50  # of the disjoint objective, for the fewest images
# At least so many steps and epochs (docs/experiments.md, "Start, gates and rates"). The paper's
# start is random, as that of Contrastive Clustering, whose steps and epochs it is given.
MIN_STEPS = {"disjoint": 300, "paper": 2000}
MIN_EPOCHS = {"disjoint": 4, "paper": 50}


def resolve(parameters: dict[str, Any], n_images: int) -> dict[str, Any]:
    """The estimator's parameters with a value for every ``"auto"`` and ``None``, in plain types.

    Raises
    ------
    SourceError
        If two of them do not go together.
    """
    found = {name: _plain(value) for name, value in parameters.items()}
    auto = AUTO[found["objective"]] | {
        "batch_size": max(_BATCH, math.ceil(found["n_clusters"] / 2))
    }
    found |= {name: value for name, value in auto.items() if found[name] == "auto"}
    if found["epochs"] is None:
        found["epochs"] = default_epochs(n_images, found["batch_size"], found["objective"])
    if found["dim"] % found["n_attention_heads"]:
        raise SourceError(
            f"dim={found['dim']} should be a multiple of "
            f"n_attention_heads={found['n_attention_heads']}."
        )
    if found["n_clusters"] > 2 * found["batch_size"]:
        raise SourceError(
            f"n_clusters={found['n_clusters']} should be <= 2 * batch_size={found['batch_size']}: "
            "in smaller batches most clusters have no image to be contrasted by. "
            "Leave batch_size at 'auto', or raise it."
        )
    return found


def default_epochs(n_images: int, batch_size: int, objective: str = "disjoint") -> int:
    """Epochs for at least ``MIN_STEPS`` steps, and at least ``MIN_EPOCHS``."""
    steps = math.ceil(n_images / batch_size)
    least = MIN_STEPS[objective]
    if objective == "disjoint":  # its start is good: few images need no more steps than they are
        least = min(least, max(_FEW_STEPS, n_images))
    return max(MIN_EPOCHS[objective], math.ceil(least / steps))


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own: JSON and a checkpoint hold nothing else."""
    return value.item() if hasattr(value, "item") else value
