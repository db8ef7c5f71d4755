"""Laws of the delta code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slax_data import delta_decode, delta_encode

# Steps and thresholds are multiples of 1/64, so that no sum is rounded and laws hold exactly.
STEPS = hnp.arrays(np.int32, (12, 2, 3), elements=st.integers(-40, 40))
THRESHOLDS = st.sampled_from([0.125, 0.625])


def signal_of(steps, largest):
    """A signal [T, B, N] that moves by at most so much per step."""
    return jnp.asarray(np.cumsum(np.clip(steps / 64, -largest, largest), axis=0), jnp.float32)


def by_hand(signal, threshold):
    """The rule, unit by unit and step by step."""
    signal = np.asarray(signal, np.float64)
    spikes = np.zeros((*signal.shape[:2], 2 * signal.shape[2]))
    for b, n in np.ndindex(signal.shape[1:]):
        reference = signal[0, b, n]
        for t, x in enumerate(signal[:, b, n]):
            if x - reference >= threshold:
                spikes[t, b, n] = 1
                reference += threshold
            elif x - reference <= -threshold:
                spikes[t, b, n + signal.shape[2]] = 1
                reference -= threshold
    return spikes


@settings(max_examples=40)
@given(STEPS, THRESHOLDS)
def test_decoded_signal_stays_within_the_threshold_of_one_that_moves_by_no_more(steps, threshold):
    signal = signal_of(steps, threshold)
    spikes = delta_encode(signal, threshold=threshold)
    assert np.abs(delta_decode(spikes, signal[0], threshold=threshold) - signal).max() < threshold


@settings(max_examples=20)
@given(STEPS, THRESHOLDS)
def test_spikes_are_those_of_the_rule(steps, threshold):
    signal = signal_of(steps, 10.0)  # faster than it can be followed
    spikes = delta_encode(signal, threshold=threshold)
    assert spikes.dtype == jnp.float32
    np.testing.assert_array_equal(spikes, by_hand(signal, threshold))


def test_bound_is_sharp():
    ramp = jnp.arange(6, dtype=jnp.float32)[:, None, None] * 0.4375
    decoded = delta_decode(delta_encode(ramp, threshold=0.5), ramp[0], threshold=0.5)
    assert 0.43 < float(jnp.abs(decoded - ramp).max()) < 0.5


def test_rounding_does_not_add_up():
    walk = np.cumsum(np.random.default_rng(0).uniform(-0.1, 0.1, (5000, 1, 4)), axis=0)
    signal = jnp.asarray(walk, jnp.float32)
    decoded = delta_decode(delta_encode(signal, threshold=0.1), signal[0], threshold=0.1)
    assert np.abs(np.asarray(decoded) - signal).max() < 0.1 + 1e-5


def test_a_still_signal_has_no_spikes_wherever_it_is():
    assert not delta_encode(jnp.full((5, 2, 3), 7.3), threshold=0.1).any()


def test_jit_changes_nothing():
    signal = signal_of(np.random.default_rng(1).integers(-40, 40, (12, 2, 3)), 10.0)
    spikes = delta_encode(signal, threshold=0.125)
    np.testing.assert_array_equal(jax.jit(lambda x: delta_encode(x, threshold=0.125))(signal), spikes)
    decoded = delta_decode(spikes, signal[0], threshold=0.125)
    np.testing.assert_array_equal(jax.jit(lambda s: delta_decode(s, signal[0], threshold=0.125))(spikes), decoded)


def test_double_precision_is_kept(x64):
    signal = jnp.zeros((4, 1, 2), jnp.float64)
    spikes = delta_encode(signal, threshold=0.1)
    assert spikes.dtype == delta_decode(spikes, signal[0], threshold=0.1).dtype == jnp.float64


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (jnp.zeros((5, 3)), r"signal must be floating-point numbers of shape \[T, B, N\].*float32 of shape \[5, 3\]"),
        (jnp.zeros((0, 2, 3)), r"at least one step, got float32 of shape \[0, 2, 3\]"),
        (jnp.zeros((5, 2, 3), jnp.int32), "got int32 of shape"),
        (jnp.zeros((5, 2, 3)).at[1, 0, 2].set(jnp.nan), "signal must be finite numbers, got 1 NaN or infinities in 30"),
        (jnp.zeros((5, 2, 3)).at[1].set(jnp.inf), "signal must be finite numbers, got 6 NaN or infinities in 30"),
    ],
)
def test_bad_signals_are_an_error(no_shape_checks, signal, message):
    with pytest.raises(ValueError, match=message):
        delta_encode(signal, threshold=0.1)


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_not_above_zero_is_an_error(threshold):
    for call in (
        lambda: delta_encode(jnp.zeros((5, 2, 3)), threshold=threshold),
        lambda: delta_decode(jnp.zeros((5, 2, 6)), jnp.zeros((2, 3)), threshold=threshold),
    ):
        with pytest.raises(ValueError, match=r"threshold got .*, expected a finite number above 0"):
            call()


@pytest.mark.parametrize("shape", [(5, 2, 5), (5, 1, 6), (5, 2, 3)])
def test_spikes_of_another_start_are_an_error(no_shape_checks, shape):
    with pytest.raises(ValueError, match=r"must belong together, got shapes \[5.*\] and \[2, 3\]. Give signal\[0\]"):
        delta_decode(jnp.zeros(shape), jnp.zeros((2, 3)), threshold=0.1)
