"""In: an RGB image and its hash. Out: v views, uint8 (v, 3, s, s); view 0 is the clean one.

The others are drawn from the seed, the hash and the number of the view, and from nothing else: the
same image has the same views in every batch, order, thread, worker and run, under every name.
"""

from random import Random
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mfavbs.images.augmenting import AUGMENTS, Ranges, views_of
from mfavbs.images.batched import FILTERS, elements, stacked
from mfavbs.images.drawing import Drawn, clean, draw_shift, draw_simclr, view_seed
from mfavbs.images.framing import FITS, Framing, framed

VIEWS_VERSION = 3  # stands in store.json; raise it when drawn pixels change
AUGMENTATIONS = ("simclr", "shift")

_MOST_ELEMENTS = 32_000_000  # of one image on a device: a panorama's views are drawn here


class Base(NamedTuple):
    """An image whose views are to be drawn by :func:`mfavbs.images.views_of_bases`.

    Attributes
    ----------
    pixels
        uint8 (h, w, 3).
    numbers
        float32 (v, m): what was drawn for each view.
    """

    pixels: np.ndarray
    numbers: np.ndarray


class Views:
    """Draw the views of an image.

    View 0 is the image as ``framing`` makes a square of it, which is what timm and open_clip make
    of it for evaluation. The others are, by ``augmentation``, and by default:

    - ``"simclr"``: a random crop of 0.2 to 1 of the area, resized; a flip; brightness, contrast,
      saturation and hue jittered in random order with probability 0.8; grey with 0.2. As in
      torchvision, but for hue, which is turned in YIQ instead of HSV, and for clipping, done once
      at the end: all of the colour is then one affine map of RGB, and a view
      takes 0.4 to 0.7 ms at 128 pixels on one core, where ``v2.Compose`` takes 1.7 to 2.1.
      The crop is nearly square where view 0 is one, and of nearly the image's own shape where
      view 0 is squashed or padded; it is then squashed or padded likewise.
    - ``"shift"``: view 0 turned by up to 5 degrees, moved by up to 0.03 of its edge and scaled by
      0.97 to 1.03, for images in which colour and handedness mean something, such as characters.
      What comes in from outside repeats the border's pixels, on black and on white ground alike.

    Parameters
    ----------
    image_size
        Edge of a view in pixels.
    n_views
        Views of an image, the clean one included.
    seed
        Another seed draws other views.
    augment
        How far views go: ``"default"``; ``"gentle"``, which keeps direction and hue; ``"strong"``,
        as in SimCLR; ``"rotate"``, the default's turned by quarters and flipped up or down; or
        ``"none"``: the clean view alone, whatever ``n_views``.
    augmentation
        ``"simclr"`` or ``"shift"``.
    framing
        How an image becomes a square.
    """

    def __init__(
        self,
        image_size: int,
        n_views: int,
        seed: int,
        *,
        augment: str = "default",
        augmentation: str = "simclr",
        framing: Framing = Framing(),  # noqa: B008 (a tuple)
    ) -> None:
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation={augmentation!r} should be one of {AUGMENTATIONS}")
        if framing.fit not in FITS:
            raise ValueError(f"fit={framing.fit!r} should be one of {FITS}")
        if image_size < 1:
            raise ValueError(f"{image_size=} should be >= 1")
        self.image_size = image_size
        self.n_views = views_of(augment, n_views)
        self.seed = seed
        self.augment = augment
        self.augmentation = augmentation
        self.framing = framing

    @property
    def enough(self) -> int:
        """Shorter edge, in pixels, of which a larger image's views need no more."""
        # It leaves the smallest usual crop, 0.39 of the edge, its pixels.
        return 3 * self.image_size

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the views beside the image: names and plain values, as for JSON."""
        return {
            "image_size": self.image_size,
            **self.framing._asdict(),
            "fill": list(self.framing.fill),
            "augmentation": self.augmentation,
            "augment": self.augment,
            "views_version": VIEWS_VERSION,
            "n_views": self.n_views,
            "seed": self.seed,
        }

    def __call__(self, image: PIL.Image.Image, content: str) -> torch.Tensor:
        """Draw the views of one image.

        Parameters
        ----------
        image
            An image of any size, mode RGB (others are converted).
        content
            Its :func:`content_hash`, which its views are seeded by.

        Returns
        -------
        torch.Tensor
            uint8, shape (n_views, 3, image_size, image_size). No random state but an own one is
            read or changed, so that threads may draw at the same time.
        """
        image, edges = self._reduced(image)
        s = self.image_size
        views = torch.empty((self.n_views, 3, s, s), dtype=torch.uint8)
        views[0] = F.pil_to_tensor(framed(image, s, self.framing, edges))
        source = F.pil_to_tensor(image)  # (3, h, w)
        for view, drawn in enumerate(self.drawn(image.size, edges, content)[1:], start=1):
            if self.augmentation == "simclr":
                views[view] = _turned(self._simclr(source, drawn), drawn)
            else:
                views[view] = _turned(_shifted(views[0], drawn), drawn)
        return views

    def base(self, image: PIL.Image.Image, content: str) -> Base:
        """What :func:`mfavbs.images.views_of_bases` needs to draw the same views on a device.

        Parameters
        ----------
        image, content
            As above.
        """
        small, edges = self._reduced(image)
        width, height = small.size
        if (
            self.framing.interpolation not in FILTERS
            or elements(height, width, self.n_views, self.image_size) > _MOST_ELEMENTS
        ):
            return Base(*stacked(self(image, content).numpy()))
        drawn = self.drawn(small.size, edges, content)
        return Base(np.asarray(small), np.array([view.numbers for view in drawn], np.float32))

    def _reduced(self, image: PIL.Image.Image) -> tuple[PIL.Image.Image, tuple[float, float]]:
        """The image, RGB, as small as its views allow, and its edges in pixels of then."""
        # Far larger than needed: averaging blocks of pixels first costs less than resizing v
        # times.
        factor = self.reduction(image.size)
        if image.mode != "RGB":
            image = image.convert("RGB")
        width, height = image.size
        return (image.reduce(factor) if factor > 1 else image), (width / factor, height / factor)

    def reduction(self, size: tuple[int, int]) -> int:
        """By how much an image of this width and height is made smaller before it is cropped."""
        return max(1, min(size) // self.enough)

    def drawn(self, size: tuple[int, int], edges: tuple[float, float], content: str) -> list[Drawn]:
        """What each view shows of an image of this width and height, (v,).

        Parameters
        ----------
        size
            In whole pixels, after :meth:`reduction`.
        edges
            The same before it was rounded.
        content
            The image's :func:`content_hash`.
        """
        s, ranges = self.image_size, self._ranges
        views = [clean(edges, size, s, self.framing)]
        for view in range(1, self.n_views):
            rng = Random(view_seed(self.seed, content, view))
            if self.augmentation == "simclr":
                drawn = draw_simclr(size[1], size[0], s, self.framing, ranges, rng)
            else:
                drawn = draw_shift(views[0], ranges, rng)
            views.append(drawn)
        return views

    @property
    def _ranges(self) -> Ranges:
        return AUGMENTS[self.augment]

    def _simclr(self, source: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        rows, columns = drawn.rows, drawn.columns
        bilinear = self.framing.interpolation == "bilinear"
        view = F.resized_crop(  # (3, s, s), or less of it where it is to be padded
            source,
            *(rows.low, columns.low, rows.high - rows.low, columns.high - columns.low),
            [rows.size, columns.size],
            InterpolationMode.BILINEAR if bilinear else InterpolationMode.BICUBIC,
            antialias=True,
        )
        if drawn.flip:
            view = view.flip(-1)
        if drawn.coloured:
            flat = view.flatten(1).float()
            offset = drawn.of_mean @ flat.mean(1).double().numpy()
            flat = torch.addmm(_column(offset), torch.from_numpy(drawn.matrix).float(), flat)
            view = flat.round_().clamp_(0, 255).to(torch.uint8).view_as(view)
        s = self.image_size
        if rows.size == columns.size == s:
            return view
        square = torch.tensor(self.framing.fill, dtype=torch.uint8)[:, None, None].repeat(1, s, s)
        square[:, rows.at : rows.at + rows.size, columns.at : columns.at + columns.size] = view
        return square


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values[:, None]).float()


def _turned(view: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    view = view.rot90(drawn.quarters, (-2, -1))
    return view.flip(-2) if drawn.upside_down else view


def _shifted(clean: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    batch = clean.float()[None]
    grid = affine_grid(torch.tensor([drawn.affine]), list(batch.shape), align_corners=False)
    view = grid_sample(batch, grid, "bilinear", padding_mode="border", align_corners=False)
    return view[0].round_().clamp_(0, 255).to(torch.uint8)
