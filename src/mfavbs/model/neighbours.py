"""The nearest neighbours of every image, by cosine similarity.

In: (n, d) embeddings of unit length.
Out: (n, m) row numbers, nearest first, an image never among its own.
"""

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows up to which all are compared with all, by kind of device; beyond it an index is built.
_EXACT = {"cuda": 1_000_000}
_EXACT_ELSEWHERE = 20_000
_SIMILARITIES = 2**27  # compared at once: bounds their matrix to half a GiB
_CELL = 128  # rows in a cell of the index, on average
_PROBED = 48  # cells that a query looks into
_ROUNDS = 2  # of moving the cells' centres to the mean of their rows
_FEW_CENTRES = 4096  # centres up to which all are compared
_LINKS = 32  # of a centre in the graph of centres


class Neighbourhood:
    """Rows of unit length, and which of them are nearest to any query.

    Few are compared with all, on the device they are on. For many, cells of about 128 rows are
    found through a graph of their centres (HNSW, arXiv 1603.09320), and a query meets the rows of
    the 48 nearest ones: n log n for n queries, and the same rows for the same queries each time.

    Parameters
    ----------
    rows
        (n, d).
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows.float()

    def __getstate__(self) -> dict:
        return {"rows": self.rows}  # an index is built again where it is asked for

    def nearest(self, queries: Tensor, n_neighbours: int) -> Tensor:
        """The ``n_neighbours`` rows most similar to each of (b, d) queries, most similar first.

        Returns
        -------
        Tensor
            (b, m) int64, on the queries' device; m is at most n.
        """
        if len(self.rows) <= _EXACT.get(self.rows.device.type, _EXACT_ELSEWHERE):
            return self._by_comparing_all(queries, n_neighbours)
        found = torch.from_numpy(self._index.search(_array(queries), n_neighbours)[1])
        found = found.to(queries.device)
        short = (found < 0).any(1)  # too few rows in the cells that were looked into
        if short.any():
            found[short] = self._by_comparing_all(queries[short], n_neighbours)
        return found

    def _by_comparing_all(self, queries: Tensor, n_neighbours: int) -> Tensor:
        chunk = max(1, _SIMILARITIES // len(self.rows))
        parts = queries.to(self.rows).split(chunk)
        found = [(part @ self.rows.T).topk(n_neighbours, dim=1).indices for part in parts]
        return torch.cat(found).to(queries.device)  # (b, m)

    @cached_property
    def _index(self) -> Any:
        import faiss

        rows = self.rows.cpu()
        n, d = rows.shape
        generator = torch.Generator().manual_seed(0)
        centres = rows[torch.randperm(n, generator=generator)[: -(-n // _CELL)]]
        for _ in range(_ROUNDS):
            cell = torch.from_numpy(_graph(centres).search(_array(rows), 1)[1][:, 0])
            total = torch.zeros_like(centres).index_add_(0, cell, rows)
            centres = torch.where(total.any(1, keepdim=True), F.normalize(total, dim=-1), centres)
        graph = _graph(centres)
        index = faiss.IndexIVFFlat(graph, d, len(centres), faiss.METRIC_INNER_PRODUCT)
        index.is_trained, index.nprobe = True, min(_PROBED, len(centres))
        index.add(_array(rows))
        return index


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
        (n, m) int64, on the embeddings' device.
    """
    found = Neighbourhood(embeddings).nearest(embeddings, n_neighbours + 1)  # (n, m + 1)
    others = found != torch.arange(len(found), device=found.device)[:, None]
    # Among exact duplicates an image may be missing from its own list: then drop the last.
    others[others.all(1), -1] = False
    return found[others].view(len(found), n_neighbours)


def _graph(centres: Tensor) -> Any:
    """An index of (c, d) centres; of many it is a graph."""
    import faiss

    if len(centres) <= _FEW_CENTRES:
        flat = faiss.IndexFlatIP(centres.shape[1])
        flat.add(_array(centres))
        return flat
    graph = faiss.IndexHNSWFlat(centres.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efSearch = 2 * _PROBED
    # With several threads faiss builds another graph each time.
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of the calling thread alone
    try:
        graph.add(_array(centres))
    finally:
        faiss.omp_set_num_threads(n_threads)
    return graph


def _array(rows: Tensor) -> Any:
    return rows.float().cpu().contiguous().numpy()
