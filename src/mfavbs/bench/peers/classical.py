"""The classical peers: what is done with an embedding where nothing is trained by contrast.

In: features (n, v, t, d); view 0 is the clean one, token 0 the pooled feature.
Out: labels (n,), int.

All of them cluster :func:`mean_embedding`, one vector for each image, so that they know as much
of the views as a method that trains on them.
"""

from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import normalize
from torch import Tensor

from mfavbs.errors import MfavbsError
from mfavbs.model import fit_projection, mean_view, nearest_neighbours, unit

_STARTS = 10
_NEIGHBOURS = 10  # of the spectral peer's graph, as in scikit-learn's
_COMPONENTS = 50  # principal components that a mixture is fitted on, at the most
_ROWS_A_COMPONENT = 5  # images of an average cluster for each: what a covariance is estimated from
_CHUNK = 4096  # images read at once: bounds the float32 copy of a memory-mapped store
_SAMPLE = 300  # images that a method compiles itself on
_UMAP_LARGE = 4096  # umap's own bound
_EVOC_SAMPLE = 2000  # of 300 it does not meet all that it compiles: 9 s were left to its first run


def pooled_views(features: np.ndarray) -> Tensor:
    """The pooled token of every view, of unit length, (n, v, d) float32."""
    parts = [features[i : i + _CHUNK, :, 0] for i in range(0, len(features), _CHUNK)]
    return torch.cat([unit(part) for part in parts])


def mean_embedding(features: np.ndarray) -> np.ndarray:
    """One unit vector for each image, the mean direction of its views' pooled tokens.

    k-means on it has 0.882 ACC on Imagenette's validation images.

    Parameters
    ----------
    features
        (n, v, t, d).

    Returns
    -------
    ndarray
        (n, d) float32.
    """
    return mean_view(pooled_views(features)[:, :, None]).numpy()


def kmeans(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """k-means, best of 10 starts."""
    return _kmeans(mean_embedding(features), k, seed)


def kmeans_projected(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """k-means on what our cluster heads start from: what the projection alone is worth."""
    return _kmeans(_projected(features, seed), k, seed)


def umap_projected(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """UMAP + k-means on the same projection."""
    return _umap_kmeans(_projected(features, seed), k, seed)


def _projected(features: np.ndarray, seed: int) -> np.ndarray:
    mean, components = fit_projection(features, 128, torch.Generator().manual_seed(seed))
    return mean_view(((pooled_views(features) - mean[0]) @ components)[:, :, None]).numpy()


def gaussian_mixture(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Gaussian mixture with full covariances on principal components, best of 10 starts.

    Of spherical, diagonal, tied and full covariances the last did best, on Imagenette's
    validation images (ACC 0.841, diagonal 0.748) and on CIFAR-10's test images (0.464, 0.358).
    """
    embeddings = mean_embedding(features)
    n_components = min(_COMPONENTS, len(embeddings) // (_ROWS_A_COMPONENT * k))
    pca = PCA(min(max(1, n_components), *embeddings.shape), random_state=seed)
    model = GaussianMixture(k, n_init=_STARTS, random_state=seed)
    return model.fit_predict(pca.fit_transform(embeddings).astype(np.float64))


def spectral(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Normalised spectral clustering of the graph of nearest neighbours (NIPS 2001, Ng et al.).

    The eigenvectors are sought at the upper end of the normalised adjacency: scikit-learn's
    factorises the graph's Laplacian, which takes 45 s for 10,000 images where this takes 0.1 s.
    """
    n = len(features)
    embeddings = torch.from_numpy(mean_embedding(features))
    neighbours = nearest_neighbours(embeddings, min(_NEIGHBOURS, n - 1)).numpy()  # (n, m)
    m = neighbours.shape[1]
    graph = sparse.csr_array((np.ones(n * m), neighbours.ravel(), np.arange(n + 1) * m), (n, n))
    graph = (graph + graph.T) / 2
    scale = sparse.diags_array(graph.sum(axis=1) ** -0.5)
    start = np.random.default_rng(seed).uniform(-1, 1, n)
    _, vectors = eigsh(scale @ graph @ scale, k, which="LA", v0=start)  # (n, k)
    return _kmeans(normalize(vectors), k, seed)


def umap_kmeans(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """k-means on a UMAP (arXiv 1802.03426) with the settings its documentation has for clustering.

    They are 30 neighbours and no least distance. 10 dimensions instead of the 2 of a picture
    raise CIFAR-10's test images from 0.519 to 0.537 ACC, Imagenette's from 0.928 to 0.932.

    Raises
    ------
    MfavbsError
        umap-learn is not installed.
    """
    return _umap_kmeans(mean_embedding(features), k, seed)


def umap_mixture(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """A Gaussian mixture with full covariances on the same UMAP, best of 10 starts.

    Raises
    ------
    MfavbsError
        umap-learn is not installed.
    """
    embeddings = _umap(mean_embedding(features), seed).astype(np.float64)
    return GaussianMixture(k, n_init=_STARTS, random_state=seed).fit_predict(embeddings)


def compile_umap(features: np.ndarray) -> None:
    """Let numba compile what UMAP runs on so many images: up to minutes that are nobody's method.

    Raises
    ------
    MfavbsError
        umap-learn is not installed.
    """
    sample = mean_embedding(features[:_SAMPLE])
    # From that many rows on it seeks neighbours by descent, and otherwise among all pairs.
    by_descent = len(features) >= _UMAP_LARGE
    _umap(sample, 0, n_epochs=1, force_approximation_algorithm=by_descent)


def compile_evoc(features: np.ndarray) -> None:
    """Let numba compile what EVoC runs.

    Raises
    ------
    MfavbsError
        evoc is not installed.
    """
    evoc(features[:_EVOC_SAMPLE], 10, 0)


def _umap_kmeans(embeddings: np.ndarray, k: int, seed: int) -> np.ndarray:
    return _kmeans(_umap(embeddings, seed), k, seed)


def _umap(embeddings: np.ndarray, seed: int, **options: Any) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise _missing("umap-learn") from error
    model = UMAP(
        n_neighbors=min(30, len(embeddings) - 1),
        n_components=10,
        min_dist=0.0,
        metric="cosine",
        random_state=seed,
        n_jobs=1,  # what a fixed seed comes to in any case
        **options,
    )
    return model.fit_transform(embeddings)


def evoc(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """EVoC, asked for about k clusters; what it calls noise goes to the nearest of them.

    Raises
    ------
    MfavbsError
        evoc is not installed.
    """
    try:
        from evoc import EVoC
    except ImportError as error:
        raise _missing("evoc") from error
    embeddings = mean_embedding(features)
    labels = EVoC(approx_n_clusters=k, random_state=seed).fit_predict(embeddings)
    return _without_noise(embeddings, labels)


def _without_noise(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels (n,) whose -1 are replaced by the cluster with the nearest centroid."""
    found = range(labels.max() + 1)
    if not found:  # noise, all of it
        return np.zeros_like(labels)
    centroids = normalize([embeddings[labels == cluster].mean(axis=0) for cluster in found])
    return np.where(labels < 0, (embeddings @ centroids.T).argmax(axis=1), labels)


def _kmeans(embeddings: np.ndarray, k: int, seed: int) -> np.ndarray:
    return KMeans(k, n_init=_STARTS, random_state=seed).fit_predict(embeddings)


def _missing(package: str) -> MfavbsError:
    return MfavbsError(f'{package} is not installed; run `pip install "mfavbs[bench]"`')
