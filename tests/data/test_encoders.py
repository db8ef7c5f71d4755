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

from slax_data import latency_decode, latency_encode, rate_decode, rate_encode

# A few shapes only, so that hypothesis does not compile a new program for each example. XLA takes subnormals for zeros.
INTENSITIES = hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32, allow_subnormal=False)).map(jnp.asarray)
LENGTHS = st.sampled_from([2, 30])
THRESHOLDS = st.sampled_from([0.0, 0.4])
KEY = random.key(0)
ENCODERS = {
    "latency": partial(latency_encode, n_steps=10),
    "rate": lambda intensities: rate_encode(KEY, intensities, n_steps=10),
}


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


def test_rate_code_is_independent_over_time_and_units():
    spikes = np.asarray(rate_encode(random.key(2), jnp.full((20, 20), 0.5), n_steps=200)).reshape(200, -1)
    correlation = np.corrcoef(spikes.T)[np.triu_indices(400, k=1)]
    assert 0.065 < correlation.std() < 0.077  # 1 / sqrt(200)
    assert abs(np.mean((spikes[1:] - 0.5) * (spikes[:-1] - 0.5))) < 0.005


def test_rate_code_follows_its_key():
    encode = partial(rate_encode, intensities=levels(5, 6), n_steps=30)
    np.testing.assert_array_equal(encode(random.key(0)), encode(random.key(0)))
    np.testing.assert_array_equal(encode(random.key(0)), encode(random.PRNGKey(0)))
    assert not np.array_equal(encode(random.key(0)), encode(random.key(1)))


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_jit_changes_nothing(encode):
    intensities = levels(6, 7)
    spikes = encode(intensities)
    with jax.disable_jit():
        np.testing.assert_array_equal(encode(intensities), spikes)
    np.testing.assert_array_equal(jax.jit(encode)(intensities), spikes)
    for decode in (latency_decode, rate_decode):
        np.testing.assert_allclose(jax.jit(decode)(spikes), decode(spikes), rtol=1e-6)


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_double_precision_is_kept(encode, x64):
    assert encode(levels(2, 3)).dtype == jnp.float64


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
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
def test_bad_intensities_are_an_error(no_shape_checks, encode, intensities, message):
    with pytest.raises(ValueError, match=message):
        encode(intensities)


def test_ranges_are_not_seen_under_jit():
    spikes = jax.jit(ENCODERS["latency"])(jnp.array([[2.0, 0.5]]))
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
    with pytest.raises(ValueError, match="n_steps got 0, expected an integer of at least 1"):
        rate_encode(random.key(0), levels(2, 3), n_steps=0)
    with pytest.raises(ValueError, match="steps in spikes got 1, expected an integer of at least 2"):
        latency_decode(jnp.ones((1, 2, 3)))


@pytest.mark.parametrize("decode", [latency_decode, rate_decode])
@pytest.mark.parametrize("shape", [(5, 3), (0, 2, 3)])
def test_spikes_without_a_batch_or_steps_are_an_error(no_shape_checks, decode, shape):
    with pytest.raises(ValueError, match=r"spikes must have the shape \[T, B, N\].*spikes\[:, None\]"):
        decode(jnp.ones(shape))
