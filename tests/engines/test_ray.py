"""Ray's processes make the bytes that this machine makes, whatever is lost on the way."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from command_line import ended, start
from image_files import noise, write
from killing import wait_until
from ray_sources import Deadly, Overflowing, Slow, Unseen

import mfavbs.engines.ray_engine
import mfavbs.engines.ray_tasks
import mfavbs.features.embedding
import mfavbs.features.pieces
from mfavbs.encoders import load_encoder
from mfavbs.engines import engine_of
from mfavbs.errors import EncoderError, EngineError, SourceError
from mfavbs.features import embed
from mfavbs.images import open_images

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
RAY = Path(sys.executable).with_name("ray")
N = 90  # images, of 6 in a batch with 3 views


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for i in range(N):
        (folder / f"class{i % 2}").mkdir(exist_ok=True)
        noise(20 + i, 24).save(folder / f"class{i % 2}" / f"{i:02d}.png")
    write(folder / "class0/07broken.png", b"not a picture")
    # A name is a name: neither a shell nor Python reads it.
    noise(33, 24).save(folder / "class1" / "$(reboot) {0} __import__('os').png")
    return folder


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory):
    """The bytes that this machine makes."""
    out = tmp_path_factory.mktemp("expected") / "store"
    make(source, out)
    return digest(out)


def make(source, out, engine="local", address=None, **options):
    images = open_images(source) if isinstance(source, Path) else source
    options = {"n_views": 3, "device": "cpu", "verbose": False} | options
    encoder = options.pop("encoder", None) or load_encoder("pixels", image_size=8)
    return embed(images, out, encoder, engine=engine_of(engine, address), **options)


def digest(out):
    """Every file of a store, byte for byte."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*")}


def begin_node(*arguments):
    """Start a node of a cluster; its folder."""
    folder = tempfile.mkdtemp(prefix="ray-")  # short, for sockets
    options = ("--num-cpus", "1", "--disable-usage-stats", "--temp-dir", folder)
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}  # of ray_sources
    subprocess.run([RAY, "start", *arguments, *options], env=env, check=True, timeout=120)
    return folder


def processes_of(folder):
    """Those of a node, which have its folder among their arguments, and their children."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder in word for word in process.cmdline()):
                found |= {process, *process.children(recursive=True)}
    return found


def end_node(folder):
    for process in processes_of(folder):
        with contextlib.suppress(psutil.Error):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def head():
    """Address of the head of a cluster, which has one process and a token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0f" * 32)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray._raylet.Config.initialize("")  # which has read the environment when it was imported
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = begin_node("--head", "--port", str(port), "--include-dashboard", "false")
        yield f"127.0.0.1:{port}"
        end_node(folder)


def test_a_cluster_makes_the_same_bytes(source, expected, head, tmp_path):
    make(source, tmp_path / "store", "ray", head)
    assert digest(tmp_path / "store") == expected


def test_another_version_of_mfavbs_or_of_ray(source, head, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mfavbs.engines.ray_tasks, "__version__", "0.0.1")
        with pytest.raises(EngineError, match=r"expected mfavbs 0.0.1.*has mfavbs 0.1"):
            make(source, tmp_path / "store", "ray", head)
    monkeypatch.setattr(ray, "__version__", "2.9.3")
    with pytest.raises(EngineError, match=r"another version.*Ray: 2.9.3.*the same Ray"):
        make(source, tmp_path / "store", "ray", head)


@pytest.fixture(scope="module")
def joined(head):
    """The same, with a connection that stays: to join costs seconds."""
    ray.init(address=head, logging_level="error", log_to_driver=False)
    yield head
    ray.shutdown()


def test_processes_that_are_killed_cost_nothing_else(source, expected, joined, tmp_path):
    deadly = Deadly(open_images(source), [3, 40, 71], tmp_path)
    make(deadly, tmp_path / "store", "ray", joined)
    assert len(list(tmp_path.glob("*.killed"))) == 3
    assert digest(tmp_path / "store") == expected


def test_an_image_that_kills_each_time_is_named(source, joined, tmp_path, monkeypatch):
    monkeypatch.setattr(mfavbs.engines.ray_engine, "_TRIES", 1)
    deadly = Deadly(open_images(source), [0], tmp_path, once=False)
    with pytest.raises(EngineError, match=r"class0/00.png, .*2 times .*run the same command again"):
        make(deadly, tmp_path / "store", "ray", joined)


def test_a_node_that_is_killed_half_way(source, expected, joined, tmp_path, monkeypatch):
    monkeypatch.setattr(mfavbs.features.pieces, "SECONDS", 0.0)
    other = begin_node("--address", joined)
    (tmp_path / "read").mkdir()
    slow = Slow(open_images(source), 0.2, tmp_path / "read")
    lost = []

    def both_at_work():
        there = {process.pid for process in processes_of(other)}
        return {True, False} <= {pid in there for pid, _ in slow.readings()}

    def kill():
        wait_until(both_at_work)
        end_node(other)
        lost.append(len(slow.readings()))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    make(slow, tmp_path / "store", "ray", joined)
    assert lost
    assert lost[0] < N
    assert digest(tmp_path / "store") == expected


def test_an_interrupted_run_goes_on_with_another_engine(
    source, expected, joined, tmp_path, monkeypatch
):
    monkeypatch.setattr(mfavbs.features.pieces, "IMAGES", 8)
    for first, then in (("ray", "local"), ("local", "ray")):
        address = {"ray": joined, "local": None}
        out = tmp_path / first
        with monkeypatch.context() as patch:
            patch.setattr(mfavbs.features.embedding, "write_state", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                make(source, out, first, address[first])
        for piece in sorted((out / "pieces").iterdir())[5:]:
            piece.unlink()
        make(source, out, then, address[then])
        assert digest(out) == expected


def test_views_may_be_drawn_by_the_process_that_encodes(source, joined, tmp_path, monkeypatch):
    """As where it has a GPU: one task reads, another encodes."""
    monkeypatch.setattr(mfavbs.features.embedding, "DRAWN_BY_WORKERS", ())
    make(source, tmp_path / "local")
    make(source, tmp_path / "ray", "ray", joined)
    assert digest(tmp_path / "ray") == digest(tmp_path / "local")


def test_the_cache_is_filled_and_asked(source, expected, joined, tmp_path):
    make(source, tmp_path / "one", "ray", joined, cache=tmp_path / "cache")
    (tmp_path / "read").mkdir()
    make(source, tmp_path / "two", cache=tmp_path / "cache")
    make(source, tmp_path / "three", "ray", joined, cache=tmp_path / "cache")
    for name in ("one", "two", "three"):
        assert digest(tmp_path / name) == expected


def test_a_picture_that_changes_while_it_is_read(source, expected, joined, tmp_path):
    moving = tmp_path / "images"
    shutil.copytree(source, moving)
    target, content = moving / "class0/00.png", (source / "class0/00.png").read_bytes()
    stop = threading.Event()

    def change():
        while not stop.is_set():
            target.write_bytes(content + b"x" * (time.monotonic_ns() % 97))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        make(moving, tmp_path / "store", "ray", joined)
    finally:
        stop.set()
        thread.join()
    target.write_bytes(content)
    store = make(moving, tmp_path / "store", "ray", joined)
    assert "class0/00.png" in store.keys


def test_a_node_that_does_not_see_the_images(source, joined, tmp_path):
    with pytest.raises(SourceError, match=r"class0/00.png cannot be read on the node .*URL"):
        make(Unseen(open_images(source)), tmp_path / "store", "ray", joined)


def test_features_that_float16_cannot_hold_name_the_images(source, joined, tmp_path):
    encoder = load_encoder("pixels", image_size=8)
    encoder.__class__ = Overflowing
    with pytest.raises(EncoderError, match=r"65504.*class0/00.png"):
        make(source, tmp_path / "store", "ray", joined, encoder=encoder)


def embedding(source, folder, *options):
    """The command as a process."""
    how = ("--encoder", "pixels", "--image-size", 8, "--views", 3, "--device", "cpu", "--json")
    return start("embed", source, "--out", "store", *how, *options, folder=folder)


@pytest.fixture(scope="module")
def by_command(source, tmp_path_factory):
    """The bytes that a command without Ray makes."""
    folder = tmp_path_factory.mktemp("command")
    assert ended(embedding(source, folder), folder).code == 0
    return digest(folder / "store")


def begun_by(process):
    """All that runs below a process when Ray is at work for it."""
    found = []

    def at_work():
        found[:] = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(psutil.Error):
            return any("ray::mfavbs" in " ".join(each.cmdline()) for each in found)

    wait_until(at_work)
    return found


def is_running(process):
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_command_starts_a_ray_and_ends_it(source, by_command, tmp_path):
    process = embedding(source, tmp_path, "--quiet", "--engine", "ray", "--workers", 2)
    begun = begun_by(process)
    listening = set()
    for each in begun:
        with contextlib.suppress(psutil.Error):
            sockets = each.net_connections("inet")
            listening |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    done = ended(process, tmp_path)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["shape"] == [N + 1, 3, 1, 192]  # and nothing else
    assert digest(tmp_path / "store") == by_command
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    wait_until(lambda: not any(map(is_running, begun)))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_so_does_its_ray(source, by_command, tmp_path, how):
    """And the same command goes on, here without Ray."""
    process = embedding(source, tmp_path, "--engine", "ray", "--workers", 2)
    begun = begun_by(process)
    agents = {each.pid for each in begun if "Agent" in " ".join(each.cmdline())}
    os.kill(-process.pid if how == signal.SIGINT else process.pid, how)
    done = ended(process, tmp_path)
    assert done.code == (130 if how == signal.SIGINT else -how), done.err
    if how == signal.SIGKILL:  # Ray's agents, which hold nothing, look about them once a minute
        begun = [each for each in begun if each.pid not in agents]
    wait_until(lambda: not any(map(is_running, begun)))
    assert ended(embedding(source, tmp_path), tmp_path).code == 0
    assert digest(tmp_path / "store") == by_command
