"""What the README says to type is typed."""

import functools
import re
import shlex
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from command_line import mfavbs

import mfavbs as package
from mfavbs.clustering import cluster_images

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# No weights can be downloaded in a test; the encoder is the only thing changed.
NO_NETWORK = ["--encoder", "pixels", "--image-size", "8"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for source in ("photos", "new-photos"):
        for colour, value in {"red": (200, 40, 40), "green": (40, 200, 40)}.items():
            (folder / source / colour).mkdir(parents=True)
            for i in range(12):
                pixels = np.array(value) + rng.integers(-30, 30, (16, 16, 3))
                image = PIL.Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / source / colour / f"{i}.png")
    return folder


@pytest.mark.slow
def test_commands_of_the_readme_in_their_order(folder: Path) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("mfavbs ")]
    assert len(commands) == 8
    for _, command, *arguments in commands:
        if command in ("cluster", "embed", "bench") and arguments[0] == "photos":
            arguments += NO_NETWORK
        if command == "evaluate":
            labels = (folder / "mfavbs-photos" / "labels.csv").read_text(encoding="utf-8-sig")
            (folder / "labels.csv").write_text(labels.replace("cluster,", "label,", 1))
        result = mfavbs(command, *arguments, folder=folder)
        assert result.code == 0, f"{command} {arguments}\n{result.err}"


def test_python_of_the_readme(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = functools.partial(cluster_images, encoder="pixels", image_size=8, epochs=2)
    monkeypatch.setattr(package, "cluster_images", quick, raising=False)
    monkeypatch.chdir(folder)
    code = blocks("python")
    assert len(code) == 3
    for block in code:
        exec(block.replace("random_state=0", "random_state=0, epochs=2"), {"__name__": "__main__"})
    assert "red/0.png" in capsys.readouterr().out


def test_installing_in_ci_is_installing_as_the_readme_says() -> None:
    installs = [line for block in blocks("bash") for line in block.splitlines() if "venv" in line]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    words = shlex.split(installs[1].partition(" && .venv/bin/pytest")[0])
    in_script = next(line for line in script.splitlines() if line.startswith("python3 -m venv"))
    assert [
        w for w in shlex.split(in_script) if w not in ("--quiet", "--disable-pip-version-check")
    ] == words


def test_files_that_the_readme_names_exist() -> None:
    names = set(re.findall(r"`([a-z_/]+\.py|report/|benchmarks/)`", README))
    assert len(names) > 20
    here = {p.name for p in (ROOT / "src" / "mfavbs").iterdir()} | {"report/", "benchmarks/"}
    assert names <= here
    assert {n for n in here if n.endswith(".py")} - {"__init__.py", "__main__.py"} <= names
    for link in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / link).is_file()


@pytest.mark.slow
def test_demo_is_better_than_the_k_means_beside_it(tmp_path: Path) -> None:
    import json

    result = mfavbs("demo", "--json", folder=tmp_path)
    assert result.code == 0, result.err
    metrics = json.loads(result.out)
    assert metrics["scores"]["acc"] > max(0.84, metrics["baselines"]["k-means"]["acc"])
    assert (tmp_path / "mfavbs-demo" / "report.html").is_file()
