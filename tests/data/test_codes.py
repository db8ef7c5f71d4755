"""Laws of the codes, and of random changes of spikes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import ENCODERS, Augmentation, delta_encode, latency_encode, rate_encode

KEY = random.key(0)
LEVELS = np.random.default_rng(7).random((20, 50), np.float32)
LEVELS[0, :3] = 0, 0.4, 1  # with the threshold itself


@pytest.mark.parametrize(("n_steps", "threshold"), [(2, 0.0), (30, 0.4)])
def test_latency_is_one_spike_at_its_step(n_steps, threshold):
    spikes = np.asarray(latency_encode(jnp.asarray(LEVELS), n_steps=n_steps, threshold=threshold))
    expected = np.zeros((n_steps, 20, 50))
    b, n = np.nonzero(np.float32(threshold) < LEVELS)
    expected[np.round((1 - LEVELS[b, n]) * (n_steps - 1)).astype(int), b, n] = 1
    np.testing.assert_array_equal(spikes, expected)


def test_rates_are_independent_with_the_probability_of_the_intensity():
    n_steps = 2000
    spikes = np.asarray(rate_encode(random.key(1), jnp.asarray(LEVELS), n_steps=n_steps))
    p, rates = LEVELS.astype(float), spikes.mean(axis=0)
    inside = (p > 0) & (p < 1)
    np.testing.assert_array_equal(rates[~inside], p[~inside])
    away = ((spikes - p) / np.sqrt(np.where(inside, p * (1 - p), 1)))[:, inside]
    z = away.mean(axis=0) * np.sqrt(n_steps)
    assert np.abs(z).max() < 5 and 0.9 < z.std() < 1.1 and abs(z.mean()) < 0.15
    assert abs(np.mean(away[1:] * away[:-1])) < 0.005  # over time
    assert np.corrcoef(away[:, :200].T)[np.triu_indices(200, k=1)].std() == pytest.approx(n_steps**-0.5, rel=0.1)


def test_codes_of_half_precision_are_those_of_its_numbers():
    """Float16 has no draws between multiples of 2^-10, and no odd steps above 2048."""
    rare = np.asarray(rate_encode(KEY, jnp.full((1, 400), 1e-3, jnp.float16), n_steps=5000), np.float64)
    assert abs(rare.mean() - 1e-3) < 5 * np.sqrt(1e-3 / rare.size)
    levels = jnp.asarray(LEVELS, jnp.float16)
    late = latency_encode(levels, n_steps=3000)
    assert late.dtype == jnp.float16
    np.testing.assert_array_equal(late, latency_encode(levels.astype(jnp.float32), n_steps=3000))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_code_is_zeros_and_ones_follows_its_key_and_is_the_same_in_a_program(name, x64):
    code = ENCODERS[name]
    encode = lambda key, levels: code.encode(*([key] if code.random else []), levels, n_steps=16)  # noqa: E731
    for dtype in (jnp.float32, jnp.float64):
        levels = jnp.asarray(LEVELS, dtype)
        spikes = encode(KEY, levels)
        assert spikes.shape == (16, 20, 50) and spikes.dtype == dtype and set(np.unique(spikes)) == {0, 1}
        np.testing.assert_array_equal(jax.jit(encode)(KEY, levels), spikes)
        assert np.array_equal(encode(random.key(1), levels), spikes) == (not code.random)
        frames = encode(KEY, levels.reshape(20, 5, 5, 2))
        np.testing.assert_array_equal(frames, spikes.reshape(16, 20, 5, 5, 2))


def by_hand(signal, threshold):
    """The rule of the delta code, unit by unit and step by step: spikes and the reference."""
    spikes, followed = np.zeros((*signal.shape[:2], 2 * signal.shape[2])), np.empty(signal.shape)
    for b, n in np.ndindex(signal.shape[1:]):
        reference = signal[0, b, n]
        for t, x in enumerate(signal[:, b, n]):
            up, down = x - reference >= threshold, x - reference <= -threshold
            spikes[t, b, [n, n + signal.shape[2]]] = up, down
            followed[t, b, n] = reference = reference + threshold * (float(up) - float(down))
    return spikes, followed


@pytest.mark.parametrize("threshold", [0.125, 0.625])
def test_spikes_of_the_delta_code_are_those_of_the_rule(threshold):
    """In multiples of 1/64, so that no sum is rounded: slow enough to be followed in one half, and too fast in the other."""
    steps = np.random.default_rng(0).integers(-40, 41, (60, 4, 3)) / 64
    steps[:, :2] = np.clip(steps[:, :2], -threshold, threshold)
    signal = np.cumsum(steps, axis=0) + 7.25
    spikes, followed = by_hand(signal, threshold)
    found = np.asarray(delta_encode(jnp.asarray(signal, jnp.float32).reshape(60, 2, 2, 3), threshold=threshold))
    np.testing.assert_array_equal(found, spikes.reshape(60, 2, 2, 6))
    assert np.abs(followed - signal)[:, :2].max() < threshold


def test_rounding_does_not_add_up_in_the_delta_code():
    walk = np.cumsum(np.random.default_rng(0).uniform(-0.1, 0.1, (5000, 1, 4)), axis=0).astype(np.float32)
    up, down = np.split(np.asarray(delta_encode(jnp.asarray(walk), threshold=0.1)), 2, axis=-1)
    assert np.abs(walk[0] + 0.1 * np.cumsum(up - down, axis=0) - walk).max() < 0.1 + 1e-5


T, B, N = 30, 200, 12


@pytest.mark.parametrize(
    ("change", "begin", "end", "unit", "steps", "units"),
    [
        ({"channels": 2}, 10, 11, 6, {10}, {4, 5, 6, 7, 8}),
        ({"channels": 2}, 10, 11, 0, {10}, {0, 1, 2}),  # what moves over the edge is gone
        ({"delay": 4.0}, 10, 11, 6, {10, 11, 12, 13, 14}, {6}),
        # A long burst begins where the speed says: floor(8 * 1.2 + 0.5) = floor(12 * 0.8 + 0.5) = 10.
        ({"stretch": 0.2}, 10, T, 6, {8, 9, 10, 11, 12}, {6}),
    ],
)
def test_augmentations_move_spikes_within_their_bounds(change, begin, end, unit, steps, units):
    """All samples alike, with spikes of one unit from a step to another."""
    pulses = jnp.zeros((T, B, N)).at[begin:end, :, unit].set(1.0)
    augment = jax.jit(Augmentation(**change))
    changed, other = np.asarray(augment(KEY, pulses)), augment(random.key(1), pulses)
    fired = changed.any(axis=(0, 2))
    assert set(np.nonzero(changed)[2]) == units and set(changed.any(axis=2).argmax(axis=0)[fired]) == steps
    assert fired.all() == (unit != 0) and fired.any() and not np.array_equal(changed, other)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.bool_, jnp.uint8])
def test_spikes_are_dropped_with_their_probability_and_else_stay_in_any_dtype(dtype):
    spikes = jnp.asarray(np.random.default_rng(0).random((600, 10, 12)) < 0.5).astype(dtype)
    np.testing.assert_array_equal(Augmentation()(KEY, spikes), spikes)
    kept = np.asarray(Augmentation(drop=0.25)(KEY, spikes)).astype(float)
    assert not (kept > np.asarray(spikes)).any() and abs(kept.sum() / np.asarray(spikes, float).sum() - 0.75) < 0.01
