"""Random changes of spike trains: each does what it says, within its bounds, and zero does nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slax_data import Augmentation

T, B, N = 30, 200, 12
KEY = jax.random.key(0)


def pulses(step=10, unit=6):
    """One spike in each sample."""
    return jnp.zeros((T, B, N)).at[step, :, unit].set(1.0)


def where(spikes):
    """Step and unit of each sample's only spike."""
    steps, samples, units = np.nonzero(np.asarray(spikes))
    assert sorted(samples) == list(range(B))
    order = np.argsort(samples)
    return steps[order], units[order]


def test_without_changes_nothing_changes():
    spikes = jax.random.bernoulli(KEY, 0.3, (T, B, N)).astype(jnp.float32)
    np.testing.assert_array_equal(Augmentation()(KEY, spikes), spikes)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.bool_, jnp.uint8])
def test_long_spike_trains_of_any_dtype_stay_as_they_are(dtype):
    spikes = jax.random.bernoulli(KEY, 0.3, (600, 2, 3)).astype(dtype)
    same = Augmentation()(KEY, spikes)
    assert same.dtype == dtype
    np.testing.assert_array_equal(same, spikes)


def test_channels_move_up_and_down_by_at_most_the_bound():
    steps, units = where(Augmentation(channels=2)(KEY, pulses()))
    assert set(steps) == {10}
    assert set(units) == {4, 5, 6, 7, 8}


def test_what_moves_over_the_edge_is_gone_and_nothing_comes_in():
    moved = Augmentation(channels=2)(KEY, pulses(unit=0))
    assert set(np.nonzero(np.asarray(moved))[2]) == {0, 1, 2}
    assert 0 < float(moved.sum()) < B


def test_samples_begin_later_by_at_most_the_bound():
    steps, units = where(Augmentation(delay=4.0)(KEY, pulses()))
    assert set(units) == {6}
    assert set(steps) == {10, 11, 12, 13, 14}


def test_stretched_samples_are_faster_or_slower():
    """A long burst from step 10 on begins where the speed says, and a share of the samples is on each side."""
    burst = jnp.zeros((T, B, N)).at[10:, :, 6].set(1.0)
    begins = np.asarray(Augmentation(stretch=0.2)(KEY, burst)[:, :, 6]).argmax(axis=0)
    assert begins.min() == 8  # floor(8 * 1.2 + 0.5) = 10
    assert begins.max() == 12  # floor(12 * 0.8 + 0.5) = 10
    assert 0.2 < (begins < 10).mean() < 0.6


def test_spikes_are_dropped_with_the_probability():
    spikes = jnp.ones((T, B, N))
    kept = Augmentation(drop=0.25)(KEY, spikes)
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert abs(float(kept.mean()) - 0.75) < 0.01


def test_the_key_decides():
    spikes = jax.random.bernoulli(KEY, 0.3, (T, B, N)).astype(jnp.float32)
    augment = Augmentation(channels=2, delay=3.0, stretch=0.1, drop=0.1)
    np.testing.assert_array_equal(augment(KEY, spikes), jax.jit(augment)(KEY, spikes))
    assert bool(jnp.any(augment(KEY, spikes) != augment(jax.random.key(1), spikes)))


@pytest.mark.parametrize("wrong", [{"channels": -1}, {"delay": -1.0}, {"stretch": 1.0}, {"drop": 1.0}])
def test_numbers_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError, match="expected channels >= 0, delay >= 0"):
        Augmentation(**wrong)
