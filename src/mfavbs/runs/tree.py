"""The tree of a run's clusters, cut at any number of them.

In: the content of hierarchy.json, leaf and cluster (n,) of every image. Out: clusters (n,).
"""

from typing import Any

import numpy as np

from mfavbs.errors import RunError


def cut_tree(
    hierarchy: dict[str, Any], leaf: np.ndarray, cluster: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Clusters (n,) where a tree has so many: of fewer than the run's some are joined, of more
    some are split, and no image is put beside others than those of its node.

    Cut at the run's own number, clusters have the run's own numbers. Else they are numbered in
    the order of the tree, so that those with near numbers are alike.

    Parameters
    ----------
    hierarchy
        From :func:`mfavbs.insight.describe_tree`.
    leaf, cluster
        (n,) of every image.
    n_clusters
        From 2 to the number of leaves.

    Raises
    ------
    RunError
        The tree cannot be cut so.
    """
    m, nodes = hierarchy["n_leaves"], hierarchy["nodes"]
    if not 2 <= n_clusters <= m:
        raise RunError(
            f"The tree of the run can be cut into 2 to {m} clusters; got n_clusters={n_clusters}. "
            "More need a run of their own: cluster the images again."
        )
    if n_clusters == len(hierarchy["order"]):
        return cluster
    top = np.arange(len(nodes))
    joined = 2 * m - n_clusters  # nodes that there are when so many clusters are left
    for node in range(joined - 1, m - 1, -1):  # from the top down, each as it is by then
        top[nodes[node]["children"]] = top[node]
    place = {number: at for at, number in enumerate(hierarchy["order"])}
    at = [place[nodes[x]["cluster"]] for x in range(m)]
    first: dict[int, tuple[int, int]] = {}
    for x in range(m):
        key = int(top[x])
        first[key] = min(first.get(key, (m, m)), (at[x], x))
    number = {node: i for i, node in enumerate(sorted(first, key=first.__getitem__))}
    return np.array([number[int(node)] for node in top[:m]])[leaf]
