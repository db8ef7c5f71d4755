"""Recordings come out as they were written, or not at all."""

import io
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mutations import many, mutated

from slax_data.audio.sounds import Sound, read_wav

SAMPLES = np.array([0, 1, -1, 32767, -32768, 500], "<i2")


def wav(samples, *, rate=8000, channels=1, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", "not compressed"))
        out.writeframes(samples.tobytes())
    return file.getvalue()


CONTENT = wav(SAMPLES)


@given(hnp.arrays("<i2", st.integers(1, 30)), st.integers(1, 200_000))
def test_samples_are_parts_of_the_largest(samples, rate):
    sound = read_wav(wav(samples, rate=rate), "a.wav")
    assert sound.rate == rate and sound.samples.dtype == np.float32
    np.testing.assert_array_equal(sound.samples * 32768, samples)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (wav(SAMPLES, channels=2), "a.wav has 2 channels of 16 bit, expected one of 16 bit"),
        (wav(SAMPLES, width=1), "a.wav has 1 channels of 8 bit"),
        (wav(SAMPLES, width=3), "a.wav has 1 channels of 24 bit"),
        (wav(SAMPLES[:0]), "a.wav has 0 samples of the 0 that it announces"),
        (CONTENT.replace(b"WAVE", b"wave"), "a.wav is not a PCM .wav file"),
        (CONTENT[:20] + b"\x03" + CONTENT[21:], "a.wav is not a PCM .wav file"),
        (CONTENT[:24] + bytes(4) + CONTENT[28:], "a.wav has 6 samples of the 6 that it announces, at 0 Hz"),
        (b"", "a.wav is not a PCM .wav file, or it is truncated: it ends too early"),
        (b"ID3\3" + CONTENT, "a.wav is not a PCM .wav file"),
    ],
    ids=["stereo", "8 bit", "24 bit", "empty", "no wave", "float", "no rate", "nothing", "mp3"],
)
def test_other_files_are_errors(content, told):
    with pytest.raises(ValueError, match=told):
        read_wav(content, "a.wav")


def test_a_truncated_file_is_an_error_at_every_length():
    for length in range(len(CONTENT)):
        with pytest.raises(ValueError, match=r"a\.wav (is not a PCM|has \d samples of the 6)"):
            read_wav(CONTENT[:length], "a.wav")


@many
@given(mutated(CONTENT))
def test_damage_of_any_kind_is_an_error_or_gives_a_sound(content):
    try:
        sound = read_wav(content, "a.wav")
    except ValueError as error:
        assert "a.wav" in str(error)
    else:
        assert isinstance(sound, Sound) and len(sound.samples) and sound.rate > 0
        assert np.all(np.abs(sound.samples) <= 1)
