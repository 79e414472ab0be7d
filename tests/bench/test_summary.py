"""In: hand-made trials. Out: that what a suite sums up is what a pencil finds."""

import pytest

from mfavbs.bench.suite_table import markdown
from mfavbs.bench.summary import leave_one_group_out, mean_ranks, paired, summarise

# NMI by set (its group in front), method and seed. The sets of group "c" count as one.
NMI = {
    "a/a": {"ours": [0.80, 0.82], "plain": [0.70, 0.72], "peer": [0.75, 0.75], "other": [0.6, 0.6]},
    "b/b": {"ours": [0.50, 0.50], "plain": [0.60, 0.60], "peer": [0.55, 0.57], "other": [0.5, 0.5]},
    "c/c1": {"ours": [0.4, 0.4], "plain": [0.4, 0.4], "peer": [0.5, 0.5], "other": [0.3, 0.3]},
    "c/c2": {"ours": [0.6, 0.6], "plain": [0.4, 0.4], "peer": [0.2, 0.2], "other": [0.3, 0.3]},
}
METHODS = ("ours", "plain", "peer", "other")


def trials(nmi=NMI):
    return [
        {
            **{"set": name.partition("/")[2], "group": name.partition("/")[0], "encoder": "e"},
            **{"method": method, "seed": seed, "n": 100, "k": 4, "seconds": 1.0},
            **{"collapsed": method == "other" and seed == 1},
            "scores": {"nmi": value, "acc": value / 2, "ari": value / 4},
        }
        for name, found in nmi.items()
        for method, values in found.items()
        for seed, value in enumerate(values)
    ]


@pytest.fixture
def summary():
    return summarise(trials(), METHODS, ("peer", "other"), ("ours", "plain"), "ours")


def without(method, *sets):
    return {
        name: {m: v for m, v in found.items() if m != method or name not in sets}
        for name, found in NMI.items()
    }


def asked(nmi):
    """Scores and groups as the single measures take them."""
    scores = {
        (name.partition("/")[2], "e"): {m: dict(enumerate(v)) for m, v in found.items()}
        for name, found in nmi.items()
    }
    return scores, {cell: name.partition("/")[0] for cell, name in zip(scores, nmi, strict=True)}


def test_a_set_has_mean_and_spread_and_says_what_collapsed(summary):
    first = summary["cells"][0]
    ours, *_, other = first["rows"]
    assert (first["set"], first["group"], first["n"], first["k"]) == ("a", "a", 100, 4)
    assert ours["nmi"] == pytest.approx(0.81)
    assert ours["nmi_sd"] == pytest.approx(0.02 / 2**0.5)
    assert ours["acc"] == pytest.approx(0.405)
    assert (ours["collapsed"], other["collapsed"]) == ([], [1])
    about = {"n_missing": 0, "machines": []}
    assert "other collapsed" in markdown(summary | about)


def test_ranks_share_ties_and_groups_count_once(summary):
    # a: 1 3 2 4. b: ours and other tie for 3 and 4: 3.5 1 2 3.5. c1: 2.5 2.5 1 4. c2: 1 2 4 3.
    ranks = summary["ranks"]["mean_rank"]
    assert ranks["ours"] == pytest.approx((1 + 3.5 + (2.5 + 1) / 2) / 3)
    assert ranks["plain"] == pytest.approx((3 + 1 + (2.5 + 2) / 2) / 3)
    assert ranks["peer"] == pytest.approx((2 + 2 + (1 + 4) / 2) / 3)
    assert ranks["other"] == pytest.approx((4 + 3.5 + (4 + 3) / 2) / 3)
    assert sum(ranks.values()) == pytest.approx(1 + 2 + 3 + 4)


def test_against_the_best_peer_of_each_set(summary):
    ours, _, peer, _ = summary["against_best_peer"]
    # a: 0.81 - 0.75, b: 0.5 - 0.56, c1: 0.4 - 0.5, c2: 0.6 - 0.3
    assert ours["mean"] == pytest.approx((0.06 - 0.06 + (-0.1 + 0.3) / 2) / 3)
    assert ours["worst_set"]["cell"] == ["c1", "e"]
    assert ours["worst_set"]["difference"] == pytest.approx(-0.1)
    assert ours["worst_set"]["error"] == pytest.approx(0)
    assert peer["worst_set"]["cell"] == ["c2", "e"]
    lowest = summary["against_best_peer"][1]["worst_seed"]  # plain on c1
    assert (lowest["cell"], lowest["difference"]) == (["c1", "e"], pytest.approx(-0.1))


def test_the_worst_sets_error_is_of_paired_seeds():
    found = summarise(trials({"b/b": NMI["b/b"]}), METHODS, ("peer",), (), "ours")
    # ours less peer: -0.05 and -0.07
    worst = found["against_best_peer"][0]["worst_set"]
    assert worst["difference"] == pytest.approx(-0.06)
    assert worst["error"] == pytest.approx(0.01)


def test_paired_differences_are_averaged_over_groups():
    found = paired(asked(NMI)[0], "plain", "ours", asked(NMI)[1])
    groups = {"a": -0.1, "b": 0.1, "c": -0.1}
    assert found["groups"] == pytest.approx(groups)
    assert found["difference"] == pytest.approx(-0.1 / 3)
    # the sample variance of (-0.1, 0.1, -0.1) is 0.04 / 3, over three groups
    assert found["error"] == pytest.approx((0.04 / 3 / 3) ** 0.5)
    assert found["worst"][1] == "c2"


def test_only_seeds_that_both_have_are_paired():
    nmi = {"a/a": {"ours": [0.8, 0.2], "plain": [0.7]}}
    found = paired(asked(nmi)[0], "plain", "ours", asked(nmi)[1])
    assert found["difference"] == pytest.approx(-0.1)
    assert found["error"] is None


def test_what_the_other_groups_choose_is_scored_on_the_one_left_out():
    found = leave_one_group_out(asked(NMI)[0], ("ours", "plain"), asked(NMI)[1])
    # group means: ours 0.81, 0.5, 0.5; plain 0.71, 0.6, 0.4
    assert [(row["group"], row["chosen"]) for row in found["rows"]] == [
        ("a", "ours"),  # 0.5 against 0.5: a tie, the first
        ("b", "ours"),  # 0.655 against 0.555
        ("c", "ours"),  # 0.655 against 0.655: a tie
    ]
    assert [row["tied"] for row in found["rows"]] == [["plain"], [], ["plain"]]
    assert found["nmi"] == pytest.approx((0.81 + 0.5 + 0.5) / 3)
    assert found["fixed"]["plain"] == pytest.approx((0.71 + 0.6 + 0.4) / 3)


def test_a_choice_is_blind_to_the_group_left_out():
    nmi = {"a/a": {"x": [0.9], "y": [0.1]}, "b/b": {"x": [0.1], "y": [0.2]}}
    found = leave_one_group_out(asked(nmi)[0], ("x", "y"), asked(nmi)[1])
    # Each chooses for the other, and both choose wrongly.
    assert [row["chosen"] for row in found["rows"]] == ["y", "x"]
    assert found["nmi"] == pytest.approx(0.1)


def test_missing_trials_take_their_set_out_of_the_ranks_and_are_named():
    scores, groups = asked(without("peer", "b/b"))
    found = mean_ranks(scores, (*METHODS, "never run"), groups)
    assert found["n_cells"] == 3
    assert found["missing"]["peer"] == [["b", "e"]]
    assert len(found["missing"]["never run"]) == 4
    assert "never run" not in found["mean_rank"]
    assert found["mean_rank"]["ours"] == pytest.approx((1 + (2.5 + 1) / 2) / 2)
    assert leave_one_group_out(scores, ("ours", "peer"), groups)["left_out_cells"] == [["b", "e"]]


def test_a_failure_is_told_and_one_group_has_no_error():
    failed = {"set": "a", "group": "a", "encoder": "e", "method": "peer", "seed": 0}
    nmi = {"a/a": {"ours": [0.8], "plain": [0.7]}}
    found = summarise(
        [*trials(nmi), failed | {"error": "no memory"}], METHODS, ("peer",), (), "ours"
    )
    assert found["against_best_peer"][0]["mean"] is None
    assert found["left_out"] is None
    assert found["paired"][0]["error"] is None
    text = markdown(found | {"n_missing": 2, "machines": ["a <b>|"]})
    assert "peer failed on a / e, seed 0: no memory" in text
    assert "2 trials of the suite have not been run yet" in text
    assert "&lt;b&gt;\\|" in text
