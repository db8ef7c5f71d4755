"""Laws of the interval of a mean."""

import numpy as np
import pytest
from scipy import stats

from slax_viz import mean_interval


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (31, 2.042)])
def test_half_width_is_that_of_the_printed_table(n, quantile):
    # Two values symmetric about 3 (and 3 itself for an odd n), with a standard deviation that is known.
    samples = 3 + np.concatenate([np.ones(n // 2), -np.ones(n // 2), np.zeros(n % 2)])
    mean, low, high = mean_interval(samples)
    deviation = np.sqrt(2 * (n // 2) / (n - 1))
    np.testing.assert_allclose(mean, 3)
    np.testing.assert_allclose([mean - low, high - mean], quantile * deviation / np.sqrt(n), rtol=2e-4)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_each_column_has_the_interval_of_scipy(level):
    samples = np.random.default_rng(0).normal(2, 3, size=(7, 4, 2))
    interval = mean_interval(samples, level=level)
    low, high = stats.t.interval(level, 6, loc=samples.mean(axis=0), scale=stats.sem(samples, axis=0))
    assert interval.mean.shape == (4, 2)
    np.testing.assert_allclose(interval.mean, samples.mean(axis=0))
    np.testing.assert_allclose(interval.low, low)
    np.testing.assert_allclose(interval.high, high)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_holds_the_true_mean_with_its_probability(level):
    trials = 20_000
    samples = np.random.default_rng(1).normal(5, 2, size=(4, trials))
    _, low, high = mean_interval(samples, level=level)
    coverage = np.mean((low <= 5) & (high >= 5))
    assert abs(coverage - level) < 4 * np.sqrt(level * (1 - level) / trials)


def test_equal_samples_have_an_interval_of_no_width():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_one_sample_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 samples"):
        mean_interval(np.ones((1, 3)))
    with pytest.raises(ValueError, match="at least 2 samples"):
        mean_interval(np.array(1.0))


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_samples_are_an_error(broken):
    with pytest.raises(ValueError, match=r"got 1 NaN or infinite, the first at index \[1, 2\]"):
        mean_interval([[0, 1, 2], [3, 4, broken]])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, float("nan")])
def test_level_is_a_probability(level):
    with pytest.raises(ValueError, match="level must be a probability"):
        mean_interval([1.0, 2.0], level=level)


def test_ends_outside_the_bounds_are_moved_to_them():
    samples = [0.2, 0.9, 1.0]
    free, bounded = mean_interval(samples), mean_interval(samples, bounds=(-1.0, 1.0))
    assert free.high > 1
    assert (bounded.mean, bounded.low, bounded.high) == (free.mean, free.low, 1)
    assert mean_interval([-0.2, -0.9, -1.0], bounds=(-1.0, 1.0)).low == -1


def test_samples_outside_the_bounds_are_an_error():
    with pytest.raises(ValueError, match=r"must lie in \(-1.0, 1.0\), got 1 outside, the first at index \[2\]"):
        mean_interval([0.2, 0.9, 1.1], bounds=(-1.0, 1.0))
