"""In: an interrupted fit. Out: the same as uninterrupted, or a refusal that names what differs."""

import numpy as np
import pytest
import torch
from feature_blobs import blobs

from mfavbs import MFAVBsClustering
from mfavbs.errors import MfavbsError, RunError
from mfavbs.model import fitting
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.network import Network

FEATURES, _ = blobs(60, n_views=2, noise=0.3)
SMALL = {"n_clusters": 3, "epochs": 4, "dim": 16, "device": "cpu", "random_state": 0}
OTHER = {
    "n_clusters": 4,
    "objective": "paper",
    "fusion": "token",
    "n_blocks": 2,
    "shared_depth": 0,
    "fused_depth": 2,
    "n_attention_heads": 2,
    "dim": 32,
    "gate": 0.1,
    "init": "random",
    "n_cluster_heads": 3,
    "n_neighbors": 4,
    "epochs": 5,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "instance_weight": 0.5,
    "balance_weight": 0.2,
}


class Stop(BaseException):
    """As sudden as control-C."""


def interrupt(path, epochs=2, features=FEATURES, **parameters):
    """Fit until so many epochs are saved."""
    write = Checkpoint.write

    def write_and_stop(self, history, *args, **parts):
        write(self, history, *args, **parts)
        if len(history) == epochs:
            raise Stop

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Checkpoint, "write", write_and_stop)
        with pytest.raises(Stop):
            MFAVBsClustering(**{**SMALL, **parameters}).fit(features, checkpoint=path)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "c.pt"
    interrupt(path)
    return path


@pytest.fixture
def checkpoint(interrupted, tmp_path):
    path = tmp_path / "c.pt"
    path.write_bytes(interrupted.read_bytes())
    return path


def nothing_is_computed(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("computed before the checkpoint was looked at")

    for name in ("fit_projection", "start_heads", "project"):
        monkeypatch.setattr(Network, name, refuse)
    monkeypatch.setattr(fitting, "nearest_neighbours", refuse)


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_a_resumed_fit_equals_an_uninterrupted_one(objective, tmp_path):
    interrupt(tmp_path / "c.pt", objective=objective)
    model = MFAVBsClustering(**SMALL, objective=objective)
    resumed = model.fit(FEATURES, checkpoint=tmp_path / "c.pt").probabilities_
    assert np.array_equal(resumed, model.fit(FEATURES).probabilities_)


def test_every_parameter_is_known_here():
    free = {"device", "memory", "random_state", "verbose"}
    assert set(OTHER) | free == set(MFAVBsClustering().get_params())


@pytest.mark.parametrize("name", OTHER)
def test_another_parameter_is_refused_by_name_before_anything_is_computed(
    name, checkpoint, monkeypatch
):
    before = checkpoint.read_bytes()
    nothing_is_computed(monkeypatch)
    model = MFAVBsClustering(**{**SMALL, name: OTHER[name]})
    with pytest.raises(RunError, match=rf"c\.pt cannot be resumed.*with {name}=.*Remove it"):
        model.fit(FEATURES, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x[::-1], id="another order"),
        pytest.param(lambda x: x[:-1], id="one less"),
        pytest.param(lambda x: x.astype(np.float64), id="another type"),
        pytest.param(lambda x: x + np.float32(1e-6), id="a little else"),
        pytest.param(lambda x: x[:, :1], id="a view less"),
    ],
)
def test_other_features_are_refused_before_anything_is_computed(change, checkpoint, monkeypatch):
    nothing_is_computed(monkeypatch)
    with pytest.raises(RunError, match="cannot be resumed: it is of other features"):
        MFAVBsClustering(**SMALL).fit(change(FEATURES), checkpoint=checkpoint)


def test_another_seed_is_refused(checkpoint):
    with pytest.raises(RunError, match="with seed="):
        MFAVBsClustering(**{**SMALL, "random_state": 1}).fit(FEATURES, checkpoint=checkpoint)


def test_without_a_seed_it_goes_on_with_the_one_it_had(tmp_path):
    interrupt(tmp_path / "c.pt", random_state=None)
    model = MFAVBsClustering(**{**SMALL, "random_state": None})
    first = model.fit(FEATURES, checkpoint=tmp_path / "c.pt").probabilities_
    again = model.fit(FEATURES, checkpoint=tmp_path / "c.pt").probabilities_
    assert np.array_equal(first, again)


def test_what_auto_stands_for_is_the_same_as_given(checkpoint):
    given = {"gate": 0.05, "fusion": "none", "n_cluster_heads": 8, "batch_size": 256}
    model = MFAVBsClustering(**SMALL, **given).fit(FEATURES, checkpoint=checkpoint)
    expected = MFAVBsClustering(**SMALL).fit(FEATURES).probabilities_
    assert np.array_equal(model.probabilities_, expected)


def test_going_on_computes_nothing_again(checkpoint, monkeypatch):
    """Minutes of projection, neighbours and k-means on a large set."""

    def refuse(*args, **kwargs):
        raise AssertionError("computed again")

    for name in ("fit_projection", "start_heads"):
        monkeypatch.setattr(Network, name, refuse)
    monkeypatch.setattr(fitting, "nearest_neighbours", refuse)
    model = MFAVBsClustering(**SMALL).fit(FEATURES, checkpoint=checkpoint)
    assert len(model.loss_history_) == 4


def test_a_checkpoint_of_an_earlier_version_is_refused(checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    del state["about"]["schema"]
    torch.save(state, checkpoint)
    with pytest.raises(MfavbsError, match="with schema=None"):
        MFAVBsClustering(**SMALL).fit(FEATURES, checkpoint=checkpoint)


def test_the_checkpoint_has_the_rights_of_any_new_file(interrupted, tmp_path):
    (tmp_path / "any").touch()
    assert interrupted.stat().st_mode == (tmp_path / "any").stat().st_mode
