"""In: pairs of views. Out: the frozen run's representations at the start, and pixels that count."""

import pytest
import torch
from feature_blobs import blobs, small_network

from mfavbs.errors import SourceError
from mfavbs.model import PixelNetwork, PixelView

FEATURES, _ = blobs(12, n_views=2, n_features=12)
SMALL = {"image_size": 8, "n_heads": 2, "shared_depth": 1}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def views(n=12, s=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (2, n, 3, s, s), generator=generator, dtype=torch.uint8)
    pair = zip(pixels, torch.from_numpy(FEATURES[:n, :, 0]).unbind(1))
    return [PixelView(*one) for one in pair]


def started(widths=(12,), gate=1e-6, frozen_options=None, **options):
    """A network that starts from one on features, that one, and its tokens."""
    frozen, tokens = small_network(FEATURES, **(frozen_options or {}))
    network = PixelNetwork(3, 2, 8, anchor_widths=widths, gate=gate, **{**SMALL, **options})
    network.start_from(frozen)
    return network, frozen, tokens


@pytest.mark.parametrize("fusion", ["token", "channel", "none"])
@pytest.mark.parametrize("s", [8, 64])
@pytest.mark.parametrize("widths", [(), (12,)])
def test_a_pair_of_views_becomes_a_pair_of_representations(fusion, s, widths):
    network = PixelNetwork(
        3, 2, 8, **{**SMALL, "image_size": s}, anchor_widths=widths, fusion=fusion, n_blocks=2
    )
    a, b = network(*views(s=s))
    assert a.shape == b.shape == (12, 8)
    assert network.cluster_heads(a).shape == (2, 12, 3)


@pytest.mark.parametrize("fusion", ["token", "channel", "none"])
@pytest.mark.parametrize("frozen_fusion", ["token", "channel", "none"])
@pytest.mark.parametrize("widths", [(12,), (5, 7)])
def test_it_starts_as_the_frozen_network(fusion, frozen_fusion, widths):
    network, frozen, tokens = started(
        widths, fusion=fusion, frozen_options={"fusion": frozen_fusion}
    )
    expected = frozen(tokens[:, 0], tokens[:, 1])
    torch.testing.assert_close(network(*views()), expected, atol=1e-4, rtol=1e-4)
    for ours, theirs in ((network.cluster_heads, frozen.cluster_heads),):
        torch.testing.assert_close(ours(expected[0]), theirs(expected[0]))


def test_what_it_starts_from_is_left_alone():
    network, frozen, _ = started()
    before = {name: x.clone() for name, x in frozen.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(torch.equal(x, before[name]) for name, x in frozen.state_dict().items())


@pytest.mark.parametrize("start", [True, False])
def test_every_part_is_trained_that_has_a_say(start):
    network = PixelNetwork(3, 2, 8, anchor_widths=[12], fusion="token", **SMALL)
    if start:
        network = started(fusion="token", gate=0.1)[0]
    a, b = views()
    kept = torch.arange(12) % 2 == 0
    halves = network(a._replace(kept=kept), b._replace(kept=kept))
    logits = network.cluster_heads(torch.cat(halves))
    (logits.square().sum() + sum(network.instance_head(x).sum() for x in halves)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert network.stem.anchors[0].weight.grad.abs().sum() > 0
    assert network.stem.patches.proj.weight.grad.abs().sum() > 0
    assert network.stem.class_token.grad.abs().sum() > 0


def test_what_the_frozen_run_gave_is_told_apart():
    network = started()[0]
    given = {id(parameter) for parameter in network.started()}
    names = {name for name, p in network.named_parameters() if id(p) in given}
    assert {name.split(".")[0] for name in names} == {
        *("stem", "anchor_blocks", "cluster_heads", "instance_head")
    }
    assert {name for name in names if name.startswith("stem")} == {
        *("stem.anchors.0.weight", "stem.anchors.0.bias")
    }
    assert PixelNetwork(3, 2, 8, **SMALL).started() == []


def test_a_withheld_anchor_is_not_seen():
    network = started(fusion="none")[0]
    a, b = views()
    kept = torch.arange(12) > 0
    before = network(a._replace(kept=kept), b)[0]
    a.feature[0] = 5 * torch.randn(12)
    after = network(a._replace(kept=kept), b)[0]
    assert torch.equal(before, after)
    assert not torch.equal(network(a, b)[0][0], after[0])


def test_pixels_count_once_the_gates_open():
    a, b = views()
    other = a._replace(pixels=255 - a.pixels)
    shut, opened = started(gate=1e-6)[0], started(gate=1.0)[0]
    assert (shut(a, b)[0] - shut(other, b)[0]).abs().max() < 1e-4
    assert (opened(a, b)[0] - opened(other, b)[0]).abs().max() > 1e-2


def test_the_class_token_is_as_long_as_what_it_stands_in_for():
    network = started()[0]
    start = network.stem.class_token.norm() / 8**0.5
    assert 0.3 < start < 3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"widths": (5,)}, "widths of features 5, got 12"),
        ({"k": 4}, "clusters 4, got 3"),
        ({"h": 3}, "cluster heads 3, got 2"),
        ({"dim": 16}, "dim 16, got 8"),
    ],
)
def test_a_frozen_network_of_other_shapes_is_refused(change, text):
    frozen, _ = small_network(FEATURES)
    found = {"k": 3, "h": 2, "dim": 8, "widths": (12,)} | change
    network = PixelNetwork(
        found["k"], found["h"], found["dim"], anchor_widths=found["widths"], **SMALL
    )
    with pytest.raises(SourceError, match=text):
        network.start_from(frozen)


def test_positions_and_measurements_are_no_encoders_features():
    features, _ = blobs(12, n_features=4)
    frozen, _ = small_network(features)
    network = PixelNetwork(3, 2, 8, anchor_widths=[4], **SMALL)
    with pytest.raises(SourceError, match="4 numbers are no encoder's"):
        network.start_from(frozen)
