"""The report of small run folders made here, one of them full of hostile names."""

import dataclasses
import json
import re
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from report_runs import ATTRIBUTES, HOSTILE, TAGS, Page, make_run

from mfavbs.errors import RunError
from mfavbs.images.opening import open_images
from mfavbs.report import write_report
from mfavbs.report.data import collect
from mfavbs.report.page import render
from mfavbs.runs import Thumbnail, draw_map, read_run, write_names


@pytest.fixture
def photos(tmp_path):
    """Forty images in two classes, of three sizes."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for row in range(40):
        path = folder / ("cat" if row < 20 else "dog") / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = [(8, 8), (120, 200), (90, 700)][row % 3]
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def run(tmp_path, photos):
    paths = open_images(photos).keys
    clusters = [0 if row < 28 else 1 for row in range(40)]
    labels = [path.split("/")[0] for path in paths]
    return make_run(
        tmp_path / "run",
        paths,
        clusters,
        labels=labels,
        source=photos,
        scores={"acc": 0.8, "nmi": 0.512, "ari": None},
        baselines={"k-means": {"acc": 0.75, "nmi": 0.5}},
        failures=[("cat/broken.png", "truncated"), ("dog/empty.png", "empty file (0 bytes)")],
    )


def test_data_says_what_the_run_says(run):
    data = collect(run, per_cluster=12)
    assert (data.n_images, data.n_clusters, data.n_clusters_found, data.n_failures) == (40, 3, 2, 2)
    assert [(c.number, c.size, c.label, c.purity) for c in data.clusters] == [
        (0, 28, "cat", 20 / 28),
        (1, 12, "dog", 1.0),
        (2, 0, None, None),
    ]
    assert sum(c.share for c in data.clusters) == pytest.approx(1)
    largest = data.clusters[0]
    assert (len(largest.most), len(largest.least)) == (9, 3)
    assert [tile.path for tile in largest.most[:2]] == ["cat/00.png", "cat/01.png"]
    assert largest.least[-1].path == "dog/27.png"
    assert (len(data.clusters[1].most), len(data.clusters[1].least)) == (12, 0)
    assert data.least_certain[0].path == "dog/39.png"
    assert [number for number, _ in data.least_certain[0].probable] == [1, 0]
    assert data.least_certain[0].probable[0][1] == pytest.approx(0.5)
    assert data.confusion.counts == [[20, 8], [0, 12]]
    assert data.losses["total"][0] == (1.0, pytest.approx(3 - 1 / 9))
    assert data.notes == []


def test_data_is_json(run):
    data = dataclasses.asdict(collect(run))
    assert json.loads(json.dumps(data, allow_nan=False))["clusters"][0]["size"] == 28


def test_thumbnails_are_small(run):
    tiles = [tile for cluster in collect(run).clusters for tile in cluster.most + cluster.least]
    assert {min(tile.thumbnail.width, tile.thumbnail.height) for tile in tiles} == {8, 90, 96}
    assert max(tile.thumbnail.width for tile in tiles) == 180
    assert all(
        tile.thumbnail.uri.startswith("data:image/png;base64,") == (tile.thumbnail.width == 8)
        for tile in tiles
    )


def test_page_says_what_the_data_says(run):
    path = write_report(run)
    assert path == run / "report.html"
    assert sorted(file.name for file in run.iterdir() if "report" in file.name) == ["report.html"]
    page = Page(path.read_text(encoding="utf-8"))
    for text in [
        "40 images in 2 clusters of the 3 asked for",
        "2 files could not be read",
        "0.800",
        "0.512",
        "k-means 0.750",
        "28 images 70.0 % confidence",
        "purity 0.714",
        "No image is in cluster 2.",
        "cat/broken.png truncated",
        "1 min 17 s",
        "objective disjoint",
        "precision null",
        "timm:tiny",
    ]:
        assert text in page.text, text
    assert "cat/00.png" in page.values("alt")
    targets = {value[1:] for value in page.values("href")}
    assert targets <= set(page.values("id"))


def test_page_can_load_nothing(run):
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    links = [value for tag, name, value in page.attributes if name == "href" and tag != "image"]
    assert all(value.startswith("#") for value in links)
    assert all(value.startswith("data:image/") for value in page.values("src"))
    assert len(page.values("src")) >= 28
    assert "script" not in page.tags
    assert not re.search(r"https?:|url\(|@import", text)
    policy = page.values("content")[0]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_hostile_names_are_text(tmp_path):
    failures = [(name, "reason <b>bold</b>") for name in HOSTILE]
    labels = [HOSTILE[row % 8] for row in range(10)]
    run = make_run(
        tmp_path / "run",
        HOSTILE,
        [row % 2 for row in range(10)],
        labels=labels,
        failures=failures,
        scores={"acc": 1.0},
        baselines={HOSTILE[0]: {"acc": 0.5, HOSTILE[1]: 0.5}},
        seconds={HOSTILE[2]: 1.0},
        losses=[{"epoch": 1, HOSTILE[1]: 1.0}],
        insight={
            "k": {"sentence": HOSTILE[2]},
            "names": {"from": HOSTILE[0]},
            "outliers": {"n": 3, "rows": [3, 1, 99, -1]},
            "clusters": {
                str(k): {
                    "names": [{"word": HOSTILE[k]}, {"word": HOSTILE[3]}],
                    "typical": [k, 10**9],
                    "different": [k + 2],
                }
                for k in range(2)
            },
        },
        hierarchy={"order": [1, 0, 77]},
        copies=[0, 0, None, 1, 1, None, None, None, None, None],
        flags=[[HOSTILE[1]], *[[]] * 9],
        map=[[row, 0.5] for row in range(10)],
    )
    record = json.loads((run / "run.json").read_text())
    record["source"] = {"kind": "folder", "location": "/gone/" + HOSTILE[0] + "\udcff"}
    record["parameters"] = {name: name for name in HOSTILE}
    (run / "run.json").write_text(json.dumps(record))
    images = open_images(np.zeros((10, 8, 8), np.uint8))
    images.keys[:] = HOSTILE
    for given in (None, images):
        text = write_report(run, given).read_text(encoding="utf-8")
        page = Page(text)
        assert page.tags <= set(TAGS.split())
        assert {name for _, name, _ in page.attributes} <= set(ATTRIBUTES.split())
        assert not set("\u202e\u2066\r\t\x07\udcff") & set(text)
    assert HOSTILE[1] in page.values("alt")
    titles = page.values("title")
    assert any(title.startswith("a/<script>alert(1)</script>.png\nconf") for title in titles)
    assert any(title.startswith("a/\\u202egnp.exe\\u2066.png\n") for title in titles)
    assert any(title.startswith("a/line\\nfeed\\r\\t\\x07.png\n") for title in titles)
    assert any(title.startswith("a/{{ 7 * 7 }}{% raw %}.png\n") for title in titles)
    assert any(title.startswith("a/&lt;b&gt;&amp;.png\n") for title in titles)
    assert "reason <b>bold</b>" in page.text


def test_source_gone_is_said_once_and_names_stay(run, photos):
    photos.rename(photos.with_name("moved"))
    data = collect(run)
    assert all(tile.thumbnail is None for tile in data.least_certain)
    page = Page(render(data))
    assert len(data.notes) == 1
    assert f"No thumbnails: {photos} is not there any more." in page.text
    assert page.values("src") == []
    assert "00.png" in page.text


def test_images_given_are_used(run, photos):
    moved = photos.rename(photos.with_name("moved"))
    write_report(run, open_images(moved))
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "No thumbnails" not in page.text
    assert len(page.values("src")) >= 28


def test_images_without_files_on_disk(tmp_path):
    pixels = np.zeros((5, 8, 8), np.uint8)
    images = open_images(pixels)
    run = make_run(tmp_path / "run", images.keys, [0, 0, 1, 1, 2])
    assert "names no place to read from" in collect(run).notes[0]
    data = collect(run, images)
    assert data.notes == []
    assert data.clusters[0].most[0].thumbnail.width == 8


def test_images_lost_since_are_counted(run, photos):
    (photos / "cat" / "00.png").unlink()
    (photos / "cat" / "01.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = collect(run)
    assert data.notes[0].startswith("2 of ")
    assert "cat/01.png" in data.notes[0]
    assert data.clusters[0].most[0].thumbnail is None
    assert data.clusters[0].most[2].thumbnail is not None


def test_without_labels_there_are_no_scores(tmp_path):
    for scores in ({}, {"scores": None}, {"scores": {"acc": None, "nmi": None, "ari": None}}):
        run = make_run(tmp_path / "run", list("abcd"), [0, 0, 1, 2], **scores)
        data = collect(run)
        page = Page(render(data))
        assert data.scores == {}
        assert data.confusion is None
        assert not {"scores", "confusion"} & set(page.values("id"))
        assert "purity" not in page.text
    assert "Every file was read." in page.text


def test_one_cluster_found_of_one(tmp_path):
    run = make_run(tmp_path / "run", ["only"], [0], k=1, losses=[{"epoch": 1, "total": 2.0}])
    page = Page(render(collect(run)))
    assert "1 image in 1 cluster." in page.text
    assert "asked for" not in page.text


def test_no_image_and_no_finite_number(tmp_path):
    run = make_run(tmp_path / "run", [], [], losses=[{"epoch": 1, "total": float("nan")}])
    data = collect(run)
    assert json.dumps(dataclasses.asdict(data), allow_nan=False)
    assert data.losses == {}
    assert "No image is in clusters 0, 1, 2." in Page(render(data)).text


def test_many_clusters_share_the_tiles(tmp_path):
    n, k = 4000, 400
    run = make_run(tmp_path / "run", [f"{i}.png" for i in range(n)], [i % k for i in range(n)], k=k)
    data = collect(run)
    assert sum(len(c.most) + len(c.least) for c in data.clusters) == 1200
    assert len(render(data)) < 2e6


def test_confusion_keeps_to_thirty(tmp_path):
    n, k = 1600, 40
    clusters = [i % k for i in range(n)]
    labels = [f"label {c:02d}" if i else "" for i, c in enumerate(clusters)]
    run = make_run(tmp_path / "run", [f"{i}" for i in range(n)], clusters, k=k, labels=labels)
    confusion = collect(run).confusion
    assert (len(confusion.clusters), len(confusion.labels)) == (30, 30)
    assert (confusion.n_clusters, confusion.n_labels) == (40, 40)
    assert "the largest 30 of 40 clusters and 30 of 40 labels" in Page(render(collect(run))).text


def test_failures_stop_at_a_hundred(tmp_path):
    failures = [(f"broken-{row:03d}.png", "empty") for row in range(150)]
    page = Page(render(collect(make_run(tmp_path / "run", ["a"], [0], failures=failures))))
    assert "150 files could not be read" in page.text
    assert "The first 100 are listed" in page.text
    assert "broken-099.png" in page.text
    assert "broken-100.png" not in page.text


def test_what_is_left_out_is_named_and_stops_at_five_hundred(tmp_path):
    skipped = [(f"{row:03d}.txt", "not an image by its name") for row in range(550)]
    skipped += [("=<b>/@eaDir/", "thumbnails")]
    run = make_run(tmp_path / "run", ["a"], [0], skipped=skipped)
    page = Page(render(collect(run)))
    assert "Some were left out" in page.text
    assert "499.txt" in page.text
    assert "500.txt" not in page.text
    assert "The first 500 of 551 rows are listed" in page.text
    assert read_run(run).skipped == skipped
    (run / "skipped.csv").unlink()  # as runs of earlier versions are
    assert "left out" not in Page(render(collect(run))).text


@pytest.mark.parametrize("name", ["labels.parquet", "failures.csv", "metrics.json", "run.json"])
def test_missing_and_damaged_files_are_named(run, name):
    (run / name).write_bytes(b"\x00\xff not what it should be")
    with pytest.raises(RunError, match=f"{re.escape(name)} is damaged"):
        write_report(run)
    (run / name).unlink()
    with pytest.raises(RunError, match=f"no {re.escape(name)} in .*; is this a run folder"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_what_does_not_fit_is_said(run, tmp_path):
    with pytest.raises(RunError, match="is no folder"):
        write_report(tmp_path / "nowhere")
    for name, change, message in [
        ("run.json", {"schema": 2}, "has schema 2, this mfavbs reads up to 1"),
        ("run.json", {"schema": 1, "source": None}, "expected dict as 'source', got None"),
        ("run.json", {"source": {}, "encoder": "x"}, "expected dict as 'encoder', got 'x'"),
        ("metrics.json", {"scores": [1]}, "expected dict as 'scores'"),
        ("metrics.json", {"scores": None, "n_images": 41}, "counts 41 images, .* has 40 rows"),
    ]:
        value = json.loads((run / name).read_text()) | change
        (run / name).write_text(json.dumps(value))
        with pytest.raises(RunError, match=message):
            write_report(run)
        value = value | {"schema": 1, "encoder": None}
        (run / name).write_text(json.dumps(value))


def test_columns_missing_are_named(run):
    pq.write_table(pa.table({"path": ["a"], "cluster": [0]}), run / "labels.parquet")
    with pytest.raises(RunError, match="the column 'confidence'"):
        collect(run)


def test_folder_that_cannot_be_written(run):
    (run / "report.html").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write_report(run)
    assert not list(run.glob("*.part")) + list(run.glob(".*.part"))


def test_names_spelled_with_combining_characters_are_found(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 40)).save(photos / normalize("NFD", "é.png"))
    run = make_run(tmp_path / "run", [normalize("NFC", "é.png")], [0], source=photos)
    data = collect(run)
    assert data.notes == []
    assert data.clusters[0].most[0].thumbnail


def test_page_shows_what_is_known_of_the_clusters(tmp_path, photos):
    paths = open_images(photos).keys
    about = {
        str(k): {
            "typical": list(range(20 * k + 3, 20 * k + 6)),
            "different": [20 * k + 9],
            "names": [{"word": word, "score": 0.9, "margin": 0.1}, {"word": "animal"}],
            "stability": 0.5 + k / 4,
        }
        for k, word in enumerate(["cat", "dog"])
    }
    run = make_run(
        tmp_path / "run",
        paths,
        [int(row >= 20) for row in range(40)],
        k=2,
        source=photos,
        trust=np.linspace(0.9, 0.5, 40),
        outlier=np.linspace(1, 0.01, 40),
        copies=[0 if row in (1, 30, 7) else 1 if row in (2, 3) else None for row in range(40)],
        flags=[["dark"] if row in (4, 5) else [] for row in range(40)],
        insight={
            "clusters": about,
            "outliers": {"n": 2, "rows": [39, 38]},
            "k": {
                "sentence": "Two groups were found.",
                "chosen": 3,
                "curve": {"numbers": [2, 3, 4], "evidence": [0.1, 0.5, None]},
            },
            "names": {"from": "words.txt"},
        },
        hierarchy={"order": [1, 0]},
        map=np.random.default_rng(0).standard_normal((40, 2)),
    )
    write_names(run, {1: "hound"})
    data = collect(run, per_cluster=8)
    assert [cluster.number for cluster in data.clusters] == [1, 0]
    assert [tile.path for tile in data.clusters[1].most[:3]] == paths[3:6]
    assert [tile.path for tile in data.clusters[1].least] == [paths[9]]
    assert [tile.path for tile in data.outliers] == [paths[39], paths[38]]
    assert [[tile.path for tile in group] for group in data.copies] == [
        [paths[1], paths[7], paths[30]],
        [paths[2], paths[3]],
    ]
    assert [(flag.name, flag.count) for flag in data.flags] == [("dark", 2)]
    page = Page(write_report(run).read_text(encoding="utf-8"))
    for text in ["Two groups were found.", "from words.txt", "or: animal", "comes back 0.75"]:
        assert text in page.text, text
    assert "cat ?" in page.text
    assert "hound ?" not in page.text
    assert "0 cat" in page.text  # on the map
    assert data.evidence == [(2, 0.1), (3, 0.5)]
    assert ("circle", "cx", "240.0") in page.attributes  # the choice, at the right end
    assert {"map", "outliers", "copies", "flags", "number"} <= set(page.values("id"))
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("image", "href")]
    assert len(pictures) == 2
    assert all(value.startswith("data:image/") for value in pictures)


@pytest.mark.parametrize("k", [1, 7, 200])
def test_a_map_is_drawn_for_any_number_of_clusters(k):
    rng = np.random.default_rng(0)
    clusters = np.arange(2 * k) % k
    picture = Thumbnail("data:image/png;base64,AA", 9, 9)
    places = rng.standard_normal((2 * k, 2)).astype(np.float32)
    places[0] = np.nan
    svg = draw_map(places, clusters, dict.fromkeys(range(k), picture), [None] * k)
    page = Page(svg)
    squares = [
        tuple(
            float(value)
            for tag, name, value in page.attributes
            if tag == "image" and name == wanted
        )
        for wanted in ("x", "y", "width")
    ]
    x, y, edge = map(np.array, squares)
    assert len(x) == k
    assert (x >= 0).all()
    assert (x + edge <= 2000).all()
    near = (np.abs(x[:, None] - x) < 0.8 * edge[0]) & (np.abs(y[:, None] - y) < 0.8 * edge[0])
    assert near.sum() == k  # none over another


def test_a_map_of_many_images_stays_small():
    places = np.random.default_rng(0).standard_normal((100_000, 2)).astype(np.float32)
    assert len(draw_map(places, np.zeros(100_000, int), {}, [None])) < 400_000


def test_what_an_update_changed_is_told(run):
    changes = {
        "images": {"new": 1200, "gone": 0, "kept": 40},
        "clusters": {
            "continued": {"0": 0},
            "grown": {"10": [5, 9], "9": [1, 2000]},
            "split": {"1": [2, 3, 4]},
            "merged": {"5": [6, 7]},
            "vanished": [],
            "new": list(range(20)),
        },
    }
    (run / "changes.json").write_text(json.dumps(changes))
    assert collect(run).changes == [
        "New images: 1,200",
        "Gone images: 0",
        "Kept images: 40",
        "Grown: 9 from 1 to 2,000; 10 from 5 to 9",
        "Split: 1 into 2, 3 and 4",
        "Merged: 6 and 7 into 5",
        "New clusters: 0; 1; 2; 3; 4; 5; 6; 7; 8; 9; 10; 11; and 8 more",
    ]
    assert "Merged: 6 and 7 into 5" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_the_time_of_a_stage_is_not_counted_again_with_its_parts(tmp_path):
    seconds = {"features": 10.0, "training": 20.0, "training: epochs": 15.0, "insight: map": 3.0}
    run = make_run(tmp_path / "run", ["a.png", "b.png"], [0, 1], seconds=seconds)
    text = write_report(run).read_text(encoding="utf-8")
    assert re.search(r"<dt>Time</dt><dd>33\.0\ss</dd>", text)
