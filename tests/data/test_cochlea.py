"""Laws of the cochlea: filters against their impulse response, hair cells against their equations, neurons by hand."""

import jax
import numpy as np
import pytest

from slax_data.audio.cochlea import Cochlea, basilar_membrane, encode_audio, hair_cell, silence

# Glasberg, Moore 1990; Patterson et al. 1992; Meddis, Hewitt, Shackleton 1990, a fibre of medium spontaneous rate.
BANDWIDTH, FACTOR, WIDENING, ONE_UNIT = 24.7, 4.37e-3, 1.019, 30.0
A, B, G, REFILL, LOSS, REUPTAKE, REPROCESS, SPIKES = 10.0, 3000.0, 1000.0, 5.05, 2500.0, 6580.0, 66.31, 50_000.0
HZ = 8000
SMALL = Cochlea(n_channels=16)
LENGTH, T = 4000, 50


def tone(frequency, length=LENGTH):
    return np.sin(2 * np.pi * frequency * np.arange(length) / HZ).astype(np.float32)


def encode(*sounds, n_steps=T, cochlea=SMALL):
    return np.asarray(encode_audio(np.stack(sounds), rate=HZ, n_steps=n_steps, cochlea=cochlea))


def test_frequencies_stand_evenly_on_the_scale_of_the_ear():
    frequencies = SMALL.frequencies.astype(float)
    np.testing.assert_allclose(frequencies[[0, -1]], [3600, 100], rtol=1e-5)
    scale = 21.4 * np.log10(1 + 0.00437 * frequencies)  # Glasberg, Moore 1990, equation 4
    np.testing.assert_allclose(np.diff(scale), np.diff(scale)[0], rtol=1e-3)


def test_filters_are_gammatones():
    """The response to a click is t^3 exp(-2 pi b t) cos(2 pi f t), with the factor that makes the gain 1."""
    moved = np.asarray(basilar_membrane(np.eye(1, 2000, dtype=np.float32)[0], rate=HZ, cochlea=SMALL))[2:-2]
    t, f = np.arange(2000) / HZ, SMALL.frequencies.astype(float)[2:-2, None]
    b = WIDENING * BANDWIDTH * (FACTOR * f + 1)
    expected = 2 / HZ * (2 * np.pi * b) ** 4 / 6 * t**3 * np.exp(-2 * np.pi * b * t) * np.cos(2 * np.pi * f * t)
    assert np.all(np.abs(moved - expected).max(axis=1) < 0.02 * np.abs(expected).max(axis=1))


def test_hair_cells_follow_their_equations():
    """Against the equations in steps of a fiftieth, in float64."""
    moved, finer = 300 * np.maximum(np.sin(2 * np.pi * 40 * np.arange(300) / HZ), -0.2), 50
    _, rates = jax.lax.scan(lambda pools, y: hair_cell(pools, y[None], 1 / HZ), silence(1), moved.astype(np.float32))
    held, cleft, back = (float(pool[0]) for pool in silence(1))
    expected, dt = [], 1 / HZ / finer
    for y in moved:
        for _ in range(finer):
            opened = max(y + A, 0)
            k = G * opened / (opened + B)
            held, cleft, back = (
                held + dt * (REFILL * (1 - held) + REPROCESS * back - k * held),
                cleft + dt * (k * held - (LOSS + REUPTAKE) * cleft),
                back + dt * (REUPTAKE * cleft - REPROCESS * back),
            )
        expected.append(SPIKES * cleft)
    np.testing.assert_allclose(rates[:, 0], expected, atol=0.04 * max(expected))


def test_neurons_gather_what_the_fibres_fire():
    """The stages one after another, with the neuron in a loop in float64: v' = -v / tau + n_fibres rate, less the threshold."""
    sound = tone(float(SMALL.frequencies[9]))
    loud = 10 ** ((SMALL.level - ONE_UNIT) / 20) * np.sqrt(2) * sound  # the root mean square of a tone is 1 / sqrt(2)
    moved = basilar_membrane(loud.astype(np.float32), rate=HZ, cochlea=SMALL)[9]
    _, rates = jax.lax.scan(lambda pools, y: hair_cell(pools, y[None], 1 / HZ), silence(1), moved)
    v, spikes = 0.0, np.zeros(LENGTH, bool)
    for n, rate in enumerate(np.asarray(rates, float)[:, 0]):
        v = np.exp(-1 / (HZ * SMALL.tau)) * v + SMALL.n_fibres * rate / HZ
        spikes[n] = v >= SMALL.threshold
        v -= SMALL.threshold * spikes[n]
    found = encode(sound, n_steps=LENGTH)[:, 0, 9]
    assert spikes.sum() > 20 and abs(int(found.sum()) - int(spikes.sum())) <= 1
    assert np.abs(np.flatnonzero(found)[:20] - np.flatnonzero(spikes)[:20]).max() <= 1


def test_silence_changes_nothing_and_makes_no_spike():
    rest = silence(3)
    after, rate = hair_cell(rest, np.zeros(3, np.float32), 1 / HZ)
    np.testing.assert_allclose(after, rest, rtol=1e-5)
    assert float(rate[0]) == pytest.approx(15.5, abs=0.1)  # spontaneous spikes per second, by the equations at rest
    assert not encode(np.zeros(LENGTH, np.float32)).any()


def test_loudness_does_not_count_but_level_does():
    sound = tone(700) + 0.3 * tone(1900)
    spikes = encode(sound)
    for factor in (64, 1e-6):
        np.testing.assert_array_equal(spikes, encode(np.float32(factor) * sound))
    assert encode(sound, cochlea=Cochlea(n_channels=16, level=45.0)).sum() < spikes.sum()
    longer = np.concatenate([sound, np.zeros(LENGTH, np.float32)])  # what it is filled up by does not count
    np.testing.assert_array_equal(encode(longer, n_steps=2 * T)[:T], spikes)


def test_steps_only_gather_and_a_batch_is_its_sounds():
    sounds = [tone(300), tone(2000) * np.linspace(1, 0, LENGTH, dtype=np.float32)]
    fine, coarse = encode(*sounds, n_steps=2 * T), encode(*sounds)
    assert coarse.shape == (T, 2, 16) and coarse.dtype == bool
    np.testing.assert_array_equal(fine.reshape(T, 2, 2, 16).any(1), coarse)
    for index, sound in enumerate(sounds):
        np.testing.assert_array_equal(coarse[:, index], encode(sound)[:, 0])
