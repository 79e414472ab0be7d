"""In: tokens. Out: a loop that learns, repeats itself, and goes on from where it was stopped."""

import math
from pathlib import Path

import pytest
import torch
from feature_blobs import blobs, small_network

from mfavbs import MFAVBsClustering
from mfavbs.errors import MfavbsError, RunError
from mfavbs.model import training
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import mean_view
from mfavbs.model.stepping import one_cycle
from mfavbs.model.training import draw_epoch, train

FEATURES, Y = blobs(48, n_views=3, k=3)


ABOUT = {"seed": 0, "features": "a hash"}


def run(
    objective="disjoint",
    *,
    epochs=4,
    seed=0,
    network_seed=0,
    rows=48,
    checkpoint=None,
    **options,
):
    """The history of a run, and the network that it trained."""
    network, tokens = small_network(FEATURES[:rows], seed=network_seed)
    neighbours = nearest_neighbours(mean_view(tokens), min(5, rows - 1))
    history = train(
        network,
        tokens,
        options.pop("neighbours", neighbours),
        objective=objective,
        epochs=epochs,
        batch_size=options.pop("batch_size", 20),
        learning_rate=options.pop("learning_rate", 5e-3),
        seed=seed,
        checkpoint=Checkpoint(checkpoint, ABOUT),
        **options,
    )
    return history, network


def assert_same(one, other):
    assert one[0] == other[0]
    weights = other[1].state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in one[1].state_dict().items())


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_same_seed_same_run(objective):
    one = run(objective)
    torch.randn(3)  # the caller's random numbers are nothing to it
    assert_same(run(objective), one)
    assert run(objective, seed=1)[0] != one[0]


def test_the_callers_random_numbers_are_left_alone():
    state = torch.get_rng_state()
    run(epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_history_has_every_epoch_and_every_head(objective):
    history, network = run(objective)
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    for entry in history:
        parts = entry["instance"] + entry["cluster"] + entry["balance"]
        assert entry["total"] == pytest.approx(parts)
        assert len(entry["heads"]) == network.n_cluster_heads
        mean = sum(entry["heads"]) / len(entry["heads"])
        assert mean == pytest.approx(entry["cluster"] + entry["balance"], abs=1e-5)
        assert entry["instance"] > 0
        halves = 2 if objective == "paper" else 1  # the paper's adds up both
        assert -halves * math.log(3) - 1e-6 <= entry["balance"] <= 0


def test_balance_weight_is_of_the_loss():
    with_it, without = (run(balance_weight=w)[0] for w in (0.4, 0.0))
    for entry in with_it:
        total = entry["instance"] + entry["cluster"] + 0.4 * entry["balance"]
        assert entry["total"] == pytest.approx(total)
    assert without[-1]["balance"] > with_it[-1]["balance"]  # less even


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_the_loss_falls_on_separable_clusters(objective):
    history, _ = run(objective, epochs=15)
    assert history[-1]["total"] < history[0]["total"] - 0.1
    assert history[-1]["cluster"] < history[0]["cluster"]


def test_only_the_network_is_changed_and_not_its_projection():
    trained, fresh = run(epochs=1)[1], small_network(FEATURES)[0]
    before = fresh.state_dict()
    changed = {name for name, x in trained.state_dict().items() if not torch.equal(x, before[name])}
    parameters = {name for name, _ in fresh.named_parameters()}
    assert changed == parameters


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
@pytest.mark.parametrize(("rows", "batch_size"), [(48, 20), (48, 48), (48, 500), (7, 2), (5, 4)])
def test_every_image_leads_one_pair_an_epoch(objective, rows, batch_size):
    n_batches = math.ceil(rows / batch_size)
    size = rows // n_batches
    # With itself as its only neighbour, an image that leads a pair is in it.
    led = [
        draw_epoch(
            objective,
            torch.arange(rows)[:, None],
            3,
            n_batches,
            torch.Generator().manual_seed(seed),
        )[:, 0]
        for seed in range(20)
    ]
    for batches in led:
        assert batches.shape == (n_batches, size * (1 if objective == "paper" else 2))
        images, times = batches.unique(return_counts=True)
        assert len(images) == n_batches * size  # but those left over by batches of one size
        assert len(set(times.tolist())) == 1
    assert len(torch.cat(led).unique()) == rows  # others each time
    history, _ = run(objective, epochs=1, rows=rows, batch_size=batch_size)
    assert math.isfinite(history[0]["total"])


@pytest.mark.parametrize("n_steps", [20, 40, 300, 2000])
def test_the_learning_rate_is_that_of_one_cycle(n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=n_steps, pct_start=0.1)
    expected = [cycle.get_last_lr()[0]]
    for _ in range(n_steps - 1):
        optimizer.step()
        cycle.step()
        expected.append(cycle.get_last_lr()[0])
    assert torch.allclose(one_cycle(n_steps, 1e-3), torch.tensor(expected), atol=1e-8)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 10, 11])
def test_few_steps_have_rates(n_steps):
    rates = one_cycle(n_steps, 1.0)
    assert rates.shape == (n_steps,)
    assert ((rates > 0) & (rates <= 1)).all()


def test_tokens_that_do_not_fit_the_device_give_the_same(monkeypatch):
    """On the CPU both places are one; what is drawn, gathered and sent is the same code."""
    whole = run()
    monkeypatch.setattr("mfavbs.model.network.fits", lambda device, n_bytes: False)
    assert_same(run(), whole)


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_two_images_are_enough(objective):
    history, _ = run(objective, rows=2, batch_size=2)
    assert all(math.isfinite(entry["total"]) for entry in history)


def test_the_paper_objective_looks_at_no_neighbours():
    assert_same(run("paper"), run("paper", neighbours=torch.zeros(48, 1, dtype=torch.int64)))


class Stop(BaseException):
    """As sudden as control-C."""


def stop_after_saving(monkeypatch, epochs):
    """Be interrupted as soon as ``epochs`` of them are saved."""
    write = Checkpoint.write

    def write_and_stop(self, history, *args, **parts):
        write(self, history, *args, **parts)
        if len(history) == epochs:
            raise Stop

    monkeypatch.setattr(Checkpoint, "write", write_and_stop)


def stop_at_step(monkeypatch, step):
    """Be interrupted in the middle of an epoch, before its ``step``-th batch of all."""
    step_losses, calls = training.step_losses, []

    def count_and_stop(*args):
        calls.append(None)
        if len(calls) == step:
            raise Stop
        return step_losses(*args)

    monkeypatch.setattr(training, "step_losses", count_and_stop)


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
@pytest.mark.parametrize(
    ("stop", "when"),
    [(stop_after_saving, epoch) for epoch in (1, 2, 3, 4)] + [(stop_at_step, 2), (stop_at_step, 8)],
)
def test_a_resumed_run_equals_an_uninterrupted_one(objective, stop, when, tmp_path):
    checkpoint = tmp_path / "training.pt"
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop(monkeypatch, when)
        with pytest.raises(Stop):
            run(objective, checkpoint=checkpoint)
    # Other first weights: all that counts is in the checkpoint.
    resumed = run(objective, checkpoint=checkpoint, network_seed=int(checkpoint.exists()))
    history, network = run(objective)
    assert resumed[0] == history
    weights = dict(network.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in resumed[1].named_parameters())


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    checkpoint = tmp_path / "training.pt"
    done = run(checkpoint=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]  # and no partial file
    monkeypatch.setattr(training, "step_losses", None)
    assert_same(run(checkpoint=checkpoint), done)


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    checkpoint = tmp_path / "training.pt"
    stop_at_step(monkeypatch, 4)
    with pytest.raises(Stop):
        run(checkpoint=checkpoint)
    saved = checkpoint.read_bytes()

    monkeypatch.undo()
    (tmp_path / "training.pt.partial").symlink_to("/dev/full")  # every write finds no room
    with pytest.raises(
        RunError, match=r"training\.pt cannot be written: No space left on device\."
    ):
        run(checkpoint=checkpoint)
    assert checkpoint.read_bytes() == saved


@pytest.fixture
def checkpoint(tmp_path):
    """Of a run that was interrupted after its first epoch."""
    path = tmp_path / "training.pt"
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_after_saving(monkeypatch, 1)
        with pytest.raises(Stop):
            run(checkpoint=path)
    return path


def without(key):
    def damage(path):
        state = torch.load(path, weights_only=True)
        del state[key]
        torch.save(state, path)

    return damage


def of_another_width(path):
    state = torch.load(path, weights_only=True)
    state["network"] = small_network(FEATURES, dim=16)[0].state_dict()
    torch.save(state, path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"not a checkpoint"), id="text"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-2000]), id="cut off"),
        pytest.param(lambda path: torch.save([1, 2], path), id="a list"),
        pytest.param(of_another_width, id="of another width"),
        *(
            pytest.param(without(key), id=f"no {key}")
            for key in ("network", "optimizer", "history")
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(checkpoint, damage):
    damage(checkpoint)
    with pytest.raises(RunError, match=r"training\.pt cannot be resumed.*Remove it") as caught:
        run(checkpoint=checkpoint)
    # Not torch's pages, which advise to load it with code execution allowed.
    assert "weights_only" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


class Hostile:
    """Unpickled, it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_a_hostile_checkpoint_runs_no_code(checkpoint, tmp_path):
    torch.save({"network": Hostile(tmp_path / "executed")}, checkpoint)
    with pytest.raises(RunError, match="cannot be resumed"):
        run(checkpoint=checkpoint)
    assert not (tmp_path / "executed").exists()


def test_quiet_unless_asked(capsys):
    run(epochs=1)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    run(epochs=1, verbose=True)
    assert capsys.readouterr().out == ""  # whatever is shown goes to stderr


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11])
def test_any_number_of_steps_makes_a_schedule(epochs):
    features, _ = blobs(30, 1, 1, n_features=16, k=3, noise=0.1, seed=0)
    model = MFAVBsClustering(3, dim=16, epochs=epochs, batch_size=64, device="cpu")
    assert len(model.fit(features).loss_history_) == epochs


def test_an_instance_loss_of_weight_nothing_is_not_computed(monkeypatch):
    monkeypatch.setattr(training, "instance_loss", None)  # would raise
    network, _ = small_network(FEATURES)
    before = {name: x.clone() for name, x in network.instance_head.state_dict().items()}
    history, trained = run(instance_weight=0.0)
    for entry in history:
        assert "instance" not in entry
        assert entry["total"] == pytest.approx(entry["cluster"] + entry["balance"], abs=1e-5)
    after = trained.instance_head.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_the_instance_loss_has_no_say_but_by_its_weight(objective):
    network, tokens = small_network(FEATURES)
    generator = torch.Generator().manual_seed(0)
    pairs = draw_epoch(objective, torch.arange(48)[:, None], 3, 1, generator)
    image, view_a, view_b = pairs[0]
    halves = tokens[image, view_a], tokens[image, view_b]
    n_pairs = len(image) // 48
    with_it = training.step_losses(network, *halves, n_pairs, 1.0)
    without = training.step_losses(network, *halves, n_pairs, 0.0)
    assert with_it[0] > 0 == without[0]
    assert all(torch.equal(x, y) for x, y in zip(with_it[1:], without[1:]))


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_a_training_that_diverges_says_so(objective, tmp_path):
    with pytest.raises(MfavbsError, match=r"diverged in epoch \d.*learning_rate below 1e\+30"):
        run(objective, learning_rate=1e30, checkpoint=tmp_path / "training.pt")
