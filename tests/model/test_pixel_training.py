"""In: views. Out: a loop that learns, keeps the disjoint rule and the best epoch."""

import math

import pytest
import torch
from pixel_blobs import EDGE, K, pictures

from mfavbs.errors import MfavbsError
from mfavbs.model import PixelNetwork, PixelViews, train_pixels
from mfavbs.model.checkpoint import Checkpoint

PIXELS, CROPS, FEATURES, _ = pictures()


def network(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {"image_size": EDGE, "n_heads": 2, "fusion": "token", **options}
        return PixelNetwork(K, 2, 16, anchor_widths=[12], **options)


def views(rows=None):
    return PixelViews(PIXELS, CROPS, FEATURES[:, :, None], EDGE, torch.device("cpu"), rows)


def run(judge=lambda epoch: {}, *, of=None, data=None, **options):
    of = network() if of is None else of
    data = views() if data is None else data
    neighbours = (torch.arange(len(data))[:, None] + torch.tensor([K, 2 * K])) % len(data)
    options = {"epochs": 2, "batch_size": 16, "learning_rate": 2e-3, **options}
    history, best = train_pixels(of, data, neighbours, judge, **options)
    return history, best, of


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_the_loss_falls(objective):
    history, _, _ = run(objective=objective, epochs=6, instance_weight=0.5)
    assert [entry["epoch"] for entry in history] == list(range(7))
    assert history[-1]["total"] < history[1]["total"] - 0.05
    assert "total" not in history[0]


def test_same_seed_same_run_whatever_the_callers_random_numbers():
    state = torch.get_rng_state()
    one = run()
    assert torch.equal(torch.get_rng_state(), state)
    torch.randn(3)
    other = run()
    assert one[0] == other[0]
    assert run(seed=1)[0] != one[0]
    weights = other[2].state_dict()
    assert all(torch.equal(x, weights[name]) for name, x in one[2].state_dict().items())


def test_no_view_is_on_both_sides_of_a_contrast(monkeypatch):
    """Of four views of an image two pairs are made; after fusion a half has seen its whole pair."""
    seen = []
    pair = PixelViews.pair

    def remember(self, image, which, *rest):
        seen.append(torch.stack([image, *which], dim=1))  # (2 b, 3)
        return pair(self, image, which, *rest)

    monkeypatch.setattr(PixelViews, "pair", remember)
    run(epochs=4)
    for batch in seen:
        for one, two in zip(*batch.chunk(2)):
            sides = [{(int(image), int(view)) for view in rest} for image, *rest in (one, two)]
            assert not sides[0] & sides[1]
            assert all(len(side) == 2 for side in sides)
    assert len(seen) == 4 * 3


@pytest.mark.parametrize("best_epoch", [0, 1, 2, 3])
def test_the_weights_are_those_of_the_epoch_with_the_least_criterion(best_epoch):
    kept = {}
    of = network()

    def judge(epoch):
        kept[epoch] = {name: x.clone() for name, x in of.state_dict().items()}
        return {"criterion": abs(epoch - best_epoch) + 1.0}

    history, best, of = run(judge, of=of, epochs=3)
    assert best.epoch == best_epoch
    assert [entry["criterion"] for entry in history] == [abs(e - best_epoch) + 1 for e in range(4)]
    assert all(torch.equal(x, kept[best_epoch][name]) for name, x in of.state_dict().items())
    assert not of.training


def test_without_a_criterion_the_last_epoch_is_kept():
    assert run(epochs=3)[1].epoch == 3


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    def judge(epoch):
        return {"criterion": float(epoch != 1)}  # the best lies before the interruption

    write, about = Checkpoint.write, {"seed": 0, "features": ""}

    def write_and_stop(self, history, *args, **parts):
        write(self, history, *args, **parts)
        if len(history) == 3:
            raise Stop

    path = tmp_path / "c.pt"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", write_and_stop)
        with pytest.raises(Stop):
            run(judge, epochs=4, checkpoint=Checkpoint(path, about))
    state = torch.load(path, weights_only=True)
    assert len(state["history"]) == 3
    resumed = run(judge, epochs=4, of=network(seed=5), checkpoint=Checkpoint(path, about))
    whole = run(judge, epochs=4)
    assert resumed[0] == whole[0]
    assert resumed[1].epoch == whole[1].epoch == 1
    weights = whole[2].state_dict()
    assert all(torch.equal(x, weights[name]) for name, x in resumed[2].state_dict().items())


def test_what_is_no_number_stops_it_and_the_last_good_checkpoint_stays(tmp_path):
    of, path = network(), tmp_path / "c.pt"

    def judge(epoch):
        if epoch == 1:
            with torch.no_grad():
                of.stem.class_token.fill_(math.nan)
        return {}

    checkpoint = Checkpoint(path, {"seed": 0, "features": ""})
    with pytest.raises(MfavbsError, match=r"diverged in epoch 2.*learning_rate below 0\.002"):
        run(judge, of=of, epochs=3, checkpoint=checkpoint)
    assert len(torch.load(path, weights_only=True)["history"]) == 2


def test_what_the_frozen_run_gave_moves_less():
    from feature_blobs import small_network

    frozen, _ = small_network(FEATURES[:, :, None], K, dim=16)
    of = network(gate=1e-3)
    of.start_from(frozen)
    before = {name: x.detach().clone() for name, x in of.named_parameters()}
    run(of=of, epochs=1)
    moved = {name: (x - before[name]).abs().max().item() for name, x in of.named_parameters()}
    assert 0 < moved["cluster_heads.prototypes"] < moved["stem.patches.proj.weight"] / 3
    assert moved["anchor_blocks.blocks.0.shared.0.mlp.fc1.weight"] > 0
