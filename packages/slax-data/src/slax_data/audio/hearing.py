"""Recordings as .wav files, and as the spikes of a cochlea."""

import io
import math
import wave
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Shaped
from tqdm import tqdm

from slax_data.audio.cochlea import Cochlea, encode_audio
from slax_data.checks import check_size
from slax_data.loading import time_first
from slax_data.storage.packed import SpikeTrains, spike_trains

BATCH = 50


class Sound(NamedTuple):
    """A recording.

    Args:
        samples: in [-1, 1).
        rate: samples per second.
    """

    samples: Float32[np.ndarray, " L"]
    rate: int


def read_wav(content: bytes, name: str) -> Sound:
    """Read a .wav file with one channel of 16-bit PCM.

    Args:
        content: content of the file.
        name: name of the file, for error messages.

    Raises:
        ValueError: a file of another format, a truncated one, or one without samples.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width, rate, frames = file.getparams()[:4]
            data = file.readframes(frames)
    except (wave.Error, EOFError, RuntimeError) as error:
        raise ValueError(f"Got {name}, expected a complete PCM .wav file: {error!r}.") from error
    if (channels, width) != (1, 2):
        raise ValueError(f"Got {channels} channels of {8 * width} bit in {name}, expected one of 16 bit.")
    if not frames or rate <= 0 or len(data) != frames * width:
        raise ValueError(f"Got {len(data) // width} samples in {name} at {rate} Hz, expected {frames}. Get it again.")
    return Sound(np.frombuffer(data, "<i2").astype(np.float32) / 32768, rate)


def encode_recordings(
    sounds: list[Sound],
    labels: Shaped[np.ndarray, " D"],
    *,
    n_steps: int,
    duration: float = 1.0,
    cochlea: Cochlea = Cochlea(),
) -> SpikeTrains:
    """Encode recordings as spikes, with a progress bar.

    A recording is as long as its sound, or as its spikes if these last longer: a cochlea rings after a sound.

    Args:
        sounds: D recordings with the same sampling rate.
        labels: their classes.
        n_steps: T, each of duration / T seconds, rounded up to whole samples.
        duration: seconds of each recording that are encoded; shorter recordings are followed by silence.
        cochlea: parameters of the cochlea.

    Raises:
        ValueError: no recordings, different sampling rates, steps shorter than a sample, or the errors of `encode_audio`.

    Example:
        >>> import tempfile
        >>> import wave
        >>> from slax_data import Cochlea, encode_recordings, spoken_digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for digit in range(10):
        ...         with wave.open(f"{folder}/{digit}_theo_7.wav", "wb") as file:
        ...             file.setparams((1, 2, 8000, 0, "NONE", "NONE"))
        ...             file.writeframes(bytes(range(200)) * 8)
        ...     recordings = spoken_digits(folder)
        >>> cochlea = Cochlea(n_channels=4)
        >>> trains = encode_recordings(recordings.sounds, recordings.labels, n_steps=10, duration=0.1, cochlea=cochlea)
        >>> trains.packed.shape, trains.n_units
        ((10, 10, 1), 4)
    """
    check_size("n_steps", n_steps)
    rates = sorted({sound.rate for sound in sounds})
    if len(rates) != 1:
        raise ValueError(f"Got {len(sounds)} recordings of {rates} Hz, expected one rate. Resample them first.")
    (rate,) = rates
    if not n_steps <= rate * duration:
        raise ValueError(f"Got {n_steps} steps in {duration} s, expected at most {rate} per second, a sample each.")
    per_step = math.ceil(rate * duration / n_steps - 1e-9)
    with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
        spikes = np.concatenate(list(_heard_batches(sounds, per_step * n_steps, n_steps, cochlea)))
    of_sounds = np.array([min(n_steps, -(-len(sound.samples) // per_step)) for sound in sounds])
    last_spikes = np.where(spikes.any(axis=2), np.arange(1, n_steps + 1), 0).max(axis=1)
    return spike_trains(spikes, labels, lengths=np.maximum(of_sounds, last_spikes))


def _heard_batches(sounds: list[Sound], length: int, n_steps: int, cochlea: Cochlea) -> Iterable[np.ndarray]:
    for start in tqdm(range(0, len(sounds), BATCH), desc="cochlea", unit=f"{BATCH} recordings", disable=None):
        batch = np.zeros((BATCH, length), np.float32)
        chosen = sounds[start : start + BATCH]
        for row, sound in zip(batch, chosen, strict=False):
            row[: len(sound.samples)] = sound.samples[:length]
        spikes = encode_audio(jnp.asarray(batch), rate=sounds[0].rate, n_steps=n_steps, cochlea=cochlea)
        yield np.asarray(time_first(spikes))[: len(chosen)]  # samples first again
