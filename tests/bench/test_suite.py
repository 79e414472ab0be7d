"""`mfavbs bench --suite`: what it runs, keeps, goes on with and refuses."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import mfavbs
from feature_blobs import blobs, save_store
from killing import count_touches, run_until

from mfavbs.bench import suite_trials
from mfavbs.bench.suite import bench_suite
from mfavbs.bench.suite_features import some_of
from mfavbs.bench.suite_file import read_suite
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.metrics import score

DIGITS = """
limit = 200
seeds = [0, 1]
methods = ["kmeans", "spectral"]

[[sets]]
source = "digits"
encoder = "pixels"
"""
BLOBS = """
seeds = [0, 1]
methods = [
    "kmeans",
    {name = "mfavbs", label = "heads alone", parameters = {n_blocks = 0, epochs = 1}},
    {name = "mfavbs", label = "impossible", parameters = {dim = 6}, seeds = [3]},
]
reference = "heads alone"

[[sets]]
source = "blobs"
group = "made up"
encoder = "drawn"
[[sets]]
source = "more blobs"
k = 4
"""


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    for name, n in (("blobs", 90), ("more blobs", 60)):
        features, y = blobs(n)
        save_store(folder / name, y, features)
    (folder / "blobs.toml").write_text(BLOBS)
    return folder


def test_killed_in_the_middle_it_goes_on_and_runs_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(DIGITS)
    whole = ("bench", "--suite", "digits.toml", "--quiet", "--json", "--out", "whole")
    n_touches = count_touches(*whole, folder=tmp_path, watched=tmp_path / "whole")
    out = tmp_path / "cut"
    # The last touches are those of the summary and the lock: the second last trial is cut off.
    cut = (*whole[:-1], "cut")
    killed = run_until(n_touches - 6, *cut, folder=tmp_path, watched=out)
    assert killed.code == -signal.SIGKILL
    before = (out / "trials.jsonl").read_bytes()
    assert 1 <= before.count(b"\n") < 4
    went_on = mfavbs(*cut, folder=tmp_path)
    assert went_on.code == 0, went_on.err
    after = (out / "trials.jsonl").read_bytes()
    assert after.startswith(before)
    same = ("method", "seed", "scores", "labels", "features", "n", "k", "set", "group", "encoder")
    found, expected = (
        [{k: t[k] for k in same} for t in lines(o)] for o in (out, out.parent / "whole")
    )
    assert found == expected
    assert [t["n"] for t in found] == [200] * 4
    assert {(t["method"], t["seed"]) for t in found} == {
        (method, seed) for method in ("kmeans", "spectral") for seed in (0, 1)
    }
    again = mfavbs("bench", "--suite", "digits.toml", "--summary", "--out", "cut", folder=tmp_path)
    assert again.code == 0
    assert "digits (digits), pixels: 200 images, k = 10" in again.err
    assert (out / "trials.jsonl").read_bytes() == after


def test_stores_variants_and_a_failure_that_stops_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = bench_suite(folder / "blobs.toml", out=out, verbose=False)
    trials = lines(out)
    assert len(trials) == 10
    failed = [trial for trial in trials if "error" in trial]
    assert [(t["method"], t["seed"]) for t in failed] == [("impossible", 3)] * 2
    assert "dim=6 should be a multiple" in failed[0]["error"]
    assert found["failed"][1]["set"] == "more blobs"
    first, second = found["cells"]
    assert (first["set"], first["group"], first["encoder"]) == ("blobs", "made up", "drawn")
    assert (second["n"], second["k"], second["encoder"]) == (60, 4, "as stored")
    assert first["rows"][0]["acc"] == 1
    assert found["paired"][0]["reference"] == "heads alone"
    ours = next(trial for trial in trials if trial["method"] == "heads alone")
    assert ours["parameters"]["n_blocks"] == 0
    assert ours["parameters"]["n_neighbors"] == 10  # those that were not changed are kept too
    labels = suite_trials.unpack(ours["labels"])
    truth = blobs(90)[1]
    assert score(truth, labels) == pytest.approx(ours["scores"])

    bench_suite(folder / "blobs.toml", out=out, verbose=False)  # the failures are tried again
    assert [t["method"] for t in lines(out)[10:]] == ["impossible"] * 2


def test_a_trial_of_another_method_of_the_same_name_is_run(folder: Path, tmp_path: Path) -> None:
    file = folder / "one.toml"
    for text in ('["kmeans"]', '[{name = "kmeans", label = "k-means"}]'):
        file.write_text(f'methods = {text}\nseeds = [0]\n[[sets]]\nsource = "blobs"\n')
        found = bench_suite(file, out=tmp_path / "out", verbose=False)
    assert found["cells"][0]["rows"][0]["method"] == "k-means"
    assert len(lines(tmp_path / "out")) == 1  # only what it is called has changed
    file.write_text(file.read_text().replace('"blobs"', '"blobs"\nk = 2'))
    bench_suite(file, out=tmp_path / "out", verbose=False)
    assert [trial["k"] for trial in lines(tmp_path / "out")] == [3, 2]


def test_a_process_that_dies_is_a_failed_trial_and_another_takes_over(folder, tmp_path) -> None:
    job = {"store": folder / "blobs", "rows": [*range(0, 90, 2)], "name": "kmeans", "k": 3}
    job |= {"seed": 0, "parameters": {}}
    with suite_trials.worker("cpu", tmp_path / "log") as worker:
        first = worker.run(job)
        os.kill(worker._process.pid, signal.SIGKILL)
        assert "died with exit code -9" in worker.run(job)["error"]
        np.testing.assert_array_equal(worker.run(job)["clusters"], first["clusters"])
    assert len(first["clusters"]) == 45


def test_a_line_cut_short_is_left_out_and_the_next_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    suite_trials.append_trial(file, {"a": 1})
    with open(file, "ab") as opened:
        opened.write(b'{"a": 2, "lab')
    suite_trials.append_trial(file, {"a": 3})
    assert suite_trials.read_trials(file) == [{"a": 1}, {"a": 3}]


def test_labels_survive_as_text() -> None:
    labels = np.random.default_rng(0).integers(0, 1000, 500)
    np.testing.assert_array_equal(suite_trials.unpack(suite_trials.pack(labels)), labels)


def test_a_clustering_collapses_by_its_effective_number_of_clusters() -> None:
    truth = [str(i % 4) for i in range(400)]
    assert suite_trials.effective(np.arange(400) % 4) == pytest.approx(4)
    lumped = np.zeros(400, int)
    lumped[:9] = [1, 1, 1, 2, 2, 2, 3, 3, 3]  # four clusters, three of them next to nothing
    judged = suite_trials.judge(truth, lumped)
    assert (judged["n_found"], judged["collapsed"]) == (4, True)
    assert not suite_trials.judge(truth, np.arange(400) % 3)["collapsed"]


def test_some_of_a_set_are_drawn_from_all_of_it() -> None:
    rows = some_of(10_000, 500)
    assert len(set(rows)) == 500
    assert rows == sorted(rows) == some_of(10_000, 500)
    counts = np.bincount(np.array(rows) // 1000, minlength=10)
    assert counts.min() > 25  # 50 are expected in each tenth, with a deviation of 7
    assert some_of(3, 500) == some_of(3, None) == [0, 1, 2]


WRONG = {
    "an unknown key": ("limt = 5\n" + DIGITS, "no key 'limt'.*Did you mean limit"),
    "an unknown key of a set": (DIGITS + "grup = 'a'", "no key 'grup'.*Did you mean group"),
    "a method that there is not": (DIGITS.replace("kmeans", "kmean"), "Did you mean kmeans"),
    "a set that is nowhere": (DIGITS.replace("digits", "dogs"), "no set 'dogs'.*does not exist"),
    "no TOML": ("sets = [", "no TOML"),
    "no sets": ('methods = ["kmeans"]', "there is no sets"),
    "a set without encoder": (DIGITS.replace("encoder", "group"), "no encoder for digits"),
    "a wrong type": (DIGITS.replace("200", '"200"'), "limit should be a number"),
    "wrong seeds": (DIGITS.replace("[0, 1]", '["a"]'), "should be a list of numbers"),
    "an encoder of numbers": (DIGITS + "[[encoders]]\nname = [1]", "should be a list of texts"),
    "two of one name": (DIGITS.replace('"spectral"', '"kmeans"'), "two are called method"),
    "parameters of a peer": (
        DIGITS.replace('"kmeans"', '{name = "kmeans", parameters = {a = 1}}'),
        "parameters are for mfavbs alone",
    ),
    "a reference that is not compared": ("reference = 'cc'\n" + DIGITS, "reference='cc' should be"),
    "weights that are nowhere": (
        DIGITS.replace('encoder = "pixels"', "")
        + '[[encoders]]\nname = "timm:resnet18"\nweights = "w.pt"',
        "there is none at .*w.pt",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_cannot_be_used_is_explained(case: str, tmp_path: Path) -> None:
    text, message = WRONG[case]
    (tmp_path / "suite.toml").write_text(text)
    with pytest.raises(MfavbsError, match=message):
        read_suite(tmp_path / "suite.toml")


def test_paths_begin_at_the_file_or_where_they_are_told_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(BLOBS)
    with pytest.raises(SourceError, match="no set 'blobs'"):
        read_suite(tmp_path / "suite.toml")
    suite = read_suite(tmp_path / "suite.toml", data=folder)
    assert suite.cells[0][0].source == str(folder / "blobs")


def test_a_parameter_that_there_is_not_is_said_before_anything_is_run(folder, tmp_path) -> None:
    file = folder / "wrong.toml"
    file.write_text(BLOBS.replace("n_blocks", "n_block"))
    with pytest.raises(MfavbsError, match=r"no parameter 'n_block'.*Did you mean n_blocks"):
        bench_suite(file, out=tmp_path / "out", verbose=False)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(RunError, match="is not the folder of a suite"):
        bench_suite(folder / "blobs.toml", out=tmp_path, verbose=False)
    with pytest.raises(RunError, match=r"holds no trials\.jsonl"):
        bench_suite(folder / "blobs.toml", out=tmp_path, only_summary=True, verbose=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a SOURCE or --suite FILE"),
        (("blobs", "--suite", "blobs.toml"), "either a SOURCE or --suite FILE"),
        (("--suite", "blobs.toml", "--seeds", "5"), "--seeds stands in the file"),
        (("blobs", "--summary"), "--summary is of a suite"),
    ],
)
def test_what_does_not_go_together_is_refused(folder: Path, arguments, message) -> None:
    ended = mfavbs("bench", *arguments, folder=folder)
    assert ended.code == 2
    assert message in " ".join(ended.err.replace("│", " ").split())
