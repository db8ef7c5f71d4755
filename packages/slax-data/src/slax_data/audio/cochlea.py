"""A cochlea, which turns sound into the spikes of a row of neurons, each tuned to its own frequency."""

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32

from slax_data.checks import check_finite, check_size
from slax_data.loading import time_first

# Glasberg, Moore 1990: the bandwidth of a filter of the ear, BANDWIDTH (FACTOR f + 1) in Hz.
BANDWIDTH, FACTOR = 24.7, 4.37e-3
ORDER, WIDENING = 4, 1.019  # gammatone filter, Patterson et al. 1992
# Meddis, Hewitt, Shackleton 1990, table II, a fiber of medium spontaneous rate, in units of sound, and per second.
A, B, G = 10.0, 3000.0, 1000.0
REFILL, LOSS, REUPTAKE, REPROCESS, SPIKES = 5.05, 2500.0, 6580.0, 66.31, 50_000.0
ONE_UNIT = 30.0  # level in dB of a sound whose root mean square is 1 in their units
SETTLE = 0.05  # seconds for the response of the filters to decay


@dataclasses.dataclass(frozen=True)
class Cochlea:
    """The parameters of a cochlea.

    Args:
        n_channels: number of neurons, from the highest frequency to the lowest, in the order in which a wave reaches them.
        lowest, highest: frequencies of the two ends in Hz; between them the neurons are evenly spaced on the scale of the ear.
            The highest must be below half the sampling rate.
        level: loudness in dB to which each recording is scaled.
        n_fibres: number of auditory nerve fibers that converge on one neuron.
        tau: time constant of the neuron's membrane in seconds.
        threshold: threshold of the neuron, in spikes of fibers.

    Raises:
        ValueError: a size below 1, frequencies that do not rise from above 0, or another number that makes all spikes or none.

    Example:
        >>> from slax_data import Cochlea
        >>> Cochlea(n_channels=3, lowest=100.0, highest=2000.0).frequencies.round()
        array([2000.,  627.,  100.], dtype=float32)
    """

    n_channels: int = 70
    lowest: float = 100.0
    highest: float = 3600.0
    level: float = 75.0
    n_fibres: int = 40
    tau: float = 10e-3
    threshold: float = 10.0

    def __post_init__(self) -> None:
        check_size("n_channels", self.n_channels)
        check_size("n_fibres", self.n_fibres)
        if not 0 < self.lowest < self.highest:
            raise ValueError(f"Cochlea got {self.lowest} to {self.highest} Hz, expected 0 < lowest < highest.")
        if not (self.tau > 0 and self.threshold > 0 and math.isfinite(self.level)):
            got = f"tau={self.tau}, threshold={self.threshold}, level={self.level}"
            raise ValueError(f"Cochlea got {got}, expected tau and threshold above 0, and a number of dB.")

    @property
    def frequencies(self) -> Float32[np.ndarray, " N"]:
        """The frequency of each neuron in Hz."""
        low, high = (math.log1p(FACTOR * f) for f in (self.lowest, self.highest))
        return (np.expm1(np.linspace(high, low, self.n_channels)) / FACTOR).astype(np.float32)


def encode_audio(
    sounds: Float[Array | np.ndarray, "B L"], *, rate: int, n_steps: int, cochlea: Cochlea = Cochlea()
) -> Bool[Array, "T B N"]:
    """Encode sounds as the spikes of a cochlea.

        y_t = "gammatone filter of the channel"(x)                             # basilar membrane, 4 poles
        k_t = G a / (a + B),  a = max(y_t + A, 0)                              # how open the hair cell is
        q' = REFILL (1 - q) + REPROCESS w - k q                                # transmitter it holds
        c' = k q - (LOSS + REUPTAKE) c        w' = REUPTAKE c - REPROCESS w    # in the cleft, and taken back
        v' = -v / tau + n_fibres SPIKES c                                      # a spike and v - threshold where v >= threshold

    with the constants of the references. Everything is deterministic: the fibers are represented by their firing rates. A hair
    cell responds most strongly at the onset of a sound, and less while the sound lasts.

    Args:
        sounds: recordings, each padded with zeros; each is scaled to the loudness `level` separately, by its nonzero samples.
        rate: samples per second. L / rate seconds become the T steps, so L must be a multiple of T.
        n_steps: T; a neuron has a spike in a step if it fires at least once during that step.
        cochlea: parameters of the cochlea.

    Raises:
        ValueError: L not a multiple of T, sounds that are not floats or not finite, or frequencies above half the rate.

    References:
        Patterson et al. 1992 (gammatone filters), Glasberg, Moore 1990 (frequencies), Meddis, Hewitt, Shackleton 1990, doi
        10.1121/1.399379 (hair cell). The same three stages, a basilar membrane, the hair cell of Meddis and spiking neurons,
        produced the Heidelberg Digits: Cramer, Stradmann, Schemmel, Zenke 2020, doi 10.1109/TNNLS.2020.3044364.

    Note:
        The Heidelberg Digits differ: their basilar membrane is a hydrodynamic model with 700 channels, their fibers fire at
        random, recordings were made at 48 kHz, and spikes have times, whereas here they have steps.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import Cochlea, encode_audio
        >>> cochlea = Cochlea(n_channels=8)
        >>> tone = jnp.sin(2 * jnp.pi * 700 * jnp.arange(800) / 8000)
        >>> spikes = encode_audio(tone[None], rate=8000, n_steps=20, cochlea=cochlea)
        >>> spikes.shape
        (20, 1, 8)
        >>> loudest = spikes[:, 0].sum(axis=0).argmax()
        >>> round(float(cochlea.frequencies[loudest]))
        713
    """
    check_size("n_steps", n_steps)
    if not np.issubdtype(sounds.dtype, np.floating):
        raise ValueError(f"encode_audio got sounds of {sounds.dtype}, expected floats.")
    if sounds.ndim != 2:
        cure = "One recording is sound[None]; of stereo, sounds.mean(axis=-1)."
        raise ValueError(f"encode_audio got sounds of shape {list(sounds.shape)}, expected one channel, [B, L]. {cure}")
    check_finite("sounds", sounds)
    if sounds.shape[1] % n_steps:
        raise ValueError(f"encode_audio got {sounds.shape[1]} samples for {n_steps} steps, expected a multiple.")
    if cochlea.highest >= rate / 2:
        got = f"a cochlea up to {cochlea.highest} Hz for sounds of {rate} Hz"
        raise ValueError(f"encode_audio got {got}, expected less than half. Give Cochlea(highest={0.45 * rate:g}).")
    return _hear(sounds, rate, n_steps, cochlea)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _hear(sounds: Float[Array | np.ndarray, "B L"], rate: int, n_steps: int, cochlea: Cochlea) -> Bool[Array, "T B N"]:
    amplitude = 10 ** ((cochlea.level - ONE_UNIT) / 20)
    largest = jnp.max(jnp.abs(sounds), 1, keepdims=True)
    shape = sounds / jnp.where(largest > 0, largest, 1)  # so that no square underflows
    count = jnp.maximum(jnp.sum(sounds != 0, 1, keepdims=True), 1).astype(jnp.float32)
    power = jnp.sum(shape**2, 1, keepdims=True) / count
    loud = amplitude * shape * lax.rsqrt(jnp.where(power > 0, power, 1))
    return time_first(lax.map(lambda sound: _hear_one(sound, rate, n_steps, cochlea), loud))


def basilar_membrane(
    sound: Float[Array | np.ndarray, " L"], *, rate: int, cochlea: Cochlea = Cochlea()
) -> Float[Array, "N L"]:
    """The motion of each place of the basilar membrane, given by a gammatone filter whose gain is 1 at its frequency.

    The filter of frequency f and bandwidth b = 1.019 (24.7 + 0.108 f) has the response 1 / (1 + i (g - f) / b)^4 at g.
    """
    frequencies = jnp.asarray(cochlea.frequencies)[:, None]
    width = WIDENING * BANDWIDTH * (FACTOR * frequencies + 1)
    size = 1 << (len(sound) + math.ceil(SETTLE * rate) - 1).bit_length()  # the power of two from there on
    spectrum = jnp.fft.rfft(sound, size)
    at = jnp.arange(len(spectrum), dtype=jnp.float32) * (rate / size)
    off = (at[None] - frequencies) / width
    response = lax.integer_pow(lax.complex(jnp.ones_like(off), off), -ORDER)
    return jnp.fft.irfft(spectrum[None] * response, size)[:, : len(sound)]


class Pools(NamedTuple):
    """The transmitter of a hair cell, as fractions of the cell's capacity.

    Args:
        held: transmitter available for release.
        cleft: released transmitter, which makes the fibers fire.
        back: transmitter taken back but not yet available again.
    """

    held: Float[Array, "*N"]
    cleft: Float[Array, "*N"]
    back: Float[Array, "*N"]


def hair_cell(pools: Pools, moved: Float[Array | np.ndarray, "*N"], dt: float) -> tuple[Pools, Float[Array, "*N"]]:
    """One step of `dt` seconds, from the displacement of the membrane to the firing rate of a fiber in spikes per second.

    The losses of each pool are taken at the end of the step (implicit Euler), so that long steps remain stable.
    """
    opened = jnp.maximum(moved + A, 0)
    k = G * opened / (opened + B)
    cleft = (pools.cleft + dt * k * pools.held) / (1 + dt * (LOSS + REUPTAKE))
    held = (pools.held + dt * (REFILL + REPROCESS * pools.back)) / (1 + dt * (REFILL + k))
    back = (pools.back + dt * REUPTAKE * cleft) / (1 + dt * REPROCESS)
    return Pools(held, cleft, back), SPIKES * cleft


def silence(n_channels: int) -> Pools:
    """The state of hair cells after a long silence, which is a fixed point of `hair_cell`."""
    k = G * A / (A + B)
    cleft_per_held = k / (LOSS + REUPTAKE)
    # q' = w' = 0 with w = REUPTAKE c / REPROCESS: REFILL (1 - q) = k q - REUPTAKE c.
    held = REFILL / (REFILL + k - REUPTAKE * cleft_per_held)
    cleft = cleft_per_held * held
    numbers = (held, cleft, REUPTAKE * cleft / REPROCESS)
    return Pools(*(jnp.full(n_channels, number, jnp.float32) for number in numbers))


def _hear_one(sound: Float[Array, " L"], rate: int, n_steps: int, cochlea: Cochlea) -> Bool[Array, "T N"]:
    moved = basilar_membrane(sound, rate=rate, cochlea=cochlea).T.reshape(n_steps, -1, cochlea.n_channels)
    leak = math.exp(-1 / (rate * cochlea.tau))

    def sample(carry: tuple[Pools, Array, Array], y: Float[Array, " N"]) -> tuple[tuple[Pools, Array, Array], None]:
        pools, v, fired = carry
        pools, spikes_per_second = hair_cell(pools, y, 1 / rate)
        v = leak * v + cochlea.n_fibres * spikes_per_second / rate
        spike = v >= cochlea.threshold
        return (pools, jnp.where(spike, v - cochlea.threshold, v), fired | spike), None

    def step(carry: tuple[Pools, Array], ys: Float[Array, "S N"]) -> tuple[tuple[Pools, Array], Bool[Array, " N"]]:
        (pools, v, fired), _ = lax.scan(sample, (*carry, jnp.zeros(cochlea.n_channels, bool)), ys)
        return (pools, v), fired

    return lax.scan(step, (silence(cochlea.n_channels), jnp.zeros(cochlea.n_channels)), moved)[1]
