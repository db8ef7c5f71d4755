"""Numbers, verdicts and durations in words."""

import math
from typing import get_args

import pytest

from gallery import wording
from gallery.claims import Claim, Condition, Verdict, correct
from gallery.significance import difference, evidence, factor
from gallery.tables import Number

EXACT = Number(2.0, 2.0, 2.0)


def condition(ours=EXACT, relation="above", than=EXACT, tolerance=None, published=None):
    return Condition(ours, relation, than, tolerance, published, ())


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (1.0, "1"),
        (-3.0, "-3"),
        (3862500.0, "3,862,500"),
        (874115.04, "874,115"),
        (9999.96, "10,000"),
        (1234.5, "1,234"),
        (999.96, "1000"),
        (0.968075, "0.9681"),
        (-0.0123456, "-0.01235"),
        (0.000076, "7.6e-05"),
        (1e20, "100,000,000,000,000,000,000"),
    ],
)
def test_number_has_four_digits(value, text):
    assert wording.in_digits(value) == text


def test_interval_is_told_where_there_is_one():
    assert wording.with_interval(Number(0.5, 0.25, 0.75)).replace(wording.NO_BREAK, " ") == "0.5 (0.25 to 0.75)"
    assert wording.with_interval(EXACT) == "2"


def test_what_ours_is_compared_with():
    assert wording.compared(condition(relation="equal")) == "equal to 2"
    assert wording.compared(condition(relation="near", tolerance=0.5)) == "near 2, within 0.5"
    assert wording.compared(condition(than=None)) == ""


def condition_of(ours, relation, than=(), *, value=0.0, tolerance=None, paired=True, unit="seed"):
    """A condition about samples, and samples or a number."""
    sides = [
        Number(sum(of) / len(of), min(of), max(of), tuple(of), unit) if of else Number(value, value, value)
        for of in (ours, than)
    ]
    found = difference(ours, than or value, paired=paired)
    judged = Condition(sides[0], relation, sides[1], tolerance, None, (), found)
    return judged._replace(evidence=found and evidence(relation, found, tolerance))


def test_a_factor_is_told_as_such():
    ours = Number(2.0, 1.0, 4.0, (1.0, 4.0), "round", is_geometric=True)
    found = factor([1.0, 4.0], 1.0, paired=False)
    told = wording.difference(Condition(ours, "above", Number(1.0, 1.0, 1.0), None, None, (), found))
    ends = [wording.in_digits(math.exp(end)) for end in found.interval]
    assert told.replace(wording.NO_BREAK, " ") == f"2-fold ({ends[0]} to {ends[1]}), over 2 rounds"


def claim(*conditions):
    return Claim("it", "s", "ours", "", conditions)


@pytest.mark.parametrize(
    "condition, text",
    [
        (condition_of([1.0, 2.0, 3.0], "above"), "+2 (-0.4841 to 4.484), over 3 seeds"),
        (condition_of([1.0, 2.0, 3.0], "above", [2.0, 4.0, 6.0]), "-2 (-4.484 to 0.4841), over 3 pairs of seeds"),
        (
            condition_of([1.0, 3.0], "above", [2.0, 4.0, 6.0], paired=False),
            "-2 (-6.975 to 2.975), over 2 and 3 seeds, not paired",
        ),
        (condition_of([1.0, 1.0], "above", value=0.5, unit="round"), "+0.5, the same in 2 rounds"),
        (condition(), ""),
        (condition_of([1.0], "above"), ""),
    ],
)
def test_difference_is_told_with_its_interval_and_what_it_is_over(condition, text):
    assert wording.difference(condition).replace(wording.NO_BREAK, " ") == text


@pytest.mark.parametrize("p, text", [(0.0, "p < 0.0001"), (1e-4, "p = 0.0001"), (0.0456, "p = 0.046"), (1.0, "p = 1")])
def test_p_value_has_two_digits(p, text):
    assert wording.p_value(p) == text


def test_outcome_has_what_there_is_to_say():
    sure, unsure = condition_of([1.0, 1.1, 1.2], "above"), condition_of([1.0, 1.1, 1.5], "above", value=0.7)
    against = condition_of([1.0, 1.1, 1.2], "above", value=1.2, unit="round")
    alone = [wording.outcome(one) for one in correct([claim(sure)])]
    assert alone == [["p = 0.0027"]]
    several = correct(
        [claim(sure), claim(unsure), claim(against), claim(condition_of([1.0, 1.0], "above")), claim(condition())]
    )
    assert [wording.outcome(one) for one in several] == [
        ["p = 0.0082"],
        ["p = 0.16", "the means agree with it", "about 5 seeds would be needed"],
        ["p = 0.23", "the means contradict it", "about 9 rounds would be needed"],
        ["p < 0.0001"],
        [],
    ]
    many = correct([claim(sure)] * 20)
    assert wording.outcome(many[0]) == [
        "p = 0.055",
        "holds before the correction",
        "the means agree with it",
        "about 4 seeds would be needed",
    ]
    balanced = correct([claim(condition_of([-1.0, 1.0, 0.0], "above"))])
    assert wording.outcome(balanced[0])[-1] == "more than 1000 seeds would be needed"
    missing = condition()._replace(ours=None, reason="there is no x.csv")
    assert wording.outcome(claim(missing)) == ["there is no x.csv"]


@pytest.mark.parametrize(
    "ours, published, text",
    [
        (2.0, 2.5, "-0.5 (-20.0 %)"),
        (3.0, 2.5, "+0.5 (+20.0 %)"),
        (2.0, -4.0, "+6 (+150.0 %)"),
        (2.5, 2.5, "0"),
        (2.0, 0.0, "+2"),
        (2.0, None, ""),
        (None, 2.5, ""),
    ],
)
def test_deviation_is_ours_minus_the_published_number(ours, published, text):
    ours = None if ours is None else Number(ours, ours, ours)
    assert wording.deviation(condition(ours=ours, published=published)) == text


def test_published_words_stand_where_there_is_no_published_number():
    claim = Claim("it", "s", "ours", "about two", (condition(), condition(published=3.0)))
    assert [wording.published(claim, one) for one in claim.conditions] == ["about two", "3"]


@pytest.mark.parametrize(
    "seconds, text",
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7384, "2 h 3 min")],
)
def test_duration(seconds, text):
    assert wording.duration(seconds) == text


def test_period_is_to_the_minute():
    dates = ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:59+00:00", "2026-01-03T00:00:00+00:00")
    assert wording.period(dates[0], dates[1]) == "2026-01-02 03:04 UTC"
    assert wording.period(dates[0], dates[2]) == "2026-01-02 03:04 to 2026-01-03 00:00 UTC"


def test_names_are_counted_where_there_are_several():
    assert [wording.counted(names) for names in ({}, {"cpu": 5}, {"gpu": 2, "cpu": 1})] == [
        "",
        "cpu",
        "gpu (2 jobs), cpu (1 jobs)",
    ]
    assert wording.commits({"0123456789abcdef+": 5}) == "0123456789+"
    assert wording.commits({"unknown": 5}) == "unknown"


def test_every_verdict_has_its_own_sign_and_a_meaning():
    assert set(wording.VERDICT_SYMBOLS) == set(wording.MEANINGS) == set(get_args(Verdict))
    assert len(set(wording.VERDICT_SYMBOLS.values())) == len(wording.VERDICT_SYMBOLS)
