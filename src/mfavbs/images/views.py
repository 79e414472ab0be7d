"""In: an RGB image and its key. Out: v views of it, uint8 (v, 3, s, s); view 0 is the clean one.

The others are drawn from the seed, the key and the number of the view, and from nothing else: the
same image has the same views in every batch, order, worker and run, and so in every resumed run.
"""

import hashlib
import math

import numpy as np
import PIL.Image
import torch
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms import ColorJitter, RandomAffine, RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

VIEWS_VERSION = 2  # stands in store.json; raise it when drawn pixels change
AUGMENTATIONS = ("simclr", "shift")

# SimCLR, arXiv 2002.05709, appendix A, at strength 0.5, as Contrastive Clustering has it; crops
# from 0.2 of the area on, as MoCo has them: at 0.08 many crops miss the object.
CROP_SCALE, CROP_RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
JITTER, HUE, P_JITTER, P_GREY, P_FLIP = (0.6, 1.4), (-0.1, 0.1), 0.8, 0.2, 0.5
# Raw pixels have no invariance of their own: a view must stay nearer to its image than others are.
# Mean views then have 93 % of the digits' 20 nearest in their class; with 2 to 3 times this, 88 %.
DEGREES, TRANSLATE, ZOOM = (-5.0, 5.0), (0.03, 0.03), (0.97, 1.03)

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow and torchvision have it
TO_GREY = np.tile(LUMA, (3, 1))
# Rows: luma and two axes of colour at a right angle; a hue is an angle in their plane (YIQ).
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
FROM_YIQ = np.linalg.inv(YIQ)


def view_seed(seed: int, key: str, view: int) -> int:
    """Seed of one view of one image, from 0 to 2**64 - 1.

    Parameters
    ----------
    seed
        The run's.
    key
        The image's; its row plays no part, so that adding images changes no other one's views.
    view
        The view's number.
    """
    text = f"{seed}\0{view}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Views:
    """Draw the views of an image.

    View 0 is the central square of the shorter edge, resized (bicubic, antialiased). The others
    are, by ``augmentation``:

    - ``"simclr"``: a random crop of 0.2 to 1 of the area, resized; a flip; brightness, contrast,
      saturation and hue jittered in random order with probability 0.8; grey with 0.2. As in
      torchvision, but for hue, which is turned in YIQ instead of HSV, and for clipping, done once
      at the end: all of the colour is then one affine map of RGB, and a view
      takes 0.4 to 0.7 ms at 128 pixels on one core, where ``v2.Compose`` takes 1.7 to 2.1.
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
    augmentation
        ``"simclr"`` or ``"shift"``.
    """

    def __init__(
        self, image_size: int, n_views: int, seed: int, *, augmentation: str = "simclr"
    ) -> None:
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation={augmentation!r} should be one of {AUGMENTATIONS}")
        if image_size < 1 or n_views < 1:
            raise ValueError(f"{image_size=} and {n_views=} should be >= 1")
        self.image_size = image_size
        self.n_views = n_views
        self.seed = seed
        self.augmentation = augmentation

    def __call__(self, image: PIL.Image.Image, key: str) -> torch.Tensor:
        """Draw the views of one image.

        Parameters
        ----------
        image
            An image of any size, mode RGB (others are converted).
        key
            Its key, which its views are seeded by.

        Returns
        -------
        torch.Tensor
            uint8, shape (n_views, 3, image_size, image_size). The caller's random state, that of
            a GPU too, is left as it was.
        """
        # Far larger than needed: averaging blocks of pixels first costs less than resizing v
        # times. Three times the edge leaves the smallest usual crop, 0.39 of the edge, its pixels.
        factor = min(image.size) // (3 * self.image_size)
        if factor > 1:
            image = image.reduce(factor)
        if image.mode != "RGB":
            image = image.convert("RGB")
        source = F.pil_to_tensor(image)  # (3, h, w)
        s = self.image_size
        views = torch.empty((self.n_views, 3, s, s), dtype=torch.uint8)
        views[0] = self._clean(source)
        draw = self._simclr if self.augmentation == "simclr" else self._shift
        # Not torch.manual_seed: it seeds the GPUs as well, and takes 0.3 ms.
        state = torch.get_rng_state()
        try:
            for view in range(1, self.n_views):
                torch.default_generator.manual_seed(view_seed(self.seed, key, view))
                views[view] = draw(source if self.augmentation == "simclr" else views[0])
        finally:
            torch.set_rng_state(state)
        return views

    def _clean(self, source: torch.Tensor) -> torch.Tensor:
        height, width = source.shape[1:]
        edge = min(height, width)
        # Cropped before it is resized, as a panorama of one pixel's height must not grow.
        return self._resized(source, (height - edge) // 2, (width - edge) // 2, edge, edge)

    def _resized(
        self, source: torch.Tensor, top: int, left: int, height: int, width: int
    ) -> torch.Tensor:
        size = [self.image_size, self.image_size]
        bicubic = InterpolationMode.BICUBIC
        return F.resized_crop(source, top, left, height, width, size, bicubic, antialias=True)

    def _simclr(self, source: torch.Tensor) -> torch.Tensor:
        crop = RandomResizedCrop.get_params(source, list(CROP_SCALE), list(CROP_RATIO))
        flip, jitter, grey = torch.rand(3).tolist()
        view = self._resized(source, *crop)
        if flip < P_FLIP:
            view = view.flip(-1)
        if jitter >= P_JITTER and grey >= P_GREY:
            return view
        flat = view.flatten(1).float()  # (3, s * s)
        matrix, offset = _colour(flat.mean(1).double().numpy(), jitter < P_JITTER, grey < P_GREY)
        flat = torch.addmm(offset, matrix, flat)
        return flat.round_().clamp_(0, 255).to(torch.uint8).view_as(view)

    def _shift(self, clean: torch.Tensor) -> torch.Tensor:
        # Edges as fractions of 2, the range of grid_sample's coordinates, in steps of 1/1000.
        turn, (right, down), zoom, _ = RandomAffine.get_params(
            list(DEGREES), list(TRANSLATE), list(ZOOM), None, [1000, 1000]
        )
        cos, sin = (f(math.radians(turn)) / zoom for f in (math.cos, math.sin))
        theta = torch.tensor([[[cos, -sin, right / 500], [sin, cos, down / 500]]])
        batch = clean.float()[None]
        grid = affine_grid(theta, list(batch.shape), align_corners=False)
        view = grid_sample(batch, grid, "bilinear", padding_mode="border", align_corners=False)
        return view[0].round_().clamp_(0, 255).to(torch.uint8)


def _colour(mean: np.ndarray, jitter: bool, grey: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw ColorJitter's factors; matrix (3, 3) and offset (3, 1) that apply them to RGB.

    ``mean`` is the view's, which contrast is drawn towards or away from.
    """
    matrix, offset = np.eye(3), np.zeros(3)
    steps: list[tuple[int, float]] = []
    if jitter:
        order, *factors = ColorJitter.get_params(
            list(JITTER), list(JITTER), list(JITTER), list(HUE)
        )
        steps = [(step, factors[step] or 0.0) for step in order.tolist()]
    for step, factor in steps:
        if step == 1:  # contrast
            pivot = LUMA @ (matrix @ mean + offset)
            matrix, offset = factor * matrix, factor * offset + (1 - factor) * pivot
            continue
        if step == 0:  # brightness
            change = factor * np.eye(3)
        elif step == 2:  # saturation
            change = factor * np.eye(3) + (1 - factor) * TO_GREY
        else:  # hue, in turns from red towards yellow
            cos, sin = math.cos(2 * math.pi * factor), math.sin(2 * math.pi * factor)
            change = FROM_YIQ @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]]) @ YIQ
        matrix, offset = change @ matrix, change @ offset
    if grey:
        matrix, offset = TO_GREY @ matrix, TO_GREY @ offset
    return torch.from_numpy(matrix).float(), torch.from_numpy(offset[:, None]).float()
