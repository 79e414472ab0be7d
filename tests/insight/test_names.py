"""Names of clusters, by vectors of words and by the words of paths."""

import numpy as np
import pytest

from mfavbs.insight import cluster_means, frequent_words, nearest_words


def words(names):
    return [[name["word"] for name in found] for found in names]


def test_means_are_of_unit_vectors_and_an_empty_cluster_has_none():
    features = np.array([[2.0, 0], [0, 5], [3, 0]], np.float16)
    means = cluster_means(features, np.array([0, 0, 2]), 3)
    assert means[0].tolist() == [0.5, 0.5]
    assert np.isnan(means[1]).all()
    assert means[2].tolist() == [1, 0]


def space(n_words=50, f=32, gap=5.0):
    """Vectors of words, and images near the first ones, all images far off in one direction."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n_words, f)).astype(np.float32)
    images = np.repeat(vectors[:3], 20, axis=0) + rng.standard_normal((60, f)).astype(np.float32)
    images[:, 0] += gap
    return images, np.repeat(np.arange(3), 20), vectors


def test_the_nearest_word_wins_across_the_gap_between_texts_and_images():
    images, labels, vectors = space()
    names = nearest_words(cluster_means(images, labels, 4), [f"w{i}" for i in range(50)], vectors)
    assert [found[0]["word"] for found in names[:3]] == ["w0", "w1", "w2"]
    assert names[3] == []
    for found in names[:3]:
        scores = [name["score"] for name in found]
        assert len(found) == 3
        assert scores == sorted(scores, reverse=True)
        assert found[0]["margin"] == pytest.approx(scores[0] - scores[1], abs=2e-4)


def test_words_looked_at_in_parts_are_the_same(monkeypatch):
    images, labels, vectors = space()
    means = cluster_means(images, labels, 3)
    named = [f"w{i}" for i in range(50)]
    whole = nearest_words(means, named, vectors)
    monkeypatch.setattr("mfavbs.insight.names._CHUNK", 7)
    assert words(nearest_words(means, named, vectors)) == words(whole)


def test_one_cluster_is_named_by_what_is_nearest():
    images, _, vectors = space(gap=0)
    means = cluster_means(images[:20], np.zeros(20, int), 1)
    assert nearest_words(means, [f"w{i}" for i in range(50)], vectors)[0][0]["word"] == "w0"


def test_as_few_words_as_there_are():
    images, labels, vectors = space()
    names = nearest_words(cluster_means(images, labels, 3), ["a", "b"], vectors[:2])
    assert [len(found) for found in names] == [2, 2, 2]
    assert names[0][1]["margin"] is None


def test_words_of_folders_and_files_that_only_one_cluster_has():
    paths = [f"trip/beach/IMG_{i:04d}.jpg" for i in range(30)]
    paths += [f"trip/MyOldHouse/IMG_{i:04d}.jpg" for i in range(30)]
    labels = np.repeat([0, 1], 30)
    beach, house = words(frequent_words(paths, labels, 2))
    assert beach == ["beach"]
    assert house == ["house", "old"]


def test_words_that_chance_alone_may_have_put_there_are_no_names():
    rng = np.random.default_rng(0)
    paths = [f"{rng.choice(['red', 'green', 'blue'])}_{i}.png" for i in range(200)]
    assert words(frequent_words(paths, rng.integers(0, 4, 200), 4)) == [[], [], [], []]


def test_dates_name_clusters_by_the_day_or_the_month():
    labels = np.repeat([0, 1, 2], 20)
    dates = ["2019-07-14"] * 20 + [f"2020-01-{1 + i:02d}" for i in range(20)] + [None] * 20
    names = words(frequent_words([f"{i}.jpg" for i in range(60)], labels, 3, dates))
    assert names[0][0] == "2019-07-14"
    assert names[1][0] == "2020-01"
    assert names[2] == []


def test_a_chinese_character_and_a_year_are_words():
    paths = [f"猫/2019/{i}.jpg" for i in range(9)] + [f"b/1234/{i}.jpg" for i in range(9)]
    cat, other = words(frequent_words(paths, np.repeat([0, 1], 9), 2))
    assert set(cat) == {"猫", "2019"}
    assert other == []


def test_a_word_that_is_rather_another_clusters_is_no_name():
    paths = [f"concert/{i}.jpg" for i in range(40)] + [f"{i}.jpg" for i in range(80)]
    labels = np.repeat([0, 1, 1, 2, 2, 2], 20)
    labels[30:60] = 1
    assert words(frequent_words(paths, labels, 3)) == [["concert"], [], []]
