"""Several encoders as one: what each of them gives, side by side and of equal weight."""

import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from mfavbs.encoders import CombinedEncoder, each_encoder, encoder_asked, load_encoder
from mfavbs.encoders.encoder import Encoder
from mfavbs.encoders.towers import PixelsTower
from mfavbs.errors import EncoderError


def views(size, n=6, seed=0):
    """Smooth ones, which a smaller size can hold."""
    noise = np.random.default_rng(seed).integers(0, 256, (n, size // 4, size // 4, 3), np.uint8)
    large = [Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC) for each in noise]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of two networks of timm's."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate(("resnet10t", "mobilenetv2_035")):
        torch.manual_seed(seed)
        net = timm.create_model(name, num_classes=0)
        save_file(net.state_dict(), folder / f"{name}.safetensors")
    return folder


def test_each_block_is_one_encoders_tokens_of_equal_weight(weights):
    names = ["timm:resnet10t", "pixels", "timm:mobilenetv2_035"]
    files = [weights / "resnet10t.safetensors", None, weights / "mobilenetv2_035.safetensors"]
    joint = load_encoder(names, weights=files, image_size=32)
    assert isinstance(joint, CombinedEncoder)
    assert joint.blocks == (512, 3 * 32**2, 1280)
    x = views(32)
    tokens = joint(x)
    assert tokens.shape == (6, 1, sum(joint.blocks))
    for name, file, block in zip(names, files, tokens.split(joint.blocks, dim=2)):
        own = load_encoder(name, weights=file, image_size=32)(x)
        torch.testing.assert_close(block, F.normalize(own, dim=2) / math.sqrt(3))
    torch.testing.assert_close(tokens.norm(dim=2), torch.ones(6, 1))


def test_products_are_the_mean_of_the_cosines():
    joint = load_encoder(["pixels", "pixels"], image_size=[8, 16])
    x = views(16)
    tokens = joint(x)[:, 0]
    cosines = [
        F.cosine_similarity(block[:, None], block[None], dim=2)
        for block in tokens.split(joint.blocks, dim=1)
    ]
    torch.testing.assert_close(tokens @ tokens.T, sum(cosines) / 2)


@pytest.mark.parametrize("size", [8, 12, 31])
def test_smaller_views_are_the_largest_made_smaller_as_pillow_does_it(size):
    joint = load_encoder(["pixels", "pixels"], image_size=[size, 32])
    assert joint.image_size == 32
    x = views(32)
    small = joint(x)[:, 0].split(joint.blocks, dim=1)[0]
    for view, block in zip(x, small):
        image = Image.fromarray(view.permute(1, 2, 0).numpy())
        expected = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.float32)
        expected = torch.from_numpy(expected).permute(2, 0, 1).flatten()
        assert F.cosine_similarity(block, expected, dim=0) > 0.9999


def test_patch_tokens_are_joined_cell_by_cell(weights):
    files = [None, weights / "resnet10t.safetensors"]
    joint = load_encoder(["pixels", "timm:resnet10t"], weights=files, image_size=64, grid=2)
    tokens = joint(views(64))
    assert tokens.shape == (6, 5, 3 * 64**2 + 512)
    one = load_encoder("timm:resnet10t", weights=files[1], image_size=64, grid=2)
    expected = F.normalize(one(views(64)), dim=2) / math.sqrt(2)
    torch.testing.assert_close(tokens[..., 3 * 64**2 :], expected)
    with pytest.raises(EncoderError, match=r"grid=3 should be <= 2: timm:resnet10t gives 2 x 2"):
        load_encoder(["pixels", "timm:resnet10t"], weights=files, image_size=64, grid=3)


def test_the_recipe_tells_what_each_of_them_is(weights):
    files = [None, weights / "resnet10t.safetensors"]
    joint = load_encoder(["pixels", "timm:resnet10t"], weights=files, image_size=[8, 32])
    one = load_encoder("timm:resnet10t", weights=files[1], image_size=32).recipe
    recipe = joint.recipe
    assert recipe["encoder"] == "pixels + timm:resnet10t" == joint.name
    assert recipe["weights_hash"] == f" + {one['weights_hash']}"
    assert recipe["blocks"] == [192, 512]
    assert recipe["image_size"] == 32
    assert [each["image_size"] for each in recipe["encoders"]] == [8, 32]
    assert recipe["encoders"][1] == {name: one[name] for name in recipe["encoders"][1]}
    turned = load_encoder(["timm:resnet10t", "pixels"], weights=files[::-1], image_size=[32, 8])
    assert turned.recipe != recipe
    # The pixels' views are the milder ones; the square is that of the first.
    assert joint.augmentation == turned.augmentation == "shift"
    assert turned.framing == load_encoder("timm:resnet10t", weights=files[1]).framing


def test_a_feature_of_zero_stays_zero_and_one_that_is_no_number_is_seen():
    joint = load_encoder(["pixels", "pixels"], image_size=[4, 8])
    assert not joint(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).any()
    about = (8, (0.0, 0.0, 0.0), (0.0, 1.0, 1.0))
    broken = CombinedEncoder([Encoder("pixels", PixelsTower(0), *about), *joint.encoders])
    assert not broken(views(8)).isfinite().all()


def test_one_in_a_list_is_that_one():
    one = load_encoder(["pixels"], image_size=[8])
    assert isinstance(one, Encoder)
    assert one.recipe == load_encoder("pixels", image_size=8).recipe
    alone = encoder_asked("pixels", None, 8)
    assert encoder_asked(["pixels"], [], [8]) == alone
    assert alone == {"encoder": "pixels", "weights": None, "image_size": 8}


def test_files_and_sizes_belong_to_names_by_their_order(tmp_path):
    pair = ["timm:a", "timm:b"]
    assert each_encoder(pair, ["-", "b.pt"])[0].weights is None
    assert each_encoder(pair, [], [])[1] == ("timm:b", None, None)
    assert [one.image_size for one in each_encoder(pair, None, 96)] == [96, 96]
    assert [one.image_size for one in each_encoder(pair, None, [96, 128])] == [96, 128]
    said = "for each encoder, timm:a and timm:b, in the same order"
    with pytest.raises(EncoderError, match=f"one weights= {said}.*got 1 for 2"):
        load_encoder(pair, weights=tmp_path / "a.pt")
    with pytest.raises(EncoderError, match=f"one image_size= {said}, or one for all; got 3 for 2"):
        load_encoder(pair, image_size=[8, 8, 8])
    with pytest.raises(EncoderError, match="expected an encoder, got none"):
        load_encoder([])
    with pytest.raises(EncoderError, match="unknown encoder 'b'"):
        load_encoder(["pixels", "b"])
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(EncoderError, match=r"weights of timm:b, there is none at .*missing\.pt"):
        load_encoder(pair, weights=[tmp_path / "a.pt", tmp_path / "missing.pt"])
