"""Squares equal those of the libraries' own transforms for evaluation, for images of all shapes."""

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from timm.data import create_transform

from mfavbs.images.framing import Framing, framed

SIZES = [(60, 48), (31, 70), (8, 8), (1, 1), (1, 50), (700, 90), (223, 224), (500, 375), (97, 1001)]


def picture(width, height):
    shape = (height // 5 + 1, width // 5 + 1, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def difference(image, framing, size, theirs):
    ours = np.asarray(framed(image, size, framing)).transpose(2, 0, 1).astype(float)
    return np.abs(ours - 255 * theirs(image).numpy()).max()


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [32, 65])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("fit", "mode"), [("crop", "shortest"), ("squash", "squash"), ("pad", "longest")]
)
def test_squares_are_open_clips(shape, size, interpolation, fit, mode):
    theirs = image_transform(
        size, False, (0, 0, 0), (1, 1, 1), resize_mode=mode, interpolation=interpolation
    )
    assert difference(picture(*shape), Framing(fit, 1.0, interpolation), size, theirs) < 2.5


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.95, 1.15])
@pytest.mark.parametrize(
    ("fit", "mode"), [("crop", "center"), ("squash", "squash"), ("pad", "border")]
)
def test_squares_are_timms(shape, crop_pct, fit, mode):
    mean = (0.4, 0.5, 0.6)
    eval_transform = create_transform(
        (3, 64, 64), mean=mean, std=(1, 1, 1), crop_pct=crop_pct, crop_mode=mode,
        interpolation="bicubic",
    )  # fmt: skip
    offset = torch.tensor(mean)[:, None, None]
    fill = (102, 128, 153) if fit == "pad" else (0, 0, 0)
    framing = Framing(fit, crop_pct, "bicubic", fill)
    assert difference(picture(*shape), framing, 64, lambda x: eval_transform(x) + offset) < 2.5


def test_a_panorama_is_not_blown_up():
    assert framed(picture(30000, 1), 64, Framing()).size == (64, 64)
    assert framed(picture(30000, 1), 64, Framing("pad")).size == (64, 64)
