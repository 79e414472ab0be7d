"""The views that training from pixels sees, drawn on the device as it goes.

In: pixels (n, h, w, 3) uint8, crops (n, v, m) and features (n, v, t, f) of the same v views.
Out: pairs of views of a batch, in fresh colours; or the stored views as they are.
"""

import math

import numpy as np
import torch
from torch import Tensor

from mfavbs.devices import fits, on_device
from mfavbs.errors import SourceError
from mfavbs.images import RECIPES, Framing, changed_in_part, recolour, views_of_bases
from mfavbs.memory import let_go
from mfavbs.model.stem import PixelView

_FRAMING = Framing()
_CHUNK = 4096  # images copied to the device at once
_READ = 32  # rows read from a memory map at once: the system maps up to megabytes around each


class PixelViews:
    """Images as pixels, with the crops of their stored views and what encoders say of those.

    Parameters
    ----------
    pixels
        (n, h, w, 3) uint8; a memory map is read a batch at a time.
    crops
        (n, v, m) float32, from :func:`mfavbs.images.replay_crops`.
    features
        (n, v, t, f) of the same views, of which token 0 is taken, or None.
    image_size
        Edge s of a view.
    device
        Where views are drawn.
    rows
        (m,) images to take; all by default.

    Raises
    ------
    SourceError
        If the three are not of as many images or views, or pixels are no such array.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        crops: np.ndarray,
        features: np.ndarray | None,
        image_size: int,
        device: torch.device,
        rows: np.ndarray | None = None,
    ) -> None:
        _check(pixels, crops, features)
        self.crops = crops
        self.image_size = image_size
        self.device = device
        self.rows = np.arange(len(pixels)) if rows is None else rows
        self.pixels = _placed(pixels, device)
        self.features = None if features is None else _placed(features, device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_views(self) -> int:
        """Stored views v of an image."""
        return self.crops.shape[1]

    def pair(
        self,
        image: Tensor,
        views: tuple[Tensor, Tensor],
        augment: str,
        drop: float,
        generator: torch.Generator,
        recipe: str = "colours",
    ) -> tuple[PixelView, PixelView]:
        """Two views of each of some images, in fresh colours.

        Parameters
        ----------
        image
            (b,) numbers of images.
        views
            (b,) numbers of their first and of their second views.
        augment
            How far the colours may go, see :func:`mfavbs.images.recolour`.
        drop
            Share of the views whose feature is withheld.
        generator
            On the CPU.
        recipe
            What is done after the colours to a part of the first views and of the second, see
            :class:`mfavbs.model.EndToEnd`.
        """
        at, which = image.cpu().numpy(), torch.stack(views, dim=1).cpu().numpy()  # (b,), (b, 2)
        numbers = recolour(self._crops(at, which), augment, generator)
        drawn, features = self._drawn(at, numbers), self._features(at, which)
        kept = torch.rand(2, len(at), generator=generator) >= drop
        kept = on_device(kept, self.device)
        a, b = (
            PixelView(changed_in_part(drawn[:, i], shares, generator), features[:, i], kept[i])
            for i, shares in enumerate(RECIPES[recipe])
        )
        return a, b

    def stored(self, image: np.ndarray, step: int = 1) -> tuple[PixelView, PixelView]:
        """Stored views of some images, (b p), and for each the next of the same image.

        ``step`` 1 has each of the v views in the first place once; 2 has every other one there,
        so that in both places together each is seen once, and the first twice where v is odd.
        """
        v = self.n_views
        which = np.tile(np.arange(v), (len(image), 1))  # (b, v)
        drawn = self._drawn(image, self._crops(image, which))  # (b, v, 3, s, s)
        features = self._features(image, which)  # (b, v, f)
        first = torch.arange(0, v, step, device=self.device)  # (p,)
        places = (first, (first + 1) % v)
        one, other = (
            PixelView(*(x[:, place].flatten(0, 1) for x in (drawn, features))) for place in places
        )
        return one, other

    def _crops(self, image: np.ndarray, which: np.ndarray) -> np.ndarray:
        crops = _taken(self.crops, self.rows[image]).astype(np.float32, copy=False)  # (b, v, m)
        return np.take_along_axis(crops, which[:, :, None], axis=1)

    def _drawn(self, image: np.ndarray, numbers: np.ndarray) -> Tensor:
        rows = self.rows[image]
        if isinstance(self.pixels, Tensor):
            pixels = self.pixels[on_device(rows, self.device)]
        else:
            pixels = on_device(_taken(self.pixels, rows), self.device)
        sizes = [(pixels.shape[1], pixels.shape[2])] * len(rows)
        return views_of_bases(pixels.flatten(), sizes, numbers, self.image_size, _FRAMING)

    def _features(self, image: np.ndarray, which: np.ndarray) -> Tensor:
        if self.features is None:
            return torch.zeros(*which.shape, 0, device=self.device)
        if isinstance(self.features, Tensor):
            rows, places = (on_device(x, self.device) for x in (self.rows[image], which))
            return self.features[rows[:, None], places, 0].float()  # (b, v, f)
        features = _taken(self.features, self.rows[image])[:, :, 0]  # (b, v, f)
        found = np.take_along_axis(features, which[:, :, None], axis=1)
        return on_device(np.ascontiguousarray(found, np.float32), self.device)


def _taken(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array, of which little more is held where it is a memory map."""
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), _READ):
        found[start : start + _READ] = array[rows[start : start + _READ]]
        let_go(array)
    return found


def _placed(array: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """The same on the device, where that is not the CPU and has the room."""
    n_bytes = math.prod(array.shape) * array.dtype.itemsize
    if device.type == "cpu" or not fits(device, n_bytes):
        return array
    kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
    there = torch.empty(array.shape, dtype=kind, device=device)
    for start in range(0, len(array), _CHUNK):
        there[start : start + _CHUNK] = on_device(np.array(array[start : start + _CHUNK]), device)
    return there


def _check(pixels: np.ndarray, crops: np.ndarray, features: np.ndarray | None) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise SourceError(
            f"expected pixels (n, h, w, 3) uint8, got {pixels.dtype} of shape {pixels.shape}; "
            "resize the images to one size, RGB"
        )
    shape = pixels.shape[:1] if features is None else features.shape[:2]
    if len(pixels) != len(crops) or crops.ndim != 3 or crops.shape[: len(shape)] != shape:
        there = "" if features is None else f" and features {features.shape}"
        raise SourceError(
            f"expected crops (n, v, m) of the same images and views, got pixels {pixels.shape}, "
            f"crops {crops.shape}{there}; make them by mfavbs.images.replay_crops with the views "
            "and hashes of the features"
        )
