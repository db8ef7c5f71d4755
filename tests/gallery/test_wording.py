"""Numbers, verdicts and durations in words."""

import pytest

from gallery import wording
from gallery.claims import VERDICTS, Claim, Condition
from gallery.tables import Number

EXACT = Number(2.0, 2.0, 2.0)


def condition(ours=EXACT, relation="above", than=EXACT, tolerance=None, published=None):
    return Condition(ours, relation, than, tolerance, published, (), "holds", "")


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
    assert set(wording.VERDICT_SYMBOLS) == set(wording.MEANINGS) == set(VERDICTS)
    assert len(set(wording.VERDICT_SYMBOLS.values())) == len(VERDICTS)
