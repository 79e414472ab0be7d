"""Encoding as on an accelerator: views drawn where they are encoded, in portions that fit.

Here "the device" is a CPU that is told to draw views as a GPU does, but for what is marked ``gpu``.
"""

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from image_files import noise, write
from PIL import Image
from safetensors.torch import save_file

import mfavbs.features.embedding
import mfavbs.features.encoding
import mfavbs.features.parts
import mfavbs.features.passing
import mfavbs.features.pieces
from mfavbs.encoders import load_encoder
from mfavbs.errors import EncoderError, StoreError
from mfavbs.features import embed
from mfavbs.features.encoding import Encoding, ahead
from mfavbs.features.parts import Bases
from mfavbs.features.passing import shared_region
from mfavbs.features.pieces import Pieces
from mfavbs.images import Views, open_images, read_image, views_of_bases

SHARED = Path(__file__).parents[3] / "shared"
SIZES = [(20, 24), (50, 33), (64, 40), (24, 90), (120, 80), (20, 24), (33, 33), (90, 70), (8, 9)]
real = pytest.mark.skipif(
    not (SHARED / "data/imagenette-val.tar").exists() or not (SHARED / "weights").exists(),
    reason="needs ../shared/data/imagenette-val.tar and ../shared/weights",
)
gpu = pytest.mark.gpu


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i, (width, height) in enumerate(SIZES):
        patches = draw.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        image = Image.fromarray(patches).resize((width, height))
        image = Image.blend(image, noise(width, height), 0.2)
        image.save(folder / f"{i:02d}.png")
    write(folder / "04broken.png", b"not a picture")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_050", num_classes=0).eval()
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(1 + torch.rand_like(tensor))
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(dict(net.state_dict()), path)
    return path


@pytest.fixture
def on_device(monkeypatch):
    """Views are drawn by the device that encodes, in small parts."""
    monkeypatch.setattr(mfavbs.features.embedding, "DRAWN_BY_WORKERS", ())
    monkeypatch.setattr(mfavbs.features.parts, "_FORWARD", {"cpu": 4})


def loaded(network):
    return load_encoder("timm:mobilenetv3_small_050", weights=network, image_size=32)


def make(source, out, network, **options):
    encoder = options.pop("encoder", None) or loaded(network)
    options = {"n_views": 3, "device": "cpu", "n_workers": 0, "verbose": False} | options
    return embed(open_images(source), out, encoder, **options)


def cosines(a, b):
    assert a.keys == b.keys
    a, b = (torch.from_numpy(np.array(store.features)).float() for store in (a, b))
    return torch.cosine_similarity(a, b, dim=-1)


def on_a_cpu(source, out, network, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr(mfavbs.features.embedding, "DRAWN_BY_WORKERS", ("cpu",))
        return make(source, out, network, **options)


def test_features_are_those_of_views_drawn_by_a_cpu(
    source, tmp_path, network, on_device, monkeypatch
):
    expected = on_a_cpu(source, tmp_path / "cpu", network, monkeypatch)
    got = make(source, tmp_path / "device", network)
    assert len(got.keys) == len(SIZES)
    assert [key for key, _ in got.failures] == ["04broken.png"]
    assert cosines(expected, got).min() >= 0.999
    assert expected.parameters == got.parameters | {
        name: expected.parameters[name] for name in ("segments", "tables")
    }


@real
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("timm:mobilenetv2_100", "mobilenetv2_100"),
        ("timm:tf_efficientnet_lite2", "efficientnet_lite2"),
    ],
)
@pytest.mark.parametrize("number_type", [torch.float32, torch.float16])
def test_features_of_photographs_by_real_weights(name, weights, number_type, monkeypatch):
    """Both ways, with the products' number type of a CPU and of a GPU."""
    monkeypatch.setattr("mfavbs.images.batched._number_type", lambda _: number_type)
    encoder = load_encoder(name, weights=SHARED / f"weights/{weights}.safetensors", image_size=96)
    views = Views(96, 4, 0, framing=encoder.framing)
    images = open_images(SHARED / "data/imagenette-val.tar")
    rows = range(0, len(images), 500)
    pictures = [read_image(images, row, views.enough) for row in rows]
    drawn = torch.stack([views(picture.image, picture.hash) for picture in pictures])
    bases = Bases.of([views.base(picture.image, picture.hash) for picture in pictures])
    pixels = torch.from_numpy(bases.pixels)
    device = views_of_bases(pixels, bases.sizes, bases.numbers, 96, encoder.framing)
    expected, got = (encoder(views.flatten(0, 1))[:, 0] for views in (drawn, device))
    cosine = torch.cosine_similarity(expected, got)
    assert cosine.min() >= 0.999
    assert cosine.mean() >= 0.9995


@pytest.mark.parametrize("region", [1000, 32 * 2**20, None])
def test_workers_give_the_same_bytes_by_whatever_way(
    source, tmp_path, network, on_device, monkeypatch, region
):
    """Through shared memory, in turns where it is small, and through pipes where there is none."""
    expected = make(source, tmp_path / "alone", network)
    if region is None:
        monkeypatch.setattr("mfavbs.features.workers.shared_region", lambda _: None)
    else:
        monkeypatch.setattr(mfavbs.features.passing, "REGION", region)
    got = make(source, tmp_path / "workers", network, n_workers=2)
    assert np.array_equal(expected.features, got.features)


def test_no_shared_memory_is_asked_for_where_there_is_none(monkeypatch):
    """A container has 64 MB of it: what is touched beyond ends the process."""
    assert shared_region(1) is not None
    free = type("Usage", (), {"free": 64 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    assert shared_region(1) is not None
    assert shared_region(15) is None


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("first", ["cpu", "device"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_what_one_device_began_another_goes_on_with(
    source, tmp_path, network, on_device, monkeypatch, first, n_workers
):
    monkeypatch.setattr(mfavbs.features.pieces, "IMAGES", 3)
    expected = on_a_cpu(source, tmp_path / "cpu", network, monkeypatch)
    flush, out = Pieces.flush, tmp_path / "store"

    def flush_some(pieces):
        if pieces._number == 1:
            raise Interrupt
        flush(pieces)

    def begin():
        if first == "cpu":
            return on_a_cpu(source, out, network, monkeypatch, n_workers=n_workers)
        return make(source, out, network, n_workers=n_workers)

    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "flush", flush_some)
        with pytest.raises(Interrupt):
            begin()
    assert len(list((out / "pieces").iterdir())) == 1
    if first == "device":
        got = on_a_cpu(source, out, network, monkeypatch, n_workers=n_workers)
    else:
        got = make(source, out, network, n_workers=n_workers)
    assert cosines(expected, got).min() >= 0.999
    assert threading.active_count() < 10


def short_of_memory(encoder, monkeypatch, most):
    """Give ``encoder`` a device with memory for so many views; the sizes that it is asked for."""
    sizes, forward = [], encoder.forward

    def limited(images):
        sizes.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(images)

    monkeypatch.setattr(encoder, "forward", limited)
    return sizes


def test_too_little_memory_halves_what_is_encoded_at_a_time(
    source, tmp_path, network, on_device, monkeypatch
):
    monkeypatch.setattr(mfavbs.features.parts, "_FORWARD", {"cpu": 16})
    expected = make(source, tmp_path / "plenty", network)
    encoder = loaded(network)
    sizes = short_of_memory(encoder, monkeypatch, 5)
    got = make(source, tmp_path / "little", network, encoder=encoder)
    assert sizes[:2] == [16, 8]
    assert set(sizes[2:]) == {4}  # what was learnt is kept
    assert cosines(expected, got).min() >= 0.9999


def test_no_memory_at_all_is_told_in_words(source, tmp_path, network, on_device, monkeypatch):
    encoder = loaded(network)
    short_of_memory(encoder, monkeypatch, 0)
    with pytest.raises(EncoderError, match="cpu has too little memory for one image of 32 pixels"):
        make(source, tmp_path / "store", network, encoder=encoder)


def test_another_error_of_the_device_is_not_taken_for_it(
    source, tmp_path, network, on_device, monkeypatch
):
    def broken(images):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    encoder = loaded(network)
    monkeypatch.setattr(encoder, "forward", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        make(source, tmp_path / "store", network, encoder=encoder)


def test_a_worker_that_dies_is_told(source, tmp_path, network, on_device, monkeypatch):
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("mfavbs.images.views.Views.base", die)
    if torch.multiprocessing.get_start_method() != "fork":
        pytest.skip("a started process imports what is not patched")
    with pytest.raises(StoreError, match="was killed"):
        make(source, tmp_path / "store", network, n_workers=2)


def test_items_ahead_come_in_order_and_their_error_where_it_was():
    def items():
        yield from range(5)
        raise Interrupt

    with ThreadPoolExecutor(1) as pool:
        got = ahead(pool, items(), 3)
        assert [next(got) for _ in range(5)] == list(range(5))
        with pytest.raises(Interrupt):
            next(got)
        assert list(ahead(pool, iter([1, 2]), 4)) == [1, 2]


@gpu
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_gpu_gives_a_cpus_features(source, tmp_path, network, monkeypatch, n_workers):
    monkeypatch.setattr("mfavbs.devices.has_bfloat16", lambda device: False)  # of the CPU
    cpu = make(source, tmp_path / "cpu", network)
    cuda = make(source, tmp_path / "cuda", network, device="cuda", n_workers=n_workers)
    assert cosines(cpu, cuda).min() >= 0.999
    again = make(source, tmp_path / "again", network, device="cuda", n_workers=3 - n_workers)
    assert np.array_equal(cuda.features, again.features)


@gpu
def test_an_images_features_depend_on_no_other_on_a_gpu(source, tmp_path, network):
    whole = make(source, tmp_path / "whole", network, device="cuda")
    some = make([source / "07.png", source / "02.png"], tmp_path / "some", network, device="cuda")
    by_hash = dict(zip(whole.hashes, np.array(whole.features)))
    assert all(np.array_equal(by_hash[h], f) for h, f in zip(some.hashes, some.features))


@gpu
def test_memory_that_a_gpu_does_not_have_halves_the_batch(source, tmp_path, network, monkeypatch):
    """2,048 views of 224 pixels take some 5 GB; there are 1.5."""
    monkeypatch.setattr(mfavbs.features.parts, "_FORWARD_ELSEWHERE", 2048)
    encoder = load_encoder("timm:mobilenetv3_small_050", weights=network)
    options = {"device": "cuda", "encoder": encoder}
    expected = make(source, tmp_path / "plenty", network, **options)
    sizes, forward = [], encoder.forward

    def noted(images):
        sizes.append(len(images))
        return forward(images)

    monkeypatch.setattr(encoder, "forward", noted)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    share = (torch.cuda.memory_reserved() + 1.5e9) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    try:
        got = make(source, tmp_path / "little", network, **options)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sizes[0] == 2048
    assert 1 < sizes[-1] < 2048
    assert cosines(expected, got).min() >= 0.9999


@gpu
def test_a_store_goes_on_between_gpu_and_cpu_where_their_precision_is_one(
    source, tmp_path, network, monkeypatch
):
    monkeypatch.setattr("mfavbs.encoders.encoder.precision_on", lambda _: torch.float32)
    make(source, tmp_path / "cpu", network)
    for i in range(4, len(SIZES)):
        (source / f"{i:02d}.png").rename(source.parent / f"{i:02d}.png")
    make(source, tmp_path / "store", network, device="cuda")
    for i in range(4, len(SIZES)):
        (source.parent / f"{i:02d}.png").rename(source / f"{i:02d}.png")
    got = make(source, tmp_path / "store", network)
    expected = make(source, tmp_path / "cpu", network)
    assert cosines(expected, got).min() >= 0.999


def test_a_gpu_in_use_by_stand_ins(source, tmp_path, network, on_device, monkeypatch):
    """The streams and events of a GPU, played by ones that only note what is asked of them."""
    asked = []

    class Stream:
        def __init__(self, *args):
            asked.append("stream")

        def wait_stream(self, other):
            asked.append("wait")

    class Event:
        def record(self, stream):
            asked.append("record")

        def synchronize(self):
            asked.append("synchronize")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: asked.append("kept"))
    empty = torch.empty
    monkeypatch.setattr(
        mfavbs.features.encoding.torch,
        "empty",
        lambda *a, pin_memory=False, **k: empty(*a, **k),
    )
    begin = Encoding.__init__

    def with_stream(encoding, *args):
        begin(encoding, *args)
        encoding._copying = Stream()

    monkeypatch.setattr(Encoding, "__init__", with_stream)
    got = make(source, tmp_path / "store", network)
    monkeypatch.undo()
    assert {"kept", "wait", "record", "synchronize"} <= set(asked)
    assert asked.count("record") == asked.count("synchronize") == asked.count("kept")
    assert cosines(got, make(source, tmp_path / "expected", network)).min() >= 0.999
