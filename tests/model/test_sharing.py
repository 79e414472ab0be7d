"""In: several processes. Out: the gradients, the losses and the weights of one."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
import shared_steps
import torch
from feature_blobs import blobs, small_network

from mfavbs.errors import SourceError
from mfavbs.model import sharing
from mfavbs.model.sharing import ALONE, Share, shared
from mfavbs.model.training import make_step, optimizer_of


def of_processes(size, folder, asked):
    """What each of so many processes gave."""
    script = Path(shared_steps.__file__)
    commands = [
        [sys.executable, script, str(rank), str(size), folder, asked] for rank in range(size)
    ]
    processes = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
    said = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * size, said
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def test_gradients_of_two_processes_are_those_in_closed_form(tmp_path):
    one, two = of_processes(2, tmp_path, "sums")
    x, w = one["x"], one["w"]
    total = x.sum(0)  # of the rows
    for found in (one, two):
        assert torch.allclose(found["whole"], x @ w)
        assert torch.allclose(found["d_w"], total[:, None] * (total @ w))
    d_rows = torch.cat([one["d_part"], two["d_part"]])
    assert torch.allclose(d_rows, (w @ (total @ w)).expand(7, 4))
    assert len(one["d_part"]) != len(two["d_part"])


@pytest.mark.parametrize(("objective", "n_pairs"), [("disjoint", 2), ("paper", 1)])
def test_steps_of_three_processes_are_those_of_one(objective, n_pairs, tmp_path):
    alone = shared_steps.steps(n_pairs=n_pairs)
    first, *others = of_processes(3, tmp_path, objective)
    assert alone["losses"][0].ne(alone["losses"][-1]).any()
    for name, expected in alone.items():
        assert torch.allclose(first[name].double(), expected.double(), rtol=1e-6, atol=1e-9), name
        assert all(torch.equal(first[name], other[name]) for other in others), name


@pytest.mark.parametrize(("n", "size"), [(7, 3), (8, 4), (3, 3), (20, 7)])
def test_parts_are_all_rows_each_once_and_nearly_equal(n, size):
    rows = torch.arange(n)
    parts = [Share(rank, size).part(rows) for rank in range(size)]
    assert torch.equal(torch.cat(parts), rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_sent():
    x = torch.ones(3, requires_grad=True)
    assert ALONE.part(x) is x
    assert ALONE.whole(x, 3) is x
    ALONE.add_up([x])


class NobodyCalled:
    """Three processes, two of which are never asked."""

    rank, size = 0, 3


def training():
    network, tokens = small_network(blobs(9)[0])
    optimizer = optimizer_of([{"params": list(network.parameters())}], network.device)
    return network, optimizer, tokens


def test_a_batch_smaller_than_the_processes_are_many_is_refused(monkeypatch):
    monkeypatch.setattr(sharing, "peers", NobodyCalled)
    network, optimizer, tokens = training()
    given = (torch.tensor(0.1), torch.arange(3), tokens[:2, 0], tokens[:2, 1])
    with shared(make_step, network, optimizer, [1.0], 2, 0.0, 0.1) as step:
        with pytest.raises(SourceError, match=r"2 pairs .* 3 processes. Start 2 of"):
            step(*given)


def test_batch_norm_and_devices_without_exchange_are_left_to_the_first(monkeypatch):
    monkeypatch.setattr(sharing, "peers", NobodyCalled)
    network, optimizer, _ = training()
    network.instance_head = torch.nn.BatchNorm1d(8)

    def make(*given):
        return given

    with pytest.warns(UserWarning, match=r"trains alone.*batch normalisation"):
        with shared(make, network, optimizer) as step:
            assert step == (network, optimizer)
    elsewhere = types.SimpleNamespace(type="mps")
    monkeypatch.setattr(
        network, "parameters", lambda: iter([types.SimpleNamespace(device=elsewhere)])
    )
    with pytest.warns(UserWarning, match=r"trains alone.*tensors of mps"):
        with shared(make, network, optimizer) as step:
            assert step == (network, optimizer)
