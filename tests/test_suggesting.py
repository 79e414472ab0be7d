"""Names of a run's clusters: by words with vectors, by a CLIP's text side, by paths."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from image_files import COLOURS, paint
from safetensors.torch import save_file

from mfavbs import cluster_images, open_images
from mfavbs.completing import complete_run, name_clusters
from mfavbs.errors import RunError, SourceError
from mfavbs.runs import write_names

QUICK = {"encoder": "pixels", "image_size": 4, "n_views": 2, "epochs": 2, "verbose": False}
N = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, (name, colour) in enumerate(COLOURS.items()):
        for row in range(N):
            paint(folder / f"some {name} ones" / f"IMG_{row:04d}.png", colour, 100 * number + row)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Vectors of words are kept where the operating system keeps caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "cache"


def first_words(run):
    """The first word for each of the colours' clusters."""
    colours = [path.split()[1] for path in run.paths[::N]]
    clusters = run.cluster[::N].tolist()
    about = run.insight["clusters"]
    return {
        colour: (about[str(cluster)]["names"] or [{"word": None}])[0]["word"]
        for colour, cluster in zip(colours, clusters, strict=True)
    }


def test_folders_name_clusters_without_a_vocabulary(photos, tmp_path):
    run = cluster_images(photos, 3, out=tmp_path / "run", **QUICK)
    assert first_words(run) == {"blue": "blue", "green": "green", "red": "red"}
    assert run.insight["names"] == {
        "from": "file and folder names",
        "why": "pixels has no text side",
    }
    assert run.map.shape == (36, 2)
    assert {name for name, given in run.cluster_names if not given} == {"blue", "green", "red"}
    write_names(run.folder, {int(run.cluster[0]): "sea"})
    assert run.cluster_names[run.cluster[0]] == ("sea", True)
    assert set(run.table()["name"].to_pylist()) == {"sea", "green", "red"}


def test_vectors_of_words_in_the_encoders_space_name_clusters(photos, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["ruby", "", "emerald", "sapphire", "night", "snow"]))
    pixels = np.array(
        [(200, 30, 30), (0, 0, 0), (30, 180, 30), (30, 30, 200), (9, 9, 9), (250,) * 3]
    )
    vectors = np.repeat(pixels / 255, 16, axis=1)  # as the pixels encoder has them
    run = cluster_images(
        photos, 3, out=tmp_path / "run", vocabulary=words, vocabulary_vectors=vectors, **QUICK
    )
    assert first_words(run) == {"blue": "sapphire", "green": "emerald", "red": "ruby"}
    assert run.insight["names"] == {"from": "words.txt"}


def test_vectors_of_another_width_are_refused_and_the_features_stay(photos, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    with pytest.raises(SourceError, match=r"5 columns, the features of pixels 48"):
        cluster_images(
            photos,
            3,
            out=tmp_path / "run",
            vocabulary=words,
            vocabulary_vectors=np.ones((2, 5)),
            **QUICK,
        )
    assert (tmp_path / "run" / "features" / "store.json").exists()
    run = cluster_images(photos, 3, out=tmp_path / "run", vocabulary="off", with_map=False, **QUICK)
    assert set(first_words(run).values()) == {None}
    assert run.map is None


def test_vectors_without_words_are_refused(photos, tmp_path):
    with pytest.raises(SourceError, match="give its words"):
        cluster_images(photos, 3, out=tmp_path / "r", vocabulary_vectors=np.ones((2, 5)), **QUICK)
    assert not (tmp_path / "r").exists()


def test_a_clips_text_side_names_clusters_also_beside_another_encoder(photos, tmp_path, cache):
    about = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 8, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    (tmp_path / "mfavbs-names.json").write_text(json.dumps(about))
    open_clip.add_model_config(tmp_path / "mfavbs-names.json")
    torch.manual_seed(0)
    state = open_clip.create_model("mfavbs-names").state_dict()
    weights = tmp_path / "clip.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, weights)
    words = tmp_path / "words.txt"
    words.write_text("cat\ndog\nhouse\ntree\n")
    clip = {**QUICK, "image_size": None, "encoder": "open_clip:mfavbs-names", "weights": weights}
    run = cluster_images(photos, 3, out=tmp_path / "one", vocabulary=words, **clip)
    assert run.insight["names"] == {"from": "words.txt"}
    assert set(first_words(run).values()) <= {"cat", "dog", "house", "tree"}
    (kept,) = (cache / "mfavbs" / "words").iterdir()
    made = kept.stat().st_mtime_ns

    several = {**clip, "encoder": ["pixels", "open_clip:mfavbs-names"], "weights": [None, weights]}
    run = cluster_images(
        open_images(photos), 3, out=tmp_path / "two", vocabulary=words, **several, seed=1
    )
    assert run.insight["names"] == {"from": "words.txt"}
    assert kept.stat().st_mtime_ns == made


def test_an_encoder_without_a_text_side_says_what_is_used_instead(photos, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("cat\ndog\n")
    with pytest.warns(UserWarning, match=r"pixels has no text side: .*file and folder names"):
        run = cluster_images(photos, 3, out=tmp_path / "run", vocabulary=words, **QUICK)
    assert first_words(run)["red"] == "red"


def test_the_report_names_anew_and_a_persons_names_stay(photos, tmp_path):
    run = cluster_images(photos, 3, out=tmp_path / "run", **QUICK)
    words = tmp_path / "words.txt"
    words.write_text("ruby\nemerald\nsapphire\n")
    pixels = np.array([(200, 30, 30), (30, 180, 30), (30, 30, 200)])
    name_clusters(run.folder, [f"{run.cluster[0]}=  my   sea "])
    vectors = np.repeat(pixels / 255, 16, axis=1)
    assert complete_run(run.folder, vocabulary=words, vocabulary_vectors=vectors) is None
    assert first_words(run) == {"blue": "sapphire", "green": "emerald", "red": "ruby"}
    assert run.cluster_names[run.cluster[0]] == ("my sea", True)
    for wrong in ("3=x", "x=3", "1", "-1=x", "=x"):
        with pytest.raises(RunError, match="one of 0 to 2"):
            name_clusters(run.folder, ["0=kept", wrong])
    assert run.named == {int(run.cluster[0]): "my sea"}
    name_clusters(run.folder, [f"{run.cluster[0]}="])
    assert run.cluster_names[run.cluster[0]] == ("sapphire", False)


def test_a_persons_names_outlive_an_update_and_a_refit_but_no_new_run(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    run = cluster_images(folder, 3, out=tmp_path / "run", **QUICK)
    name_clusters(run.folder, [f"{run.cluster[0]}=sea"])
    paint(folder / "more.png", COLOURS["blue"], 999)
    run = cluster_images(folder, 3, out=tmp_path / "run", update=True, **QUICK)
    assert set(run.named.values()) == {"sea"}
    paint(folder / "again.png", COLOURS["blue"], 998)
    run = cluster_images(folder, 3, out=tmp_path / "run", refit=True, **QUICK)
    assert run.named == {int(run.cluster[run.paths.index("more.png")]): "sea"}
    run = cluster_images(folder, 3, out=tmp_path / "run", overwrite=True, **QUICK)
    assert run.named == {}
