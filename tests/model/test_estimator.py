"""In: features. Out: an estimator that keeps scikit-learn's contract and its own."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from feature_blobs import blobs
from safetensors import safe_open
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mfavbs import MFAVBsClustering
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.model import answers, fitting, training
from mfavbs.model import network as network_module
from mfavbs.model.checking import check_features
from mfavbs.model.saving import MODEL_SCHEMA

SMALL = {"n_clusters": 3, "epochs": 2, "dim": 16, "n_cluster_heads": 2, "device": "cpu"}
FEATURES, Y = blobs(60, n_views=2, n_tokens=2)
SHAPES = {
    "(n, d)": FEATURES[:, 0, 0],
    "(n, v, d)": FEATURES[:, :, 0],
    "(n, v, t, d)": FEATURES,
}
# These checks set n_clusters=1 by force, and then look at something else.
ONE_CLUSTER = dict.fromkeys(
    (
        "check_dont_overwrite_parameters",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_methods_subset_invariance",
    ),
    "the check sets n_clusters=1; to cluster takes two",
)


def small(**parameters):
    return MFAVBsClustering(**{**SMALL, "random_state": 0, **parameters})


@pytest.fixture(scope="module", params=SHAPES)
def X(request):
    return SHAPES[request.param]


@pytest.fixture(scope="module")
def fitted(X):
    return small().fit(X)


@parametrize_with_checks(
    [MFAVBsClustering(**SMALL)], expected_failed_checks=lambda estimator: ONE_CLUSTER
)
@pytest.mark.filterwarnings("ignore:Only . of n_clusters")  # two epochs of a few random rows
def test_scikit_learns_contract(estimator, check):
    check(estimator)


# What the checks above do not get to with n_clusters=1.


def test_parameters_are_stored_verbatim():
    model = small(n_neighbors=np.int64(5), gate=None)
    before = dict(vars(model))
    model.fit(FEATURES)
    after = vars(model)
    assert all(after[name] is value for name, value in before.items())
    assert all(name.endswith("_") or name.startswith("_") for name in after.keys() - before.keys())


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform"])
def test_a_row_does_not_depend_on_the_others(fitted, X, method):
    together = getattr(fitted, method)(X)
    rows = np.array([7, 3, 3, 50])
    some = getattr(fitted, method)(X[rows])
    np.testing.assert_allclose(some, together[rows], rtol=1e-4, atol=1e-5)
    one = getattr(fitted, method)(X[:1])
    np.testing.assert_allclose(one, together[:1], rtol=1e-4, atol=1e-5)


def test_one_feature_is_enough():
    x = np.r_[-np.ones(10), np.ones(10)][:, None] + np.linspace(0, 0.1, 20)[:, None]
    assert adjusted_rand_score(x[:, 0] > 0, small(n_clusters=2).fit_predict(x)) == 1


def test_predicting_a_single_vector_names_the_fix(fitted):
    with pytest.raises(ValueError, match="Reshape your data"):
        fitted.predict(np.zeros(12))


@pytest.mark.parametrize("n_clusters", [1, 0, -3, 2.5, "3", None])
def test_to_cluster_takes_two(n_clusters):
    with pytest.raises(ValueError, match=r"n_clusters.*\[2, inf\)"):
        small(n_clusters=n_clusters).fit(FEATURES)


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
@pytest.mark.parametrize("fusion", ["channel", "token", "none"])
def test_predict_after_fit_is_labels(X, objective, fusion):
    model = small(objective=objective, fusion=fusion).fit(X)
    assert model.labels_.shape == (60,)
    assert np.array_equal(model.predict(X), model.labels_)
    np.testing.assert_allclose(model.predict_proba(X), model.probabilities_, atol=1e-6)
    rows = np.array([50, 7, 8])
    assert np.array_equal(model.predict(X[rows]), model.labels_[rows])


def test_fitted_attributes(fitted, X):
    assert np.issubdtype(fitted.labels_.dtype, np.integer)
    assert set(fitted.labels_.tolist()) <= {0, 1, 2}
    assert fitted.probabilities_.shape == (60, 3)
    np.testing.assert_allclose(fitted.probabilities_.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(fitted.probabilities_.argmax(axis=1), fitted.labels_)
    assert np.array_equal(fitted.probabilities_.max(axis=1), fitted.confidences_)
    assert fitted.confidences_.min() >= 1 / 3
    assert fitted.n_features_in_ == 12
    assert len(fitted.loss_history_) == 2
    assert 0 <= fitted.head_ < 2
    representations = fitted.transform(X)
    assert representations.shape == (60, 16)
    assert fitted.get_feature_names_out().shape == (16,)
    np.testing.assert_allclose(np.linalg.norm(representations, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_blocks": 0},
        {"n_blocks": 2, "shared_depth": 2, "fused_depth": 0},
        {"gate": None, "init": "random"},
        {"n_neighbors": 1},
        {"n_neighbors": 1000},
        {"batch_size": 7},
        {"dim": 64},
        {"n_attention_heads": 1},
    ],
)
def test_every_parameter_takes_part(parameters):
    model = small(**parameters).fit(FEATURES)
    assert np.array_equal(model.predict(FEATURES), model.labels_)
    assert np.isfinite(model.loss_history_[-1]["total"])


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("objective", ["disjoint", "paper"])
@pytest.mark.filterwarnings("ignore:Only . of n_clusters")
def test_as_many_images_as_clusters_are_enough(n, objective):
    model = small(objective=objective).fit(FEATURES[:n])
    assert model.labels_.shape == (n,)
    assert np.isfinite(model.probabilities_).all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_images_all_alike_end_in_one_cluster_with_a_warning():
    with pytest.warns(UserWarning, match="Only 1 of n_clusters=3"):
        model = small().fit(np.ones((20, 5)))
    assert np.isfinite(model.probabilities_).all()


def test_separated_clusters_are_found_with_default_settings():
    features, y = blobs(40, n_features=24, k=4, noise=0.08)
    model = MFAVBsClustering(4, device="cpu", random_state=0).fit(features)
    assert adjusted_rand_score(y, model.labels_) > 0.95
    centres = np.stack([features[y == cluster].mean(axis=0) for cluster in range(4)])
    assert len(set(model.predict(centres))) == 4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fusion", ["channel", "token", "none"])
def test_separated_clusters_are_found_by_a_small_network_too(shape, fusion):
    model = small(fusion=fusion, epochs=30, n_neighbors=10).fit(SHAPES[shape])
    assert adjusted_rand_score(Y, model.labels_) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "seed"), [("channel", 0)])
def test_ten_separated_clusters_are_found_with_default_settings(fusion, seed):
    features, y = blobs(200, 3, 2, n_features=48, k=10, noise=0.08, seed=seed)
    model = MFAVBsClustering(10, fusion=fusion, device="cpu", random_state=seed).fit(features)
    assert adjusted_rand_score(y, model.labels_) > 0.95


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_give_nearly_the_same(dtype):
    features = FEATURES.astype(dtype)
    model, reference = small().fit(features), small().fit(FEATURES)
    # Clusters, not their numbers: of heads that agree another may answer.
    assert adjusted_rand_score(model.labels_, reference.labels_) == 1


def test_a_memory_mapped_store_stays_on_disk(tmp_path):
    np.save(tmp_path / "features.npy", FEATURES.astype(np.float16))
    stored = np.load(tmp_path / "features.npy", mmap_mode="r")
    model = small()
    assert np.shares_memory(check_features(model, stored, reset=True), stored)
    from_disk = model.fit(stored).labels_
    assert np.array_equal(from_disk, small().fit(np.array(stored)).labels_)
    assert np.array_equal(model.predict(stored), from_disk)


def test_features_are_left_as_they_came(X):
    before = X.copy()
    small().fit(X).transform(X)
    assert np.array_equal(X, before)


def test_same_random_state_same_result():
    one, again, other = (small(random_state=seed).fit(FEATURES) for seed in (3, 3, 4))
    assert np.array_equal(one.probabilities_, again.probabilities_)
    assert one.loss_history_ == again.loss_history_
    assert one.loss_history_ != other.loss_history_
    assert np.array_equal(one.fit(FEATURES).probabilities_, again.probabilities_)  # and refitted
    generator = small(random_state=np.random.RandomState(3)).fit(FEATURES)
    assert np.array_equal(generator.labels_, one.labels_)


def test_the_callers_random_numbers_are_left_alone(monkeypatch):
    def states():
        name, keys, *rest = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), name, keys.tolist(), rest, random.getstate()

    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = states()
    small().fit(FEATURES).predict(FEATURES)
    assert states() == before
    assert not seeded


def test_a_clone_and_a_pipeline():
    model = small(fusion="token", gate=0.1).fit(SHAPES["(n, d)"])
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert not hasattr(twin, "labels_")
    pipeline = make_pipeline(StandardScaler(), twin)
    labels = pipeline.fit_predict(SHAPES["(n, d)"])
    assert np.array_equal(pipeline.predict(SHAPES["(n, d)"]), labels)
    assert (
        pipeline.set_params(mfavbsclustering__n_clusters=2).fit_predict(SHAPES["(n, d)"]).max() < 2
    )


def test_quiet_unless_asked(capfd):
    small().fit(FEATURES)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_one_process_may_fit_with_and_without_bfloat16(order, monkeypatch):
    # As a processor with bfloat16 and a GPU without would have it, or the other way round.
    for native in order:
        monkeypatch.setattr(training, "has_bfloat16", lambda device, native=native: native)
        model = small().fit(FEATURES)
        assert np.array_equal(model.predict(FEATURES), model.labels_)
        assert model.probabilities_.dtype == np.float32
        assert all(p.dtype == torch.float32 for p in model.network_.parameters())
        assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(FEATURES), model.labels_)


# Saved models


@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_a_saved_model_comes_back_the_same(X, objective, tmp_path):
    model = small(objective=objective).fit(X)
    model.save(tmp_path / "run" / "model")
    loaded = MFAVBsClustering.load(tmp_path / "run" / "model")
    assert np.array_equal(loaded.predict(X), model.labels_)
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert np.array_equal(loaded.transform(X), model.transform(X))
    assert loaded.get_params() == model.get_params()
    loaded.save(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        first, second = (tmp_path / at / name for at in ("run/model", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_nothing_saved_is_a_pickle(fitted, tmp_path):
    fitted.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert json.loads((tmp_path / "config.json").read_text())["schema"] == MODEL_SCHEMA
    with safe_open(tmp_path / "model.safetensors", "pt") as tensors:
        assert len(tensors.keys()) > 0


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0), np.int64(7)])
def test_any_parameters_that_can_be_fitted_can_be_saved(random_state, tmp_path):
    model = small(
        random_state=random_state,
        n_clusters=np.int64(3),
        gate=np.float64(0.1),
        learning_rate=np.float32(1e-3),
        verbose=np.bool_(False),
    )
    model.fit(FEATURES).save(tmp_path)
    assert np.array_equal(MFAVBsClustering.load(tmp_path).predict(FEATURES), model.labels_)


def test_an_unfitted_model_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        small().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_model_of_a_newer_schema_is_refused(fitted, tmp_path):
    fitted.save(tmp_path)
    edit(tmp_path, schema=MODEL_SCHEMA + 1)
    newer, known = MODEL_SCHEMA + 1, MODEL_SCHEMA
    with pytest.raises(RunError, match=f"schema {newer}.*up to {known}.*Upgrade mfavbs"):
        MFAVBsClustering.load(tmp_path)


def edit(folder, **values):
    """Change fields of the configuration, or with ``...`` leave them out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def cut(name, keep):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda at: (at / "config.json").unlink(), id="no config"),
        pytest.param(lambda at: (at / "model.safetensors").unlink(), id="no weights"),
        pytest.param(cut("config.json", 0), id="empty config"),
        pytest.param(cut("config.json", 0.5), id="half a config"),
        pytest.param(cut("model.safetensors", 0), id="empty weights"),
        pytest.param(cut("model.safetensors", 0.5), id="half the weights"),
        pytest.param(lambda at: (at / "config.json").write_text("[]"), id="a list"),
        pytest.param(lambda at: edit(at, schema="1"), id="schema of text"),
        pytest.param(lambda at: edit(at, n_features=13), id="other features"),
        pytest.param(lambda at: edit(at, bank=1), id="other bank"),
        pytest.param(lambda at: edit(at, parameters={"k": 3}), id="unknown parameter"),
        pytest.param(lambda at: edit(at, head=99), id="no such head"),
        *(
            pytest.param(lambda at, key=key: edit(at, **{key: ...}), id=f"no {key}")
            for key in ("schema", "parameters", "n_features", "n_tokens", "bank", "head")
        ),
    ],
)
def test_a_damaged_model_is_refused_by_name(damage, tmp_path):
    small(epochs=1).fit(FEATURES).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(RunError, match=f"{tmp_path} is not a model that mfavbs can read"):
        MFAVBsClustering.load(tmp_path)


def test_fit_goes_on_from_its_checkpoint(tmp_path):
    checkpoint = tmp_path / "training.pt"
    whole = small().fit(FEATURES, checkpoint=checkpoint)
    again = small().fit(FEATURES, checkpoint=checkpoint)
    assert again.loss_history_ == whole.loss_history_
    assert np.array_equal(again.probabilities_, whole.probabilities_)


# Refusals


def test_fewer_images_than_clusters_names_both():
    with pytest.raises(SourceError, match="n_samples=7 should be >= n_clusters=10"):
        small(n_clusters=10).fit(FEATURES[:7])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_that_are_not_finite_are_named(X, value, dtype):
    features = X.astype(dtype)
    features[[4, 17], ..., 3] = value
    with pytest.raises(SourceError, match=r"contains NaN.* in 2 of 60 rows: 4, 17"):
        small().fit(features)


def test_of_many_rows_that_are_not_finite_ten_are_named(fitted, X):
    broken = X * np.float32(np.nan)
    with pytest.raises(SourceError, match="in 60 of 60 rows: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"):
        fitted.predict(broken)


def test_values_too_large_for_float32_are_no_silent_nan():
    features = FEATURES.astype(np.float64)
    features[5] *= 1e300
    try:
        model = small().fit(features)
    except MfavbsError as error:
        assert "5" in str(error)  # noqa: PT017  refused by name, or else clustered all the same
    else:
        assert np.isfinite(model.probabilities_).all()


@pytest.mark.parametrize("shape", [(4, 1, 1, 1, 3), (4, 0, 3), (4, 2, 0, 3), (4, 2, 2, 0)])
def test_shapes_that_are_no_features_are_named(shape):
    with pytest.raises(ValueError, match=r"\(" + ", ".join(map(str, shape)) + r"\)"):
        small().fit(np.zeros(shape))


def test_other_tokens_than_fitted_are_refused():
    model = small(epochs=1).fit(FEATURES)
    with pytest.raises(SourceError, match=r"1 tokens a view, but .* with 2"):
        model.predict(FEATURES[:, :, :1])
    with pytest.raises(ValueError, match=r"13 features, but .* 12"):
        model.predict(np.zeros((4, 2, 2, 13)))


def test_a_width_that_the_heads_do_not_divide_names_both():
    with pytest.raises(SourceError, match="dim=16 should be a multiple of n_attention_heads=3"):
        small(n_attention_heads=3).fit(FEATURES)


def test_a_sample_of_a_large_set_is_kept_and_predict_still_gives_the_labels(monkeypatch, tmp_path):
    monkeypatch.setattr(answers, "BANK_ROWS", 20)
    features, _ = blobs(60, n_views=3)
    model = MFAVBsClustering(3, dim=16, epochs=2, device="cpu", random_state=0).fit(features)
    assert len(model.network_.bank_probabilities) == 20
    np.testing.assert_array_equal(model.predict(features), model.labels_)
    np.testing.assert_allclose(model.predict_proba(features), model.probabilities_, atol=1e-6)
    model.save(tmp_path)
    np.testing.assert_array_equal(MFAVBsClustering.load(tmp_path).predict(features), model.labels_)


def test_probabilities_keep_no_other_heads_in_memory():
    model = MFAVBsClustering(3, dim=16, epochs=1, device="cpu", random_state=0)
    p = model.fit(blobs(60)[0]).probabilities_
    assert torch.from_numpy(p).untyped_storage().nbytes() == p.nbytes


def test_without_neighbours_an_image_meets_its_own_views():
    features, _ = blobs(60, n_views=4)
    model = MFAVBsClustering(3, n_neighbors=0, dim=16, epochs=4, device="cpu", random_state=0)
    model.fit(features)
    assert len(model.network_.bank_probabilities) == 0
    assert len(set(model.labels_)) == 3
    np.testing.assert_array_equal(model.predict(features), model.labels_)


def test_instance_weight_is_of_the_loss():
    features, _ = blobs(60)
    fitted = (
        MFAVBsClustering(3, instance_weight=w, dim=16, epochs=2, device="cpu", random_state=0)
        for w in (0.0, 0.5)
    )
    without, half = (model.fit(features).loss_history_[-1] for model in fitted)
    assert without["total"] == pytest.approx(without["cluster"] + 0.1 * without["balance"])
    assert half["total"] == pytest.approx(
        0.5 * half["instance"] + half["cluster"] + 0.1 * half["balance"]
    )
    assert "instance" not in without


def test_an_interrupted_run_goes_on_with_its_own_projection(tmp_path, monkeypatch):
    """Fitted on another number of threads, an eigenvector may come out otherwise."""
    model = MFAVBsClustering(**SMALL, random_state=0)
    expected = model.fit(FEATURES, checkpoint=tmp_path / "c.pt").probabilities_
    fit_projection = network_module.fit_projection

    def otherwise(*args):
        mean, components = fit_projection(*args)
        return mean, components.flip(1)

    monkeypatch.setattr(network_module, "fit_projection", otherwise)
    again = model.fit(FEATURES, checkpoint=tmp_path / "c.pt").probabilities_
    np.testing.assert_allclose(again, expected, atol=1e-6)


def test_a_model_of_an_earlier_schema_is_refused(fitted, tmp_path):
    fitted.save(tmp_path)
    edit(tmp_path, schema=1)
    with pytest.raises(RunError, match=r"schema 1, of an earlier version.*Cluster again"):
        MFAVBsClustering.load(tmp_path)


def test_copies_are_trained_on_once_and_all_labelled():
    copies = np.r_[np.arange(60), [7] * 20, [8] * 20]
    model, plain = small(epochs=5).fit(FEATURES[copies]), small(epochs=5).fit(FEATURES)
    np.testing.assert_array_equal(model.probabilities_, plain.probabilities_[copies])
    np.testing.assert_array_equal(model.predict(FEATURES[copies]), model.labels_)
    assert model.network_.n_kept == 60


def test_parameters_set_after_fitting_do_not_change_what_is_saved(tmp_path):
    model = small().fit(FEATURES)
    model.set_params(dim=32, n_clusters=7, fusion="token", n_cluster_heads=5).save(tmp_path)
    assert model.get_feature_names_out().shape == (16,)
    loaded = MFAVBsClustering.load(tmp_path)
    assert loaded.get_params() == small().get_params()
    np.testing.assert_array_equal(loaded.predict(FEATURES), model.labels_)


def test_a_loaded_model_has_every_attribute_that_is_not_of_the_images(tmp_path):
    model = small().fit(FEATURES)
    model.save(tmp_path)
    loaded = MFAVBsClustering.load(tmp_path)
    missing = set(vars(model)) - set(vars(loaded))
    assert missing == {"labels_", "confidences_", "probabilities_", "number_", "stages_"}
    assert loaded.loss_history_ == model.loss_history_
    assert (loaded.head_, loaded.n_features_in_) == (model.head_, model.n_features_in_)


def test_the_weights_have_the_rights_of_their_neighbours(tmp_path):
    small().fit(FEATURES).save(tmp_path)
    (tmp_path / "any").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def rays(d):
    """60 points on one ray in d dimensions, at three distances."""
    rng = np.random.default_rng(0)
    length = np.repeat([1.0, 3.0, 9.0], 20)[:, None]
    ray = np.zeros((1, d))
    ray[0, :2] = 0.6, 0.8
    return length * ray + 0.05 * rng.normal(size=(60, d)), np.repeat([0, 1, 2], 20)


def test_a_constant_column_keeps_what_the_length_says():
    X, y = rays(8)
    with_length = np.c_[X, np.full(len(X), np.linalg.norm(X, axis=1).mean())]
    assert adjusted_rand_score(y, small(epochs=30).fit_predict(X)) < 0.7
    assert adjusted_rand_score(y, small(epochs=30).fit_predict(with_length)) > 0.95


@pytest.mark.parametrize("far", [0, 1000])
@pytest.mark.parametrize("d", [2, 3, 7])
def test_few_features_are_positions_wherever_they_lie(d, far, tmp_path):
    X, y = rays(d)
    model = small(epochs=30).fit(X + far)
    assert adjusted_rand_score(y, model.labels_) > 0.95
    np.testing.assert_array_equal(model.predict(X + far), model.labels_)
    model.save(tmp_path)
    loaded = MFAVBsClustering.load(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.predict(X + far), model.labels_)


@pytest.mark.parametrize("d", [1, 2, 20])
@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_clear_blobs_are_found_in_any_dimension_and_at_any_scale(d, scale):
    rng = np.random.default_rng(1)
    y = np.arange(200) % 4
    centres = np.linspace(-6, 6, 4)[:, None] if d == 1 else 5 * rng.normal(size=(4, d))
    X = (centres[y] + 0.3 * rng.normal(size=(200, d))) * scale
    model = MFAVBsClustering(4, dim=16, epochs=20, device="cpu", random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) > 0.95


def test_many_clusters_are_contrasted_in_part(monkeypatch):
    monkeypatch.setattr(training, "_CONTRASTED", 4)
    features, y = blobs(120, n_features=24, k=8, noise=0.05)
    model = small(n_clusters=8, epochs=30).fit(features)
    assert adjusted_rand_score(y, model.labels_) > 0.9


def test_too_little_memory_says_what_to_lower(monkeypatch):
    def no_room(*args, **kwargs):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(fitting, "train", no_room)
    with pytest.raises(MfavbsError, match=r"cpu has too little memory.*Lower batch_size="):
        small().fit(FEATURES)


@pytest.mark.parametrize(("n", "k"), [(10, 4), (20, 8), (30, 10)])
def test_clusters_of_two_or_three_are_found(n, k):
    """Three neighbours for each would join them: ARI 0.74 to 0.94 then."""
    rng = np.random.default_rng(3)
    y = np.arange(n) % k
    X = rng.normal(size=(k, 64))[y] + 0.35 * rng.normal(size=(n, 64))
    model = MFAVBsClustering(k, device="cpu", random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) == 1
