"""The nearest neighbours of every image, by cosine similarity.

In: (n, d) embeddings of unit length.
Out: (n, m) row numbers, nearest first, an image never among its own.
"""

import torch
from torch import Tensor

_EXACT = 50_000  # rows up to which all are compared with all on a CPU, beyond it an index is built
_CHUNK = 2048  # rows compared at once: bounds the similarity matrix to _CHUNK × n


def nearest_neighbours(embeddings: Tensor, n_neighbours: int) -> Tensor:
    """The ``n_neighbours`` most similar other rows of every row.

    Parameters
    ----------
    embeddings
        (n, d) of unit length, n > n_neighbours.
    n_neighbours
        m >= 1.

    Returns
    -------
    Tensor
        (n, m) int64.
    """
    by_index = len(embeddings) > _EXACT and embeddings.device.type == "cpu"
    search = _nearest_by_index if by_index else nearest
    found = search(embeddings, embeddings, n_neighbours + 1)  # (n, m + 1)
    others = found != torch.arange(len(found), device=found.device)[:, None]
    # Among exact duplicates an image may be missing from its own list: then drop the last.
    others[others.all(1), -1] = False
    return found[others].view(len(found), n_neighbours)


def nearest(bank: Tensor, queries: Tensor, n_neighbours: int) -> Tensor:
    """The ``n_neighbours`` rows of ``bank`` most similar to every query.

    Parameters
    ----------
    bank, queries
        (n, d) and (b, d), of unit length.
    n_neighbours
        m in [1, n].

    Returns
    -------
    Tensor
        (b, m) int64, most similar first.
    """
    parts = [(part @ bank.T).topk(n_neighbours, dim=1).indices for part in queries.split(_CHUNK)]
    return torch.cat(parts)  # (b, m)


def _nearest_by_index(bank: Tensor, queries: Tensor, n_neighbours: int) -> Tensor:
    """The same with an inverted-file index: each query meets the few nearest of √n cells."""
    import faiss

    n, d = bank.shape
    cells = int(4 * n**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
    rows = bank.float().contiguous().numpy()
    # faiss asks for at least 39 rows a cell to train on.
    index.train(rows[torch.randperm(n, generator=torch.Generator().manual_seed(0))[: 64 * cells]])
    index.add(rows)
    index.nprobe = 32
    _, rows_found = index.search(queries.float().contiguous().numpy(), n_neighbours)
    found = torch.from_numpy(rows_found)
    short = (found < 0).any(1)  # too few in the cells: compare with all
    if short.any():
        found[short] = nearest(bank, queries[short], n_neighbours)
    return found
