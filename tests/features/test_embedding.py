"""The feature store: the same bytes whatever happens on the way, and a word for all that can."""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from command_line import ended, start
from image_files import encoded, noise, write
from killing import count_touches, run_until
from PIL import Image
from safetensors.torch import save_file

import mfavbs.features.embedding
import mfavbs.features.parts
import mfavbs.features.pieces
from mfavbs.encoders.encoder import Encoder
from mfavbs.encoders.loading import load_encoder
from mfavbs.encoders.towers import PixelsTower
from mfavbs.errors import EncoderError, SourceError, StoreError
from mfavbs.features import FeatureStore, embed, is_store
from mfavbs.files import read_reasons
from mfavbs.images.framing import Framing
from mfavbs.images.opening import open_images
from mfavbs.sources import open_source

N = 23


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "images"
    for i in range(N):
        image = noise(20 + i, 24)
        (folder / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        image.save(folder / f"class{i % 2}" / f"{i:02d}.png")
    write(folder / "class0/07broken.png", b"not a picture")
    return folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(mfavbs.features.parts, "_FORWARD", {"cpu": 4})  # with 3 views: 4 images
    monkeypatch.setattr(mfavbs.features.pieces, "IMAGES", 8)
    monkeypatch.setattr(mfavbs.features.pieces, "SECONDS", 1e9)


def make(source, out, **options):
    options = {"n_views": 3, "device": "cpu", "n_workers": 0, "verbose": False} | options
    encoder = options.pop("encoder", None) or load_encoder("pixels", image_size=8)
    return embed(open_images(source), out, encoder, **options)


def digest(out):
    """Every file of a store, byte for byte."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def only(out, name):
    """The one file of a store that is called ``name``."""
    (path,) = out.rglob(name)
    return path


def test_a_store_holds_every_view_of_every_readable_image(source, tmp_path):
    store = make(source, tmp_path / "store")
    assert store.features.shape == (N, 3, 1, 192)
    assert store.features.dtype == np.float16
    assert isinstance(store.features, np.memmap)
    assert store.manifest["row"].to_pylist() == list(range(N))
    assert store.keys == sorted(f"class{i % 2}/{i:02d}.png" for i in range(N))
    assert store.labels == [key.split("/")[0] for key in store.keys]
    assert [key for key, _ in store.failures] == ["class0/07broken.png"]
    assert store.parameters["encoder"] == "pixels"
    assert {p.name for p in store.path.iterdir()} == {"store.json", "segments", "tables"}
    assert is_store(store.path)
    assert not is_store(source)
    assert (store.features[:, 0] != store.features[:, 1]).any()


def test_workers_do_not_change_a_byte(source, tmp_path):
    make(source, tmp_path / "none")
    make(source, tmp_path / "two", n_workers=2)
    assert digest(tmp_path / "none") == digest(tmp_path / "two")


def test_an_array_and_a_finished_store(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
    store = make(pixels, tmp_path / "store")
    assert store.labels is None
    before = only(tmp_path / "store", "features.npy").stat().st_mtime_ns
    again = make(pixels, tmp_path / "store")
    assert only(tmp_path / "store", "features.npy").stat().st_mtime_ns == before
    assert np.array_equal(store.features, again.features)
    other = make(255 - pixels, tmp_path / "store")  # an array has no dates: all of it is read
    assert not np.array_equal(store.features, other.features)


def test_a_range_is_measured_once_and_kept(tmp_path):
    """Of counts to 4095 at first; the images that are there when it goes on do not matter."""
    folder = tmp_path / "counts"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(9):
        counts = draw.integers(1000, 4096, (20, 20)).astype(np.uint16)
        Image.fromarray(counts).save(folder / f"{i}.png")
    store = make(folder, tmp_path / "auto", value_range="auto")
    low, high = store.parameters["range"]
    assert 1000 <= low < 1050
    assert 4050 < high <= 4095
    assert store.notes == []
    same = make(folder, tmp_path / "given", value_range=(low, high))
    assert np.array_equal(store.features, same.features)
    for i in range(9):
        Image.fromarray(np.full((20, 20), 9, np.uint16)).save(folder / f"dark{i}.png")
    grown = make(folder, tmp_path / "auto", value_range="auto")
    assert grown.parameters["range"] == [low, high]
    with pytest.raises(StoreError, match="range_rule='auto', now range_rule='type'"):
        make(folder, tmp_path / "auto")
    with pytest.raises(StoreError, match=r"range=\[.*\], now range=\[0.0, 9.0\]"):
        make(folder, tmp_path / "given", value_range=(0, 9))
    with pytest.raises(SourceError, match="LOW < HIGH"):
        make(folder, tmp_path / "wrong", value_range=(9, 2))


def test_notes_on_readable_images_survive_an_interruption(source, tmp_path, monkeypatch):
    path = source / "class1/09.png"
    path.write_bytes(path.read_bytes()[:-30])

    def fail(*_):
        raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(mfavbs.features.embedding, "write_state", fail)
        with pytest.raises(Interrupt):
            make(source, tmp_path / "store")
    store = make(source, tmp_path / "store")
    assert [key for key, _ in store.notes] == ["class1/09.png"]
    assert "truncated" in store.notes[0][1]
    write(source / "class1/new.png", encoded(noise(9, 9)))
    assert make(source, tmp_path / "store").notes == store.notes
    only(store.path, "warnings.csv").unlink()  # as an earlier version leaves a store
    assert FeatureStore.open(store.path).notes == []


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("n_pieces", [0, 1, 2])
@pytest.mark.parametrize("n_workers", [0, 1])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    source, tmp_path, monkeypatch, n_pieces, n_workers
):
    make(source, tmp_path / "whole")
    flush = mfavbs.features.pieces.Pieces.flush

    def flush_some(pieces):
        if pieces._number == n_pieces:
            pieces.folder.mkdir(exist_ok=True)
            (pieces.folder / "00000000.safetensors.partial").write_bytes(b"half")
            raise Interrupt
        flush(pieces)

    with monkeypatch.context() as patch:
        patch.setattr(mfavbs.features.pieces.Pieces, "flush", flush_some)
        with pytest.raises(Interrupt):
            make(source, tmp_path / "store", n_workers=n_workers)
    assert is_store(tmp_path / "store")
    with pytest.raises(StoreError, match="unfinished"):
        FeatureStore.open(tmp_path / "store")
    make(source, tmp_path / "store")
    assert digest(tmp_path / "store") == digest(tmp_path / "whole")


@pytest.mark.parametrize("step", ["features.npy", "hashes.txt", "manifest.parquet", "store.json"])
def test_interrupted_while_joining(source, tmp_path, monkeypatch, step):
    make(source, tmp_path / "whole")
    replace = os.replace

    def replace_some(a, b):
        if str(b).endswith(step):
            raise Interrupt
        replace(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_some)
        with pytest.raises(Interrupt):
            make(source, tmp_path / "store")
    with pytest.raises(StoreError, match="unfinished"):
        FeatureStore.open(tmp_path / "store")
    make(source, tmp_path / "store")
    assert digest(tmp_path / "store") == digest(tmp_path / "whole")


def test_what_a_kill_left_of_a_finished_store_is_removed(source, tmp_path):
    out = tmp_path / "store"
    make(source, out)
    before = digest(out)
    write(out / "pieces/00000000.safetensors", b"stale")
    write(out / "segments/0123/features.npy", b"stale")
    write(out / "tables/0123/manifest.parquet", b"stale")
    write(out / "progress.json", b"{}")
    write(out / "store.json.partial", b"stale")
    make(source, out)
    assert digest(out) == before


def test_what_is_left_out_stands_in_the_store_with_its_reason(source, tmp_path):
    write(source / "notes.txt", b"x")
    write(source / "@eaDir" / "x.png")
    store = make(source, tmp_path / "store")
    assert store.skipped == read_reasons(only(tmp_path / "store", "skipped.csv"))
    assert [name for name, _ in store.skipped if name[0] in "@n"] == ["@eaDir/", "notes.txt"]
    only(tmp_path / "store", "skipped.csv").unlink()  # as stores of earlier versions are
    assert FeatureStore.open(tmp_path / "store").skipped == []


@pytest.mark.parametrize("name", ["progress.json", "store.json"])
@pytest.mark.parametrize("content", [b'{"percent": 40}', b"[]", b"40 %", b"\xff", b""])
def test_what_another_program_calls_so_makes_no_store(source, tmp_path, name, content):
    write(source / name, content)
    assert not is_store(source)
    assert open_source(source).images.keys == open_images(source).keys
    (source / name).unlink()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_views": 4}, "n_views=3, now n_views=4"),
        ({"seed": 1}, "seed=0, now seed=1"),
        ({"augment": "rotate"}, "augment='default', now augment='rotate'"),
        ({"encoder": ("pixels", 9)}, "image_size=8, now image_size=9"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_parameters_are_refused_with_both_values(source, tmp_path, options, words, finished):
    out = tmp_path / "store"
    make(source, out)
    if not finished:
        (out / "store.json").rename(out / "progress.json")
    if "encoder" in options:
        options = {"encoder": load_encoder("pixels", image_size=9)}
    with pytest.raises(StoreError, match=words):
        make(source, out, **options)


def test_augment_is_the_stores_and_the_clean_view_is_the_same(source, tmp_path):
    plain = make(source, tmp_path / "plain")
    for augment in ("gentle", "rotate"):
        other = make(source, tmp_path / augment, augment=augment)
        assert other.recipe["augment"] == augment
        assert np.array_equal(plain.features[:, 0], other.features[:, 0])
        assert not np.array_equal(plain.features[:, 1:], other.features[:, 1:])
        with pytest.raises(StoreError, match=f"augment='{augment}', now augment='default'"):
            make(source, tmp_path / augment)
    none = make(source, tmp_path / "none", augment="none")
    assert np.array_equal(none.features, plain.features[:, :1])
    assert make(source, tmp_path / "none", augment="none", n_views=7).path == none.path
    with pytest.raises(SourceError, match="augment='mild' should be one of"):
        make(source, tmp_path / "mild", augment="mild")


@pytest.mark.parametrize("finished", [True, False])
def test_a_store_that_says_nothing_of_augment_is_of_the_default(source, tmp_path, finished):
    """As all are that were made before there was a choice."""
    out = tmp_path / "store"
    before = make(source, out)
    record = json.loads((out / "store.json").read_text(encoding="utf-8"))
    assert record.pop("augment") == "default"
    (out / "store.json").write_text(json.dumps(record), encoding="utf-8")
    assert FeatureStore.open(out).recipe == before.recipe
    if not finished:
        (out / "store.json").rename(out / "progress.json")
    with pytest.raises(StoreError, match="augment='default', now augment='strong'"):
        make(source, out, augment="strong")
    assert np.array_equal(make(source, out).features, before.features)


OTHER = {
    "mean": (0.1, 0.0, 0.0),
    "std": (1.0, 1.0, 0.5),
    "weights_hash": "abc",
    "pad_type": "same",
    "fit": Framing("squash"),
    "crop_pct": Framing(crop_pct=0.9),
    "interpolation": Framing(interpolation="bilinear"),
    "fill": Framing(fill=(1, 2, 3)),
    "augmentation": "simclr",
}


@pytest.mark.parametrize("name", OTHER)
def test_whatever_decides_the_bytes_is_compared(source, tmp_path, name):
    """Two encoders that differ in one thing alone share no store."""
    make(source, tmp_path / "store")
    about = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "augmentation": "shift"}
    about["framing" if isinstance(OTHER[name], Framing) else name] = OTHER[name]
    encoder = Encoder("pixels", PixelsTower(0), 8, **about)
    with pytest.raises(StoreError, match=f"made with {name}=.*now {name}="):
        make(source, tmp_path / "store", encoder=encoder)


def test_precision_is_compared(source, tmp_path, monkeypatch):
    chosen = "mfavbs.encoders.encoder.precision_on"
    monkeypatch.setattr(chosen, lambda _: torch.bfloat16)
    make(source, tmp_path / "store")
    monkeypatch.setattr(chosen, lambda _: torch.float32)
    with pytest.raises(StoreError, match="precision='bfloat16', now precision='float32'"):
        make(source, tmp_path / "store")


def test_stores_of_schema_1_are_read_and_not_gone_on_with(source, tmp_path):
    out = tmp_path / "store"
    made = make(source, tmp_path / "made")
    features = np.array(made.features)
    content = made.parameters | {"schema": 1, "n_candidates": N + 1, "listing_hash": ""}
    later = ("state", "number", "segments", "tables", "mean", "std", "pad_type", "precision")
    for name in (*later, *Framing._fields):
        del content[name]
    write(out / "store.json", json.dumps(content).encode())
    np.save(out / "features.npy", features)
    columns = ("row", "path", "size", "mtime", "hash", "label")
    pq.write_table(made.manifest.select(columns), out / "manifest.parquet")
    write(out / "failures.csv", b"path,reason\nclass0/07broken.png,why\n")
    store = FeatureStore.open(out)
    assert np.array_equal(store.features, features)
    assert store.recipe["image_size"] == 8
    assert store.failures == [("class0/07broken.png", "why")]
    with pytest.raises(StoreError, match="earlier version"):
        store.diff(open_images(source))
    with pytest.raises(StoreError, match=r"earlier version.*schema 1.*mfavbs cluster"):
        make(source, out)
    (out / "store.json").rename(out / "progress.json")
    with pytest.raises(StoreError, match=r"unfinished.*earlier version.*choose another"):
        make(source, out)


def by_hash(store):
    return dict(zip(store.manifest["hash"].to_pylist(), np.array(store.features)))


@pytest.fixture(scope="module", params=["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def network(request, tmp_path_factory):
    torch.manual_seed(0)
    options = {"img_size": 32} if "vit" in request.param else {}
    net = timm.create_model(request.param, num_classes=0, **options).eval()
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor) * 0.1
            tensor.copy_(1 + noise.abs() if name.endswith("running_var") else tensor + noise)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(dict(net.state_dict()), path)
    return load_encoder(f"timm:{request.param}", weights=path, image_size=32)


@pytest.mark.parametrize("n_views", [3, 5])
def test_an_images_features_depend_on_nothing_but_the_image(source, tmp_path, network, n_views):
    """Bit by bit: other company, another order, another name, neighbours that cannot be read."""
    whole = make(source, tmp_path / "whole", encoder=network, n_views=n_views)
    expected = by_hash(whole)
    paths = sorted(source.rglob("*.png"))
    some = [paths[i] for i in (17, 3, 11, 20, 5, 7, 1)]
    for i in (2, 9):
        write(source / f"class1/broken{i}.png", b"x")
        some.insert(i % 5, source / f"class1/broken{i}.png")
    (source / "renamed").mkdir()
    shutil.copy(paths[12], source / "renamed/zzz.png")
    some.append(source / "renamed/zzz.png")
    got = by_hash(make(some, tmp_path / "some", encoder=network, n_views=n_views))
    assert len(got) == 8
    assert all(np.array_equal(features, expected[key]) for key, features in got.items())
    fewer = by_hash(make(some, tmp_path / "fewer", encoder=network, n_views=2))
    assert all(np.array_equal(f, expected[key][:2]) for key, f in fewer.items())
    assert len({f.tobytes() for f in expected.values()}) == N


def test_foreign_folders_and_other_sources_are_refused(source, tmp_path):
    make(source, tmp_path / "store")
    for other in (source, source / "class1/01.png"):
        with pytest.raises(StoreError, match="exists and is not a feature store"):
            make(source, other)
    with pytest.raises(StoreError, match=r"source=.*images'}, now source=.*class1'}"):
        make(source / "class1", tmp_path / "store")
    (tmp_path / "begun").mkdir()  # killed before the first word was written
    make(source, tmp_path / "begun")


def test_no_space(source, tmp_path, monkeypatch):
    make(source, tmp_path / "whole")
    room = [3]  # files that fit: the first word, and two pieces
    fsync = os.fsync

    def full(descriptor):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device; what is finished is kept"):
            make(source, tmp_path / "store")
        assert (tmp_path / "store/pieces/00000001.safetensors").exists()
        room[0] = 1
        with pytest.raises(StoreError, match="No space"):
            make(source, tmp_path / "store")
    make(source, tmp_path / "store")
    assert digest(tmp_path / "store") == digest(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(source, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        make(source, tmp_path / "locked/store")


def test_a_parent_that_is_a_file(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        make(source, tmp_path / "file/store")


def test_none_readable_leaves_nothing_behind(tmp_path):
    write(tmp_path / "images/a.png", b"x")
    write(tmp_path / "images/b.png", b"")
    with pytest.raises(SourceError, match=r"none of 2 can: a.png: .*; b.png: empty file"):
        make(tmp_path / "images", tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_features_beyond_float16_name_the_images(source, tmp_path, monkeypatch, value):
    encoder = load_encoder("pixels", image_size=8)
    forward = encoder.forward

    def broken(images):
        tokens = forward(images).clone()
        tokens[1] = value
        return tokens

    monkeypatch.setattr(encoder, "forward", broken)
    with pytest.raises(EncoderError, match=r"65504.*pixels.*class0/00.png"):
        make(source, tmp_path / "store", encoder=encoder)
    with pytest.raises(StoreError, match="unfinished"):
        FeatureStore.open(tmp_path / "store")


def damage_json(out):
    (out / "store.json").write_text("{")


def damage_schema(out):
    content = json.loads((out / "store.json").read_text())
    (out / "store.json").write_text(json.dumps(content | {"schema": "x"}))


def damage_features(out):
    with open(only(out, "features.npy"), "r+b") as file:
        file.truncate(300)


def empty_features(out):
    only(out, "features.npy").write_bytes(b"")


def other_features(out):
    np.save(only(out, "features.npy"), np.zeros((N, 5), np.float32))


def short_features(out):
    np.save(only(out, "features.npy"), np.zeros((N - 1, 3, 1, 192), np.float16))


def no_segment(out):
    shutil.rmtree(out / "segments")


def damage_manifest(out):
    only(out, "manifest.parquet").write_bytes(b"PAR1")


def other_manifest(out):
    pq.write_table(pa.table({"x": range(N)}), only(out, "manifest.parquet"))


def other_failures(out):
    only(out, "failures.csv").write_text("a,b\n1,2\n")


@pytest.mark.parametrize(
    "damage",
    [
        damage_json,
        damage_schema,
        damage_features,
        empty_features,
        other_features,
        damage_manifest,
        short_features,
        no_segment,
        other_manifest,
        other_failures,
    ],
)
def test_damaged_stores_say_so(source, tmp_path, damage):
    make(source, tmp_path / "store")
    damage(tmp_path / "store")
    with pytest.raises(StoreError, match=r"store.*(damaged|JSON).*remove this one"):
        FeatureStore.open(tmp_path / "store")


def test_a_newer_schema(source, tmp_path):
    out = tmp_path / "store"
    make(source, out)
    content = json.loads((out / "store.json").read_text()) | {"schema": 99}
    (out / "store.json").write_text(json.dumps(content))
    for attempt in (lambda: FeatureStore.open(out), lambda: make(source, out)):
        with pytest.raises(StoreError, match=r"schema 99.*upgrade"):
            attempt()


def test_a_damaged_piece_is_named(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mfavbs.features.embedding, "write_state", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(source, tmp_path / "store")
    piece = tmp_path / "store/pieces/00000001.safetensors"
    piece.write_bytes(piece.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"00000001.safetensors is damaged.*remove it"):
        make(source, tmp_path / "store")
    piece.unlink()
    assert len(make(source, tmp_path / "store").features) == N


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_names_that_are_not_utf8(tmp_path):
    (tmp_path / "images").mkdir()
    for name in (b"caf\xe9.png", b"=1+1.png", b"a,b\n.png"):
        noise().save(tmp_path / "a.png")
        os.rename(tmp_path / "a.png", os.path.join(os.fsencode(tmp_path / "images"), name))
    write(tmp_path / "images/@broken.png", b"x")
    store = make(tmp_path / "images", tmp_path / "store")
    assert set(store.keys) == {"caf\\udce9.png", "=1+1.png", "a,b\n.png"}
    assert [key for key, _ in store.failures] == ["@broken.png"]


EMBED = """
import os, sys, time
import mfavbs.features.embedding, mfavbs.features.pieces
import mfavbs.features.reading, mfavbs.features.workers
from mfavbs.encoders import load_encoder
from mfavbs.images import open_images, read_content
mfavbs.features.pieces.IMAGES = 8
mfavbs.features.pieces.SECONDS = 1e9
if sys.argv[3:]:
    def read_content(images, row, *args, read_content=read_content, main=os.getpid()):
        if os.getpid() != main and row == 14:
            if sys.argv[3] == "killed":
                os.kill(os.getpid(), 9)
            if sys.argv[3] == "exits":
                os._exit(7)
            time.sleep(1000)
        return read_content(images, row, *args)
    mfavbs.features.reading.read_content = read_content
    mfavbs.features.workers.STALLED = 2.0
encoder = load_encoder("pixels", image_size=8)
try:
    mfavbs.features.embedding.embed(open_images(sys.argv[1]), sys.argv[2], encoder, n_views=3,
                                    n_workers=1, device="cpu", verbose=False)
except mfavbs.features.embedding.StoreError as error:
    print(error)
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(source, tmp_path, kill_points):
    whole, options = tmp_path / "whole", {"folder": tmp_path, "script": EMBED}
    for touch in kill_points(count_touches(source, whole, watched=whole, **options)):
        out = tmp_path / f"killed-{touch}"
        assert run_until(touch, source, out, watched=out, **options).code == -signal.SIGKILL
        make(source, out)
        assert digest(out) == digest(whole)


def test_ctrl_c_ends_it_and_its_workers(source, tmp_path, kill_points):
    whole, options = tmp_path / "whole", {"folder": tmp_path, "script": EMBED}
    for touch in kill_points(count_touches(source, whole, watched=whole, **options)):
        out = tmp_path / f"ended-{touch}"
        code, _, err = run_until(touch, source, out, watched=out, how=signal.SIGINT, **options)
        assert code == 1
        assert err.count("Traceback") == 1, err  # the script's own; a worker says nothing
        assert "KeyboardInterrupt" in err
        make(source, out)
        assert digest(out) == digest(whole)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("killed", r"was killed \(SIGKILL\), as when memory runs out, at .*class1/03.png"),
        ("exits", r"ended with code 7, at .*class1/03.png"),
        ("stalls", r"gave nothing for 2 seconds, at .*class1/03.png"),
    ],
)
def test_a_worker_that_dies_or_stalls(source, tmp_path, how, words):
    arguments = (source, tmp_path / "store", how)
    _, out, err = ended(start(*arguments, folder=tmp_path, script=EMBED), tmp_path)
    assert re.match(f"a process that reads images {words}.*run the same command again", out)
    assert out.count("\n") == 1
    assert "Traceback" not in err
    assert len(make(source, tmp_path / "store").features) == N


def test_a_daemonic_process_reads_by_itself(source, tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert len(make(source, tmp_path / "store", n_workers=None).features) == N
    with pytest.raises(StoreError, match="this one is daemonic; give n_workers=0"):
        make(source, tmp_path / "other", n_workers=1)


NO_GUARD = """
import multiprocessing, sys
from mfavbs import load_encoder, open_images
from mfavbs.errors import StoreError
from mfavbs.features import embed
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
try:
    embed(open_images(sys.argv[1]), sys.argv[2], load_encoder("pixels", image_size=8),
          n_workers=1, verbose=False)
except StoreError as error:
    print(error)
"""


def test_a_script_without_a_main_guard_is_told_so(source, tmp_path):
    (tmp_path / "script.py").write_text(NO_GUARD)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", source, tmp_path / "store"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert 'under `if __name__ == "__main__":`' in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mounts a small /dev/shm, which root on Linux may",
)
def test_a_container_with_little_shared_memory(tmp_path):
    """2 MB a batch, and 64 kB of /dev/shm."""
    for i in range(24):
        write(tmp_path / f"images/{i}.png", encoded(noise(64 + i, 64)))
    script = EMBED.replace("image_size=8", "image_size=224")
    command = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", sys.executable, "-c", script,
         tmp_path / "images", tmp_path / "store"],
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"may not mount: {done.stderr.strip()}")
    assert done.stderr == done.stdout == ""
    assert len(FeatureStore.open(tmp_path / "store").features) == 24


def test_an_interrupt_costs_seconds(source, tmp_path, monkeypatch):
    """However slow the encoder: what is older than so many seconds is on the disk."""
    monkeypatch.setattr(mfavbs.features.pieces, "IMAGES", 512)
    monkeypatch.setattr(mfavbs.features.pieces, "SECONDS", 0.0)
    make(source, tmp_path / "whole")
    encoder = load_encoder("pixels", image_size=8)
    forward, calls = encoder.forward, []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) == 10:
            raise Interrupt
        return forward(images)

    monkeypatch.setattr(encoder, "forward", interrupted)
    with pytest.raises(Interrupt):
        make(source, tmp_path / "store", encoder=encoder)
    assert len(list((tmp_path / "store/pieces").iterdir())) == 3  # of 4 images, in 3 passes each
    calls.clear()
    make(source, tmp_path / "store", encoder=encoder)
    assert len(calls) == 9
    assert digest(tmp_path / "store") == digest(tmp_path / "whole")


def test_the_callers_threads_and_random_state_are_left_alone(source, tmp_path):
    before, state = torch.get_num_threads(), torch.get_rng_state()
    make(source, tmp_path / "store", n_workers=1)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)
