"""Training length as a variable, and the error of a mean over seeds that share a test set."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from experiments.common import measures
from experiments.common.learning import finite_runs, train
from experiments.common.samples import make_sampler
from experiments.drawing import length_curves, statistics, tables
from experiments.drawing.statistics import freedom_and_error

CONFIG = {"task": "tiny", "dataset": "randman", "code": "time", "input_rate": 0.2, "initial_rate": 0.3}
CONFIG |= {"layers": [8, 7, 3], "n_steps": 6, "steps": 5, "batch_size": 8, "rule": "bptt", "seeds": 1, "anneal": False}
CONFIG |= {"optimizer": "adamax", "validation_size": 9, "test_size": 21, "evaluate_at": [3, 5]}


def test_error_over_seeds_and_samples_is_the_closed_form_of_a_bootstrap():
    """The variance of a bootstrap over both, with n - 1 in place of n, and without what seed and sample explain together."""
    rng = np.random.default_rng(0)
    easy = 0.3 * rng.normal(size=(6, 1)) + 0.8 * rng.normal(size=(1, 40))  # for each seed and each sample
    right = (easy + 0.6 * rng.normal(size=(6, 40)) > -0.5).astype(float)
    draws = [right[np.ix_(rng.integers(6, size=6), rng.integers(40, size=40))].mean() for _ in range(20000)]
    seeds, samples = right.mean(axis=1), right.mean(axis=0)
    rest = right - seeds[:, None] - samples + right.mean()
    parts = np.var(seeds, ddof=1) / 6, np.var(samples, ddof=1) / 40
    closed = 5 / 6 * parts[0] + 39 / 40 * parts[1] + np.mean(rest**2) / 240
    assert np.var(draws) == pytest.approx(closed, rel=0.03)
    freedom, error = freedom_and_error([(np.var(seeds, ddof=1), 6), (np.var(samples, ddof=1), 40)])
    assert error**2 == pytest.approx(closed + parts[0] / 6 + parts[1] / 40 - np.mean(rest**2) / 240, rel=1e-12)
    mean, low, high, *_ = tables.tested_summary(right, statistics.SHARE)
    expected = right.mean(), *stats.t.interval(0.95, freedom, right.mean(), error)
    assert (mean, low, high) == pytest.approx(expected)
    assert statistics.interval(right - right, statistics.DIFFERENCE) == (0, 0, 0)


def test_recordings_of_one_speaker_and_digit_count_once():
    speakers = [[1, 0, 1], [1, 1, 0]]  # of two seeds, always right or wrong
    groups = np.repeat(speakers, 5, axis=1)
    lengths = [[{"batches": 3, "right": measures.pack(bits)}] for bits in groups]
    seeds = [{"common_test": True, "test_size": 15, "lengths": of} for of in lengths]
    assert tables.tested("spoken_digits", seeds).tolist() == speakers
    assert tables.tested("digits", seeds, 3).tolist() == groups.tolist()
    own = [seed | {"common_test": False, "lengths": [{"accuracy": 2 / 3}]} for seed in seeds]
    assert tables.tested("spoken_digits", own).tolist() == [[2 / 3], [2 / 3]]


@pytest.mark.parametrize("center", [-0.05, 0.0, 0.004, 0.008, 0.02])
def test_curve_is_flat_if_its_last_gain_is_surely_below_a_point(center):
    gains = center + 0.006 * np.array([-1.0, 0.5, 1.0, -0.5, 0.0, 0.3])
    surely = stats.ttest_1samp(gains, 0.01, alternative="less").pvalue < 0.025
    assert length_curves.is_flat(gains.tolist()) == surely == (center < 0.006)
    assert not length_curves.is_flat([center])  # of one seed nothing is sure


def test_bits_reproduce_the_accuracy_and_a_point_on_the_way_is_a_training_of_this_length():
    sampler = make_sampler(CONFIG, None)
    (run,) = finite_runs(train(CONFIG, "offline", sampler, "here", rates=[0.03], seeds=1))
    own = measures.along(run, sampler(0))
    assert not own["common_test"] and not any("right" in entry for entry in own["lengths"])
    found = measures.along(run, SimpleNamespace(test=sampler(0).test, has_common_test=True))
    assert [entry["batches"] for entry in found["lengths"]] == [3, 5] and found["common_test"]
    for entry in found["lengths"]:
        assert tables.unpack(entry["right"], 21).mean() == pytest.approx(entry["accuracy"], abs=1e-6)
        assert entry["accuracy"] == run.test[entry["batches"]]
    assert tables.tested("tiny", [found], 3).shape == (1, 21)
    assert tables.tested("tiny", [own]).tolist() == [[run.test[5]]]
    short = CONFIG | {"steps": 3}
    (alone,) = finite_runs(train(short, "offline", make_sampler(short, None), "here", rates=[0.03], seeds=1))
    assert alone.losses.tolist() == run.losses[:3].tolist() and alone.validation[3] == run.validation[3]
