"""A report written again when the images are gone, have moved, or are others."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from report_runs import Page, make_run

from mfavbs.errors import RunError
from mfavbs.images import open_images
from mfavbs.report import write_report


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for row in range(12):
        path = tmp_path / "photos" / f"{'ab'[row % 2]}" / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8 + 60 * (row % 2), 90, 3), np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> Path:
    paths = open_images(photos).keys
    return make_run(tmp_path / "run", paths, [i % 3 for i in range(12)], source=photos)


def shown(run: Path) -> tuple[list[str], str]:
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    return page.values("src"), page.text


def test_thumbnails_stay_when_the_images_go(run: Path, photos: Path) -> None:
    write_report(run)
    before, text = shown(run)
    assert len(before) == 15  # 12, and the three least certain again
    assert "not there any more" not in text
    photos.rename(photos.with_name("moved"))
    with pytest.warns(UserWarning, match="12 thumbnails kept in the run: .* not there any more"):
        write_report(run)
    after, text = shown(run)
    assert after == before
    assert f"12 thumbnails kept in the run: {photos} is not there any more." in text
    assert "mfavbs report RUN --images SOURCE" in text


def test_they_are_kept_as_small_files_of_a_known_kind(run: Path) -> None:
    write_report(run)
    table = pq.read_table(run / "thumbnails.parquet")
    assert table.column_names == ["path", "kind", "image", "width", "height"]
    assert set(table["kind"].to_pylist()) == {"png", "webp"}
    assert table["path"].to_pylist() == sorted(table["path"].to_pylist())
    assert max(map(len, table["image"].to_pylist())) < 8000


def test_images_where_they_lie_now(run: Path, photos: Path) -> None:
    moved = photos.rename(photos.with_name("moved"))
    with pytest.warns(UserWarning, match="No thumbnails: .* not there any more"):
        write_report(run)
    assert shown(run)[0] == []
    write_report(run, open_images(moved))
    before, text = shown(run)
    assert len(before) == 15
    assert "not there any more" not in text
    # From now on they are kept: what is lost of the images is still shown.
    (moved / "a" / "00.png").unlink()
    with pytest.warns(UserWarning, match="1 of 12 thumbnails .*; those kept in the run are shown"):
        write_report(run, open_images(moved))
    assert shown(run)[0] == before


def test_other_images_are_refused_and_the_report_stays(run: Path, tmp_path: Path) -> None:
    path = write_report(run)
    before = path.read_bytes()
    (tmp_path / "other").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "other" / "x.png")
    with pytest.raises(
        RunError, match=r"None of the 12 images on show can be read from .* expected 'a/00.png'"
    ):
        write_report(run, open_images(tmp_path / "other"))
    assert path.read_bytes() == before


def test_damaged_thumbnails_are_made_again(run: Path) -> None:
    write_report(run)
    before = shown(run)[0]
    (run / "thumbnails.parquet").write_bytes(b"PAR1 cut off")
    write_report(run)
    assert shown(run)[0] == before
    assert len(pq.read_table(run / "thumbnails.parquet")) == 12


def test_what_a_killed_report_of_before_left_is_tidied_up(run: Path) -> None:
    for name in (".report.html.4711.part", "report.html.partial"):
        (run / name).write_text("half")
    write_report(run)
    assert not [*run.glob("*.partial"), *run.glob(".report*")]
