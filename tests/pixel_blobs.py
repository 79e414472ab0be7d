"""In: a size. Out: small pictures in clusters, the crops of their views, and features of those."""

from functools import cache

import numpy as np
from feature_blobs import blobs

from mfavbs import MFAVBsClustering
from mfavbs.images import Views, content_hash, replay_crops

EDGE, K = 16, 3


@cache
def pictures(n=48, n_views=4, noise=0.3, seed=0):
    """Pixels (n, 16, 16, 3), crops (n, v, m), features (n, v, 12), and clusters (n,)."""
    features, y = blobs(n, n_views, k=K, noise=noise, seed=seed)
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).integers(0, 256, (K, EDGE, EDGE, 3))
    pixels = patterns[y] + rng.integers(-40, 40, (n, EDGE, EDGE, 3))
    pixels = pixels.clip(0, 255).astype(np.uint8)
    contents = [content_hash(image) for image in pixels]
    return pixels, replay_crops(Views(EDGE, n_views, 0), contents, EDGE, EDGE), features[:, :, 0], y


@cache
def frozen_run(n=48, n_views=4, noise=0.3, **parameters):
    """A run on the features alone."""
    options = {"dim": 16, "n_attention_heads": 2, "epochs": 4, "n_cluster_heads": 3}
    options |= {"device": "cpu", "random_state": 0, **parameters}
    return MFAVBsClustering(K, **options).fit(pictures(n, n_views, noise)[2])
