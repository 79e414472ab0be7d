"""What a run shows in a notebook."""

from pathlib import Path

import numpy as np
import pytest
from image_files import COLOURS, paint
from report_runs import HOSTILE, Page, make_run

from mfavbs.errors import RunError
from mfavbs.images import open_images
from mfavbs.runs import read_run, write_names


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, (name, colour) in enumerate(COLOURS.items()):
        for row in range(4):
            paint(tmp_path / "photos" / name / f"{row}.png", colour, 10 * number + row)
    return tmp_path / "photos"


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> Path:
    about = {
        str(k): {
            "typical": [4 * k + 1, 4 * k],
            "different": [4 * k + 3],
            "names": [{"word": "hue"}],
        }
        for k in range(3)
    }
    return make_run(
        tmp_path / "run",
        open_images(photos).keys,
        [row // 4 for row in range(12)],
        source=photos,
        insight={"clusters": about},
        map=np.arange(24).reshape(12, 2),
    )


def test_a_cluster_is_shown_by_its_images(run: Path) -> None:
    shown = read_run(run).show(1)
    assert shown.paths == ["green/1.png", "green/0.png", "green/3.png"]
    assert repr(shown).splitlines()[:3] == [
        'Cluster 1 perhaps "hue", 4 images',
        "Most typical:",
        "  green/1.png",
    ]
    page = Page(shown._repr_html_())
    assert page.values("alt") == shown.paths
    assert all(value.startswith("data:image/") for value in page.values("src"))
    with pytest.raises(RunError, match="cluster=3 should be one of the run's, 0 to 2"):
        read_run(run).show(3)


def test_paths_stand_in_for_images_that_are_gone(run: Path, photos: Path) -> None:
    photos.rename(photos.with_name("moved"))
    page = Page(read_run(run).show(0)._repr_html_())
    assert "blue/1.png" in page.text
    assert not page.values("src")


def test_the_map_is_a_drawing(run: Path) -> None:
    text = str(read_run(run).plot_map())
    assert text.startswith("<svg")
    assert (
        len([None for tag, name, _ in Page(text).attributes if (tag, name) == ("image", "href")])
        == 3
    )
    (run / "map.parquet").unlink()
    with pytest.raises(RunError, match="mfavbs report"):
        read_run(run).plot_map()


def test_a_run_is_a_table_of_its_clusters(run: Path) -> None:
    write_names(run, {2: "sky"})
    page = Page(read_run(run)._repr_html_())
    assert 'Cluster 2 "sky" 4' in page.text
    assert "12 images in 3 clusters" in page.text


def test_hostile_names_are_text_there_too(tmp_path: Path) -> None:
    insight = {"clusters": {"0": {"names": [{"word": HOSTILE[0]}], "typical": [0, 1, 2]}}}
    run = read_run(
        make_run(tmp_path / "run", HOSTILE, [0] * 10, k=1, insight=insight, map=np.eye(10)[:, :2])
    )
    for text in (run._repr_html_(), run.show(0)._repr_html_(), str(run.plot_map())):
        assert not {"script", "img"} & Page(text).tags
        assert not any("onerror" in name for _, name, _ in Page(text).attributes)
