"""Rules are compared by paired t tests of equal seeds with Holm's correction, in the table of a sweep."""

import numpy as np
import pytest
from scipy import stats

from slax_rules.train.intervals import holm, interval, p_value
from slax_rules.train.runs import Run, Sweep

SCORES = {  # by rule and seed
    "BPTT": [0.91, 0.88, 0.93, 0.9, 0.95],
    "OTPE": [0.9, 0.89, 0.91, 0.9, 0.93],
    "OTTT": [0.81, 0.84, 0.85, 0.8, 0.83],
    "SLTT": [0.7, 0.71, 0.6, 0.72, 0.65],
}
VALIDATION = {"BPTT": 0.5, "OTPE": 0.7, "OTTT": 0.6, "SLTT": 0.4}


def found(scores=SCORES, **options):
    """A sweep with these test scores, without training."""

    def run(rule, seed, score):
        return Run(rule, {"rate": 0.1}, seed, np.ones(4), None, {4: VALIDATION[rule]}, {4: score}, None, {4: None})

    best = {rule: [run(rule, *one) for one in enumerate(of_rule)] for rule, of_rule in scores.items()}
    points = ({"rate": 0.1},)
    trials, chosen = {rule: [runs] for rule, runs in best.items()}, dict.fromkeys(best, points[0])
    return Sweep(points, trials, chosen, best, **{"limits": (0.0, 1.0)} | options)


def without(*rules):
    return {rule: scores for rule, scores in SCORES.items() if rule not in rules}


@pytest.mark.parametrize("count", [2, 3, 20])
def test_intervals_and_p_values_are_those_of_scipy(count):
    ours, theirs = np.random.default_rng(count).normal([[0.4], [0.0]], 1, (2, count))
    test = stats.ttest_rel(ours, theirs)
    ends = test.confidence_interval(0.95)
    its = interval(ours - theirs)
    assert p_value(ours, theirs) == pytest.approx(test.pvalue)
    assert [its["low"], its["high"]] == pytest.approx([ends.low, ends.high])


def test_equal_differences_and_single_seeds_have_no_p_value():
    """0.9 - 0.8 is not 0.7 - 0.6, but only by rounding."""
    assert np.isnan(p_value(np.array([0.9, 0.7]), np.array([0.8, 0.6])))
    assert np.isnan(p_value(np.ones(3), np.ones(3))) and np.isnan(p_value(np.ones(1), np.zeros(1)))
    assert np.isnan(p_value(np.array([0.9, np.nan]), np.array([0.8, 0.7])))


@pytest.mark.parametrize(
    "p_values, corrected",
    [
        ([], []),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4, 3, 2 and 1 times, none below the one before it
        ([0.6, 0.7], [1, 1]),
        ([np.nan, 0.01], [np.nan, 0.02]),  # a test without a result is still a test
    ],
)
def test_holms_correction_by_hand(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected, nan_ok=True)


def test_the_table_has_corrected_tests_against_the_reference():
    sweep = found()
    p = {rule: stats.ttest_rel(SCORES[rule], SCORES["BPTT"]).pvalue for rule in without("BPTT")}
    expected = {"SLTT": 3 * p["SLTT"], "OTTT": 2 * p["OTTT"], "OTPE": p["OTPE"]}  # in increasing order
    assert sorted(p, key=p.get) == list(expected)
    differences = sweep.differences()
    assert {rule: its["p_value"] for rule, its in differences.items()} == pytest.approx(expected)
    rows = {row["rule"]: row for row in sweep.rows()}
    assert rows["BPTT"]["difference"] is rows["BPTT"]["p_value"] is None
    for rule, its in differences.items():
        row = rows[rule]
        assert row["reference"] == "BPTT" and row["p_value"] == its["p_value"]
        assert [row[f"difference{end}"] for end in ("", "_low", "_high")] == [
            its[name] for name in ("mean", "low", "high")
        ]


def test_the_reference_is_bptt_or_else_the_best_on_validation_samples_or_what_is_asked_for():
    assert found(mode="min").rows()[0]["reference"] == "BPTT"
    assert found(without("BPTT")).rows()[0]["reference"] == "OTPE"
    assert found(without("BPTT"), mode="min").rows()[0]["reference"] == "SLTT"
    asked = found(reference="OTTT")
    assert "test minus OTTT" in str(asked) and "OTTT" not in asked.differences() and "OTTT" in asked.differences("OTPE")


def test_intervals_end_where_differences_of_scores_do_and_a_single_seed_has_none():
    few = found({"BPTT": [0.9, 0.1], "OTPE": [0.1, 0.8]})
    assert few.differences()["OTPE"]["low"] < -1
    assert (few.rows()[1]["difference_low"], few.rows()[1]["difference_high"]) == (-1, 1)
    alone = str(found({rule: scores[:1] for rule, scores in SCORES.items()}))
    assert "nan" not in alone and alone.splitlines()[-1].split() == ["SLTT", "-0.2100", "-", "-"]
