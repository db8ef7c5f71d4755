"""Laws of the encoders and of their inverses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax import random

from slax_data import (
    ENCODERS,
    latency_decode,
    latency_encode,
    poisson_decode,
    poisson_encode,
    rate_decode,
    rate_encode,
)

# A few shapes only, so that hypothesis does not compile a new program for each example. XLA takes subnormals for zeros.
INTENSITIES = hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32, allow_subnormal=False)).map(jnp.asarray)
LENGTHS = st.sampled_from([2, 30])
THRESHOLDS = st.sampled_from([0.0, 0.4])
KEY = random.key(0)
N_STEPS = 16
ENCODE = {
    name: partial(code.encode, *([KEY] if code.random else []), n_steps=N_STEPS) for name, code in ENCODERS.items()
}
of_every_code = pytest.mark.parametrize("name", sorted(ENCODERS))


def levels(*shape):
    return jnp.asarray(np.random.default_rng(7).random(shape), float)


@settings(deadline=None, max_examples=100)
@given(INTENSITIES, LENGTHS, THRESHOLDS)
def test_latency_decoder_inverts_the_encoder(intensities, n_steps, threshold):
    spikes = latency_encode(intensities, n_steps=n_steps, threshold=threshold)
    expected = np.where(np.asarray(intensities) > threshold, intensities, 0)
    np.testing.assert_allclose(latency_decode(spikes), expected, rtol=0, atol=0.5 / (n_steps - 1) + 1e-6)
    assert not np.any(np.asarray(latency_decode(spikes))[np.asarray(intensities) <= threshold])


@settings(deadline=None, max_examples=100)
@given(INTENSITIES, LENGTHS, THRESHOLDS)
def test_latency_code_has_one_spike_where_the_intensity_is_above_the_threshold(intensities, n_steps, threshold):
    spikes = latency_encode(intensities, n_steps=n_steps, threshold=threshold)
    assert spikes.shape == (n_steps, 3, 4) and spikes.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(spikes).sum(axis=0), np.asarray(intensities) > threshold)
    assert set(np.unique(spikes)) <= {0, 1}


@settings(deadline=None, max_examples=50)
@given(INTENSITIES, LENGTHS)
def test_stronger_is_never_later(intensities, n_steps):
    spikes = latency_encode(intensities, n_steps=n_steps)
    spikes = np.asarray(spikes)
    steps = np.where(spikes.any(axis=0), np.argmax(spikes, axis=0), n_steps).ravel()
    assert np.all(np.diff(steps[np.argsort(np.asarray(intensities).ravel(), stable=True)]) <= 0)


def test_latency_of_known_intensities():
    spikes = latency_encode(jnp.array([[1.0, 0.75, 0.5, 1e-6, 0.0]]), n_steps=5)
    expected = np.zeros((5, 1, 5))
    expected[[0, 1, 2, 4], 0, [0, 1, 2, 3]] = 1
    np.testing.assert_array_equal(spikes, expected)


def test_latency_decoder_reads_the_first_spike():
    spikes = jnp.zeros((5, 1, 2)).at[jnp.array([1, 3]), 0, 0].set(1)
    np.testing.assert_array_equal(latency_decode(spikes), [[0.75, 0.0]])


@settings(deadline=None, max_examples=50)
@given(INTENSITIES, LENGTHS, st.sampled_from([0.2, 1.0]))
def test_rate_code_is_certain_at_the_ends(intensities, n_steps, max_rate):
    spikes = rate_encode(KEY, intensities, n_steps=n_steps, max_rate=max_rate)
    assert spikes.shape == (n_steps, 3, 4) and spikes.dtype == jnp.float32
    assert set(np.unique(spikes)) <= {0, 1}
    counts = np.asarray(spikes).sum(axis=0)
    assert not np.any(counts[np.asarray(intensities) == 0])
    if max_rate == 1:
        assert np.all(counts[np.asarray(intensities) == 1] == n_steps)


@pytest.mark.parametrize("max_rate", [0.3, 1.0])
def test_rate_decoder_estimates_the_intensities(max_rate):
    n_steps, intensities = 2000, levels(20, 50)
    spikes = rate_encode(random.key(1), intensities, n_steps=n_steps, max_rate=max_rate)
    p = np.asarray(intensities, np.float64) * max_rate
    deviation = np.sqrt(p * (1 - p) / n_steps) / max_rate
    z = (np.asarray(rate_decode(spikes, max_rate=max_rate)) - np.asarray(intensities)) / deviation
    assert np.abs(z).max() < 5
    assert 0.9 < z.std() < 1.1 and abs(z.mean()) < 0.15


@pytest.mark.parametrize(("max_rate", "dt"), [(100.0, 1e-3), (800.0, 2e-3)])
def test_poisson_code_has_the_probability_of_an_event_in_a_step(max_rate, dt):
    n_steps, intensities = 2000, levels(20, 50)
    spikes = poisson_encode(random.key(3), intensities, n_steps=n_steps, max_rate=max_rate, dt=dt)
    p = 1 - np.exp(-np.asarray(intensities, np.float64) * max_rate * dt)
    z = (np.asarray(spikes).mean(axis=0) - p) / np.sqrt(p * (1 - p) / n_steps)
    assert np.abs(z).max() < 5
    assert 0.9 < z.std() < 1.1 and abs(z.mean()) < 0.15


def test_poisson_decoder_estimates_the_intensities():
    n_steps, intensities = 2000, 0.1 + 0.7 * levels(20, 50)
    options = dict(max_rate=500.0, dt=2e-3)
    spikes = poisson_encode(random.key(4), intensities, n_steps=n_steps, **options)
    p = 1 - np.exp(-np.asarray(intensities, np.float64))
    z = (np.asarray(poisson_decode(spikes, **options)) - np.asarray(intensities)) / np.sqrt(p / (1 - p) / n_steps)
    assert np.abs(z).max() < 5
    assert 0.9 < z.std() < 1.1 and abs(z.mean()) < 0.15


def test_poisson_decoder_inverts_the_probability_and_stays_at_most_1():
    spikes = jnp.zeros((4, 1, 3)).at[:1, 0, 1].set(1).at[:, 0, 2].set(1)
    np.testing.assert_allclose(poisson_decode(spikes, max_rate=1000.0, dt=1e-3), [[0, -np.log(0.75), 1]], rtol=1e-6)


@pytest.mark.parametrize("option", ["max_rate", "dt"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_process_without_a_rate_or_a_step_is_an_error(option, value):
    for call in (partial(poisson_encode, KEY, levels(2, 3), n_steps=5), partial(poisson_decode, jnp.ones((5, 2, 3)))):
        with pytest.raises(ValueError, match=rf"{option} got .*, expected a finite number of .* above 0"):
            call(**{option: value})


def test_rate_code_is_independent_over_time_and_units():
    spikes = np.asarray(rate_encode(random.key(2), jnp.full((20, 20), 0.5), n_steps=200)).reshape(200, -1)
    correlation = np.corrcoef(spikes.T)[np.triu_indices(400, k=1)]
    assert 0.065 < correlation.std() < 0.077  # 1 / sqrt(200)
    assert abs(np.mean((spikes[1:] - 0.5) * (spikes[:-1] - 0.5))) < 0.005


@of_every_code
def test_jit_changes_nothing(name):
    encode, decode = ENCODE[name], ENCODERS[name].decode
    intensities = levels(6, 7)
    spikes = encode(intensities)
    with jax.disable_jit():
        np.testing.assert_array_equal(encode(intensities), spikes)
    np.testing.assert_array_equal(jax.jit(encode)(intensities), spikes)
    np.testing.assert_allclose(jax.jit(decode)(spikes), decode(spikes), rtol=1e-6)


@of_every_code
def test_double_precision_is_kept(name, x64):
    spikes = ENCODE[name](levels(2, 3))
    assert spikes.dtype == ENCODERS[name].decode(spikes).dtype == jnp.float64


@of_every_code
def test_code_is_zeros_and_ones_with_time_first(name):
    spikes = ENCODE[name](levels(6, 7))
    assert spikes.shape == (N_STEPS, 6, 7) and spikes.dtype == jnp.float32
    assert set(np.unique(spikes)) == {0, 1}
    assert ENCODERS[name].decode(spikes).shape == (6, 7)


@of_every_code
def test_zero_is_silent_and_decoded_as_zero(name):
    spikes = ENCODE[name](jnp.zeros((6, 7)))
    assert not spikes.any() and not ENCODERS[name].decode(spikes).any()


@of_every_code
def test_stronger_intensities_are_decoded_as_stronger(name):
    code = ENCODERS[name]
    intensities = jnp.tile(jnp.linspace(0, 1, 5)[:, None], (1, 200))
    decoded = np.asarray(code.decode(code.encode(*([KEY] if code.random else []), intensities, n_steps=400)))
    assert np.all(np.diff(decoded.mean(axis=1)) > 0.15)


@of_every_code
def test_codes_that_draw_follow_their_key_and_others_take_none(name):
    code, intensities = ENCODERS[name], levels(5, 6)
    if not code.random:
        np.testing.assert_array_equal(code.encode(intensities, n_steps=16), code.encode(intensities, n_steps=16))
        return
    encode = partial(code.encode, intensities=intensities, n_steps=16)
    np.testing.assert_array_equal(encode(random.key(0)), encode(random.key(0)))
    np.testing.assert_array_equal(encode(random.key(0)), encode(random.PRNGKey(0)))
    assert not np.array_equal(encode(random.key(0)), encode(random.key(1)))


@of_every_code
@pytest.mark.parametrize(
    ("intensities", "message"),
    [
        (jnp.array([[0.0, 1.5]]), r"must lie in \[0, 1\], got values from 0 to 1.5. Scale them"),
        (jnp.array([[-0.25, 0.5]]), r"must lie in \[0, 1\], got values from -0.25 to 0.5. Scale them"),
        (jnp.array([[jnp.inf, 0.5]]), r"must lie in \[0, 1\], got values from 0.5 to inf. Scale them"),
        (
            jnp.array([[jnp.nan, 0.5], [0.1, jnp.nan]]),
            r"must be numbers in \[0, 1\], got 2 NaN in 4. Remove or replace",
        ),
        (jnp.array([0.1, 0.5]), r"floating-point numbers of shape \[B, N\], got float32 of shape \[2\]. Flatten"),
        (jnp.zeros((2, 8, 8)), r"floating-point numbers of shape \[B, N\], got float32 of shape \[2, 8, 8\]. Flatten"),
        (jnp.array([[0, 16]]), r"floating-point numbers of shape \[B, N\], got int32 .* divide integers"),
    ],
)
def test_bad_intensities_are_an_error(no_shape_checks, name, intensities, message):
    with pytest.raises(ValueError, match=message):
        ENCODE[name](intensities)


def test_ranges_are_not_seen_under_jit():
    spikes = jax.jit(ENCODE["latency"])(jnp.array([[2.0, 0.5]]))
    np.testing.assert_array_equal(spikes.sum(axis=0), [[0, 1]])


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_threshold_outside_the_unit_interval_is_an_error(threshold):
    with pytest.raises(ValueError, match=r"threshold got .*, expected a number in \[0, 1\)"):
        latency_encode(levels(2, 3), n_steps=5, threshold=threshold)


@pytest.mark.parametrize("max_rate", [0.0, 1.1, float("nan")])
def test_rate_outside_the_unit_interval_is_an_error(max_rate):
    for call in (
        partial(rate_encode, random.key(0), levels(2, 3), n_steps=5),
        partial(rate_decode, jnp.ones((5, 2, 3))),
    ):
        with pytest.raises(ValueError, match=r"max_rate got .*, expected spikes per step in \(0, 1\]"):
            call(max_rate=max_rate)


def test_too_few_steps_are_an_error():
    with pytest.raises(ValueError, match="n_steps got 1, expected an integer of at least 2"):
        latency_encode(levels(2, 3), n_steps=1)
    for encode in (rate_encode, poisson_encode):
        with pytest.raises(ValueError, match="n_steps got 0, expected an integer of at least 1"):
            encode(random.key(0), levels(2, 3), n_steps=0)
    with pytest.raises(ValueError, match="steps in spikes got 1, expected an integer of at least 2"):
        latency_decode(jnp.ones((1, 2, 3)))


@of_every_code
@pytest.mark.parametrize("shape", [(5, 3), (0, 2, 3)])
def test_spikes_without_a_batch_or_steps_are_an_error(no_shape_checks, name, shape):
    with pytest.raises(ValueError, match=r"spikes must have the shape \[T, B, N\].*spikes\[:, None\]"):
        ENCODERS[name].decode(jnp.ones(shape))
