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
    view = _integers(first, n_views, rows, generator)
    step = _integers(1, max(2, n_views - first), rows, generator)
    other = (view - first + step) % (n_views - first) + first
    return Pair(rows, view, other)


def disjoint_pairs(
    rows: Tensor, neighbours: Tensor, n_views: int, generator: torch.Generator
) -> tuple[Pair, Pair]:
    """Two views of each image or of one of its neighbours, and two more to contrast them with.

    Those are of another neighbour, or, half of the time where there are views enough for two pairs,
    of the same image: neighbours say what is alike but err, an image's own views do not. All four
    are of one neighbourhood, and no view is in both pairs. That two neighbours of an image meet,
    and not only it and they, ties what is further apart. The views are dealt out between the pairs;
    with a single one, nothing can keep the pairs apart.
    """
    order = _uniform(rows, neighbours.shape[1], generator).argsort(dim=1)
    one, two = neighbours[rows[:, None], order[:, [0, -1]]].unbind(1)  # (b,) each
    near = torch.where(_uniform(rows, 1, generator)[:, 0] < 0.5, rows, one)
    if n_views >= 4:
        two = torch.where(_uniform(rows, 1, generator)[:, 0] < 0.5, near, two)
    view = _uniform(rows, n_views, generator).argsort(dim=1)  # (b, v)
    second = n_views // 2  # where the views of the second pair begin
    one_b, two_b = view[:, 1 % n_views], view[:, (second + 1) % n_views]
    if n_views < 4:  # too few for two views in each pair, unless the pairs are of two images
        same = near == two
        one_b = torch.where(same, view[:, 0], one_b)
        two_b = torch.where(same, view[:, min(second + 1, n_views - 1)], two_b)
    return Pair(near, view[:, 0], one_b), Pair(two, view[:, second], two_b)


def _uniform(rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(len(rows), n, generator=generator, device=rows.device)


def _integers(low: int, high: int, rows: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, rows.shape, generator=generator, device=rows.device)
