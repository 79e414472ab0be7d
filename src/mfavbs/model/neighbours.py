"""The nearest neighbours of every image, by cosine similarity.

In: (n, d) embeddings of unit length.
Out: (n, m) row numbers, nearest first, an image never among its own.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.model.room import Rows

# Rows up to which all are compared with all, by kind of device; beyond it an index is built.
_EXACT = {"cuda": 1_000_000}
_EXACT_ELSEWHERE = 20_000
_SIMILARITIES = 2**27  # compared at once: bounds their matrix to half a GiB
_CELL = 128  # rows in a cell of the index, on average
_PROBED = 48  # cells that a query looks into
_ROUNDS = 2  # of moving the cells' centres to the mean of their rows
_MOVED_BY = 32  # rows for each centre that it is moved by, on average
_MOVED_BY_ALL = 100_000  # rows up to which all are
_FEW_CENTRES = 4096  # centres up to which all are compared
_LINKS = 32  # of a centre in the graph of centres
_PART = 65_536  # rows looked at at once


class Neighbourhood:
    """Rows of unit length, and which of them are nearest to any query.

    Few are compared with all, on the device they are on. For many, cells of about 128 rows are
    found through a graph of their centres (HNSW, arXiv 1603.09320), and a query meets the rows of
    the 48 nearest ones: n log n for n queries, and the same rows for the same queries each time.

    Parameters
    ----------
    rows
        (n, d), in any precision.
    memory
        Bytes that the index may take: where float32 does not fit, it holds float16, or 8 bits.
    """

    def __init__(self, rows: Rows, memory: int | None = None) -> None:
        self.rows: Any = rows[0 : len(rows)].float() if _all_compared(rows) else rows
        self.memory = memory

    def __getstate__(self) -> dict:
        # An index is built again where it is asked for.
        return {"rows": self.rows, "memory": self.memory}

    def nearest(self, queries: Tensor, n_neighbours: int) -> Tensor:
        """The ``n_neighbours`` rows most similar to each of (b, d) queries, most similar first.

        Returns
        -------
        Tensor
            (b, m) int64, on the queries' device; m is at most n.
        """
        if _all_compared(self.rows):
            return self._by_comparing_all(queries, n_neighbours)
        found = torch.from_numpy(self._index.search(_array(queries), n_neighbours)[1])
        found = found.to(queries.device)
        short = (found < 0).any(1)  # too few rows in the cells that were looked into
        if short.any():
            found[short] = self._by_parts(queries[short], n_neighbours)
        return found

    def in_cells(self) -> Tensor:
        """The numbers (n,) of all rows, those of a cell together.

        Asked in this order, queries meet the rows that the ones before have brought into the
        processor's cache.
        """
        if _all_compared(self.rows):
            return torch.arange(len(self.rows))
        import faiss

        cells = self._index.invlists
        numbers = [i for i in range(self._index.nlist) if cells.list_size(i)]
        ids = [faiss.rev_swig_ptr(cells.get_ids(i), cells.list_size(i)).copy() for i in numbers]
        return torch.from_numpy(np.concatenate(ids))

    def _by_comparing_all(self, queries: Tensor, n_neighbours: int) -> Tensor:
        most = _SIMILARITIES if self.memory is None else min(_SIMILARITIES, self.memory // 8)
        chunk = max(1, most // len(self.rows))
        parts = queries.to(self.rows).split(chunk)
        found = [(part @ self.rows.T).topk(n_neighbours, dim=1).indices for part in parts]
        return torch.cat(found).to(queries.device)  # (b, m)

    def _by_parts(self, queries: Tensor, n_neighbours: int) -> Tensor:
        """The same for a few queries, where the rows are too many to be converted at once."""
        queries = queries.float()
        best = queries.new_empty(len(queries), 0)
        found = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        for start, part in enumerate(self.rows.split(_PART)):
            similar = queries @ part.to(queries.device).float().T
            here = torch.arange(len(part), device=queries.device) + start * _PART
            best = torch.cat([best, similar], dim=1)
            found = torch.cat([found, here.expand(len(queries), -1)], dim=1)
            best, place = best.topk(min(n_neighbours, best.shape[1]), dim=1)
            found = found.gather(1, place)
        return found

    @cached_property
    def _index(self) -> Any:
        import faiss

        n, d = self.rows.shape
        centres = self._centres()
        graph = _graph(centres)
        index: Any
        if _fits(n * d, 4, self.memory):
            index = faiss.IndexIVFFlat(graph, d, len(centres), faiss.METRIC_INNER_PRODUCT)
        else:
            half = _fits(n * d, 2, self.memory)
            code = faiss.ScalarQuantizer.QT_fp16 if half else faiss.ScalarQuantizer.QT_8bit
            kind = (code, faiss.METRIC_INNER_PRODUCT, False)
            index = faiss.IndexIVFScalarQuantizer(graph, d, len(centres), *kind)
            index.train(_array(self.rows[:: -(-n // _PART)]))  # the range of each direction
        index.is_trained, index.nprobe = True, min(_PROBED, len(centres))
        for part in self.rows.split(_PART):
            index.add(_array(part))
        return index

    def _centres(self) -> Tensor:
        """Centres of the cells: some rows, moved to the mean of those nearest to them."""
        n = len(self.rows)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        n_centres = -(-n // _CELL)
        centres = self.rows[order[:n_centres]].float().cpu()
        moving = order[: max(_MOVED_BY_ALL, _MOVED_BY * n_centres)].sort().values
        for _ in range(_ROUNDS):
            total, graph = torch.zeros_like(centres), _graph(centres)
            for some in moving.split(_PART):
                rows = self.rows[some].float().cpu()
                cell = torch.from_numpy(graph.search(_array(rows), 1)[1][:, 0])
                total.index_add_(0, cell, rows)
            centres = torch.where(total.any(1, keepdim=True), F.normalize(total, dim=-1), centres)
        return centres


def nearest_neighbours(embeddings: Rows, n_neighbours: int, memory: int | None = None) -> Tensor:
    """The ``n_neighbours`` most similar other rows of every row.

    Where an index of all rows does not fit, they are dealt out at random into as many parts as it
    takes, and a row's neighbours are those in its part.

    Parameters
    ----------
    embeddings
        (n, d) of unit length, n > n_neighbours.
    n_neighbours
        m >= 1.
    memory
        Bytes that the search may take.

    Returns
    -------
    Tensor
        (n, m) int32, on the embeddings' device.
    """
    n, d = embeddings.shape
    if _all_compared(embeddings) or _fits(n * d, 1, memory):
        return _within(embeddings, n_neighbours, memory)
    assert memory is not None, "else it fits"
    found = torch.empty(n, n_neighbours, dtype=torch.int32, device=embeddings.device)
    most = max(2 * (n_neighbours + 1), memory // (4 * d))  # rows and their index, both in float16
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    for part in order.tensor_split(-(-n // most)):
        rows = part.sort().values.to(embeddings.device)
        near = _within(embeddings[rows].half(), n_neighbours, memory // 2)
        found[rows] = rows.int()[near]
    return found


def _within(embeddings: Rows, n_neighbours: int, memory: int | None) -> Tensor:
    """The same among all rows at once."""
    device = embeddings.device
    neighbourhood = Neighbourhood(embeddings, memory)
    found = torch.empty(len(embeddings), n_neighbours, dtype=torch.int32, device=device)
    for rows in neighbourhood.in_cells().to(device).split(_PART):
        near = neighbourhood.nearest(embeddings[rows].float(), n_neighbours + 1)  # (b, m + 1)
        others = near != rows[:, None]
        # Among exact duplicates an image may be missing from its own list: then drop the last.
        others[others.all(1), -1] = False
        found[rows] = near[others].view(-1, n_neighbours).int()
    return found


def _all_compared(rows: Rows) -> bool:
    return len(rows) <= _EXACT.get(rows.device.type, _EXACT_ELSEWHERE)


def _fits(n_numbers: int, width: int, memory: int | None) -> bool:
    return memory is None or width * n_numbers <= memory


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
