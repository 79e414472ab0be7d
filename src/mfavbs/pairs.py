"""Which views, of which images, meet in a batch.

In: rows of images (b,), every image's neighbours (n, m), the number of views v.
Out: for the disjoint objective two pairs for each row, for the paper's one; a pair is the rows and
the views of its two members.

**The disjoint rule.** After fusion both halves of a pair have seen both of its views. Contrasting
the halves with each other is then solved by any code of the pair, and nothing is learned of what
the images have in common: the leak. So two embeddings may be contrasted as positives only if no
view has been seen by both.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """The two members of each pair, by row of the image and number of the view; each (b,)."""

    row: Tensor
    view: Tensor
    partner_row: Tensor
    partner_view: Tensor


def paper_pair(rows: Tensor, n_views: int, generator: torch.Generator) -> Pair:
    """Two augmentations of one image, to be fused and then contrasted with each other.

    The two views differ where there are two augmented ones (n_views >= 3), and the clean view 0
    is kept out as in arXiv 2511.08883; with fewer, all views take part.
    """
    first = 1 if n_views >= 3 else 0
    view = torch.randint(first, n_views, rows.shape, generator=generator)
    step = torch.randint(1, max(2, n_views - first), rows.shape, generator=generator)
    other = (view - first + step) % (n_views - first) + first
    return Pair(rows, view, rows, other)


def disjoint_pairs(
    rows: Tensor, neighbours: Tensor, n_views: int, generator: torch.Generator
) -> tuple[Pair, Pair]:
    """Two pairs from the neighbourhood of each row, with no view in common.

    The first fuses the image with one of its neighbours, the second fuses two others of them, so
    that all four are of one neighbourhood and every embedding of the first pair is a positive of
    every one of the second. With fewer than three neighbours some come twice, and the views keep
    the pairs apart: each draws from its own half of them. With a single view as well, that is for
    three images or fewer, nothing can.
    """
    m = neighbours.shape[1]
    order = torch.rand(len(rows), m, generator=generator).argsort(dim=1)
    chosen = order[:, torch.arange(3) % m]  # (b, 3)
    one, two, three = neighbours[rows[:, None], chosen].unbind(1)  # (b,) each
    views = torch.randperm(n_views, generator=generator)
    if m >= 3 or n_views == 1:
        half, rest = views, views
    else:
        half, rest = views[: n_views // 2], views[n_views // 2 :]

    def draw(pool: Tensor) -> Tensor:
        return pool[torch.randint(len(pool), rows.shape, generator=generator)]

    return Pair(rows, draw(half), one, draw(half)), Pair(two, draw(rest), three, draw(rest))
