"""In: unit vectors. Out: their nearest others, by every route, never themselves."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors

from mfavbs.model import neighbours
from mfavbs.model.neighbours import Neighbourhood, nearest_neighbours


def units(n, d=8, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def clustered(n=2000, d=16, k=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(k, d, generator=generator)
    noise = 0.3 * torch.randn(n, d, generator=generator)
    return F.normalize(centres[torch.arange(n) % k] + noise, dim=-1)


def check_form(found, n, m):
    assert found.shape == (n, m)
    assert found.dtype == torch.int32
    assert found.min() >= 0
    assert found.max() < n
    assert (found != torch.arange(n)[:, None]).all()
    assert all(len(set(row)) == m for row in found.tolist())


@pytest.mark.parametrize(("n", "m"), [(50, 1), (50, 7), (50, 49), (2, 1)])
def test_against_scikit_learn(n, m):
    x = units(n)
    found = nearest_neighbours(x, m)
    check_form(found, n, m)
    expected = NearestNeighbors(n_neighbors=m, metric="cosine").fit(x).kneighbors()[1]
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_the_chunk_makes_no_difference(chunk, monkeypatch):
    expected = nearest_neighbours(units(50), 5)
    monkeypatch.setattr(neighbours, "_SIMILARITIES", 50 * chunk)
    assert torch.equal(nearest_neighbours(units(50), 5), expected)


@pytest.mark.parametrize("m", [1, 3, 11])
def test_of_duplicates_none_is_its_own_neighbour(m):
    x = units(3).repeat(4, 1)  # each vector four times
    found = nearest_neighbours(x, m)
    check_form(found, 12, m)
    copies = (found % 3 == torch.arange(12)[:, None] % 3).sum(1)
    assert (copies == min(m, 3)).all()


@pytest.mark.parametrize("x", [torch.ones(6, 1), torch.zeros(6, 4)])
def test_of_rows_all_alike_none_is_its_own_neighbour(x):
    check_form(nearest_neighbours(x, 4), 6, 4)


def test_nearest_first_and_of_other_rows_too():
    bank, queries = units(40), units(9, seed=1)
    found = Neighbourhood(bank).nearest(queries, 40)
    similarity = (queries @ bank.T).gather(1, found)
    assert (similarity.diff(dim=1) <= 0).all()
    assert found.sort(1).values.tolist() == [list(range(40))] * 9
    assert Neighbourhood(bank).nearest(bank, 1)[:, 0].tolist() == list(range(40))


@pytest.mark.parametrize("few_centres", [0, 4096])
def test_the_index_finds_nearly_what_comparing_all_finds(few_centres, monkeypatch):
    """With a graph of the cells' centres, and with all of them compared."""
    monkeypatch.setattr(neighbours, "_FEW_CENTRES", few_centres)
    monkeypatch.setattr(neighbours, "_CELL", 8)
    x = clustered()
    exact = nearest_neighbours(x, 10)
    monkeypatch.setattr(neighbours, "_EXACT_ELSEWHERE", 100)
    found = nearest_neighbours(x, 10)
    check_form(found, len(x), 10)
    recall = (found[:, :, None] == exact[:, None]).any(2).float().mean()
    assert recall > 0.9
    similarity = (x[:, None] @ x[found].mT)[:, 0]
    assert (similarity.diff(dim=1) <= 1e-6).all()
    assert torch.equal(nearest_neighbours(x, 10), found)


def test_the_index_finds_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr(neighbours, "_EXACT_ELSEWHERE", 100)
    monkeypatch.setattr(neighbours, "_CELL", 4)
    x = clustered(600)
    check_form(nearest_neighbours(x, 500), 600, 500)  # more than lie in the cells it looks at


def test_a_neighbourhood_is_pickled_without_its_index(monkeypatch):
    monkeypatch.setattr(neighbours, "_EXACT_ELSEWHERE", 100)
    x = clustered(600)
    whole = Neighbourhood(x)
    expected = whole.nearest(x, 3)
    again = pickle.loads(pickle.dumps(whole))
    assert set(vars(again)) == {"rows", "memory"}
    assert torch.equal(again.nearest(x, 3), expected)
