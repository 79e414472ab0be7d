"""In: an estimator's parameters. Out: a value for each that was left open."""

import math

import numpy as np
import pytest

from mfavbs import MFAVBsClustering
from mfavbs.errors import SourceError
from mfavbs.model.defaults import MIN_STEPS, default_epochs, resolve


def resolved(n_images=1000, **parameters):
    return resolve(MFAVBsClustering(**parameters).get_params(), n_images)


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
@pytest.mark.parametrize(
    ("n", "batch_size"), [(10, 512), (99, 512), (512, 512), (1797, 512), (10**6, 512)]
)
def test_default_epochs_make_enough_steps_and_no_more(n, batch_size, objective):
    epochs, steps = default_epochs(n, batch_size, objective), math.ceil(n / batch_size)
    least = default_epochs(10**9, 1, objective)
    few = {"disjoint": max(50, n), "paper": n + MIN_STEPS["paper"]}  # as many steps as images
    enough = min(MIN_STEPS[objective], few[objective])
    assert epochs >= least
    assert epochs * steps >= enough
    assert epochs == least or (epochs - 1) * steps < enough


def test_the_paper_objective_has_as_many_steps_as_its_peer():
    import inspect

    from mfavbs.bench.peers.contrastive_clustering import contrastive_clustering

    peer = inspect.signature(contrastive_clustering).parameters
    assert default_epochs(10**9, 1, "paper") == peer["min_epochs"].default
    assert default_epochs(256, 256, "paper") == peer["min_steps"].default


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_nothing_is_left_open(objective):
    values = resolved(objective=objective)
    assert "auto" not in {v for k, v in values.items() if k != "device"}
    assert values["epochs"] >= 1


def test_what_is_given_is_kept():
    given = {"fusion": "none", "gate": None, "n_cluster_heads": 3, "epochs": 7, "batch_size": 64}
    values = resolved(objective="paper", **given)
    assert {name: values[name] for name in given} == given


def test_only_the_paper_fuses():
    assert resolved(objective="paper")["fusion"] == "token"
    assert resolved()["fusion"] == "none"


def test_numpy_scalars_become_plain():
    values = resolved(n_clusters=np.int64(5), gate=np.float32(0.5), verbose=np.bool_(True))
    assert [type(values[name]) for name in ("n_clusters", "gate", "verbose")] == [int, float, bool]


@pytest.mark.parametrize(("k", "batch_size"), [(10, 256), (512, 256), (513, 257), (2000, 1000)])
def test_a_batch_is_of_half_as_many_images_as_clusters_at_least(k, batch_size):
    assert resolved(n_clusters=k)["batch_size"] == batch_size


def test_more_clusters_than_two_batches_hold_are_refused():
    with pytest.raises(SourceError, match="n_clusters=11 should be <= 2 \\* batch_size=5"):
        resolved(n_clusters=11, batch_size=5)
