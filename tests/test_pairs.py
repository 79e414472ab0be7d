"""In: rows, neighbours, a number of views. Out: pairs that obey the disjoint rule."""

import pytest
import torch

from mfavbs.pairs import disjoint_pairs, paper_pair

N, B = 30, 24


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def neighbour_table(m, seed=0):
    """m different others of each of N images."""
    other = torch.rand(N, N, generator=generator(seed)).fill_diagonal_(2)
    return other.argsort(dim=1)[:, :m]


def draws(m, n_views, times=40):
    neighbours = neighbour_table(m)
    for seed in range(times):
        rows = torch.randperm(N, generator=generator(seed))[:B]
        yield rows, neighbours, disjoint_pairs(rows, neighbours, n_views, generator(seed))


def seen(pair, i):
    """The (row, view) that both halves of the i-th pair have seen after fusion."""
    return {
        (pair.row[i].item(), pair.view[i].item()),
        (pair.partner_row[i].item(), pair.partner_view[i].item()),
    }


# One view of each image and fewer than three neighbours are too little for four members: there the
# rule cannot hold, and only the form of the pairs is tested.
KEPT_APART = [(m, v) for m in (1, 2, 3, 4, 10, N - 1) for v in range(1, 7) if m >= 3 or v >= 2]


@pytest.mark.parametrize(("m", "n_views"), KEPT_APART)
def test_no_view_is_seen_by_both_pairs(m, n_views):
    for _, _, (one, two) in draws(m, n_views):
        assert not any(seen(one, i) & seen(two, i) for i in range(B))


@pytest.mark.parametrize("n_views", range(1, 7))
@pytest.mark.parametrize("m", [1, 2, 3, 10])
def test_all_members_are_of_the_neighbourhood_of_the_row(m, n_views):
    for rows, neighbours, pairs in draws(m, n_views, times=10):
        hood = torch.cat([rows[:, None], neighbours[rows]], dim=1)  # (b, 1 + m)
        for pair in pairs:
            for member in (pair.row, pair.partner_row):
                assert (member[:, None] == hood).any(1).all()
            for view in (pair.view, pair.partner_view):
                assert view.shape == (B,)
                assert view.min() >= 0
                assert view.max() < n_views
        assert any(torch.equal(pair.row, rows) for pair in pairs)


@pytest.mark.parametrize("m", [3, 10])
def test_every_view_and_every_neighbour_takes_part(m):
    n_views, views, members = 5, set(), set()
    for rows, neighbours, pairs in draws(m, n_views):
        for pair in pairs:
            views |= set(pair.view.tolist()) | set(pair.partner_view.tolist())
            at = (pair.partner_row[:, None] == neighbours[rows]).nonzero()[:, 1]
            members |= set(at.tolist())
    assert views == set(range(n_views))
    assert members == set(range(m))


@pytest.mark.parametrize("n_views", range(1, 7))
def test_a_paper_pair_is_two_augmentations_of_one_image(n_views):
    rows = torch.arange(N)
    combinations = set()
    for seed in range(60):
        pair = paper_pair(rows, n_views, generator(seed))
        assert torch.equal(pair.row, rows)
        assert torch.equal(pair.partner_row, rows)
        combinations |= set(zip(pair.view.tolist(), pair.partner_view.tolist()))
    # The clean view 0 stays out where there are two others.
    views = range(n_views) if n_views < 3 else range(1, n_views)
    expected = {(a, b) for a in views for b in views if a != b} or {(0, 0)}
    assert combinations == expected


@pytest.mark.parametrize("n_views", [1, 4])
def test_same_seed_same_pairs(n_views):
    rows, neighbours = torch.arange(N), neighbour_table(5)

    def draw(seed):
        pairs = disjoint_pairs(rows, neighbours, n_views, generator(seed))
        return torch.stack([torch.stack(p) for p in (*pairs, paper_pair(rows, 4, generator(seed)))])

    state = torch.get_rng_state()
    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    assert torch.equal(torch.get_rng_state(), state)
