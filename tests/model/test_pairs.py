"""In: rows, neighbours, a number of views. Out: pairs that obey the disjoint rule."""

import pytest
import torch

from mfavbs.model.pairs import disjoint_pairs, paper_pair

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
    return {(pair.image[i].item(), view[i].item()) for view in (pair.view_a, pair.view_b)}


@pytest.mark.parametrize("n_views", range(1, 7))
@pytest.mark.parametrize("m", [2, 10, N - 1])
def test_no_view_is_seen_by_both_pairs(m, n_views):
    for _, _, (one, two) in draws(m, n_views):
        assert not any(seen(one, i) & seen(two, i) for i in range(B))


@pytest.mark.parametrize("n_views", range(2, 7))
def test_an_image_that_is_its_own_neighbour_deals_its_views_out(n_views):
    rows, itself = torch.arange(N), torch.arange(N)[:, None]
    for seed in range(40):
        one, two = disjoint_pairs(rows, itself, n_views, generator(seed))
        assert torch.equal(one.image, rows)
        assert torch.equal(two.image, rows)
        assert not any(seen(one, i) & seen(two, i) for i in range(N))


@pytest.mark.parametrize("n_views", range(2, 7))
def test_a_single_neighbour_keeps_the_pairs_apart_by_view(n_views):
    for _, _, (one, two) in draws(1, n_views):
        assert not any(seen(one, i) & seen(two, i) for i in range(B))


@pytest.mark.parametrize("n_views", range(1, 7))
@pytest.mark.parametrize("m", [1, 3, 10])
def test_both_pairs_are_of_the_neighbourhood(m, n_views):
    for rows, neighbours, (one, two) in draws(m, n_views, times=10):
        itself = one.image == rows
        assert 0 < itself.sum() < B
        assert (itself | (one.image[:, None] == neighbours[rows]).any(1)).all()
        same = two.image == one.image
        assert (same | (two.image[:, None] == neighbours[rows]).any(1)).all()
        if n_views >= 4:
            assert 0 < same.sum() < B or m == 1
        else:
            assert m == 1 or not same.any()  # too few views for two pairs of one image
        for pair in (one, two):
            assert pair.view_a.shape == pair.view_b.shape == (B,)
            assert min(pair.view_a.min(), pair.view_b.min()) >= 0
            assert max(pair.view_a.max(), pair.view_b.max()) < n_views
            assert n_views < (4 if m == 1 else 2) or (pair.view_a != pair.view_b).all()


@pytest.mark.parametrize("m", [3, 10])
def test_every_view_and_every_neighbour_takes_part(m):
    n_views, views, members = 5, set(), set()
    for rows, neighbours, pairs in draws(m, n_views):
        for pair in pairs:
            views |= set(zip(pair.view_a.tolist(), pair.view_b.tolist()))
        at = (pairs[1].image[:, None] == neighbours[rows]).nonzero()[:, 1]
        members |= set(at.tolist())
    assert views == {(a, b) for a in range(n_views) for b in range(n_views) if a != b}
    assert members == set(range(m))


@pytest.mark.parametrize("n_views", range(1, 7))
def test_a_paper_pair_is_two_augmentations_of_one_image(n_views):
    rows = torch.arange(N)
    combinations = set()
    for seed in range(60):
        pair = paper_pair(rows, n_views, generator(seed))
        assert torch.equal(pair.image, rows)
        combinations |= set(zip(pair.view_a.tolist(), pair.view_b.tolist()))
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
