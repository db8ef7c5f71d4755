"""Events and sounds: spikes are in the steps that hold them, splits hold what they say, and damaged files are refused."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import random
from small_sets import SPEAKERS, spoken_digit, words, write_words
from small_sets import spoken_digits as write_spoken_digits
from small_sets import ssc as write_ssc

from experiments.pipeline.spikes import write_spikes
from slax_data import bin_events, encode_recordings, make_task, shd, spoken_digits
from slax_data.audio.hearing import Sound
from slax_data.sets.heidelberg import SSC, _read
from slax_data.storage.packed import sets_of_arrays, unpacked
from slax_data.storage.whole_files import load_arrays

KEY = random.key(0)


@pytest.mark.filterwarnings("ignore:Got .* times at or after the end")
@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2)), max_size=12), st.integers(1, 9), st.floats(0.1, 3))
def test_a_unit_spikes_in_the_steps_that_hold_its_events(events, n_steps, duration):
    times, units = ([event[part] for event in events[::-1] + events] for part in (0, 1))
    options = dict(n_steps=n_steps, duration=duration, outside="drop")
    spikes = bin_events(times, units, n_units=3, **options)
    assert spikes.shape == (n_steps, 3) and spikes.dtype == bool
    counts = bin_events(times, units, n_units=3, counts=True, **options)
    assert counts.shape == (n_steps, 3) and counts.dtype == np.uint8
    edges = [*(k * duration / n_steps * (1 - 1e-12) for k in range(n_steps)), duration]
    for step, unit in np.ndindex(n_steps, 3):
        number = sum(u == unit and edges[step] <= time < edges[step + 1] for time, u in events)
        assert spikes[step, unit] == (number > 0) and counts[step, unit] == 2 * number


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16])
def test_events_at_an_edge_are_in_the_step_that_begins_there(dtype):
    spikes = bin_events(np.arange(5, dtype=dtype), np.arange(5, dtype=np.uint16), n_units=5, n_steps=5, duration=5.0)
    np.testing.assert_array_equal(spikes, np.eye(5, dtype=bool))
    ticks = np.arange(100) * 1.4 / 100
    assert bin_events(ticks, np.zeros(100, int), n_units=1, n_steps=100, duration=1.4).all()
    for duration in (0.1, 0.7, 1.0, 2.3):  # decimal times are no binary numbers, and fewer of them in single precision
        for times in (np.arange(100) * duration / 100, (np.arange(100) * duration / 100).astype(np.float32)):
            assert bin_events(times, np.zeros(100, int), n_units=1, n_steps=100, duration=duration).all()
    assert bin_events(np.arange(100) * 1e-3, np.zeros(100, int), n_units=1, n_steps=100, duration=0.1).all()
    last = bin_events([np.nextafter(1.4, 0)], [0], n_units=1, n_steps=59, duration=1.4)
    assert np.flatnonzero(last).tolist() == [58]
    assert not bin_events(np.array([], object), np.array([]), n_units=3, n_steps=4, duration=2.0).any()


TIMES, UNITS, LABELS = words(np.random.default_rng(2), 20, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shd")
    for split in ("train", "test"):
        write_words(folder / f"shd_{split}.h5", TIMES, UNITS, LABELS, speakers=4)
    return folder


def test_spikes_of_words_are_where_the_events_are(folder):
    found = shd(folder, split="test", n_steps=28)
    spikes = np.asarray(unpacked(found.packed, found.n_units))
    assert spikes.shape == (160, 28, 700)
    np.testing.assert_array_equal(found.labels, LABELS)
    for recording, times, units, length in zip(spikes, TIMES, UNITS, found.lengths, strict=True):
        expected = {(int(Fraction(float(time)) * 20), int(unit)) for time, unit in zip(times, units, strict=True)}
        assert set(zip(*map(np.ndarray.tolist, recording.nonzero()), strict=True)) == expected
        assert length == 1 + max(step for step, _ in expected)
    short = shd(folder, n_steps=14, duration=0.7, outside="drop")
    np.testing.assert_array_equal(short.packed, found.packed[:, :14])


def test_splits_of_words_are_those_of_the_files_with_two_speakers_left_out(folder, tmp_path):
    whole, speakers = shd(folder, n_steps=5), np.arange(160) // 20 % 4
    task = make_task("shd", KEY, path=folder, n_steps=5, with_validation=True, cache=tmp_path)
    for split, own in (("train", speakers < 2), ("validation", speakers >= 2), ("test", speakers >= 0)):
        spikes, labels = task.full_split(split)
        np.testing.assert_array_equal(spikes.swapaxes(0, 1), unpacked(whole.packed[own], 700))
        np.testing.assert_array_equal(labels, whole.labels[own])
    commands = make_task("ssc", KEY, n_steps=7, **write_ssc(tmp_path))
    for split in ("train", "valid", "test"):
        expected = _read(SSC, tmp_path, split, False, n_steps=7, duration=1.4, outside="error")
        np.testing.assert_array_equal(commands.full_split(split)[0].swapaxes(0, 1), unpacked(expected.packed, 700))


def test_a_label_of_no_class_is_refused(tmp_path, no_shape_checks):
    write_words(tmp_path / "shd_train.h5", TIMES, UNITS, LABELS + 1, 4)
    with pytest.raises(ValueError, match=r"Got labels 1 to 20, expected 0\.\.19 for n_classes=20"):
        shd(tmp_path, with_validation=True)


def test_the_pipeline_keeps_the_spikes_of_the_files(folder, tmp_path):
    names = ("shd_train.h5", "shd_test.h5")
    settings = {"maker": "shd", "raw": dict.fromkeys(names), "options": {"n_steps": 10}}
    write_spikes(settings, [folder / name for name in names], tmp_path / "shd.npz")
    for split, trains in sets_of_arrays(load_arrays(tmp_path / "shd.npz")).items():
        np.testing.assert_array_equal(trains.packed, shd(folder, split=split, n_steps=10).packed)


PARTS = {
    "recording": {"test": range(5), "validation": range(5, 10), "train": range(10, 12)},
    "speaker": {"test": ["theo"], "validation": ["jackson"], "train": ["george"]},
    "other_speaker": {"test": ["george"], "validation": ["theo"], "train": ["jackson"]},
}


def test_splits_of_spoken_digits_are_by_recording_or_by_speaker(tmp_path):
    options = write_spoken_digits(tmp_path, takes=12)
    path = options["path"]
    for split_by, parts in PARTS.items():
        whole = parts | {"train": [*parts["train"], *parts["validation"]]}
        for with_validation, split in [*((True, split) for split in parts), (False, "train"), (False, "test")]:
            found = spoken_digits(path, split=split, split_by=split_by, with_validation=with_validation)
            here = set((parts if with_validation else whole)[split])
            names = [(digit, name, take) for digit in range(10) for name in SPEAKERS for take in range(12)]
            expected = [one for one in names if {*one[1:]} & here]
            named = zip(found.labels.tolist(), found.speakers, found.takes.tolist(), strict=True)
            assert sorted(named) == expected
            if split == "test":  # tables of experiments count recordings of one speaker and digit in a row once
                digits_and_speakers = [*zip(found.labels.tolist(), found.speakers, strict=True)]
                assert digits_and_speakers == sorted(digits_and_speakers)
    for sound, *one in zip(found.sounds, found.labels, found.speakers, found.takes, strict=True):
        assert sound.rate == 8000 and sound.samples.dtype == np.float32
        np.testing.assert_array_equal(sound.samples, spoken_digit(*one).astype(np.float32) / 2**15)
    task = make_task("spoken_digits", KEY, with_validation=True, n_steps=10, **options)
    assert [len(task.full_split(split)[1]) for split in ("test", "validation", "train")] == [150, 150, 60]
    with pytest.raises(ValueError, match=r"recordings of \[16000\] Hz in .*, expected 8000"):
        spoken_digits(write_spoken_digits(tmp_path, rate=16000)["path"])
    with pytest.raises(ValueError, match=r"no sample of the classes \[9\] in train by recording, exp"):
        spoken_digits(write_spoken_digits(tmp_path, digits=range(9))["path"])


def test_steps_hold_what_is_heard_in_their_time():
    """A tone in the middle of a sound, a sound that is longer than what is heard, and one that ends in the tone."""
    beep = np.zeros(4000, np.float32)
    beep[2000:2400] = np.sin(2 * np.pi * 800 * np.arange(400) / 8000)
    long = np.repeat(np.float32([0, 1]), [9000, 100])
    sounds = [Sound(of, 8000) for of in (beep, long, beep[:2400])]
    found = encode_recordings(sounds, np.arange(3), n_steps=50)
    whole, late, ends = (np.flatnonzero(one.any(axis=1)) for one in np.asarray(unpacked(found.packed, 70)))
    assert whole[0] in (12, 13) and 14 <= whole[-1] <= 17 and not late.size
    assert ends[-1] >= 15 and found.lengths.tolist() == [25, 50, ends[-1] + 1]  # the cochlea rings after the 15 steps
