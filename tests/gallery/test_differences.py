"""Differences, their intervals and p-values against SciPy's, the correction by hand, and how often it is wrong."""

import numpy as np
import pytest
from scipy import stats

from gallery.claims import Comparison
from gallery.significance import LEVEL, RESOLUTION
from gallery.significance import difference as difference_of_numbers
from gallery.tables import Number

ONE = Number(1.0, 1.0, 1.0)
SURE = {True: (0.0, 1.0), False: (1.0, 0.0)}


def judged(relation, found, tolerance=None):
    return Comparison(ONE, relation, ONE, tolerance, difference=found)


def difference(ours, than, *, paired, logarithms=False, tests=((), ())):
    """The difference of two lists of samples or numbers, which have the same setting only if they are paired."""
    sides = []
    for of, tested, setting in zip((ours, than), tests, ("a", "a" if paired else "b"), strict=True):
        samples = tuple(of) if isinstance(of, list) else ()
        sides.append(Number(0.0 if samples else of, 0, 0, samples, "seed", (setting,), logarithms, tuple(tested)))
    return difference_of_numbers(*sides)


def samples(*counts):
    rng = np.random.default_rng(0)
    return [list(rng.normal(0.5 * index, 1 + index, count)) for index, count in enumerate(counts)]


(OURS, THAN), (LONG, LONGER) = samples(5, 5), samples(4, 7)
PAIRED = difference(OURS, THAN, paired=True)
# The seeds are alike, so that only the test samples vary: the difference is that of the samples.
SHARED = difference([np.mean(OURS)] * 4, [np.mean(THAN)] * 4, paired=True, tests=(OURS, THAN))
APART = difference([np.mean(LONG)] * 3, [np.mean(LONGER)] * 2, paired=False, tests=(LONG, LONGER))
FACTOR = difference(np.exp(OURS).tolist(), 1.1, paired=False, logarithms=True)


@pytest.mark.parametrize(
    ("found", "kind", "expected", "shift"),
    [
        (PAIRED, "paired", stats.ttest_rel(OURS, THAN), 0.0),
        (difference(OURS, 0.3, paired=False), "one sample", stats.ttest_1samp(OURS, 0.3), 0.3),
        (difference(LONG, LONGER, paired=False), "not paired", stats.ttest_ind(LONG, LONGER, equal_var=False), 0.0),
        (SHARED, "paired", stats.ttest_rel(OURS, THAN), 0.0),
        (APART, "not paired", stats.ttest_ind(LONG, LONGER, equal_var=False), 0.0),
        (FACTOR, "one sample", stats.ttest_1samp(OURS, np.log(1.1)), np.log(1.1)),
    ],
)
def test_p_value_and_interval_are_those_of_scipy(found, kind, expected, shift):
    assert found.kind == kind and found.is_of_logarithms == (found is FACTOR)
    above, below = (judged(relation, found).evidence for relation in ("above", "below"))
    assert min(above) == pytest.approx(expected.pvalue, rel=1e-9) and above == below[::-1]
    assert (above.holds < above.fails) == (found.mean > 0)
    assert np.add(found.interval, shift) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)


def test_sides_are_ours_minus_the_other_and_missing_samples_are_left_out():
    pairs = difference([1.0, None, 3.0, 5.0], [0.0, 9.0, None, 1.0], paired=True)
    apart = difference([1.0, None, 3.0], [0.0, 9.0, None], paired=False)
    assert (pairs.mean, pairs.counts) == (2.5, (2,)) and (apart.mean, apart.counts) == (-2.5, (2, 2))
    one, other = difference(OURS, 0.3, paired=False), difference(0.3, OURS, paired=False)
    assert other.mean == pytest.approx(-one.mean)
    few = [([1.0], 0.0, False), (0.0, [1.0, None], False), ([1.0, None], [2.0, 3.0], True), ([1.0], [2.0, 3.0], False)]
    assert [difference(ours, than, paired=paired) for ours, than, paired in few] == [None] * 4


@pytest.mark.parametrize("tolerance", [0.1, 0.5, 1.0, 3.0, 8.0])
def test_near_is_two_one_sided_tests_and_the_interval_within_the_tolerance(tolerance):
    holds, fails = judged("near", PAIRED, tolerance).evidence
    sides = ((-tolerance, "greater"), (tolerance, "less"))
    one_sided = [stats.ttest_1samp(np.subtract(OURS, THAN), end, alternative=side).pvalue for end, side in sides]
    assert holds == pytest.approx(min(1, 2 * max(one_sided)), rel=1e-9)
    low, high = PAIRED.interval
    assert (holds < LEVEL) == (-tolerance < low and high < tolerance)
    assert (fails < LEVEL) == (high < -tolerance or tolerance < low)


@pytest.mark.parametrize(
    "relation, ours, than, tolerance, holds",
    [
        ("above", [1.0] * 3, 0.5, None, True),
        ("above", [1.0] * 3, 1.0, None, False),  # no difference at all: it is neither above nor below
        ("near", [0.4, 0.4], 0.3, 0.1, True),  # as decimal numbers: as binary ones they are farther apart
        ("above", 1.0 + 1e-9, 1.0, None, True),  # without samples, every digit counts
        ("equal", 2.0, 2.0, None, True),
        ("equal", 2.0, 2.000001, None, False),
        ("equal", [5.0, 5.0, 5.00001], 5.0, None, False),
        # Cosines of two exact rules: SciPy would find a difference of 5e-8 that is sure to be there.
        ("above", [1.0, 0.99999994, 1.0, 0.99999994], [0.99999994, 0.9999999, 0.99999994, 0.9999999], None, False),
    ],
)
def test_what_does_not_vary_is_compared_as_it_is(relation, ours, than, tolerance, holds):
    found = difference(ours, than, paired=isinstance(than, list))
    assert judged(relation, found, tolerance).evidence == SURE[holds]


NEAR_FIVE = 5 + 4 * RESOLUTION, 5 + 6 * RESOLUTION


def test_rounding_is_relative_to_the_numbers_and_at_its_border_still_rounding():
    small = difference([1.1e-9, 1.2e-9, 1.0e-9], [2.1e-9, 2.3e-9, 2.2e-9], paired=True)
    assert not small.is_constant and judged("below", small).evidence.holds < LEVEL
    zeros, rounding, more = (difference([x, 5.0 * (x > 0)], 5.0 * (x > 0), paired=False) for x in (0.0, *NEAR_FIVE))
    assert zeros.is_constant and rounding.is_constant and not more.is_constant
    assert rounding.interval == (rounding.mean, rounding.mean)
    half = difference([1.0, 1.0], [1.5, 2.0, 4.0], paired=False)  # one side varies
    expected = stats.ttest_1samp([1.5, 2.0, 4.0], 1.0).pvalue
    assert judged("below", half).evidence.holds == pytest.approx(expected)
