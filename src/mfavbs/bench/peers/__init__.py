"""The methods of others, each a function (features, k, seed) -> labels.

In: features (n, v, t, d), k, a seed. Out: labels (n,).
"""

# By name, where each lies in this folder; imported when it is run.
PEERS: dict[str, str] = {
    "kmeans": "classical.kmeans",
    "kmeans-projected": "classical.kmeans_projected",
    "umap-projected": "classical.umap_projected",
    "gmm": "classical.gaussian_mixture",
    "spectral": "classical.spectral",
    "umap": "classical.umap_kmeans",
    "umap-gmm": "classical.umap_mixture",
    "evoc": "classical.evoc",
    "cc": "contrastive_clustering.contrastive_clustering",
    "scan": "scan.scan",
    "temi": "temi.temi",
    "turtle": "turtle.turtle",
    "mfavbs-0.1": "mfavbs_0_1.mfavbs_0_1",
}
# What lets a peer compile itself before its seconds are counted.
WARM_UPS: dict[str, str] = {
    "umap": "classical.compile_umap",
    "umap-projected": "classical.compile_umap",
    "umap-gmm": "classical.compile_umap",
    "evoc": "classical.compile_evoc",
}
