"""Events and sounds: spikes are in the steps that hold them, splits hold what they say, and damaged files are refused."""

import gzip
import io
import tarfile
import wave
from fractions import Fraction

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import random
from small_sets import ssc as small_ssc
from small_sets import words, write_words

from experiments.common.make_spikes import make_spikes
from slax_data import bin_events, download_spoken_digits, encode_recordings, make_task, shd, spoken_digits, ssc
from slax_data.audio.sounds import Sound
from slax_data.encoding.events import event_trains
from slax_data.sets import heidelberg
from slax_data.sets.spoken_digits import Recordings
from slax_data.storage.packed import sets_of_arrays, unpacked
from slax_data.storage.whole_files import load_arrays

WINDOW = dict(n_units=3, n_steps=4, duration=2.0)
EVENTS = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2)), max_size=12)


def binned(events, **options):
    return bin_events([time for time, _ in events], [unit for _, unit in events], **WINDOW | options)


@settings(max_examples=50)
@given(EVENTS, st.integers(1, 9), st.floats(0.1, 3))
def test_a_unit_spikes_in_the_steps_that_hold_its_events(events, n_steps, duration):
    spikes = binned(events[::-1] + events, n_steps=n_steps, duration=duration, outside="drop")
    assert spikes.shape == (n_steps, 3) and spikes.dtype == bool
    edges = [*(k * duration / n_steps for k in range(n_steps)), duration]
    for step, unit in np.ndindex(n_steps, 3):
        assert spikes[step, unit] == any(u == unit and edges[step] <= time < edges[step + 1] for time, u in events)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16])
def test_events_at_an_edge_are_in_the_step_that_begins_there(dtype):
    spikes = bin_events(np.arange(5, dtype=dtype), np.arange(5, dtype=np.uint16), n_units=5, n_steps=5, duration=5.0)
    np.testing.assert_array_equal(spikes, np.eye(5, dtype=bool))
    ticks = np.arange(100) * 1.4 / 100
    assert bin_events(ticks, np.zeros(100, int), n_units=1, n_steps=100, duration=1.4).all()
    for duration in (0.1, 1.4, 7.0):
        last = bin_events([np.nextafter(duration, 0)], [0], n_units=1, n_steps=59, duration=duration)
        assert np.flatnonzero(last).tolist() == [58]
    assert not bin_events(np.array([], object), np.array([]), **WINDOW).any()


def test_a_set_packs_what_its_recordings_have():
    rasters = np.random.default_rng(0).random((4, 6, 11)) < 0.2
    rasters[1, 3, 0], rasters[1, 4:], rasters[2] = True, False, False
    found = event_trains(iter(rasters), np.array([0, 1, 1, 0]), name="test")
    np.testing.assert_array_equal(unpacked(found.packed, found.n_units), rasters)
    assert found.labels.tolist() == [0, 1, 1, 0] and found.lengths.tolist()[1:3] == [4, 0]


ZEROS = np.zeros((2, 6, 11), bool)
REFUSED = [
    (lambda: binned([(0.1, 0), (2.0, 1)]), "before the end of the window, 2, got 1 of 2 at or after it, the last at 2. Give"),
    (lambda: binned([(np.float16(1.4), 0)], duration=1.4), r"got 1 of 1 at or after it, the last at 1\.40039"),
    (lambda: binned([(np.nan, 0)]), "times that are finite, got 1 NaN"),
    (lambda: binned([(-0.5, 0)]), "times from 0 on, got 1 before, the first at -0.5"),
    (lambda: binned([(0.1, 3)]), r"units in 0\.\.2, got units from 3 to 3. .* np\.searchsorted\(ids, units\)"),
    (lambda: binned([(0.1, -1)]), r"units in 0\.\.2, got units from -1 to -1"),
    (lambda: binned([(0.1, 0.5)]), "units that are integers, got float64 and float64"),
    (lambda: bin_events([0.1], [0, 1], **WINDOW), r"a time and a unit each, got times of shape \[1\] and units of \[2\]"),
    (lambda: binned([], n_steps=0), "n_steps got 0"),
    (lambda: binned([], n_units=0), "n_units got 0"),
    (lambda: binned([], duration=np.inf), "duration got inf, expected a time above 0"),
    (lambda: binned([], outside="clip"), "outside got 'clip', expected one of: 'drop', 'error'"),
    (lambda: event_trains([], np.arange(2), name="words"), "words has no recordings, got 2 labels"),
    (lambda: event_trains(ZEROS * 1.0, np.arange(2), name="words"), r"booleans \[T, N\], got float64 of shape \[6, 11\]"),
    (lambda: event_trains([ZEROS[0], ZEROS[1, :5]], np.arange(2), name="words"), r"one shape, got \[5, 11\] after \[6, 11\]"),
    (lambda: encode_recordings(HEARD, n_steps=9000), "9000 steps in 1.0 s are shorter than a sample"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_what_has_no_steps_is_refused(call, told, no_shape_checks):
    with pytest.raises(ValueError, match=told):
        call()


TIMES, UNITS, LABELS = words(np.random.default_rng(2), 20, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shd")
    for split in ("train", "test"):
        write_words(folder / f"shd_{split}.h5", TIMES, UNITS, LABELS, speakers=4)
    return folder


def test_spikes_of_words_are_where_the_events_are(folder):
    found = shd(folder, split="test", n_steps=28, pool=7)
    spikes = np.asarray(unpacked(found.packed, found.n_units))
    assert spikes.shape == (160, 28, 100)
    np.testing.assert_array_equal(found.labels, LABELS)
    for recording, times, units, length in zip(spikes, TIMES, UNITS, found.lengths, strict=True):
        expected = {(int(Fraction(float(time)) * 20), int(unit) // 7) for time, unit in zip(times, units, strict=True)}
        assert set(zip(*map(np.ndarray.tolist, recording.nonzero()), strict=True)) == expected
        assert length == 1 + max(step for step, _ in expected)
    short = shd(folder, n_steps=14, duration=0.7, outside="drop", pool=7)
    np.testing.assert_array_equal(short.packed, shd(folder, n_steps=28, pool=7).packed[:, :14])


def test_validation_split_of_words_is_two_speakers_of_the_training_file(folder, tmp_path):
    whole, speakers = shd(folder, n_steps=5), np.arange(160) // 20 % 4
    options = {"path": folder, "n_steps": 5, "with_validation": True, "cache": tmp_path}
    task = make_task("shd", random.key(0), **options)
    for split, own in (("train", speakers < 2), ("validation", speakers >= 2), ("test", speakers >= 0)):
        found = shd(folder, split=split, n_steps=5, with_validation=True)
        np.testing.assert_array_equal(found.packed, whole.packed[own])
        np.testing.assert_array_equal(found.labels, whole.labels[own])
        np.testing.assert_array_equal(task.full_split(split)[1], found.labels)
    with pytest.raises(ValueError, match="split got 'validation', expected one of: 'test', 'train'"):
        shd(folder, split="validation")
    (tmp_path / "ssc").mkdir()
    small = small_ssc(tmp_path / "ssc")
    commands = make_task("ssc", random.key(0), n_steps=7, **small)
    for split in ("train", "valid", "test"):
        expected = ssc(tmp_path / "ssc", split=split, n_steps=7, pool=20)
        np.testing.assert_array_equal(commands.full_split(split)[0].swapaxes(0, 1), unpacked(expected.packed, 35))


def test_packed_files_are_unpacked_beside_or_refused(folder, tmp_path, monkeypatch):
    file, packed = tmp_path / "shd_train.h5", tmp_path / "shd_train.h5.gz"
    with pytest.raises(
        FileNotFoundError, match=r"There is no .*shd_train.h5, nor shd_train.h5.gz. Download it from https"
    ):
        shd(tmp_path)
    content = (folder / "shd_train.h5").read_bytes()
    bad = gzip.compress(content)
    for damaged in (bad[:-20], bad[:-6] + bytes([bad[-6] ^ 1]) + bad[-5:], b"<html>"):
        packed.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"shd_train\.h5\.gz is truncated or damaged"):
            shd(tmp_path)
        assert list(tmp_path.iterdir()) == [packed]
    packed.write_bytes(bad)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="holds more than"):
        patch.setattr(heidelberg, "LARGEST", 1000)
        shd(tmp_path)
    np.testing.assert_array_equal(shd(tmp_path, n_steps=5).packed, shd(folder, n_steps=5).packed)
    assert file.read_bytes() == content


def changed(rows, value):
    first = rows[7].copy()
    first[0] = value
    return [*rows[:7], first, *rows[8:]]


BAD_WORDS = {
    "nan": ((changed(TIMES, np.nan), UNITS, LABELS), "Recording 7: .*times that are finite, got 1 NaN"),
    "late": ((changed(TIMES, 3), UNITS, LABELS), "Recording 7: .* the last at 3. Give a longer duration"),
    "unit": ((TIMES, changed(UNITS, 700), LABELS), r"Recording 7: Events have units in 0\.\.699"),
    "rows": ((TIMES[:-1], UNITS, LABELS), "It has 159 recordings' times and 160 recordings' units for 160 labels"),
    "class 20": ((TIMES, UNITS, LABELS + 1), r"labels must lie in 0\.\.19 for n_classes=20, got values from 1 to 20"),
    "no class": (
        (TIMES, UNITS, np.where(LABELS == 4, 5, LABELS)),
        r"The split 'train' must have all classes .* none of \[4\]",
    ),
    "float labels": ((TIMES, UNITS, LABELS.astype(float)), "labels must be integers"),
}


@pytest.mark.parametrize("name", BAD_WORDS)
def test_bad_words_are_errors_that_name_the_file(name, tmp_path, no_shape_checks):
    content, told = BAD_WORDS[name]
    write_words(tmp_path / "shd_train.h5", *content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/shd_train.h5 cannot be read. {told}"):
        shd(tmp_path)


def test_files_without_their_parts_are_errors(folder, tmp_path):
    file = write_words(tmp_path / "shd_train.h5", TIMES, UNITS, LABELS, speakers=2)
    with pytest.raises(ValueError, match="It has 2 speakers, too few to leave 2 of them out"):
        shd(tmp_path, with_validation=True)
    for part, told, options in (
        ("extra/speaker", "It has 0 numbers of speakers, extra/speaker", {"with_validation": True}),
        ("spikes/units", "It lacks spikes/units, a list with one entry per recording", {}),
        ("labels", "It lacks labels", {}),
    ):
        with h5py.File(file, "a") as content:
            del content[part]
        with pytest.raises(ValueError, match=told):
            shd(tmp_path, **options)
        if part != "extra/speaker":
            write_words(file, TIMES, UNITS, LABELS)
    file.write_bytes((folder / "shd_train.h5").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"shd_train\.h5 cannot be read"):
        shd(tmp_path)
    with pytest.raises(ValueError, match="pool got 6, expected a divisor of the 700 units"):
        shd(folder, pool=6)


def test_spikes_are_kept_and_made_anew_for_other_files(folder, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"shd_{split}.h5").write_bytes((folder / f"shd_{split}.h5").read_bytes())
    options = {"path": tmp_path, "cache": tmp_path / "cache", "n_steps": 5, "pool": 140}
    first = make_task("shd", random.key(0), **options).full_split("train")[0]
    (file,) = (tmp_path / "cache").iterdir()
    made = file.stat().st_mtime_ns
    np.testing.assert_array_equal(make_task("shd", random.key(1), **options).full_split("train")[0], first)
    assert file.stat().st_mtime_ns == made
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"is not a complete \.npz file of plain arrays.*Delete it"):
        make_task("shd", random.key(0), **options)
    write_words(tmp_path / "shd_train.h5", TIMES[::-1], UNITS[::-1], LABELS)
    np.testing.assert_array_equal(make_task("shd", random.key(0), **options).full_split("train")[0], first[:, ::-1])


def test_the_pipeline_keeps_the_spikes_of_the_files(folder, tmp_path):
    names = ("shd_train.h5", "shd_test.h5")
    settings = {"maker": "shd", "raw": dict.fromkeys(names), "options": {"n_steps": 10}}
    make_spikes(settings, [folder / name for name in names], tmp_path / "shd.npz")
    for split, trains in sets_of_arrays(load_arrays(tmp_path / "shd.npz")).items():
        np.testing.assert_array_equal(trains.packed, shd(folder, split=split, n_steps=10).packed)
    with pytest.raises(SystemExit, match=r"Got 1 files, expected shd_train.h5, shd_test.h5"):
        make_spikes(settings, [folder / names[0]], tmp_path / "one.npz")
    with pytest.raises(SystemExit, match="have to be in one folder"):
        make_spikes(settings, [folder / names[0], tmp_path / names[1]], tmp_path / "two.npz")


SPEAKERS = ("george", "jackson", "theo")


def tone(digit, take):
    return 9000 / 32768 * np.sin(2 * np.pi * (200 + 300 * digit) * np.arange(800 + 40 * take) / 8000)


def written(path, rate=8000, digits=range(10)):
    """An archive of the true form: tones whose pitch is the digit's, a little longer for each take."""
    with tarfile.open(path, "w:gz") as archive:
        for digit in digits:
            for name, take in ((name, take) for name in SPEAKERS for take in range(12)):
                file = io.BytesIO()
                with wave.open(file, "wb") as out:
                    out.setparams((1, 2, rate, 0, "NONE", "NONE"))
                    out.writeframes((tone(digit, take) * 32768).astype("<i2").tobytes())
                info = tarfile.TarInfo(f"digits/recordings/{digit}_{name}_{take}.wav")
                info.size = len(file.getvalue())
                archive.addfile(info, io.BytesIO(file.getvalue()))
    return path


BY_TAKE = {"test": range(5), "validation": range(5, 10), "train": range(10, 12)}
BY_SPEAKER = {"test": ["theo"], "validation": ["jackson"], "train": ["george"]}


def test_splits_of_spoken_digits_are_by_recording_or_by_speaker(tmp_path):
    path = written(tmp_path / "digits.tar.gz")
    for split_by, parts in (("recording", BY_TAKE), ("speaker", BY_SPEAKER)):
        for options in ({"with_validation": True}, {}):
            for split in BY_TAKE if options else ("train", "test"):
                found = spoken_digits(path, split=split, split_by=split_by, **options)
                which = [split, "validation"] if split == "train" and not options else [split]
                here = {one for part in which for one in parts[part]}
                expected = {
                    (d, s, t) for d in range(10) for s in SPEAKERS for t in range(12) if {t, s} & here
                }  # fmt: skip
                named = list(zip(found.labels.tolist(), found.speakers, found.takes.tolist(), strict=True))
                assert set(named) == expected and len(named) == len(expected)
    for sound, digit, take in zip(found.sounds[:20], found.labels, found.takes, strict=False):
        assert sound.rate == 8000 and sound.samples.dtype == np.float32
        np.testing.assert_allclose(sound.samples, tone(digit, take), atol=2**-15)
    options = {"path": path, "cache": tmp_path / "cache", "n_steps": 10, "n_channels": 9, "duration": 0.1}
    task = make_task("spoken_digits", random.key(0), with_validation=True, **options)
    assert {split: len(task.full_split(split)[1]) for split in BY_TAKE} == {"test": 150, "validation": 150, "train": 60}
    with pytest.raises(ValueError, match=r"recordings of \[16000\] Hz, expected 8000"):
        spoken_digits(written(tmp_path / "fast.tar.gz", rate=16000))
    with pytest.raises(ValueError, match=r"'train by recording' must have all classes 0\.\.9, got none of \[9\]"):
        spoken_digits(written(tmp_path / "few.tar.gz", digits=range(9)))
    with pytest.raises(ValueError, match=r"its sha256 is \w+, expected 6c549ebe"):
        download_spoken_digits(path)
    with pytest.raises(FileNotFoundError, match=r"There is no .*none\. Download it with .*download_spoken_digits"):
        make_task("spoken_digits", random.key(0), path=tmp_path / "none")
    with pytest.raises(ValueError, match="split_by got 'digit', expected one of: 'recording', 'speaker'"):
        spoken_digits(path, split_by="digit")


BEEP = np.zeros(4000, np.float32)
BEEP[2000:2400] = np.sin(2 * np.pi * 800 * np.arange(400) / 8000)
LONG = np.concatenate([np.zeros(9000, np.float32), np.ones(100, np.float32)])
HEARD = Recordings([Sound(BEEP, 8000), Sound(LONG, 8000)], np.array([0, 1]), ["theo"] * 2, np.array([0, 0]))


def test_steps_hold_what_is_heard_in_their_time():
    """A tone in the middle of a sound, a sound that is longer than what is heard, and one that ends in the tone."""
    whole = encode_recordings(HEARD, n_steps=50)
    ends = encode_recordings(HEARD._replace(sounds=[Sound(BEEP[:2400], 8000), HEARD.sounds[1]]), n_steps=50)
    steps, last = (np.flatnonzero(np.asarray(unpacked(one.packed, 70))[0].any(axis=1)) for one in (whole, ends))
    assert steps[0] in (12, 13) and 14 <= steps[-1] <= 17 and not np.asarray(whole.packed)[1].any()
    assert whole.lengths.tolist() == [25, 50]
    assert last[-1] >= 15 and ends.lengths.tolist() == [
        last[-1] + 1,
        50,
    ]  # the cochlea rings after the sound's 15 steps
