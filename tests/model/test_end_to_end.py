"""In: small pictures and a frozen run. Out: at first its answer, then the best epoch's."""

import shutil

import numpy as np
import pytest
import torch
from pixel_blobs import EDGE, K, frozen_run, pictures
from sklearn.metrics import adjusted_rand_score

from mfavbs import MFAVBsClustering, embed, load_encoder, open_images
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.features import store_pixels
from mfavbs.model import EndToEnd, pixel_fitting
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.heads import ProjectorHeads

ARRAYS = pictures()[:3]
Y = pictures()[3]
KEEP = ("best", "last")
SMALL = {"image_size": EDGE, "n_attention_heads": 2, "shared_depth": 1, "fused_depth": 1}
SMALL |= {"batch_size": 16, "device": "cpu", "epochs": 2}


@pytest.mark.parametrize("fusion", ["token", "channel", "none"])
@pytest.mark.parametrize("widths", [None, [5, 7]])
@pytest.mark.parametrize("frozen", [{}, {"fusion": "token"}, {"n_neighbors": 0}])
def test_epoch_0_answers_as_the_frozen_run(fusion, widths, frozen):
    run = frozen_run(60, 4, 0.6, **frozen)
    arrays = pictures(60, 4, 0.6)[:3]
    model = EndToEnd(run, fusion=fusion, anchor_widths=widths, **{**SMALL, "epochs": 0})
    model.fit(*arrays)
    assert model.best_epoch_ == 0
    assert model.head_ == run.head_
    assert adjusted_rand_score(model.labels_, run.labels_) >= 0.99
    np.testing.assert_allclose(model.probabilities_, run.probabilities_, atol=0.02)
    assert len(set(run.labels_)) == K


def test_every_epoch_is_judged_and_the_best_is_kept():
    model = EndToEnd(frozen_run(), **SMALL).fit(*ARRAYS)
    assert [entry["epoch"] for entry in model.history_] == [0, 1, 2]
    judged = [entry["criterion"] for entry in model.history_]
    assert model.best_epoch_ == int(np.argmin(judged))
    assert model.head_ == model.history_[model.best_epoch_]["head"]
    before = adjusted_rand_score(frozen_run().labels_, Y)
    assert adjusted_rand_score(model.labels_, Y) > before - 0.05 > 0.7
    np.testing.assert_allclose(model.probabilities_.sum(1), 1, atol=1e-5)
    assert np.array_equal(model.confidences_, model.probabilities_.max(1))


def test_the_last_epoch_is_kept_where_that_is_asked_for():
    best, last = (EndToEnd(frozen_run(), **SMALL, keep=keep).fit(*ARRAYS) for keep in KEEP)
    assert last.best_epoch_ == 2
    assert best.history_ == last.history_
    one = EndToEnd(frozen_run(), **{**SMALL, "epochs": 0}, keep="last").fit(*ARRAYS)
    assert one.best_epoch_ == 0


def test_the_images_of_fit_are_predicted_as_they_were_labelled():
    model = EndToEnd(frozen_run(), **SMALL).fit(*ARRAYS)
    assert np.array_equal(model.predict(*ARRAYS), model.labels_)
    some = [array[5:9] for array in ARRAYS]
    np.testing.assert_allclose(model.predict_proba(*some), model.probabilities_[5:9], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.transform(*some), axis=1), 1, atol=1e-5)


def test_same_seed_same_labels():
    one, other = (EndToEnd(frozen_run(), **SMALL, random_state=3).fit(*ARRAYS) for _ in range(2))
    assert np.array_equal(one.probabilities_, other.probabilities_)
    assert one.history_ == other.history_


def test_a_recipe_changes_what_training_sees_and_nothing_before_it():
    plain, one = (
        EndToEnd(frozen_run(), **SMALL, recipe=recipe).fit(*ARRAYS).history_
        for recipe in ("colours", "simclr")
    )
    assert plain[0] == one[0]
    assert plain[1]["total"] != one[1]["total"]


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "paper"},
        {"start": "random"},
        {"anchor": False},
        {"start": "random", "fusion": "none", "objective": "paper", "n_blocks": 2},
    ],
)
def test_ablations_train(options):
    model = EndToEnd(frozen_run(), **{**SMALL, "epochs": 1, **options}).fit(*ARRAYS)
    assert np.isfinite(model.history_[-1]["total"])
    assert np.isfinite(model.history_[-1]["criterion"])
    assert (model.network_.anchor_blocks is None) == (model.network_.started() == [])
    assert len(model.network_.stem.anchors) == options.get("anchor", True)
    assert model.predict(*ARRAYS).shape == Y.shape


def test_pixels_alone_need_no_encoder():
    model = EndToEnd(n_clusters=K, **SMALL).fit(*ARRAYS[:2])
    assert model.best_epoch_ == 2
    assert "criterion" not in model.history_[0]
    assert not model.network_.stem.anchors
    assert np.array_equal(model.predict(*ARRAYS[:2]), model.labels_)


def test_from_images_to_clusters(tmp_path):
    images = open_images(ARRAYS[0])
    store = embed(
        images,
        tmp_path / "store",
        load_encoder("pixels", image_size=EDGE),
        n_views=3,
        device="cpu",
        n_workers=0,
        verbose=False,
    )
    arrays = store_pixels(
        store, images, tmp_path / "pixels", edge=2 * EDGE, image_size=EDGE, verbose=False
    )
    frozen = MFAVBsClustering(K, dim=16, device="cpu", random_state=0).fit(store.features)
    model = EndToEnd(frozen, **SMALL, anchor_widths=store.blocks, augment="none")
    model.fit(*arrays, store.features, checkpoint=tmp_path / "c.pt")
    assert adjusted_rand_score(model.labels_, Y) > 0.9


def test_copies_are_trained_on_once_and_all_labelled():
    twice = [np.concatenate([array, array[:10]]) for array in ARRAYS]
    model = EndToEnd(frozen_run(), **SMALL).fit(*twice)
    assert np.array_equal(model.labels_[48:], model.labels_[:10])
    alone = EndToEnd(frozen_run(), **SMALL).fit(*ARRAYS)
    assert np.array_equal(model.probabilities_[:48], alone.probabilities_)


def interrupted(path, **options):
    class Stop(BaseException):
        pass

    write = Checkpoint.write

    def write_and_stop(self, *args, **parts):
        write(self, *args, **parts)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "write", write_and_stop)
        with pytest.raises(Stop):
            EndToEnd(frozen_run(), **{**SMALL, **options}).fit(*ARRAYS, checkpoint=path)


@pytest.mark.parametrize("recipe", ["colours", "byol"])
def test_a_resumed_fit_equals_an_uninterrupted_one(recipe, tmp_path):
    interrupted(tmp_path / "c.pt", recipe=recipe)
    model = EndToEnd(frozen_run(), **SMALL, recipe=recipe)
    resumed = model.fit(*ARRAYS, checkpoint=tmp_path / "c.pt").probabilities_
    assert np.array_equal(resumed, model.fit(*ARRAYS).probabilities_)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"options": {"fusion": "none"}}, "with fusion="),
        ({"options": {"n_blocks": 2}}, "with n_blocks="),
        ({"options": {"anchor_drop": 0.5}}, "with anchor_drop="),
        ({"options": {"recipe": "byol"}}, "with recipe="),
        ({"options": {"random_state": 1}}, "with (random_state|seed)="),
        ({"pixels": 255 - ARRAYS[0]}, "of other pixels or crops"),
        ({"crops": ARRAYS[1][::-1].copy()}, "of other pixels or crops"),
        ({"features": ARRAYS[2] + np.float32(1e-3)}, "of other features"),
        ({"frozen": {"random_state": 1}}, "of other weights of the frozen run"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change, text, tmp_path):
    interrupted(tmp_path / "c.pt")
    model = EndToEnd(frozen_run(**change.get("frozen", {})), **SMALL | change.get("options", {}))
    arrays = [change.get(name, x) for name, x in zip(("pixels", "crops", "features"), ARRAYS)]
    with pytest.raises(RunError, match=f"cannot be resumed: it is .*{text}"):
        model.fit(*arrays, checkpoint=tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("options", "arrays", "text"),
    [
        ({"image_size": 30}, ARRAYS, "take 28 or 32"),
        ({"batch_size": 0}, ARRAYS, "'batch_size' parameter of EndToEnd"),
        ({"anchor_drop": 1.0}, ARRAYS, "'anchor_drop' parameter of EndToEnd"),
        ({"recipe": "blur"}, ARRAYS, "'recipe' parameter of EndToEnd .* Got 'blur'"),
        ({"anchor_widths": [5]}, ARRAYS, "widths of features 5, got 12"),
        ({"n_attention_heads": 3}, ARRAYS, "dim=16 should be a multiple of 8 and of .*=3"),
        ({}, ARRAYS[:2], "features= is missing"),
        ({"frozen": None, "n_clusters": K}, ARRAYS, "frozen= is missing"),
        ({"frozen": None}, ARRAYS[:2], "expected n_clusters=, or frozen="),
        ({}, [array[:2] for array in ARRAYS], "2 images should be >= n_clusters=3"),
        ({}, (*ARRAYS[:2], ARRAYS[2][..., :9]), "has 9 features"),
        ({}, (*ARRAYS[:2], np.stack([ARRAYS[2]] * 2, axis=2)), r"fit it on features\[:, :, :1\]"),
        ({}, (*ARRAYS[:2], ARRAYS[2] * np.float32(np.nan)), "NaN"),
        ({"frozen": None, "n_clusters": 40}, ARRAYS[:2], "n_clusters=40 should be <= 2"),
    ],
)
def test_what_does_not_go_together_is_refused(options, arrays, text):
    options = {"frozen": frozen_run(), **SMALL, **options}
    with pytest.raises(ValueError, match=text):
        EndToEnd(**options).fit(*arrays)
    assert issubclass(SourceError, ValueError)


def test_the_papers_objective_has_projectors_unless_prototypes_are_given_to_it():
    alone = {"frozen": None, "n_clusters": K, "objective": "paper", "fusion": "none"}
    for options, projectors in (
        (alone, True),
        ({"frozen": frozen_run(), "objective": "paper", "start": "random"}, True),
        ({"frozen": frozen_run(), "objective": "paper"}, False),
        ({"frozen": frozen_run(), "start": "random"}, False),
    ):
        arrays = ARRAYS[:2] if options["frozen"] is None else ARRAYS
        model = EndToEnd(**{**SMALL, "epochs": 1, **options}).fit(*arrays)
        assert isinstance(model.network_.cluster_heads, ProjectorHeads) == projectors
        assert model.network_.n_clusters == K


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"anchor": False},
        {"frozen": None, "n_clusters": K},
        {"frozen": None, "n_clusters": K, "objective": "paper"},
    ],
)
def test_a_saved_model_answers_the_same(options, tmp_path):
    arrays = ARRAYS[:2] if "frozen" in options else ARRAYS
    model = EndToEnd(**{"frozen": frozen_run(), **SMALL, "epochs": 1, **options}).fit(*arrays)
    model.save(tmp_path / "model")
    other = EndToEnd.load(tmp_path / "model", "cpu")
    assert np.array_equal(other.predict_proba(*arrays), model.predict_proba(*arrays))
    assert (other.history_, other.head_) == (model.history_, model.head_)
    assert other.best_epoch_ == model.best_epoch_
    params = [m.get_params(deep=False) | {"frozen": None} for m in (model, other)]
    assert params[0] == params[1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "is not a model that"),
        (lambda folder: (folder / "config.json").write_text("{}"), "not a model trained on pixels"),
        (lambda folder: shutil.rmtree(folder / "frozen"), "is not a model that"),
        (
            lambda folder: (folder / "config.json").write_text(
                (folder / "config.json").read_text().replace('"schema": 1', '"schema": 9')
            ),
            "has schema 9.*Upgrade",
        ),
    ],
)
def test_a_damaged_model_is_refused(change, text, tmp_path):
    EndToEnd(frozen_run(), **{**SMALL, "epochs": 0}).fit(*ARRAYS).save(tmp_path)
    change(tmp_path)
    with pytest.raises(RunError, match=text):
        EndToEnd.load(tmp_path, "cpu")


def test_without_memory_a_smaller_batch_is_advised(monkeypatch):
    def no_room(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(pixel_fitting, "train_pixels", no_room)
    with pytest.raises(MfavbsError, match="batch_size=16 views of 16 pixels; give batch_size=8"):
        EndToEnd(frozen_run(), **SMALL).fit(*ARRAYS)
