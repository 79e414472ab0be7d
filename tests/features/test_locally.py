"""In: work for several processes. Out: it reaches them whole, and its parts come in their order."""

import types

import pytest
import timm
import torch
from safetensors.torch import save_file

from mfavbs.encoders import load_encoder
from mfavbs.features import locally
from mfavbs.features.encoding import Encoding
from mfavbs.features.locally import Work
from mfavbs.images import Views


def work(batches, n_workers=None, **encoder):
    loaded = load_encoder(**{"name": "pixels", "image_size": 8, **encoder})
    loaded.to_device(torch.device("cpu"))
    views = Views(loaded.image_size, 2, 0, augmentation=loaded.augmentation, framing=loaded.framing)
    return Work("what reads", batches, Encoding(loaded, views), n_workers)


def among(rank, size):
    return types.SimpleNamespace(rank=rank, size=size, local_size=size)


@pytest.mark.parametrize(("n", "size"), [(7, 3), (2, 4), (5, 1)])
def test_the_batches_of_all_in_turn_are_all_batches_in_order(n, size, monkeypatch):
    asked = work([[i] for i in range(n)])
    theirs = [iter(locally._part_of(asked, among(rank, size)).batches) for rank in range(size)]
    monkeypatch.setattr(locally, "_received", lambda rank: next(theirs[rank]))
    assert list(locally._in_turn(theirs[0], size, n)) == asked.batches


def test_processes_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(locally, "workers_for", lambda device: 12)
    asked = work([[i] for i in range(100)])
    assert locally._part_of(asked, among(1, 4)).n_workers == 3
    assert locally._part_of(asked, among(1, 50)).n_workers == 1
    assert locally._part_of(asked._replace(n_workers=5), among(1, 4)).n_workers == 5


def test_what_is_sent_encodes_the_same(tmp_path):
    net = timm.create_model("resnet10t", num_classes=0)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    timms = {"name": "timm:resnet10t", "weights": tmp_path / "net.safetensors"}
    for asked in (work([[0], [1]], 2), work([[0]], **timms, image_size=32)):
        got = locally._unpacked(locally._packed(asked), torch.device("cpu"))
        assert (got.dataset, got.batches, got.n_workers) == (asked[0], asked[1], asked[3])
        own, sent = asked.encoding, got.encoding
        assert sent.encoder.recipe == own.encoder.recipe
        assert sent.views.recipe == own.views.recipe
        size = own.encoder.image_size
        views = torch.randint(256, (3, 3, size, size), dtype=torch.uint8)
        assert torch.equal(sent.encoder(views), own.encoder(views))
