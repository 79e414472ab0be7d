"""In: shapes, bounds too small for them. Out: the same clusters, in float16 or from the disk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_blobs import blobs
from sklearn.metrics import adjusted_rand_score

from mfavbs import MFAVBsClustering
from mfavbs.errors import SourceError
from mfavbs.model import neighbours, room, training
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.room import OnDisk, Room, kmeans_rows, make_array, make_room, rows_at_once


def test_what_fits_is_held_in_float32_then_in_float16_then_on_the_disk(tmp_path):
    shape = (10, 5)  # 200 bytes in float32
    for memory, kind, dtype in ((800, torch.Tensor, torch.float32), (400, torch.Tensor, None)):
        made = make_room(shape, 1 / 4, Room(memory, tmp_path))
        assert isinstance(made, kind)
        assert made.dtype == (dtype or torch.float16)
    assert isinstance(make_room(shape, 1 / 4, Room(399, tmp_path)), OnDisk)
    assert not isinstance(make_array(shape, 1 / 4, Room(800)), np.memmap)
    assert isinstance(make_array(shape, 1 / 4, Room(799)), np.memmap)


def test_a_small_machine_is_not_refused_where_no_bound_was_asked_for(monkeypatch):
    monkeypatch.setattr("mfavbs.memory.machine_memory", lambda: 2**20)
    x, _ = blobs(60)
    assert len(MFAVBsClustering(3, epochs=1, random_state=0).fit(x).labels_) == 60
    with pytest.raises(SourceError, match="does not hold a batch"):
        MFAVBsClustering(3, epochs=1, memory=2**20).fit(x)


def test_rows_on_the_disk_are_read_as_a_tensor_is(tmp_path):
    values = torch.randn(50, 3, 2, 4).half()
    rows = OnDisk(tuple(values.shape), tmp_path)
    for start in range(0, 50, 20):
        rows[start : start + 20] = values[start : start + 20].float()
    assert rows.shape == values.shape
    assert len(rows) == 50
    image, view = torch.tensor([3, 49, 3]), torch.tensor([0, 2, 1])
    assert torch.equal(rows[image, view], values[image, view])
    assert torch.equal(rows[image.int()], values[image])
    assert torch.equal(rows[::7], values[::7])
    assert torch.equal(torch.cat(list(rows.split(20))), values)
    rows[0:1] += 1  # what was read is a copy
    first = rows[0:1]
    first += 1
    assert torch.equal(rows[0:1], values[0:1] + 1)


def test_what_was_read_from_the_disk_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_LET_GO", 0)
    given = []
    monkeypatch.setattr(room, "let_go", given.append)
    rows = OnDisk((10, 2), tmp_path)
    rows[0:10] = torch.ones(10, 2)
    list(rows.split(4))
    assert len(given) == 4


def test_samples_shrink_with_the_bound_but_not_to_nothing():
    assert rows_at_once(100, 1000, Room(2**30)) == 1000
    assert rows_at_once(100, 1000, Room(4 * 5000)) == 50
    assert rows_at_once(100, 1000, Room(1)) == 1
    sizes = [kmeans_rows(10, 128, 24, 100_000, Room(2**power)) for power in (20, 26, 30, 34)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 200
    assert sizes[-1] == 100_000
    assert kmeans_rows(10, 128, 24, 50, Room(1)) == 50


@pytest.mark.parametrize("memory", ["1M", 2**20])
def test_a_bound_that_holds_no_batch_is_refused_before_any_work(memory, monkeypatch):
    monkeypatch.setattr("mfavbs.model.fitting.find_copies", None)
    model = MFAVBsClustering(3, memory=memory)
    with pytest.raises(SourceError, match=r"does not hold a batch: 256 images .* about \d+M"):
        model.fit(blobs(60)[0])


def test_what_it_is_told_to_take_at_least_is_enough():
    features, _ = blobs(90)
    with pytest.raises(SourceError) as refused:
        MFAVBsClustering(3, memory=1, epochs=1).fit(features)
    least = str(refused.value).split("about ")[1].split(".")[0]
    assert MFAVBsClustering(3, memory=least, epochs=1).fit(features).labels_.shape == (90,)


@pytest.fixture
def small_shares(monkeypatch):
    """Bounds as tight as of a set a thousand times as large."""
    for name in ("TOKENS", "EMBEDDINGS", "ANSWERS"):
        for module in ("room", "fitting", "answers"):
            path = f"mfavbs.model.{module}.{name}"
            monkeypatch.setattr(path, 1e-6, raising=False)


def test_from_the_disk_the_clusters_are_the_same(small_shares, tmp_path, monkeypatch):
    monkeypatch.setattr("mfavbs.model.answers.BANK_ROWS", 500)  # so that not all are judged by
    monkeypatch.setattr(neighbours, "_EXACT_ELSEWHERE", 100)
    features, _ = blobs(2000, n_views=3, n_features=24, k=10, noise=0.1)
    features = np.concatenate([features, features[:5]])  # copies have their answer
    free = MFAVBsClustering(10, random_state=0, device="cpu", epochs=3).fit(features)
    seen, load = [], training.step_losses

    def look(*args, **kwargs):
        seen.append([path.name for path in tmp_path.iterdir()])
        return load(*args, **kwargs)

    monkeypatch.setattr(training, "step_losses", look)
    bound = MFAVBsClustering(10, random_state=0, device="cpu", epochs=3, memory="64M")
    bound.fit(features, checkpoint=tmp_path / "checkpoint.pt")
    assert isinstance(bound.probabilities_, np.memmap)
    assert seen
    assert all(names in ([], ["checkpoint.pt"]) for names in seen)
    assert adjusted_rand_score(free.labels_, bound.labels_) >= 0.99
    np.testing.assert_array_equal(bound.labels_[-5:], bound.labels_[:5])
    np.testing.assert_array_equal(bound.predict(features), bound.labels_)
    assert {"copies", "projection", "neighbours", "start", "epochs", "answers"} == set(
        bound.stages_.seconds
    )
    assert bound.stages_.peak_memory_mib.keys() == bound.stages_.seconds.keys()


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_an_epoch_drawn_in_parts_has_every_image_once(objective, monkeypatch):
    monkeypatch.setattr(training, "_DRAWN", 7)
    near = (torch.arange(40)[:, None] + torch.arange(1, 4)) % 40
    drawn = training.draw_epoch(objective, near, 3, 4, torch.Generator().manual_seed(0))
    n_pairs = training.N_PAIRS[objective]
    assert drawn.shape == (4, 3, n_pairs * 10)
    image, view_a, view_b = drawn.unflatten(2, (n_pairs, 10)).unbind(1)  # (4, p, 10) each
    if objective == "paper":
        assert image.flatten().sort().values.tolist() == list(range(40))
    assert ((image[:, 0] - image[:, -1]).abs() % 37 <= 3).all()  # of one neighbourhood
    assert (view_a[:, 0] != view_a[:, -1]).all() or objective == "paper"
    assert view_b.max() == 2


def test_a_bound_that_is_not_reached_changes_nothing():
    features, _ = blobs(600, noise=0.5)
    one, other = (
        MFAVBsClustering(3, random_state=0, device="cpu", epochs=1, memory=memory).fit(features)
        for memory in (None, "500M")
    )
    np.testing.assert_array_equal(one.probabilities_, other.probabilities_)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, OnDisk])
@pytest.mark.parametrize("n_compared", [100, 2000])
def test_neighbours_are_found_whatever_the_rows_lie_in(kind, n_compared, monkeypatch, tmp_path):
    monkeypatch.setattr(neighbours, "_EXACT_ELSEWHERE", n_compared)
    monkeypatch.setattr(neighbours, "_PART", 300)
    features, _ = blobs(2000, n_features=32, k=20, noise=0.2)
    x = torch.nn.functional.normalize(torch.from_numpy(features[:, 0, 0]), dim=-1)
    exact = (x @ x.T).fill_diagonal_(-2).topk(10).indices
    rows = OnDisk(tuple(x.shape), tmp_path) if kind is OnDisk else x.to(kind)
    if kind is OnDisk:
        rows[0:2000] = x
    for memory in (None, 3 * x.numel(), x.numel()):  # codes in float32, float16, 8 bits
        found = nearest_neighbours(rows, 10, memory)
        assert (found != torch.arange(2000)[:, None]).all()
        assert (found[:, :, None] == exact[:, None]).any(2).double().mean() > 0.95
    many = nearest_neighbours(rows, 1500, 3 * x.numel())  # more than the cells it looks at hold
    assert all(len(set(row)) == 1500 for row in many[::100].tolist())


def test_where_no_index_of_all_fits_neighbours_are_those_in_a_part(monkeypatch):
    monkeypatch.setattr(neighbours, "_EXACT_ELSEWHERE", 100)
    features, y = blobs(2000, n_features=32, k=4, noise=0.15)
    x = torch.nn.functional.normalize(torch.from_numpy(features[:, 0, 0]), dim=-1)
    found = nearest_neighbours(x, 10, x.numel() // 2)  # in some parts
    assert found.dtype == torch.int32
    assert (found != torch.arange(2000)[:, None]).all()
    assert all(len(set(row)) == 10 for row in found.tolist())
    assert (y[found.numpy()] == y[:, None]).mean() > 0.99
    assert torch.equal(found, nearest_neighbours(x, 10, x.numel() // 2))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_a_killed_fit_leaves_nothing_but_its_checkpoint(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from feature_blobs import blobs
from mfavbs import MFAVBsClustering
from mfavbs.model import fitting
fitting.TOKENS = fitting.EMBEDDINGS = 1e-6
MFAVBsClustering(10, device="cpu", epochs=500, memory="64M").fit(
    blobs(2000, k=10)[0], checkpoint={str(tmp_path / "checkpoint.pt")!r})
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while process.poll() is None and not (tmp_path / "checkpoint.pt").exists():
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    left = {path.name for path in tmp_path.iterdir()}
    assert "checkpoint.pt" in left
    assert left <= {"checkpoint.pt", "checkpoint.pt.partial"}
