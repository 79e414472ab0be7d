"""The losses: pure functions from embeddings or assignments to a scalar, or one for each head.

In: (b, d) embeddings, or (..., b, k) soft assignments whose rows sum to 1.
Out: () or (...,). All arithmetic is float32, whatever comes in.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Under a column's squared norm: a cluster that nobody is in keeps a finite loss and gradient.
_EMPTY = 1e-6


def instance_loss(a: Tensor, b: Tensor, temperature: float = 0.5) -> Tensor:
    """NT-Xent over the 2b rows of two batches of positives (SimCLR, arXiv 2002.05709, eq. 1).

    Parameters
    ----------
    a, b
        (b, d) embeddings; row i of ``a`` and row i of ``b`` are positives, all others negatives.
    temperature
        Divides the cosine similarities.

    Returns
    -------
    Tensor
        Scalar in [0, inf): 0 for a batch of one, whose only other row is its positive.
    """
    z = F.normalize(torch.cat([a, b]).float(), dim=-1)  # (2b, d)
    return _positives_against_rest(z @ z.T / temperature)


def cluster_loss(p: Tensor, q: Tensor, temperature: float = 1.0) -> Tensor:
    """Contrast the k columns of two assignment matrices as 2k rows (CC, arXiv 2009.09687).

    Parameters
    ----------
    p, q
        (..., b, k) soft assignments of two batches of positives.
    temperature
        Divides the cosine similarities of the columns.

    Returns
    -------
    Tensor
        (...,) one loss for each leading index, that is for each head.
    """
    columns = torch.cat([p, q], dim=-1).float().mT  # (..., 2k, b)
    norm = (columns.square().sum(-1, keepdim=True) + _EMPTY).sqrt()
    columns = columns / norm
    return _positives_against_rest(columns @ columns.mT / temperature)


def balance_loss(p: Tensor) -> Tensor:
    """Negative entropy of the mean assignment: least when every cluster is as large.

    Parameters
    ----------
    p
        (..., b, k) soft assignments.

    Returns
    -------
    Tensor
        (...,) in [-log k, 0]; 0 when one cluster takes all (CC, arXiv 2009.09687).
    """
    mean = p.float().mean(-2)  # (..., k)
    return torch.special.xlogy(mean, mean.clamp_min(torch.finfo(mean.dtype).tiny)).sum(-1)


def _positives_against_rest(similarity: Tensor) -> Tensor:
    """Cross-entropy of each row's positive, half the rows away, against all rows but itself."""
    rows = similarity.shape[-1]  # similarity (..., rows, rows)
    itself = torch.eye(rows, dtype=torch.bool, device=similarity.device)
    log_p = similarity.masked_fill(itself, -torch.inf).log_softmax(-1)
    return -log_p.roll(rows // 2, -1).diagonal(dim1=-2, dim2=-1).mean(-1)
