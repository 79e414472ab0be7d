"""The tree of clusters: how it is joined, cut and ordered, and what comes back in resamples."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from mfavbs.errors import RunError
from mfavbs.insight import describe_tree, grow_tree, order_clusters, returns
from mfavbs.runs import cut_tree


def nested(seed=0, n=400, noise=0.08):
    """(n, 16) of unit length in 2 groups of 2 groups, and which of the 4: 0, 1 | 2, 3."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    centres = axes[[0, 0, 1, 1]] + 0.6 * axes[2:6]
    labels = np.arange(n) % 4
    points = centres[labels] + noise * rng.normal(size=(n, 16))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), labels


def cut(points, labels, k, n_clusters):
    leaf, tree = describe_tree(points, labels, k, seed=0)
    return cut_tree(tree, leaf, labels, n_clusters)


def test_the_joins_of_single_points_are_those_of_scipy():
    points = np.random.default_rng(3).normal(size=(12, 5)).astype(np.float32)
    leaf, tree = describe_tree(points, np.arange(12), 12, seed=0)
    expected = linkage(points.astype(float), "ward")
    for wanted in range(2, 12):
        found = cut_tree(tree, leaf, np.arange(12), wanted)
        assert adjusted_rand_score(fcluster(expected, wanted, "maxclust"), found) == 1


def test_costs_of_all_joins_add_up_to_the_scatter_between_leaves():
    points, labels = nested()
    tree = grow_tree(points, labels, 4, seed=0)
    means = np.stack([points[tree.leaf == x].mean(0) for x in range(len(tree.cluster))])
    left = ((points - means[tree.leaf]) ** 2).sum() / ((points - points.mean(0)) ** 2).sum()
    assert tree.cost.sum() == pytest.approx(1 - left, abs=1e-4)


def test_a_cut_joins_what_is_alike_and_splits_what_is_not():
    points, groups = nested()
    assert adjusted_rand_score(groups // 2, cut(points, groups, 4, 2)) == 1
    assert adjusted_rand_score(groups, cut(points, groups // 2, 2, 4)) == 1
    assert (cut(points, groups, 4, 4) == groups).all()


def test_cuts_are_nested_and_numbered_in_the_order_of_the_tree():
    points, groups = nested()
    groups = np.array([2, 0, 3, 1])[groups]  # alike are now 0 and 2, and 1 and 3
    leaf, tree = describe_tree(points, groups, 4, seed=0)
    before = np.zeros(len(points), int)
    for wanted in range(2, tree["n_leaves"] + 1):
        found = cut_tree(tree, leaf, groups, wanted)
        assert len(np.unique(found)) == wanted
        assert len(np.unique(np.stack([before, found]), axis=1).T) == wanted  # each in one of them
        before = found
    assert {frozenset(tree["order"][:2]), frozenset(tree["order"][2:])} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }
    parts = cut_tree(tree, leaf, groups, 8)
    whole = [int(groups[parts == part][0]) for part in range(8)]
    assert [x for i, x in enumerate(whole) if x not in whole[:i]] == tree["order"]


@pytest.mark.parametrize("wanted", [1, 0, 10_000])
def test_a_tree_says_how_far_it_can_be_cut(wanted):
    points, groups = nested()
    with pytest.raises(RunError, match=r"into 2 to \d+ clusters; got n_clusters="):
        cut(points, groups, 4, wanted)


def test_groups_come_back_and_a_cut_through_one_does_not():
    points, groups = nested(noise=0.05)
    halves = np.random.default_rng(0).random(len(points)) < 0.5
    labels = np.where((groups == 3) & halves, 4, groups)
    _, tree = describe_tree(points, labels, 5, seed=0)
    whole = {node["cluster"]: node["came_back"] for node in tree["nodes"]}
    assert [whole[number] for number in range(3)] == [1, 1, 1]
    assert max(whole[3], whole[4]) < 0.3
    assert tree["nodes"][-1]["came_back"] == 1  # the root
    pairs = [node for node in tree["nodes"] if node["cluster"] is None]
    assert any(node["size"] == 200 and node["came_back"] == 1 for node in pairs)


def test_sizes_and_children_make_one_tree():
    points, groups = nested()
    leaf, tree = describe_tree(points, groups, 4, seed=0)
    nodes, m = tree["nodes"], tree["n_leaves"]
    assert len(nodes) == 2 * m - 1
    assert nodes[-1]["size"] == len(points)
    assert [node["size"] for node in nodes[:m]] == np.bincount(leaf).tolist()
    children = [child for node in nodes for child in node["children"]]
    assert sorted(children) == list(range(2 * m - 2))
    for node in nodes[m:]:
        assert node["size"] == sum(nodes[child]["size"] for child in node["children"])


def test_empty_clusters_single_images_and_copies_are_no_trouble():
    points, groups = nested(n=40)
    tree = grow_tree(points, groups * 2, 8, seed=0)
    assert sorted(order_clusters(points, tree)) == [0, 2, 4, 6]
    same = np.repeat(points[:1], 30, 0)
    tree = grow_tree(same, np.arange(30) % 3, 3, seed=0)
    assert np.isfinite(tree.cost).all()
    assert len(tree.cluster) == 3
    assert ((returns(same, tree, 0) >= 0) & (returns(same, tree, 0) <= 1)).all()
    tree = grow_tree(points[:2], np.array([0, 1]), 2, seed=0)
    assert sorted(tree.joins[0].tolist()) == [0, 1]
    assert len(returns(points[:2], tree, 0)) == 3
    tree = grow_tree(points[:1], np.array([0]), 1, seed=0)
    assert len(tree.joins) == 0
    assert order_clusters(points[:1], tree) == [0]


def test_the_same_seed_grows_the_same_tree():
    points, groups = nested(noise=0.3)
    one, other = (describe_tree(points, groups, 4, seed=5) for _ in range(2))
    assert (one[0] == other[0]).all()
    assert one[1] == other[1]
