"""What the README and the how-to say to type is typed; what the docs name is there."""

import contextlib
import functools
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from command_line import mfavbs

import mfavbs as package
from mfavbs.clustering import cluster_images

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "mfavbs"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
NO_NETWORK = ["--encoder", "pixels", "--image-size", "8"]  # no weights can be downloaded in a test


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str = r"\w+") -> list[tuple[str, str]]:
    return re.findall(rf"^```({language})\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    lines = [line for _, block in blocks(page, "bash") for line in lines_of(block)]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("mfavbs ")]


def lines_of(block: str) -> list[str]:
    return block.replace("\\\n", "").splitlines()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with ``photos``, ``new-photos`` and ``labels.csv``, as the pages assume."""
    rng = np.random.default_rng(0)
    labels = ["path,label"]
    for source in ("photos", "new-photos"):
        for colour, value in {"red": (200, 40, 40), "green": (40, 200, 40)}.items():
            (tmp_path / source / colour).mkdir(parents=True)
            for i in range(12):
                pixels = np.array(value) + rng.integers(-30, 30, (16, 16, 3))
                image = PIL.Image.fromarray(pixels.astype(np.uint8))
                image.save(tmp_path / source / colour / f"{i}.png")
                labels += [f"{colour}/{i}.png,{colour}"] * (source == "photos")
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    """Run a command as it stands, but for what makes it quick; return its stdout."""
    _, name, *arguments = command
    if "auto" in arguments:  # 24 pictures of noise may well be one group, which is refused
        arguments[arguments.index("auto")] = "2:20"
    if "--update" in arguments:
        shutil.copytree(folder / "new-photos", folder / "photos" / "later")
    if name in ("cluster", "embed", "bench", "plan") and "photos" in arguments:
        arguments += [] if "--encoder" in arguments else NO_NETWORK
    if "--train" in arguments:
        arguments += ["--resolution", "8"]
    if "--suite" not in arguments:
        arguments += {"cluster": ["--epochs", "2"], "bench": ["--seeds", "1"]}.get(name, [])
    if name in ("cluster", "embed", "predict", "bench", "plan"):
        arguments += ["--workers", "0"]
    result = mfavbs(name, *arguments, folder=folder)
    assert result.code == 0, f"{name} {arguments}\n{result.err}"
    return result.out


def execute(code: str) -> str:
    """Run a block of Python with fewer epochs; return what it printed."""
    code = code.replace("n_clusters=10, random_state=0", "n_clusters=10, random_state=0, epochs=2")
    code = code.replace("in range(20)", "in range(2)")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {"__name__": "__main__"})
    return printed.getvalue()


@pytest.mark.slow
def test_commands_of_the_readme_in_their_order(photos: Path) -> None:
    demo, *others = commands("README.md")
    assert demo == ["mfavbs", "demo"]  # tested below
    assert len(others) == 16
    for command in others:
        run(command, photos)
    assert sum(1 for _ in (photos / "mfavbs-photos" / "labels.csv").open()) == 1 + 24 + 24


def test_python_of_the_readme(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(cluster_images, encoder="pixels", image_size=8, epochs=2, n_workers=0)
    monkeypatch.setattr(package, "cluster_images", quick, raising=False)
    monkeypatch.chdir(photos)
    first, *others = [code for _, code in blocks("README.md", "python")]
    assert len(others) == 2
    assert "red/0.png" in execute(first)
    for code in others:
        execute(code)


@pytest.mark.slow
def test_commands_and_python_of_the_how_to_in_their_order(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    out = []
    for language, block in blocks("docs/how-to.md"):
        if language == "python":
            out.append(execute(block))
        if language == "toml":
            (photos / "suite.toml").write_text(block, encoding="utf-8")
        for line in lines_of(block) if language == "bash" else []:
            assert line.startswith("mfavbs "), line
            out.append(run(shlex.split(line, comments=True), photos))
    assert len(out) == 34
    summary = json.loads((photos / "bench-suite" / "suite.json").read_text())
    assert (summary["n_trials"], summary["n_missing"]) == (12, 0)
    changes = json.loads((photos / "album" / "changes.json").read_text())  # one --back from --refit
    assert changes["images"] == {"new": 24, "kept": 24, "gone": 0}
    *_, from_json, from_loop = out
    assert set(json.loads(from_json)) == {
        *("run", "n_images", "n_failures", "n_skipped", "n_warnings"),
        *("n_clusters", "n_clusters_found", "seconds", "peak_memory_mib", "views_nearest_own"),
        *("stage_memory_mib", "insight"),
    }
    assert "this loop {'acc': 0." in from_loop


@pytest.mark.slow
def test_demo_is_better_than_the_k_means_beside_it(tmp_path: Path) -> None:
    result = mfavbs("demo", "--json", folder=tmp_path)
    assert result.code == 0, result.err
    metrics = json.loads(result.out)
    assert metrics["scores"]["acc"] > max(0.84, metrics["baselines"]["k-means"]["acc"])
    assert (tmp_path / "mfavbs-demo" / "report.html").is_file()


def test_ci_installs_and_tests_as_the_readme_says() -> None:
    lines = [line for _, block in blocks("README.md", "bash") for line in block.splitlines()]
    make, _, _, install, test = lines[:5]
    assert (make, test) == ("python3 -m venv .venv && . .venv/bin/activate", "pytest")
    script = text(".ci/run")
    assert f"\n{make}\n" in script
    assert install in script.replace(" --quiet --disable-pip-version-check", "")
    assert "\nsphinx-build -W " in script


def test_the_table_of_rooms_names_every_module_and_nothing_else() -> None:
    room, named = "", []
    for row in text("docs/architecture.md").split("## Rooms")[1].split("\n\n")[2].splitlines():
        _, first, files, _, _ = row.split("|")
        if first.strip():
            room = "".join(re.findall(r"`(\w+/)`", first))  # "" for the ground and the flows
        named += [room + file for file in re.findall(r"`([\w/]+\.py)`", files)]
    there = {path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py")}
    assert sorted(named) == sorted(name for name in there if "__init__" not in name)


def test_files_that_the_docs_name_are_there() -> None:
    there = {path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py")}
    found = 0
    for page in ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        for name in set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text(page))):
            known = f"bench/{name}" if name.startswith("peers/") else name
            assert known in there or (ROOT / name).is_file(), f"{page}: {name}"
            found += 1
    assert found > 15


def test_measurements_that_comments_name_are_there() -> None:
    headings = set(re.findall(r"^#+ (.+)$", text("docs/experiments.md"), re.MULTILINE))
    comments = "".join(path.read_text(encoding="utf-8") for path in SRC.rglob("*.py"))
    comments = re.sub(r"\n *# ", " ", comments)  # a name may be broken over two lines
    lists = re.findall(r'docs/experiments\.md, ("[^"]+"(?: and "[^"]+")*)', comments)
    named = {name for found in lists for name in re.findall(r'"([^"]+)"', found)}
    assert len(named) > 3
    assert named <= headings


def test_pages_that_links_lead_to_are_there() -> None:
    found = 0
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
            found += 1
    assert found > 30


def test_every_public_name_is_on_the_site() -> None:
    pages = "".join(text(f"docs/api/{p.name}") for p in (ROOT / "docs" / "api").glob("*.md"))
    on_the_site = re.findall(r"^\.\. auto\w+:: (\S+)$", pages, re.MULTILINE)
    assert {f"mfavbs.{name}" for name in package.__all__} <= set(on_the_site)


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = text("CITATION.cff")
    assert f"\nversion: {package.__version__}\n" in citation
    assert "arXiv:2511.08883" in citation
