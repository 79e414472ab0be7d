"""In: sizes. Out: features of images in well-separated clusters on the sphere, and a network."""

import numpy as np
import torch

from mfavbs.model.network import Network


def blobs(n=90, n_views=2, n_tokens=1, n_features=12, k=3, noise=0.1, seed=0):
    """Features (n, v, t, d), float32, and the cluster (n,) that each image was drawn from."""
    rng = np.random.default_rng(seed)
    # Orthogonal centres: as far apart as directions can be without being opposite.
    centres = np.linalg.qr(rng.normal(size=(n_features, k)))[0].T
    y = np.arange(n) % k
    images = centres[y] + noise * rng.normal(size=(n, n_features))
    views = images[:, None, None] + noise / 2 * rng.normal(size=(n, n_views, n_tokens, n_features))
    return views.astype(np.float32), y


def small_network(features, k=3, n_cluster_heads=2, dim=8, seed=0, **mfavbs):
    """An untrained network for ``features`` (n, v, t, d), and their tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {"n_heads": 2, "gate": 0.05, **mfavbs}
        network = Network(features.shape[3], features.shape[2], k, n_cluster_heads, dim, **options)
    network.fit_projection(features, torch.Generator().manual_seed(seed))
    return network, network.project(features)
