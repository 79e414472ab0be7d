"""`mfavbs plan` as a process: what it prints, that it writes nothing, how it fails."""

import json
from pathlib import Path

import pytest
from command_line import mfavbs
from image_files import COLOURS, paint

TINY = ("--encoder", "pixels", "--image-size", 8, "--views", 2, "--workers", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    for i in range(36):
        paint(folder / "photos" / f"{i}.png", list(COLOURS.values())[i % 3], i)
    return folder


def test_it_tells_stages_and_advice_in_the_words_of_the_command_line(folder: Path) -> None:
    result = mfavbs("plan", "photos", "-k", 6, *TINY, folder=folder)
    assert result.code == 0, result.err
    assert "36 images, 6 clusters: about " in result.err
    for name in ("features", "training", "questions", "map", "memory", "disk meanwhile"):
        assert f"  {name} " in result.err
    assert "--n-clusters 3 or fewer" in result.err or "-k 3 or fewer" in result.err
    assert result.out == ""
    assert {path.name for path in folder.iterdir()} <= {"photos", ".logs"}


def test_json_is_one_object_that_adds_up(folder: Path) -> None:
    result = mfavbs("plan", "photos", "-k", 3, *TINY, "--json", "--quiet", folder=folder)
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    assert told["total"] == pytest.approx(sum(told["seconds"].values()), abs=0.02)
    assert set(told) == {
        *("n_images", "n_clusters", "n_to_encode", "device", "seconds", "total", "advice"),
        *("disk", "disk_meanwhile", "disk_free", "memory", "memory_machine"),
    }
    assert (told["n_images"], told["n_clusters"], told["advice"]) == (36, 3, [])


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("nowhere", "-k", 3), 1, "nowhere"),
        (("photos", "-k", 100), 1, "36 images are too few for"),
        (("photos",), 2, "give the number of clusters"),
        (("photos", "-k", "many"), 2, "no number of clusters"),
        (("photos", "-k", 3, "--weights", "none.safetensors"), 1, "none.safetensors"),
    ],
)
def test_bad_input_is_told(arguments: tuple, code: int, text: str, folder: Path) -> None:
    result = mfavbs("plan", *arguments, folder=folder)
    assert result.code == code
    assert text in result.err
    assert "Traceback" not in result.err
