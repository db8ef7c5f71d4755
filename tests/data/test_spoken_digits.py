"""Spoken digits: a small archive of the true form, what is refused, and the real one where it is at hand."""

import io
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from jax import random

from slax_data import make_task
from slax_data.audio.sounds import Sound
from slax_data.sets.spoken_digits import (
    ARCHIVE,
    RATE,
    SHA256,
    TEST_SPEAKERS,
    Recordings,
    download_spoken_digits,
    encode_recordings,
    spoken_digit_spikes,
    spoken_digits,
)
from slax_data.storage.packed import unpacked
from slax_data.storage.whole_files import data_folder, sha256_of

ROOT = Path(__file__).parents[2]
REAL = [folder / ARCHIVE for folder in (data_folder(), ROOT / "data" / "raw", ROOT.parent / "shared" / "data")]
SPEAKERS = ("george", "theo")


def wav(samples, rate=RATE):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.asarray(samples, "<i2").tobytes())
    return file.getvalue()


def recordings(digits=range(10), takes=range(7), rate=RATE, speakers=SPEAKERS):
    """By name: tones whose pitch is the digit's, a little longer for each take."""
    made = {}
    for digit in digits:
        for speaker in speakers:
            for take in takes:
                t = np.arange(800 + 40 * take) / RATE
                made[f"{digit}_{speaker}_{take}.wav"] = wav(9000 * np.sin(2 * np.pi * (200 + 300 * digit) * t), rate)
    return made


def packed(path, files, top="free-spoken-digit-dataset-26eb9aa/recordings/"):
    with tarfile.open(path, "w:gz") as archive:
        read_archive = {"free-spoken-digit-dataset-26eb9aa/README.md": b"text"} | {top + n: c for n, c in files.items()}
        for name, content in read_archive.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("digits") / ARCHIVE, recordings())


def names(found):
    return [f"{d}_{s}_{t}" for d, s, t in zip(found.labels, found.speakers, found.takes, strict=True)]


def test_official_split_has_the_first_five_takes_in_the_test(archive):
    train, test = (spoken_digits(archive, split=split) for split in ("train", "test"))
    assert set(test.takes.tolist()) == {0, 1, 2, 3, 4} and set(train.takes.tolist()) == {5, 6}
    assert len(test.labels) == 100 and len(train.labels) == 40
    assert sorted(names(train) + names(test)) == sorted(name.removesuffix(".wav") for name in recordings())


def test_split_by_speaker_shares_no_speaker(archive):
    train, test = (spoken_digits(archive, split=split, split_by="speaker") for split in ("train", "test"))
    assert set(train.speakers) == {"george"} and set(test.speakers) == {"theo"} <= set(TEST_SPEAKERS)
    assert len(train.labels) == len(test.labels) == 70


@pytest.mark.parametrize("split_by", ["recording", "speaker"])
def test_splits_with_validation_are_disjoint_and_the_test_stays(split_by, tmp_path):
    given = recordings(takes=range(12), speakers=("george", "jackson", "theo"))
    path = packed(tmp_path / ARCHIVE, given)
    splits = {
        split: spoken_digits(path, split=split, split_by=split_by, with_validation=True)
        for split in ("train", "validation", "test")
    }
    named = {split: names(found) for split, found in splits.items()}
    assert sorted(name for of_split in named.values() for name in of_split) == sorted(
        name.removesuffix(".wav") for name in given
    )
    assert named["test"] == names(spoken_digits(path, split="test", split_by=split_by))
    train = names(spoken_digits(path, split_by=split_by))
    assert [name for name in train if name not in named["validation"]] == named["train"]
    takes, speakers = (
        {split: set(of) for split, of in ((split, getattr(found, name)) for split, found in splits.items())}
        for name in ("takes", "speakers")
    )
    if split_by == "recording":
        assert takes == {"train": {10, 11}, "validation": {5, 6, 7, 8, 9}, "test": {0, 1, 2, 3, 4}}
    else:
        assert speakers == {"train": {"george"}, "validation": {"jackson"}, "test": {"theo"}}


def test_sounds_are_those_of_the_files(archive):
    found = spoken_digits(archive)
    assert all(sound.rate == RATE and sound.samples.dtype == np.float32 for sound in found.sounds)
    index = names(found).index("3_theo_6")
    t = np.arange(800 + 240) / RATE
    np.testing.assert_allclose(found.sounds[index].samples, 9000 / 32768 * np.sin(2 * np.pi * 1100 * t), atol=2**-15)


def test_a_folder_a_zip_and_the_archive_are_the_same(archive, tmp_path):
    (tmp_path / "folder" / "recordings").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as file:
        for name, content in recordings().items():
            (tmp_path / "folder" / "recordings" / name).write_bytes(content)
            file.writestr(f"recordings/{name}", content)
    for path in (tmp_path / "folder", tmp_path / "digits.zip", str(archive)):
        other, first = spoken_digits(path), spoken_digits(archive)
        assert names(other) == names(first)
        for left, right in zip(other.sounds, first.sounds, strict=True):
            np.testing.assert_array_equal(left.samples, right.samples)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (recordings(digits=[0, 1, 2, 4, 5, 6, 7, 8, 9]), "no recordings of 3 in the split 'train'"),
        (recordings(takes=range(5)), "no recordings of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 in the split 'train'"),
        (
            recordings() | {"3_theo_6.wav": recordings()["3_theo_6.wav"][:-500]},
            r"3_theo_6.wav has 790 samples of the 1040",
        ),
        (recordings() | {"3_theo_6.wav": b"RIFF"}, "3_theo_6.wav is not a PCM .wav file, or it is truncated"),
        (recordings() | {"3_theo_6.wav": wav([])}, "3_theo_6.wav has 0 samples"),
        (recordings(rate=16000), r"recordings of \[16000\] Hz, expected 8000"),
        ({}, "no recordings of 0, 1"),
    ],
    ids=["class", "takes", "cut", "no wav", "empty", "rate", "nothing"],
)
def test_bad_recordings_are_errors(files, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        spoken_digits(packed(tmp_path / "a.tar.gz", files))


def test_a_truncated_archive_is_an_error(archive, tmp_path):
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut.tar.gz is not a readable archive .* truncated or damaged"):
        spoken_digits(tmp_path / "cut.tar.gz")


def test_without_the_archive_the_error_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("SLAX_DATA", str(tmp_path))
    for read in (spoken_digits, lambda: make_task("spoken_digits", random.key(0))):
        with pytest.raises(FileNotFoundError, match=r"There is no .*tar.gz. Download it with .*download_spoken_digits"):
            read()
    with pytest.raises(ValueError, match="split got 'valid'"):
        spoken_digits(split="valid")
    with pytest.raises(ValueError, match="split got 'validation', expected one of: 'test', 'train'"):
        spoken_digits(split="validation")
    with pytest.raises(ValueError, match="split_by got 'digit', expected one of: 'recording', 'speaker'"):
        spoken_digits(split_by="digit")


def test_download_takes_the_file_that_is_there_only_if_it_is_the_one(archive, tmp_path):
    path = tmp_path / ARCHIVE
    path.write_bytes(archive.read_bytes())
    with pytest.raises(ValueError, match=f"its sha256 is {sha256_of(archive)}, expected {SHA256}"):
        download_spoken_digits(path)


def test_steps_hold_what_is_heard_in_their_time():
    """A tone in the middle of a sound, and a sound that is longer than what is heard."""
    tone = np.zeros(4000, np.float32)
    tone[2000:2400] = np.sin(2 * np.pi * 800 * np.arange(400) / RATE)
    long = np.concatenate([np.zeros(9000, np.float32), np.ones(100, np.float32)])
    given = Recordings([Sound(tone, RATE), Sound(long, RATE)], np.array([0, 1]), ["theo"] * 2, np.array([0, 0]))
    spikes = encode_recordings(given, n_steps=50)
    steps = np.flatnonzero(np.asarray(unpacked(spikes.packed, 70))[0].any(1))
    assert steps[0] in (12, 13) and 14 <= steps[-1] <= 17
    assert not np.asarray(spikes.packed)[1].any()
    assert spikes.lengths.tolist() == [25, 50]
    ends_in_tone = given._replace(sounds=[Sound(tone[:2400], RATE), Sound(long, RATE)])
    rings = encode_recordings(ends_in_tone, n_steps=50)
    last = np.flatnonzero(np.asarray(unpacked(rings.packed, 70))[0].any(1))[-1]
    assert last >= 15  # the sound has 15 steps
    assert rings.lengths.tolist() == [last + 1, 50]
    with pytest.raises(ValueError, match=r"9000 steps in 1.0 s are shorter than a sample"):
        encode_recordings(given, n_steps=9000)


def test_spikes_are_made_once_and_anew_for_other_options(archive, tmp_path):
    options = {"path": archive, "cache": tmp_path, "n_steps": 20, "n_channels": 12, "duration": 0.15}
    task = make_task("spoken_digits", random.key(0), **options)
    (file,) = tmp_path.iterdir()
    first = file.stat().st_mtime_ns
    again = make_task("spoken_digits", random.key(1), **options)
    assert file.stat().st_mtime_ns == first and len(list(tmp_path.iterdir())) == 1
    for split in ("train", "test"):
        for left, right in zip(task.full_split(split), again.full_split(split), strict=True):
            np.testing.assert_array_equal(left, right)
    assert make_task("spoken_digits", random.key(0), **options | {"split_by": "speaker"}).full_split("test")[
        0
    ].shape == (
        20,
        70,
        12,
    )
    assert len(list(tmp_path.iterdir())) == 2
    # Each digit is a tone of its own: the nearest training sample by the spikes of each channel has the same label.
    train, test = ((np.asarray(x).sum(0), np.asarray(y)) for x, y in map(task.full_split, ("train", "test")))
    nearest = np.argmin(np.abs(test[0][:, None] - train[0][None]).sum(-1), 1)
    assert np.mean(train[1][nearest] == test[1]) > 0.8
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"is not a complete .npz file of plain arrays.*Delete it"):
        make_task("spoken_digits", random.key(0), **options)


def test_the_real_archive():
    found = [path for path in REAL if path.exists()]
    if not found:
        pytest.skip(
            f"no {ARCHIVE} in SLAX_DATA or data/raw: the recordings are under CC BY-SA 4.0 and not shipped with this "
            "project, whose license is another one; docs/data.md says how to get them, and the tests above have a small set"
        )
    assert sha256_of(found[0]) == SHA256
    train, test = (spoken_digits(found[0], split=split) for split in ("train", "test"))
    assert (len(train.labels), len(test.labels)) == (2700, 300)
    assert np.bincount(test.labels).tolist() == [30] * 10 and np.bincount(train.labels).tolist() == [270] * 10
    speakers = spoken_digits(found[0], split="test", split_by="speaker")
    assert len(speakers.labels) == 1000
    sizes = {
        (split_by, split): len(spoken_digits(found[0], split=split, split_by=split_by, with_validation=True).labels)
        for split_by in ("recording", "speaker")
        for split in ("train", "validation", "test")
    }
    assert list(sizes.values()) == [2400, 300, 300, 1500, 500, 1000]
    few = Recordings(test.sounds[::30], test.labels[::30], test.speakers[::30], test.takes[::30])
    spikes = encode_recordings(few, n_steps=50)
    rate = np.unpackbits(np.asarray(spikes.packed), axis=-1)[..., :70].mean()
    assert 0.02 < rate < 0.3


def test_spikes_of_both_splits(archive):
    spikes = spoken_digit_spikes(archive, n_steps=10, duration=0.1, n_channels=9)
    assert {name: one.packed.shape for name, one in spikes.items()} == {"train": (40, 10, 2), "test": (100, 10, 2)}


def test_spikes_of_a_validation_split(tmp_path):
    path = packed(tmp_path / ARCHIVE, recordings(takes=range(11)))
    options = {"n_steps": 10, "duration": 0.1, "n_channels": 9, "with_validation": True}
    spikes = spoken_digit_spikes(path, **options)
    assert {name: len(one.labels) for name, one in spikes.items()} == {"train": 20, "test": 100, "validation": 100}
    task = make_task("spoken_digits", random.key(0), path=path, cache=tmp_path / "cache", **options)
    np.testing.assert_array_equal(task.full_split("validation")[1], spikes["validation"].labels)
    other = options | {"with_validation": False}
    assert (
        len(
            make_task("spoken_digits", random.key(0), path=path, cache=tmp_path / "cache", **other).full_split("train")[
                1
            ]
        )
        == 120
    )
