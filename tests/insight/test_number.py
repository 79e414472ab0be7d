"""What is said of the number of clusters."""

import numpy as np
import pytest

from mfavbs.insight import describe_number


def told(**changed):
    three = [0.5, 0.6, 0.7]
    about = {"asked": "auto", "best": 3, "second": None, "one": False, "numbers": [2, 3, 4]}
    columns = dict.fromkeys(("modularity", "silhouette"), three)
    return about | {"evidence": [0.1, 0.42, 0.2], **columns} | changed


@pytest.mark.parametrize(
    ("k", "changed", "expected"),
    [
        (3, {}, "3 clusters were found: from 2 to 4, 3 have most evidence (0.42)."),
        (3, {"asked": 3}, "3 clusters were asked for; from 2 to 4, 3 have most evidence (0.42)."),
        (
            4,
            {"asked": 4, "second": 2},
            "4 clusters were asked for (evidence 0.20); from 2 to 4, 3 have most evidence (0.42), "
            "and then 2 (0.10).",
        ),
        (
            3,
            {"one": True, "asked": [2, 4]},
            "3 clusters were found: from 2 to 4, 3 have most evidence (0.42). But they are hardly "
            "clearer than clusters of a single cloud of points.",
        ),
    ],
)
def test_one_sentence_has_the_choice_and_what_was_second(k, changed, expected):
    about = describe_number(np.zeros((0, 4), np.float32), k, told(**changed), seed=0)
    assert about["sentence"] == expected
    assert about["chosen"] == k
    assert about["curve"]["evidence"] == [0.1, 0.42, 0.2]


def test_a_number_that_was_given_is_asked_about_now():
    rng = np.random.default_rng(0)
    points = np.eye(8)[np.arange(120) % 5] + 0.05 * rng.normal(size=(120, 8))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    about = describe_number(points, 3, None, seed=0)
    assert (about["chosen"], about["asked"], about["best"]) == (3, 3, 5)


def test_few_images_do_not_tell():
    about = describe_number(np.eye(6, dtype=np.float32), 2, None, seed=0)
    assert about == {"chosen": 2, "sentence": "6 images do not tell how many clusters there are."}
