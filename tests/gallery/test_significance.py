"""Tests of differences against scipy's, the correction by hand, and how often both are wrong."""

import numpy as np
import pytest
from scipy import stats

from gallery.significance import (
    LEVEL,
    MOST_SAMPLES,
    RESOLUTION,
    Evidence,
    difference,
    evidence,
    factor,
    holm,
    is_true_of_means,
    samples_needed,
)


def samples(seed, *counts, shift=0.5):
    generator = np.random.default_rng(seed)
    return [list(generator.normal(shift * index, 1 + index, count)) for index, count in enumerate(counts)]


def p_of(relation, found, tolerance=None):
    return min(evidence(relation, found, tolerance))


@pytest.mark.parametrize("seed", range(20))
def test_paired_samples_have_the_p_value_and_the_interval_of_scipy(seed):
    ours, than = samples(seed, 5, 5)
    found, expected = difference(ours, than, paired=True), stats.ttest_rel(ours, than)
    assert (found.kind, found.counts) == ("paired", (5,))
    assert p_of("above", found) == p_of("below", found) == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(than))


@pytest.mark.parametrize("seed", range(20))
def test_samples_against_a_number_have_the_p_value_and_the_interval_of_scipy(seed):
    (ours,) = samples(seed, 4)
    found, expected = difference(ours, 0.3, paired=False), stats.ttest_1samp(ours, 0.3)
    assert (found.kind, found.counts) == ("one sample", (4,))
    assert p_of("above", found) == pytest.approx(expected.pvalue, rel=1e-9)
    assert np.add(found.interval, 0.3) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    other = difference(0.3, ours, paired=False)
    assert (other.kind, other.mean) == ("one sample", pytest.approx(-found.mean))
    assert evidence("above", other, None) == pytest.approx(evidence("below", found, None))


@pytest.mark.parametrize("seed", range(20))
def test_samples_that_are_not_paired_have_the_p_value_and_the_interval_of_welch(seed):
    ours, than = samples(seed, 4, 7)
    found, expected = difference(ours, than, paired=False), stats.ttest_ind(ours, than, equal_var=False)
    assert (found.kind, found.counts) == ("not paired", (4, 7))
    assert p_of("above", found) == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_factor_is_tested_by_the_logarithms_and_is_the_inverse_of_the_other_way_round(seed):
    times = np.exp(np.random.default_rng(seed).normal(0.0, 0.3, (2, 9)))
    ours, than = times[0] / times[1], 1.1
    found, expected = factor(list(ours), than, paired=False), stats.ttest_1samp(np.log(ours), np.log(than))
    assert found.is_of_logarithms and p_of("above", found) == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95) - np.log(than)), rel=1e-9)
    other = factor(list(1 / ours), 1 / than, paired=False)
    assert other.mean == pytest.approx(-found.mean, abs=1e-12)
    assert p_of("below", other) == pytest.approx(p_of("above", found), rel=1e-9)
    missing = factor([None, 2.0, 8.0], [1.0, 1.0, 1.0], paired=True)
    assert missing.mean == pytest.approx(np.log(4.0)) and missing.counts == (2,)


@pytest.mark.parametrize("seed", range(20))
def test_near_is_two_one_sided_tests_and_the_interval_within_the_tolerance(seed):
    ours, than = samples(seed, 6, 6, shift=0.2)
    differences = np.subtract(ours, than)
    found = difference(ours, than, paired=True)
    for tolerance in (0.1, 0.5, 1.0, 3.0, 8.0):
        holds, fails = evidence("near", found, tolerance)
        one_sided = [
            stats.ttest_1samp(differences, -tolerance, alternative="greater").pvalue,
            stats.ttest_1samp(differences, tolerance, alternative="less").pvalue,
        ]
        assert holds == pytest.approx(min(1, 2 * max(one_sided)), rel=1e-9)
        low, high = found.interval
        assert (holds < LEVEL) == (-tolerance < low and high < tolerance)
        assert (fails < LEVEL) == (high < -tolerance or tolerance < low)


def test_only_the_side_on_which_the_mean_lies_can_be_sure():
    found = difference([1.0, 1.1, 1.2], 0.0, paired=False)
    p = stats.ttest_1samp([1.0, 1.1, 1.2], 0.0).pvalue
    assert evidence("above", found, None) == pytest.approx((p, 1.0))
    assert evidence("below", found, None) == pytest.approx((1.0, p))
    assert evidence("near", found, 0.2).holds == 1.0 > LEVEL > evidence("near", found, 0.2).fails


def test_pair_of_which_one_is_missing_is_left_out():
    found = difference([1.0, None, 3.0, 5.0], [0.0, 9.0, None, 1.0], paired=True)
    assert (found.mean, found.counts) == (2.5, (2,))
    apart = difference([1.0, None, 3.0], [0.0, 9.0, None], paired=False)
    assert apart.counts == (2, 2) and apart.mean == 2.0 - 4.5


@pytest.mark.parametrize(
    "ours, than, paired",
    [
        ([1.0], 0.0, False),
        (0.0, [1.0], False),
        ([1.0], [2.0], True),
        ([1.0, None], [2.0, 3.0], True),
        ([None, None], 0.0, False),
        ([1.0], [2.0, 3.0], False),
        ([1.0, 2.0, None], [None, None, 3.0], True),
    ],
)
def test_fewer_than_two_samples_are_not_tested(ours, than, paired):
    assert difference(ours, than, paired=paired) is None


@pytest.mark.parametrize(
    "relation, ours, than, tolerance, holds",
    [
        ("above", [1.0] * 3, 0.5, None, True),
        ("above", [1.0] * 3, 1.0, None, False),  # no difference at all: it is not above
        ("below", [1.0] * 3, 1.0, None, False),
        ("above", [2.0, 3.0], [1.0, 2.0], None, True),  # by 1 each
        ("near", [1.0] * 3, 1.2, 0.2, True),
        ("near", [1.0] * 3, 1.2, 0.1, False),
        ("near", [0.3, 0.3], 0.2, 0.1, True),  # as decimal numbers
        ("above", 2.0, 1.0, None, True),
        ("above", 1.0, 1.0, None, False),
        ("above", 1.0 + 1e-9, 1.0, None, True),  # without samples, every digit counts
        ("near", 0.3, 0.2, 0.1, True),
        ("equal", 2.0, 2.0, None, True),
        ("equal", 2.0, 2.000001, None, False),
        ("equal", [5.0] * 3, 5.0, None, True),
        ("equal", [5.0, 5.0, 5.00001], 5.0, None, False),
        ("equal", [4.0, 6.0], 5.0, None, False),
    ],
)
def test_what_does_not_vary_is_compared_as_it_is(relation, ours, than, tolerance, holds):
    found = difference(ours, than, paired=isinstance(than, list))
    assert evidence(relation, found, tolerance) == (Evidence(0.0, 1.0) if holds else Evidence(1.0, 0.0))


def test_rounding_is_no_effect():
    """Cosines of two exact rules: scipy would find a difference of 5e-8 that is sure to be there."""
    ours, than = [1.0, 0.99999994, 1.0, 0.99999994], [0.99999994, 0.9999999, 0.99999994, 0.9999999]
    assert stats.ttest_rel(ours, than).pvalue < 0.01
    assert evidence("above", difference(ours, than, paired=True), None) == Evidence(1.0, 0.0)
    assert evidence("near", difference(ours, than, paired=True), 1e-4) == Evidence(0.0, 1.0)


def test_one_side_that_does_not_vary_leaves_the_other_to_be_tested():
    found, expected = difference([1.0, 1.0], [1.5, 2.0, 4.0], paired=False), stats.ttest_1samp([1.5, 2.0, 4.0], 1.0)
    assert not found.is_constant and p_of("below", found) == pytest.approx(expected.pvalue)
    assert difference([1.0, 1.0], [2.0] * 3, paired=False).is_constant


def test_small_numbers_are_not_rounding():
    found = difference([1.1e-9, 1.2e-9, 1.0e-9], [2.1e-9, 2.3e-9, 2.2e-9], paired=True)
    assert not found.is_constant and p_of("below", found) < LEVEL
    assert difference([5.0, 5.0 + 4 * RESOLUTION], 5.0, paired=False).is_constant
    assert not difference([5.0, 5.0 + 6 * RESOLUTION], 5.0, paired=False).is_constant


@pytest.mark.parametrize("relation, tolerance", [("above", None), ("near", 0.9)])
@pytest.mark.parametrize("seed", range(5))
def test_number_of_samples_is_the_smallest_that_decides(relation, tolerance, seed):
    """By hand: with the same mean and variance, the interval of n samples excludes the border, and that of n - 1 does not."""
    ours, than = samples(seed, 4, 4)
    found = difference(ours, than, paired=True)
    border = 0.0 if relation == "above" else np.sign(found.mean) * tolerance
    for level in (0.05, 0.005):
        n = samples_needed(relation, found, tolerance, level)

        def excludes(count, level=level):
            half = stats.t.ppf(1 - level / 2, count - 1) * np.std(np.subtract(ours, than), ddof=1) / np.sqrt(count)
            return half < abs(found.mean - border)

        assert (excludes(n) or n == MOST_SAMPLES + 1) and (n == 2 or not excludes(n - 1))


def test_number_of_samples_of_each_side_is_that_of_welch():
    ours, than = samples(3, 4, 7)
    found = difference(ours, than, paired=False)
    variances = [np.var(side, ddof=1) for side in (ours, than)]

    def p_with(count):
        first, second = (
            (mean, variance**0.5, count) for mean, variance in zip((found.mean, 0), variances, strict=True)
        )
        return stats.ttest_ind_from_stats(*first, *second, equal_var=False).pvalue

    n = samples_needed("above", found, None, 0.01)
    assert p_with(n) < 0.01 <= p_with(n - 1)


def test_number_of_samples_ends_at_a_thousand():
    found = difference([1.0, -1.0, 1.01, -1.0], 0.0, paired=False)
    assert samples_needed("above", found, None, LEVEL) == MOST_SAMPLES + 1
    assert samples_needed("near", difference([1.0, 3.0], 0.0, paired=False), 2.0, LEVEL) == MOST_SAMPLES + 1
    assert samples_needed("near", difference([1.0, 1.0], 0.0, paired=False), 2.0, LEVEL) == 2


def test_means_say_which_way_it_points():
    found = difference([1.0, 3.0], 2.5, paired=False)
    assert [is_true_of_means(relation, found, None) for relation in ("above", "below", "equal")] == [False, True, False]
    assert is_true_of_means("near", found, 0.5) and not is_true_of_means("near", found, 0.4)


@pytest.mark.parametrize(
    "p_values, corrected",
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4, 3, 2 and 1 times, none below the one before it
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.0, 1.0, 0.6], [0.0, 1.0, 1.0]),
        ([0.03, 0.03, 0.001], [0.06, 0.06, 0.003]),
    ],
)
def test_holms_correction_by_hand(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)


def test_paired_test_is_wrong_in_five_of_a_hundred_cases():
    """Samples of 3 seeds that share much, with no difference between them: 20,000 tests."""
    generator = np.random.default_rng(0)
    shared = 10 * generator.normal(size=(20_000, 3))
    ours, than = (shared + generator.normal(size=shared.shape) for _ in "12")
    p = np.array([p_of("above", difference(list(a), list(b), paired=True)) for a, b in zip(ours, than, strict=True)])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.006)  # four standard errors
    assert np.mean(p < 0.01) == pytest.approx(0.01, abs=0.003)


def test_near_is_wrong_in_few_cases_at_its_border():
    """The true difference is the tolerance itself: it is called near, or not near, in 2.5 of a hundred cases each."""
    generator = np.random.default_rng(1)
    both = [
        evidence("near", difference(list(ours), 0.0, paired=False), 5.0)
        for ours in 5 + generator.normal(size=(10_000, 4))
    ]
    holds, fails = (np.mean(np.array(p) < 0.05) for p in zip(*both, strict=True))
    assert (holds, fails) == pytest.approx((0.025, 0.025), abs=0.007)


def test_corrected_experiment_is_wrong_anywhere_in_at_most_five_of_a_hundred():
    """4,000 experiments of 12 claims, of which 8 are about nothing and correlated, and 4 about a real difference."""
    generator = np.random.default_rng(2)
    wrong = uncorrected = found = 0
    for _ in range(4000):
        common = generator.normal(size=5)
        nothing = [list(common + generator.normal(size=5)) for _ in range(8)]
        something = [list(6 + generator.normal(size=5)) for _ in range(4)]
        p = [p_of("above", difference(ours, 0.0, paired=False)) for ours in nothing + something]
        corrected = holm(p)
        wrong += min(corrected[:8]) < 0.05
        uncorrected += min(p[:8]) < 0.05
        found += sum(one < 0.05 for one in corrected[8:])
    assert wrong / 4000 <= 0.05 < 0.15 < uncorrected / 4000
    assert found / 16_000 > 0.9
