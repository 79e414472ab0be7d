"""In: an RGB image and its hash. Out: v views, uint8 (v, 3, s, s); view 0 is the clean one.

The others are drawn from the seed, the hash and the number of the view, and from nothing else: the
same image has the same views in every batch, order, thread, worker and run, under every name.
"""

import hashlib
import math
from random import Random
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mfavbs.images.augmenting import AUGMENTS, Ranges, views_of
from mfavbs.images.framing import FITS, Framing, framed

VIEWS_VERSION = 3  # stands in store.json; raise it when drawn pixels change
AUGMENTATIONS = ("simclr", "shift")

CROP_RATIO = (3 / 4, 4 / 3)
_LAID = 1000  # edge of the square that crops are drawn from where images are squashed or padded

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow and torchvision have it
TO_GREY = np.tile(LUMA, (3, 1))
# Rows: luma and two axes of colour at a right angle; a hue is an angle in their plane (YIQ).
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
FROM_YIQ = np.linalg.inv(YIQ)


def view_seed(seed: int, content: str, view: int) -> int:
    """Seed of one view of one image, from 0 to 2**64 - 1.

    Parameters
    ----------
    seed
        The run's.
    content
        The image's :func:`content_hash`; its name and row play no part.
    view
        The view's number.
    """
    text = f"{seed}\0{view}\0{content}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


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
        # Far larger than needed: averaging blocks of pixels first costs less than resizing v
        # times.
        factor = max(1, min(image.size) // self.enough)
        if image.mode != "RGB":
            image = image.convert("RGB")
        width, height = image.size
        if factor > 1:
            image = image.reduce(factor)
        s = self.image_size
        views = torch.empty((self.n_views, 3, s, s), dtype=torch.uint8)
        views[0] = F.pil_to_tensor(
            framed(image, s, self.framing, (width / factor, height / factor))
        )
        source = F.pil_to_tensor(image)  # (3, h, w)
        for view in range(1, self.n_views):
            rng = Random(view_seed(self.seed, content, view))
            if self.augmentation == "simclr":
                drawn = self._simclr(source, rng)
            else:
                drawn = _shift(views[0], rng, self._ranges)
            views[view] = _turned(drawn, rng) if self._ranges.turns else drawn
        return views

    @property
    def _ranges(self) -> Ranges:
        return AUGMENTS[self.augment]

    def _simclr(self, source: torch.Tensor, rng: Random) -> torch.Tensor:
        ranges = self._ranges
        view = self._crop(source, rng)  # (3, s, s), or less of it where it is to be padded
        if rng.random() < ranges.p_flip:
            view = view.flip(-1)
        jitter, grey = rng.random() < ranges.p_jitter, rng.random() < ranges.p_grey
        if jitter or grey:
            flat = view.flatten(1).float()
            steps = _jitter(rng, ranges) if jitter else []
            matrix, offset = _colour(flat.mean(1).double().numpy(), steps, grey)
            flat = torch.addmm(offset, matrix, flat)
            view = flat.round_().clamp_(0, 255).to(torch.uint8).view_as(view)
        height, width = view.shape[1:]
        s = self.image_size
        if height == width == s:
            return view
        square = torch.tensor(self.framing.fill, dtype=torch.uint8)[:, None, None].repeat(1, s, s)
        top, left = (s - height) // 2, (s - width) // 2
        square[:, top : top + height, left : left + width] = view
        return square

    def _crop(self, source: torch.Tensor, rng: Random) -> torch.Tensor:
        height, width = source.shape[1:]
        s = self.image_size
        size = [s, s]
        if self.framing.fit == "crop":
            top, left, rows, columns = random_crop(height, width, rng, self._ranges.crop)
        else:
            # Of a square laid over the image, so that a banner's crops are banners.
            top, left, rows, columns = random_crop(_LAID, _LAID, rng, self._ranges.crop)
            top, rows = _part(top, rows, height)
            left, columns = _part(left, columns, width)
            if self.framing.fit == "pad":
                size = [max(1, round(s * edge / max(rows, columns))) for edge in (rows, columns)]
        bilinear = self.framing.interpolation == "bilinear"
        mode = InterpolationMode.BILINEAR if bilinear else InterpolationMode.BICUBIC
        return F.resized_crop(source, top, left, rows, columns, size, mode, antialias=True)


def random_crop(
    height: int, width: int, rng: Random, scale: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, left, height and width, distributed as torchvision's ``RandomResizedCrop`` draws them.

    Torchvision's own draws from the random state of the whole process.
    """
    ratio_low, ratio_high = map(math.log, CROP_RATIO)
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(ratio_low, ratio_high))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(rng.random() * (height - rows + 1))
            return top, int(rng.random() * (width - columns + 1)), rows, columns
    # An image too long for it: the middle, as far as the ratio allows.
    columns = min(width, max(1, round(height * CROP_RATIO[1])))
    rows = min(height, max(1, round(width / CROP_RATIO[0])))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _part(start: int, length: int, edge: int) -> tuple[int, int]:
    """Start and length, in pixels of an edge, of what is given in parts of ``_LAID``."""
    pixels = max(1, round(length * edge / _LAID))
    return min(round(start * edge / _LAID), edge - pixels), pixels


def _turned(view: torch.Tensor, rng: Random) -> torch.Tensor:
    """Any of the eight ways to lay a square, each as likely."""
    view = view.rot90(rng.randrange(4), (-2, -1))
    return view.flip(-2) if rng.random() < 0.5 else view


def _shift(clean: torch.Tensor, rng: Random, ranges: Ranges) -> torch.Tensor:
    turn = math.radians(rng.uniform(*ranges.degrees))
    far = 2 * ranges.translate  # an edge is 2 wide there
    right, down = rng.uniform(-far, far), rng.uniform(-far, far)
    zoom = rng.uniform(*ranges.zoom)
    cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
    theta = torch.tensor([[[cos, -sin, right], [sin, cos, down]]])
    batch = clean.float()[None]
    grid = affine_grid(theta, list(batch.shape), align_corners=False)
    view = grid_sample(batch, grid, "bilinear", padding_mode="border", align_corners=False)
    return view[0].round_().clamp_(0, 255).to(torch.uint8)


def _jitter(rng: Random, ranges: Ranges) -> list[tuple[str, float]]:
    """Draw ColorJitter's steps: their order and their factors."""
    names = ("brightness", "contrast", "saturation")
    steps = [(name, rng.uniform(*ranges.jitter)) for name in names]
    steps.append(("hue", rng.uniform(*ranges.hue)))
    return sorted(steps, key=lambda _: rng.random())


def _colour(
    mean: np.ndarray, steps: list[tuple[str, float]], grey: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix (3, 3) and offset (3, 1) that apply ColorJitter's steps to RGB.

    ``mean`` is the view's, which contrast is drawn towards or away from.
    """
    matrix, offset = np.eye(3), np.zeros(3)
    for step, factor in steps:
        if step == "contrast":
            pivot = LUMA @ (matrix @ mean + offset)
            matrix, offset = factor * matrix, factor * offset + (1 - factor) * pivot
            continue
        if step == "brightness":
            change = factor * np.eye(3)
        elif step == "saturation":
            change = factor * np.eye(3) + (1 - factor) * TO_GREY
        else:  # hue, in turns from red towards yellow
            cos, sin = math.cos(2 * math.pi * factor), math.sin(2 * math.pi * factor)
            change = FROM_YIQ @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]]) @ YIQ
        matrix, offset = change @ matrix, change @ offset
    if grey:
        matrix, offset = TO_GREY @ matrix, TO_GREY @ offset
    return torch.from_numpy(matrix).float(), torch.from_numpy(offset[:, None]).float()
