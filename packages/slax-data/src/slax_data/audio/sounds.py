"""Recordings as arrays: the PCM .wav files that speech data sets consist of."""

import io
import wave
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32


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
