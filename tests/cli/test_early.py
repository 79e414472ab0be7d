"""In: calls that cannot be done. Out: the answer, at once and without torch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import COLOURS, paint
from report_runs import make_run

from mfavbs.locking import alone_in

HEAVY = ("torch", "sklearn", "scipy", "faiss", "timm", "open_clip", "ray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a finished run of others, a finished store of others, and somebody's own files."""
    folder = tmp_path_factory.mktemp("early")
    for i in range(6):
        paint(folder / "photos" / f"{i}.png", COLOURS["red"], i)
        paint(folder / "labelled" / "ab"[i % 2] / f"{i}.png", COLOURS["red"], i)
    make_run(folder / "run", ["a/0.png", "b/1.png"], [0, 1], k=2)
    (folder / "truth.csv").write_text("path,label\na/0.png,a\nb/1.png,b\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("do not touch")
    (folder / "store").mkdir()
    begun = {"schema": 2, "encoder": "pixels", "grid": 0, "n_views": 5, "seed": 1}
    (folder / "store" / "progress.json").write_text(json.dumps(begun))
    np.save(folder / "features.npy", np.eye(8, 4))
    (folder / "suite.toml").write_text('methods = ["kmeans"]\nsets = [{source = "nowhere"}]')
    return folder


def answer(folder: Path, *arguments: str) -> tuple[int, list[str], set[str]]:
    """Exit code, lines on stderr, and which of the heavy packages were imported."""
    command = [sys.executable, "-X", "importtime", "-m", "mfavbs", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    lines = ended.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    said = [line for line in lines if not line.startswith("import time")]
    return ended.returncode, said, {name for name in HEAVY if name in imported}


CLUSTER = ("cluster", "photos", "-k", "2", "--encoder", "pixels")
EMBED = ("embed", "photos", "--encoder", "pixels", "--out")
REFUSED = {
    "no such suite": (("bench", "--suite", "nowhere.toml"), "nowhere.toml cannot be read"),
    "no such set of a suite": (("bench", "--suite", "suite.toml"), "no set 'nowhere'"),
    "no such source": (("cluster", "nowhere", "-k", "2"), "nowhere does not exist"),
    "no source to plan": (("plan", "nowhere", "-k", "2"), "nowhere does not exist"),
    "too many clusters to plan": (("plan", "photos", "-k", "7"), "-k 7"),
    "no weights to plan": (("plan", "photos", "-k", "2", "--weights", "w.pt"), "none at w.pt"),
    "a run to plan": (("plan", "run", "-k", "2"), "run is a finished run"),
    "one cluster": (("cluster", "photos", "-k", "1"), "-k 1 should be >= 2"),
    "a range of one": (("cluster", "photos", "-k", "5:5"), "-k 5:5 is no range"),
    "too few to tell": (("cluster", "photos", "-k", "auto"), "expected 20 at least"),
    "more clusters than images": (("cluster", "photos", "-k", "7"), "-k 7"),
    "no such kind of encoder": (("cluster", "photos", "-k", "2", "--encoder", "b32"), "timm:b32"),
    "no such weights": (("cluster", "photos", "-k", "2", "--weights", "w.pt"), "none at w.pt"),
    "no such weights of the second": (
        (*CLUSTER, "--encoder", "timm:b", "--weights", "-", "--weights", "w.pt"),
        "weights of timm:b, there is none at w.pt",
    ),
    "one file for two": ((*CLUSTER, "--encoder", "timm:b", "--weights", "w"), "got 1 for 2"),
    "no such device": ((*CLUSTER, "--device", "gpu"), "--device gpu should be auto or one of cpu"),
    "no such engine": ((*CLUSTER, "--engine", "dask"), "--engine dask should be local or ray"),
    "an address without Ray": (
        (*EMBED, "new", "--ray-address", "head:6379"),
        "--ray-address head:6379 is for --engine ray",
    ),
    "no Ray there": (
        ("predict", "run", "photos", "--engine", "ray", "--ray-address", "127.0.0.1:9"),
        "nobody answers at --ray-address 127.0.0.1:9",
    ),
    "no such views": ((*CLUSTER, "--augment", "mild"), "--augment mild should be one"),
    "no views in a store": ((*EMBED, "new", "--augment", "x"), "--augment x should be one of none"),
    "no views in bench": (("bench", "labelled", "--augment", "x"), "--augment x should be one"),
    "other views": ((*EMBED, "store", "--seed", "1", "--augment", "none", "--views", "5"), "now"),
    "a run is there": ((*CLUSTER, "--out", "run"), "run already holds a run"),
    "somebody's folder": ((*CLUSTER, "--out", "mine"), "mine exists and is not a run folder"),
    "no folders for labels": ((*CLUSTER, "--labels-from-folders"), "Drop --labels-from-folders"),
    "predict without a run": (("predict", "nowhere", "photos"), "nowhere is no folder"),
    "predict nothing": (("predict", "run", "nowhere"), "nowhere does not exist"),
    "embed nothing": (("embed", "nowhere", "--out", "new"), "nowhere does not exist"),
    "another store": ((*EMBED, "store"), "--seed 1, now --seed 0"),
    "store in somebody's folder": ((*EMBED, "mine"), "mine exists and is not a feature store"),
    "no truth": (("evaluate", "run", "--truth", "no.csv"), "no.csv"),
    "report of nothing": (("report", "mine"), "run.json"),
    "bench of nothing": (("bench", "nowhere"), "nowhere does not exist"),
    "bench in somebody's folder": (("bench", "labelled", "--out", "mine"), "mine exists"),
    "bench without labels": (("bench", "features.npy"), "has no labels"),
    "no such method": (("bench", "labelled", "--methods", "kmean"), "Did you mean kmeans"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_without_torch(case: str, folder: Path) -> None:
    arguments, message = REFUSED[case]
    before = sorted(folder.rglob("*"))
    code, said, imported = answer(folder, *arguments)
    assert code == 1, said
    assert message in said[-1]
    assert len(said) == 2  # what was to be done, and why not
    assert not imported
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        CLUSTER,
        EMBED[:-1],
        ("predict", "run", "features.npy"),
        ("bench", "labelled", "--methods", "cc"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_who_comes_second_is_told_without_torch(
    arguments: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with alone_in(out):
        code, said, imported = answer(folder, *arguments, "--out", str(out))
    assert code == 1, said
    assert "Another process of mfavbs is at work in" in said[-1]
    assert not imported


def test_evaluate_and_report_import_no_torch(folder: Path) -> None:
    code, said, imported = answer(folder, "evaluate", "run", "--truth", "truth.csv")
    assert code == 0, said
    assert "1.000" in said[-1]
    assert "torch" not in imported
    code, said, imported = answer(folder, "report", "run")
    assert code == 0, said
    assert "torch" not in imported


@pytest.mark.parametrize("arguments", [(*CLUSTER, "--epochs", "1"), (*EMBED, "new")])
def test_the_first_line_is_there_at_once(
    arguments: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mfavbs", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    imported = []
    for line in process.stderr:
        if not line.startswith("import time"):
            break
        imported.append(line.rpartition("|")[2].strip())
    process.kill()
    process.wait()
    process.stderr.close()
    assert "photos" in line
    assert "numpy" not in imported  # what costs a tenth of a second comes after it
    assert len(imported) < 1000


def test_weights_that_cannot_be_fetched_leave_no_folder_behind(
    folder: Path, tmp_path: Path
) -> None:
    offline = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for command in (("cluster", "-k", "2"), ("embed",), ("bench", "--methods", "kmeans")):
        arguments = [command[0], str(folder / "labelled"), *command[1:]]
        arguments += ["--encoder", "timm:resnet10t.c3_in1k"]
        ended = subprocess.run(
            [sys.executable, "-m", "mfavbs", *arguments, "--out", "new"],
            cwd=tmp_path, env=offline, capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 1, ended.stderr
        assert "could not be downloaded" in ended.stderr
        assert not (tmp_path / "new").exists()


def test_quiet_says_nothing_but_errors_and_the_object(folder: Path, tmp_path: Path) -> None:
    base = [sys.executable, "-m", "mfavbs"]
    truth = ["--truth", "truth.csv", "--quiet", "--json"]
    done = subprocess.run([*base, "evaluate", "run", *truth], cwd=folder, capture_output=True)
    assert done.stderr == b""
    assert json.loads(done.stdout)["acc"] == 1
    failed = subprocess.run(
        [*base, "report", "nowhere", "--quiet"], cwd=folder, capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("clu",), "cluster"),
        (("cluster", "--enc"), "--encoder"),
        (("cluster", "--encoder", "ti"), "timm:"),
        (("embed", "--device", "cu"), "cuda"),
        (("cluster", "--objective", "p"), "paper"),
        (("bench", "--methods", "kmeans,um"), "kmeans,umap"),
    ],
)
def test_the_shell_completes(words: tuple[str, ...], found: str) -> None:
    asked = {"_MFAVBS_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words))}
    environment = os.environ | asked | {"COMP_WORDS": " ".join(("mfavbs", *words))}
    code = "import sys; sys.argv = ['mfavbs']; from mfavbs.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert found in ended.stdout.split("\n")


def test_a_narrow_terminal_without_colour_and_a_pipe(folder: Path) -> None:
    plain = os.environ | {"NO_COLOR": "1", "COLUMNS": "40", "TERM": "xterm-256color"}
    for arguments in (("--help",), ("cluster", "--help"), ("cluster",), ("report", "nowhere")):
        start = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "mfavbs", *arguments],
            cwd=folder, env=plain, capture_output=True, text=True,
        )  # fmt: skip
        assert time.monotonic() - start < 10
        assert "\x1b" not in ended.stdout + ended.stderr
        if arguments[-1] == "--help":
            assert max(map(len, ended.stdout.splitlines())) <= 40
