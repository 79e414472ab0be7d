"""Encoders: what they give, whose weights they take, and what they say when they cannot."""

import functools
import io
import json
import os
import subprocess
import sys

import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import nn

from mfavbs.devices import has_bfloat16, pick_device
from mfavbs.encoders.loading import load_encoder
from mfavbs.encoders.towers import fuse_batch_norms
from mfavbs.encoders.weights import weights_hash
from mfavbs.errors import EncoderError
from mfavbs.images import Framing, Views, decode

MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
STD = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
HALF = torch.full((1, 3, 1, 1), 0.5)
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def views(size, n=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)


def randomised(net):
    """Weights unlike those a network starts with, where zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator) * 0.1
            tensor.copy_(1 + noise.abs() if name.endswith("running_var") else tensor + noise)
    return net.eval()


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A CLIP model that open_clip knows by name: 8 x 8 patches of 32 x 32 pixels."""
    about = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
    }
    path = tmp_path_factory.mktemp("configs") / "mfavbs-tiny.json"
    path.write_text(json.dumps(about))
    open_clip.add_model_config(path)
    return "mfavbs-tiny"


@pytest.fixture(scope="module")
def clip_weights(tiny_clip, tmp_path_factory):
    torch.manual_seed(0)
    clip = randomised(open_clip.create_model(tiny_clip))
    folder = tmp_path_factory.mktemp("weights")
    state = {key: tensor.contiguous() for key, tensor in clip.state_dict().items()}
    save_file(state, folder / "clip.safetensors")
    torch.save(state, folder / "clip.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "train.pt")
    save_file(dict(clip.visual.state_dict()), folder / "visual.safetensors")
    return clip, folder


@pytest.mark.parametrize("file", ["clip.safetensors", "clip.pt", "train.pt", "visual.safetensors"])
def test_open_clip_equals_encode_image(tiny_clip, clip_weights, file):
    clip, folder = clip_weights
    encoder = load_encoder(f"open_clip:{tiny_clip}", weights=folder / file)
    assert encoder.image_size == 32
    x = views(32)
    with torch.no_grad():
        expected = clip.encode_image((x / 255 - MEAN) / STD)
    tokens = encoder(x)
    assert tokens.shape == (2, 1, 24)
    close(tokens[:, 0], expected)


def test_open_clip_patches_share_the_projection(tiny_clip, clip_weights):
    clip, folder = clip_weights
    name, path = f"open_clip:{tiny_clip}", folder / "clip.safetensors"
    tokens = load_encoder(name, weights=path, grid=2)(views(32))
    close(tokens[:, :1], load_encoder(name, weights=path)(views(32)))
    clip.visual.output_tokens = True
    with torch.no_grad():
        _, patches = clip.visual((views(32) / 255 - MEAN) / STD)
        cells = (patches @ clip.visual.proj).unflatten(1, (2, 2, 2, 2)).mean((2, 4))
    clip.visual.output_tokens = False
    close(tokens[:, 1:], cells.flatten(1, 2))


def test_open_clip_resizes_position_embeddings(tiny_clip, clip_weights):
    _, folder = clip_weights
    for file in ("clip.safetensors", "visual.safetensors"):
        encoder = load_encoder(f"open_clip:{tiny_clip}", weights=folder / file, image_size=48)
        assert encoder(views(48)).shape == (2, 1, 24)


def test_normalisation_from_the_header(tiny_clip, clip_weights, tmp_path):
    clip, _ = clip_weights
    state = dict(clip.visual.state_dict())
    name = f"open_clip:{tiny_clip}"
    about = {"mean": "0.5", "std": "[0.5, 0.5, 0.5]"}
    save_file(state, tmp_path / "a.safetensors", metadata=about)
    encoder = load_encoder(name, weights=tmp_path / "a.safetensors")
    assert encoder.mean.flatten().tolist() == encoder.std.flatten().tolist() == [127.5] * 3
    save_file(state, tmp_path / "b.safetensors", metadata={"mean": "[1, 2]"})
    with pytest.raises(EncoderError, match=r"got '\[1, 2\]'"):
        load_encoder(name, weights=tmp_path / "b.safetensors")


@functools.cache
def photographs():
    """Two photographs as JPEG, at sizes from a thumbnail and a banner to far beyond any view's."""
    files = []
    for size in [(640, 427), (427, 640), (60, 45), (900, 220), (1900, 1250), (128, 128)]:
        for pixels in load_sample_images().images:
            files.append(io.BytesIO())
            image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
            image.save(files[-1], "JPEG", quality=95, subsampling=0)
    return files


def least_cosine(encoder, theirs, network):
    """Of our features of a photograph, as it is embedded, and theirs."""
    views = Views(encoder.image_size, 1, 0, framing=encoder.framing)
    ours = [views(decode(f.getvalue(), at_least=views.enough), "")[0] for f in photographs()]
    expected = [theirs(Image.open(f)) for f in photographs()]
    with torch.no_grad():
        a, b = encoder(torch.stack(ours))[:, 0], network(torch.stack(expected))
    return float(torch.cosine_similarity(a, b).min())


@pytest.mark.parametrize(
    ("mode", "interpolation", "fit"),
    [
        ("shortest", "bicubic", "crop"),
        ("squash", "bicubic", "squash"),  # SigLIP
        ("squash", "bilinear", "squash"),
        ("longest", "bicubic", "pad"),
    ],
)
def test_open_clips_own_preprocessing(
    tiny_clip, clip_weights, monkeypatch, mode, interpolation, fit
):
    _, folder = clip_weights
    about = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    about |= {"resize_mode": mode, "interpolation": interpolation}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: about)
    name = f"open_clip:{tiny_clip}/any"
    encoder = load_encoder(name, weights=folder / "clip.pt", image_size=96)
    assert encoder.framing[:3] == (fit, 1.0, interpolation)
    theirs = image_transform_v2(PreprocessCfg(size=96, **about), False)

    def network(images):
        return encoder.tower(images)[0]

    assert least_cosine(encoder, theirs, network) > 0.9995
    encoder.framing = Framing("crop" if fit != "crop" else "pad")
    assert least_cosine(encoder, theirs, network) < 0.98


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_timms_own_preprocessing(tmp_path, monkeypatch, mode, crop_pct):
    net = randomised(timm.create_model("resnet10t", num_classes=0))
    save_file(dict(net.state_dict()), tmp_path / "net.safetensors")
    config = timm.data.resolve_model_data_config(net) | {"input_size": (3, 64, 64)}
    config |= {"crop_mode": mode, "crop_pct": crop_pct}
    monkeypatch.setattr(timm.data, "resolve_model_data_config", lambda _: config)
    encoder = load_encoder("timm:resnet10t", weights=tmp_path / "net.safetensors", image_size=64)
    theirs = timm.data.create_transform(**config)
    assert least_cosine(encoder, theirs, net) > 0.9995
    encoder.framing = encoder.framing._replace(crop_pct=0.7)
    assert least_cosine(encoder, theirs, net) < 0.995


def test_fit_as_asked(tmp_path):
    net = timm.create_model("resnet10t", num_classes=0)
    state = dict(net.state_dict())
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    own = load_encoder("timm:resnet10t", weights=path).framing
    config = timm.data.resolve_model_data_config(net)
    assert own == Framing("crop", config["crop_pct"], config["interpolation"])
    assert load_encoder("timm:resnet10t", weights=path, fit="crop").framing == own
    whole = load_encoder("timm:resnet10t", weights=path, fit="squash").framing
    assert whole == Framing("squash", 1.0, own.interpolation)
    padded = load_encoder("timm:resnet10t", weights=path, fit="pad").framing
    assert padded.fill == (124, 116, 104)  # ImageNet's mean colour
    with pytest.raises(EncoderError, match="fit='zoom' should be one of crop, squash, pad"):
        load_encoder("pixels", fit="zoom")
    about = {"fit": "squash", "crop_pct": "0.9", "interpolation": "bilinear"}
    save_file(state, path, metadata=about)
    assert load_encoder("timm:resnet10t", weights=path).framing[:3] == ("squash", 0.9, "bilinear")
    save_file(state, path, metadata={"crop_pct": "all"})
    with pytest.raises(EncoderError, match=r"crop_pct \(0.1 to 10\).*got .*'all'"):
        load_encoder("timm:resnet10t", weights=path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "quick"), [("/openai", True), ("/laion2b_e16", False), ("", False)]
)
def test_vit_b_32(tag, quick, tmp_path):
    clip = open_clip.create_model("ViT-B-32", force_quick_gelu=quick).eval()
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    encoder = load_encoder(f"open_clip:ViT-B-32{tag}", weights=tmp_path / "clip.pt", grid=7)
    x = views(224, 1)
    with torch.no_grad():
        expected = clip.encode_image((x / 255 - MEAN) / STD)
    tokens = encoder(x)
    assert tokens.shape == (1, 50, 512)
    close(tokens[:, 0], expected)


# Networks of several makes: one token, channels last, a norm or a convolution behind the pooling.
NETWORKS = {
    "vit_tiny_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 64,
    "convnext_atto": 64,
    "mobilenetv3_small_050": 64,
    "resnet10t": 64,
}


@pytest.mark.parametrize(("model", "size"), NETWORKS.items())
def test_timm_equals_the_model(model, size, tmp_path):
    size_option = {"img_size": size} if "vit" in model or "swin" in model else {}
    net = randomised(timm.create_model(model, num_classes=7, **size_option))
    save_file(
        {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")},
        tmp_path / "net.safetensors",
    )
    encoder = load_encoder(
        f"timm:{model}", weights=tmp_path / "net.safetensors", image_size=size, grid=2
    )
    net.reset_classifier(0)
    mean, std = (HALF, HALF) if "vit" in model else (IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        expected = net((views(size) / 255 - mean) / std)
    tokens = encoder(views(size))
    assert tokens.shape == (2, 5, expected.shape[1])
    close(tokens[:, 0], expected)
    if model in ("swin_tiny_patch4_window7_224", "resnet10t"):  # pooled is the mean of patches
        close(tokens[:, 1:].mean(1), expected)


def test_timm_resizes_position_embeddings(tmp_path):
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(dict(net.state_dict()), tmp_path / "net.safetensors")
    name, path = "timm:vit_tiny_patch16_224", tmp_path / "net.safetensors"
    encoder = load_encoder(name, weights=path, image_size=96, grid=3)
    assert encoder(views(96)).shape == (2, 10, 192)
    assert encoder.tower.trunk.pos_embed.shape == (1, 37, 192)


def test_batch_norms_are_folded_only_where_that_changes_nothing():
    class Apart(nn.Module):
        """Side by side, but the norm comes first."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(self.norm(x))

    apart = randomised(Apart())
    assert fuse_batch_norms(apart, 8) is apart
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    fused = fuse_batch_norms(net, 8)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    close(fused(torch.ones(1, 3, 8, 8)), net(torch.ones(1, 3, 8, 8)))


@pytest.mark.parametrize(("size", "grid"), [(8, 2), (8, 3), (32, 4)])
def test_pixels(size, grid):
    encoder = load_encoder("pixels", image_size=size, grid=grid)
    tokens = encoder(views(size))
    assert tokens.shape == (2, 1 + grid**2, 3 * size**2)
    close(tokens[:, 0], views(size).flatten(1) / 255)
    close(tokens[:, 1:].sum(1), tokens[:, 0])
    assert encoder.augmentation == "shift"


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"x": Payload(tmp_path / "ran")}, tmp_path / "bad.pt")
    with pytest.raises(EncoderError, match="never run"):
        load_encoder("timm:resnet10t", weights=tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b'\x08\0\0\0\0\0\0\0{"a":1}'], ids=["empty", "noise", "header"]
)
def test_damaged_weights(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for encoder in ("timm:resnet10t", "open_clip:ViT-S-32-alt"):
        with pytest.raises(EncoderError, match=name):
            load_encoder(encoder, weights=tmp_path / name)


def under(prefix, state):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def other(state):
    return {key: tensor + 1 for key, tensor in state.items()}


WRAPPED = {
    "compiled": lambda s: under("_orig_mod.", s),
    "parallel and compiled": lambda s: {"model": under("module._orig_mod.", s)},
    "Lightning": lambda s: {"state_dict": under("model.", s), "epoch": 3},
    "timm's average": lambda s: {"state_dict": other(s), "state_dict_ema": s},
    "containers in containers": lambda s: {"model": {"state_dict": under("module.", s)}},
    "DINO": lambda s: {
        "student": under("module.backbone.", other(s)),
        "teacher": under("module.backbone.", s) | {"module.head.mlp.0.weight": torch.ones(2)},
    },
    "DINOv2": lambda s: {
        "model": under("student.backbone.", other(s)) | under("teacher.backbone.", s)
    },
}


@pytest.mark.parametrize("name", WRAPPED)
def test_weights_as_trainers_save_them(tmp_path, name):
    net = randomised(timm.create_model("resnet10t", num_classes=0))
    torch.save(WRAPPED[name](dict(net.state_dict())), tmp_path / "w.pt")
    assert load_encoder("timm:resnet10t", weights=tmp_path / "w.pt").weights_hash == weights_hash(
        net
    )


def test_prefixes_in_safetensors(tmp_path):
    net = randomised(timm.create_model("resnet10t", num_classes=0))
    save_file(under("_orig_mod.", dict(net.state_dict())), tmp_path / "w.safetensors")
    encoder = load_encoder("timm:resnet10t", weights=tmp_path / "w.safetensors")
    assert encoder.weights_hash == weights_hash(net)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_refused_in_words(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "w.pt")
    with pytest.raises(EncoderError, match=r"TorchScript archive.*state_dict\(\)"):
        load_encoder("timm:resnet10t", weights=tmp_path / "w.pt")


def in_the_cache(cache, repository, **contents):
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots/abc").mkdir(parents=True)
    for name, content in contents.items():
        (folder / "snapshots/abc" / name.replace("__", ".")).write_bytes(content)


@pytest.mark.parametrize("file", ["model__safetensors", "pytorch_model__bin"])
def test_a_file_of_the_cache_that_was_cut_off(monkeypatch, tmp_path, file):
    state = dict(timm.create_model("resnet10t").state_dict())
    save_file(state, tmp_path / "w") if "safe" in file else torch.save(state, tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    in_the_cache(tmp_path, "timm/resnet10t.c3_in1k", **{file: content[:-1000]})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match=r"cut off.*remove .*snapshots.*fetches them anew"):
        load_encoder("timm:resnet10t.c3_in1k")


def test_a_clip_model_of_any_repository(monkeypatch, tmp_path, clip_weights):
    clip, folder = clip_weights
    about = {
        "model_cfg": {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
            "text_cfg": {
                "context_length": 8,
                "vocab_size": 50,
                "width": 32,
                "heads": 2,
                "layers": 1,
            },
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
    }
    files = {"open_clip_config__json": json.dumps(about).encode()}
    files["open_clip_model__safetensors"] = (folder / "clip.safetensors").read_bytes()
    in_the_cache(tmp_path, "someone/tiny", **files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = load_encoder("open_clip:hf-hub:someone/tiny")
    assert encoder.framing.fit == "squash"
    with torch.no_grad():
        close(encoder(views(32))[:, 0], clip.encode_image(views(32) / 127.5 - 1))


def test_a_network_without_batch_norms_is_not_copied(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU())
    monkeypatch.setattr("copy.deepcopy", lambda _: pytest.fail("copied"))
    assert fuse_batch_norms(net, 8) is net


def test_no_tensors_and_no_file(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="hold none"):
        load_encoder("timm:resnet10t", weights=tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="none at"):
        load_encoder("timm:resnet10t", weights=tmp_path / "none.pt")
    with pytest.raises(EncoderError, match="has no weights"):
        load_encoder("pixels", weights=tmp_path / "list.pt")


def test_weights_that_do_not_fit_name_the_tensors(tiny_clip, clip_weights, tmp_path):
    clip, _ = clip_weights
    state = dict(clip.visual.state_dict())
    state["proj"] = torch.zeros(64, 5)
    del state["ln_post.bias"]
    save_file(state | {"stray": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(EncoderError) as caught:
        load_encoder(f"open_clip:{tiny_clip}", weights=tmp_path / "w.safetensors")
    for words in ("1 missing (ln_post.bias)", "1 unexpected (stray)", "(64, 5), expected (64, 24)"):
        assert words in str(caught.value)
    with pytest.raises(EncoderError, match=r"missing .*conv1"):
        load_encoder("timm:resnet10t", weights=tmp_path / "w.safetensors")
    with pytest.raises(EncoderError, match=r"missing .*blocks"):
        load_encoder("timm:vit_tiny_patch16_224", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-32", ["open_clip:MODEL/PRETRAINED, timm:MODEL or pixels", "open_clip:ViT-B-32/"]),
        ("timm:resnet5o", ["unknown timm model", "timm:resnet50"]),
        ("timm:resnet50.nothing", ["timm has no weights", "a1_in1k"]),
        ("timm:efficientnet_b6", ["timm has no weights", "weights=FILE"]),
        ("open_clip:ViT-B-33", ["unknown open_clip model", "ViT-B-32"]),
        ("open_clip:ViT-B-32/open-ai", ["no weights 'open-ai'", "laion2b_s34b_b79k"]),
        ("open_clip:ViT-B-32", ["open_clip:ViT-B-32/TAG", "openai"]),
        ("timm:", ["unknown encoder"]),
        ("", ["unknown encoder"]),
    ],
)
def test_unknown_names(name, words):
    with pytest.raises(EncoderError) as caught:
        load_encoder(name)
    for word in words:
        assert word in str(caught.value)


def test_a_tag_is_not_dropped_in_silence_beside_weights(clip_weights):
    _, folder = clip_weights
    with pytest.raises(EncoderError, match="no weights 'openia'"):
        load_encoder("open_clip:ViT-B-32/openia", weights=folder / "clip.pt")


def test_sizes_and_grids_that_cannot_be(tiny_clip, clip_weights):
    _, folder = clip_weights
    name, path = f"open_clip:{tiny_clip}", folder / "clip.pt"
    with pytest.raises(EncoderError, match=r"grid=5 should be <= 4.*4 x 4 patch tokens"):
        load_encoder(name, weights=path, grid=5)
    with pytest.raises(EncoderError, match="grid=-1"):
        load_encoder("pixels", grid=-1)
    with pytest.raises(EncoderError, match="image_size=0"):
        load_encoder("pixels", image_size=0)


NO_NETWORK = """
import sys, time
from mfavbs.encoders import load_encoder
from mfavbs.errors import EncoderError
waited = []
time.sleep = waited.append
for name in sys.argv[1:]:
    try:
        load_encoder(name)
    except EncoderError as error:
        print(error)
print(sum(waited))
"""


def test_no_download_is_quick_and_names_the_ways_on(tmp_path):
    # An address that refuses at once, so that the test is the same with a network.
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "open_clip:ViT-B-32/openai", "timm:resnet10t"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    *lines, waited = done.stdout.splitlines()
    assert float(waited) < 5  # seconds before trying again, which are not slept here
    assert len(lines) == 2
    for line in lines:
        for words in ("weights=FILE", "HF_HOME=DIR", "encoder=pixels", "ConnectError"):
            assert words in line


def test_cached_weights_need_no_network(monkeypatch, tmp_path, capfd):
    net = timm.create_model("resnet10t")
    folder = tmp_path / "models--timm--resnet10t.c3_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots/abc").mkdir(parents=True)
    save_file(dict(net.state_dict()), folder / "snapshots/abc/model.safetensors")
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = load_encoder("timm:resnet10t.c3_in1k", image_size=64)
    net.reset_classifier(0)
    assert encoder.weights_hash == weights_hash(net)
    assert capfd.readouterr() == ("", "")


def test_a_download_says_so_in_one_line(monkeypatch, tmp_path, capfd):
    import huggingface_hub as hub

    net = timm.create_model("resnet10t")
    save_file(dict(net.state_dict()), tmp_path / "model.safetensors")
    there = hub.hf_api.ModelInfo(id="timm/resnet10t", siblings=[{"rfilename": "model.safetensors"}])
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: there)
    monkeypatch.setattr(hub, "hf_hub_download", lambda _, name: str(tmp_path / name))
    load_encoder("timm:resnet10t")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("Fetching the weights of timm:resnet10t from the Hugging Face hub")
    assert err.count("\n") == 1


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type in ("cpu", "cuda", "mps")
    assert pick_device("cpu:0").type == "cpu"
    for device in ("cuda:99", "nonsense", "cpu:x"):
        with pytest.raises(
            EncoderError, match=rf"device='{device}' should be auto or one of .*cpu"
        ):
            pick_device(device)
    if not torch.cuda.is_available():
        with pytest.raises(EncoderError, match="cpu"):
            pick_device("cuda")
    assert isinstance(has_bfloat16(torch.device("cpu")), bool)


def small_network(tmp_path, scale=1.0):
    """A network whose features of a view are about ``scale`` times as large as usual inside."""
    net = randomised(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32))
    net.blocks[3].mlp.fc2.weight.data *= scale
    save_file(dict(net.state_dict()), tmp_path / "net.safetensors")
    return load_encoder(
        "timm:vit_tiny_patch16_224", weights=tmp_path / "net.safetensors", image_size=32
    )


@pytest.mark.parametrize(("scale", "dtype"), [(1.0, "float16"), (1e5, "float32")])
def test_float16_only_where_it_gives_the_same_features(tmp_path, monkeypatch, scale, dtype):
    """As on a GPU; numbers beyond float16 inside a network make it float32."""
    encoder = small_network(tmp_path, scale)
    expected = encoder(views(32))
    assert expected.isfinite().all()
    monkeypatch.setattr("mfavbs.encoders.encoder.precision_on", lambda _: torch.float16)
    encoder.to_device(torch.device("cpu"))
    assert encoder.recipe["precision"] == dtype
    got = encoder(views(32))
    assert (torch.cosine_similarity(got, expected, dim=-1) >= 0.999).all()
    assert encoder.to_device(torch.device("cpu")).recipe["precision"] == dtype
    monkeypatch.setattr("mfavbs.encoders.encoder.precision_on", lambda _: torch.bfloat16)
    encoder.to_device(torch.device("cpu"))  # and another number type after that
    monkeypatch.setattr("mfavbs.encoders.encoder.precision_on", lambda _: torch.float16)
    assert encoder.to_device(torch.device("cpu")).recipe["precision"] == dtype
