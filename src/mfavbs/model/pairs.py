"""Which views, of which images, meet in a batch.

In: rows of images (b,), every image's neighbours (n, m), the number of views v.
Out: for the disjoint objective two pairs for each row, for the paper's one; a pair is two views of
an image.

**The disjoint rule.** After fusion both halves of a pair have seen both of its views. Contrasting
the halves with each other is then solved by any code of the pair, and nothing is learned of what
the images have in common: the leak. So two embeddings may be contrasted as positives only if no
view has been seen by both.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """Row of the image and numbers of its two views, of each pair; each (b,)."""

    image: Tensor
    view_a: Tensor
    view_b: Tensor


def paper_pair(rows: Tensor, n_views: int, generator: torch.Generator) -> Pair:
    """Two augmentations of one image, to be fused and then contrasted with each other.

    The two views differ where there are two augmented ones (n_views >= 3), and the clean view 0
    is kept out as in arXiv 2511.08883; with fewer, all views take part.
    """
    first = 1 if n_views >= 3 else 0
    view = torch.randint(first, n_views, rows.shape, generator=generator)
    step = torch.randint(1, max(2, n_views - first), rows.shape, generator=generator)
    other = (view - first + step) % (n_views - first) + first
    return Pair(rows, view, other)


def disjoint_pairs(
    rows: Tensor, neighbours: Tensor, n_views: int, generator: torch.Generator
) -> tuple[Pair, Pair]:
    """Two views of each image or of one of its neighbours, and two more to contrast them with.

    Those are of another neighbour, or, half of the time where there are views enough for two pairs,
    of the same image: neighbours say what is alike but err, an image's own views do not. All four
    are of one neighbourhood, and no view is in both pairs. That two neighbours of an image meet,
    and not only it and they, ties what is further apart. Where an image meets itself the views are
    dealt out between the pairs; with a single one, nothing can keep the pairs apart.
    """
    order = torch.rand(len(rows), neighbours.shape[1], generator=generator).argsort(dim=1)
    one, two = neighbours[rows[:, None], order[:, [0, -1]]].unbind(1)  # (b,) each
    near = torch.where(torch.rand(rows.shape, generator=generator) < 0.5, rows, one)
    if n_views >= 4:
        two = torch.where(torch.rand(rows.shape, generator=generator) < 0.5, near, two)
    first = second = torch.randperm(n_views, generator=generator)
    if n_views > 1 and (near == two).any():
        first, second = first[: n_views // 2], first[n_views // 2 :]
    return _two_views(near, first, generator), _two_views(two, second, generator)


def _two_views(rows: Tensor, views: Tensor, generator: torch.Generator) -> Pair:
    """Two different ones of ``views`` for every row; the same twice where there is one."""
    order = torch.rand(len(rows), len(views), generator=generator).argsort(dim=1)
    return Pair(rows, views[order[:, 0]], views[order[:, -1]])
