"""In: a caller's process, whatever it has set. Out: the same fit, and the process as it was."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_blobs import blobs

from mfavbs import MFAVBsClustering
from mfavbs.model.isolation import DrawnFrom
from mfavbs.model.network import Network

FEATURES, _ = blobs(60, n_views=2, n_tokens=2, noise=0.5)


def fit(**parameters):
    small = {"n_clusters": 3, "epochs": 3, "dim": 16, "n_cluster_heads": 2, "device": "cpu"}
    return MFAVBsClustering(**{**small, "random_state": 0, **parameters}).fit(FEATURES)


@contextmanager
def gradients_off_everywhere():
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)


@contextmanager
def default_type(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def plain():
    model = fit()
    return model.probabilities_, model.predict_proba(FEATURES), model.transform(FEATURES)


@pytest.mark.parametrize(
    "callers",
    [
        torch.no_grad,
        torch.inference_mode,
        gradients_off_everywhere,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["no_grad", "inference_mode", "grad off", "autocast", "another device"],
)
def test_what_the_caller_has_set_makes_no_difference(callers, plain):
    with callers():
        enabled = torch.is_grad_enabled()
        model = fit()
        found = model.probabilities_, model.predict_proba(FEATURES), model.transform(FEATURES)
        assert torch.is_grad_enabled() == enabled
    for one, other in zip(found, plain):
        np.testing.assert_array_equal(one, other)


def test_another_default_type_is_not_taken_over():
    with default_type(torch.float64):
        model = fit()
        assert all(x.dtype == torch.float32 for x in model.network_.parameters())
        assert model.probabilities_.dtype == np.float32
        np.testing.assert_array_equal(model.predict(FEATURES), model.labels_)


@pytest.mark.parametrize("n_threads", [2, 6])
def test_fits_in_threads_equal_one_alone(n_threads, plain):
    with ThreadPoolExecutor(n_threads) as threads:
        fits = list(threads.map(lambda _: fit(), range(n_threads)))
    for model in fits:
        np.testing.assert_array_equal(model.probabilities_, plain[0])


def test_first_weights_are_those_of_the_seed_and_take_no_random_number_of_the_callers():
    options = {"n_features": 12, "n_tokens": 1, "n_clusters": 3, "dim": 16, "gate": 0.05}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = Network(**options).state_dict()
    before = torch.get_rng_state()
    with DrawnFrom(torch.Generator().manual_seed(5)):
        found = Network(**options).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.slow
def test_variables_of_a_launcher_make_no_difference(plain, tmp_path):
    """Inherited from a launcher, they would have a process wait for others that never come."""
    code = "import sys, numpy, test_isolation as t; numpy.save(sys.argv[1], t.fit().probabilities_)"
    launcher = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "PMI_SIZE": "2", "PMI_RANK": "1"}
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.npy")],
        env={**os.environ, **launcher, "PYTHONPATH": path},
        check=True,
        timeout=600,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), plain[0])


@pytest.mark.parametrize("device", ["cpu:0", "cpu"])
def test_a_device_may_have_a_number(device, plain):
    np.testing.assert_array_equal(fit(device=device).probabilities_, plain[0])


def test_numpy_scalars_are_parameters(plain, tmp_path):
    parameters = {
        "n_clusters": np.int64(3),
        "epochs": np.int32(3),
        "dim": np.int64(16),
        "n_cluster_heads": np.int8(2),
        "learning_rate": np.float64(1e-3),
        "balance_weight": np.float64(0.1),
        "random_state": np.int64(0),
        "device": np.str_("cpu"),
        "verbose": np.bool_(False),
    }
    for _ in range(2):  # with a checkpoint to go on from, the second time
        model = MFAVBsClustering(**parameters).fit(FEATURES, checkpoint=tmp_path / "c.pt")
        np.testing.assert_array_equal(model.probabilities_, plain[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_tensor_is_as_good_as_an_array(dtype):
    tensor = torch.from_numpy(FEATURES).to(dtype).requires_grad_()
    parameters = {"n_clusters": 3, "epochs": 1, "dim": 16, "device": "cpu", "random_state": 0}
    model = MFAVBsClustering(**parameters).fit(tensor)
    expected = MFAVBsClustering(**parameters).fit(tensor.detach().float().numpy())
    np.testing.assert_allclose(model.probabilities_, expected.probabilities_, atol=0.02)
    np.testing.assert_array_equal(model.predict(tensor), model.labels_)
