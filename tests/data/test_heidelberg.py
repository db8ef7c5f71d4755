"""The Heidelberg sets: small files of the true format, and what is refused."""

import gzip
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
from jax import random
from small_sets import ssc as small_ssc
from small_sets import words, write_words

from slax_data import make_task, shd, ssc
from slax_data.sets import heidelberg
from slax_data.storage.packed import unpacked

TIMES, UNITS, LABELS = words(np.random.default_rng(1), 20, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shd")
    for split in ("train", "test"):
        write_words(folder / f"shd_{split}.h5", TIMES, UNITS, LABELS)
    return folder


def changed(name, row, value):
    """The events, with other ones in a row."""
    parts = {"times": list(TIMES), "units": list(UNITS)}
    parts[name][row] = value
    return parts["times"], parts["units"], LABELS


def first_changed(name, value):
    first = (TIMES if name == "times" else UNITS)[7].copy()
    first[0] = value
    return changed(name, 7, first)


def test_spikes_are_where_the_events_are(folder):
    found = shd(folder, split="test", n_steps=28, pool=7)
    spikes = np.asarray(unpacked(found.packed, found.n_units))
    assert spikes.shape == (40, 28, 100)
    np.testing.assert_array_equal(found.labels, LABELS)
    for recording, times, units in zip(spikes, TIMES, UNITS, strict=True):
        expected = {(int(Fraction(float(time)) * 20), int(unit) // 7) for time, unit in zip(times, units, strict=True)}
        assert set(zip(*map(np.ndarray.tolist, recording.nonzero()), strict=True)) == expected
    last = [max(step for step, _ in zip(*recording.nonzero(), strict=True)) + 1 for recording in spikes]
    assert found.lengths.tolist() == last


def test_units_that_are_made_one_spike_when_one_of_them_does(folder):
    fine, coarse = (shd(folder, n_steps=5, pool=pool) for pool in (1, 140))
    all_units = np.asarray(unpacked(fine.packed, 700)).reshape(40, 5, 5, 140)
    np.testing.assert_array_equal(unpacked(coarse.packed, 5), all_units.max(axis=-1))


def test_validation_split_is_two_speakers_of_the_training_file(tmp_path):
    times, units, labels = words(np.random.default_rng(2), 20, 8)
    for split in ("train", "test"):
        write_words(tmp_path / f"shd_{split}.h5", times, units, labels, speakers=4)
    whole = shd(tmp_path, n_steps=5)
    speakers = np.arange(160) // 20 % 4
    found = {split: shd(tmp_path, split=split, n_steps=5, with_validation=True) for split in ("train", "validation")}
    for split, recordings in found.items():
        own = (speakers >= 2) == (split == "validation")
        np.testing.assert_array_equal(recordings.packed, whole.packed[own])
        np.testing.assert_array_equal(recordings.labels, whole.labels[own])
    test = shd(tmp_path, split="test", n_steps=5, with_validation=True)
    np.testing.assert_array_equal(test.packed, whole.packed)
    options = {"path": tmp_path, "n_steps": 5, "with_validation": True, "cache": tmp_path}
    task = make_task("shd", random.key(0), **options)
    sizes = {split: len(task.full_split(split)[1]) for split in (*found, "test")}
    assert sizes == {"train": 80, "validation": 80, "test": 160}
    with pytest.raises(ValueError, match="split got 'validation', expected one of: 'test', 'train'"):
        shd(tmp_path, split="validation")


def test_a_file_without_enough_speakers_has_no_validation_split(folder, tmp_path):
    with pytest.raises(ValueError, match="It has 1 speakers, too few to leave 2 of them out"):
        shd(folder, with_validation=True)
    file = write_words(tmp_path / "shd_train.h5", TIMES, UNITS, LABELS, speakers=2)
    with h5py.File(file, "a") as content:
        del content["extra/speaker"]
    with pytest.raises(ValueError, match="It lacks extra/speaker, by which its validation split is taken"):
        shd(tmp_path, split="validation", with_validation=True)
    with h5py.File(file, "a") as content:
        content["extra/speaker"] = np.arange(3)
    with pytest.raises(ValueError, match="It has 3 speakers for 40 recordings"):
        shd(tmp_path, with_validation=True)


def test_later_spikes_are_dropped_only_when_asked(folder):
    with pytest.raises(ValueError, match=r"shd_train.h5 cannot be read. Recording 0: Events have times before the end"):
        shd(folder, duration=0.7)
    short = shd(folder, n_steps=14, duration=0.7, outside="drop")
    np.testing.assert_array_equal(short.packed, shd(folder, n_steps=28).packed[:, :14])


def test_packed_files_are_unpacked_beside(folder, tmp_path):
    content = (folder / "shd_train.h5").read_bytes()
    (tmp_path / "shd_train.h5.gz").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(shd(tmp_path, n_steps=5).packed, shd(folder, n_steps=5).packed)
    assert (tmp_path / "shd_train.h5").read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "flipped", "bomb", "no gzip"])
def test_damaged_packed_files_are_errors_and_leave_nothing(damage, tmp_path, monkeypatch):
    content = gzip.compress(bytes(range(256)) * 100)
    if damage == "bomb":
        monkeypatch.setattr(heidelberg, "LARGEST", 1000)
    flipped = content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]
    bad = {"cut": content[:-20], "flipped": flipped, "bomb": content, "no gzip": b"<html>"}[damage]
    (tmp_path / "shd_train.h5.gz").write_bytes(bad)
    with pytest.raises(ValueError, match=r"shd_train\.h5\.gz (is truncated or damaged|holds more than)"):
        shd(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["shd_train.h5.gz"]


BAD_EVENTS = {
    "nan": (first_changed("times", np.nan), "Recording 7: .*times that are finite, got 1 NaN"),
    "negative": (first_changed("times", -0.5), "Recording 7: .*times from 0 on, got 1 before, the first at -0.5"),
    "late": (
        first_changed("times", 3),
        "Recording 7: .*got 1 of .* at or after it, the last at 3. Give a longer duration",
    ),
    "unit": (first_changed("units", 700), r"Recording 7: Events have units in 0\.\.699, got units from .* to 700"),
    "pairs": (
        changed("units", 3, [1, 2]),
        r"Recording 3: Events have a time and a unit each, got .*units of \[2\]",
    ),
    "rows": ((TIMES[:-1], UNITS, LABELS), "It has 39 recordings' times and 40 recordings' units for 40 labels"),
    "labels": ((TIMES, UNITS, LABELS[:-1]), "It has 40 recordings' times and 40 recordings' units for 39 labels"),
    "class 20": ((TIMES, UNITS, LABELS + 1), r"labels must lie in 0\.\.19 for n_classes=20, got values from 1 to 20"),
    "class -1": (
        (TIMES, UNITS, LABELS.astype(np.int8) - 1),
        r"labels must lie in 0\.\.19 for n_classes=20, got values from -1 to 18",
    ),
    "class 255": (
        (TIMES, UNITS, np.where(LABELS == 0, 255, LABELS)),
        r"labels must lie in 0\.\.19 .* got values from 1 to 255",
    ),
    "no class": ((TIMES, UNITS, np.where(LABELS == 4, 5, LABELS)), "It has no recordings of the classes 4."),
    "float labels": ((TIMES, UNITS, LABELS.astype(float)), "labels must be integers"),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_bad_events_are_errors_that_name_the_file(no_shape_checks, name, tmp_path):
    content, told = BAD_EVENTS[name]
    write_words(tmp_path / "shd_train.h5", *content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/shd_train.h5 cannot be read. {told}"):
        shd(tmp_path)


def without(path):
    def write(file):
        write_words(file, TIMES, UNITS, LABELS)
        with h5py.File(file, "r+") as content:
            del content[path]

    return write


def replaced(path, value):
    def write(file):
        without("/".join(path.split("/")[:2]))(file)
        with h5py.File(file, "r+") as content:
            content[path] = value

    return write


def cut(share):
    def write(file):
        write_words(file, TIMES, UNITS, LABELS)
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])

    return write


BAD_FILES = {
    "times": (without("spikes/times"), "It lacks spikes/times"),
    "units": (without("spikes/units"), "It lacks spikes/units"),
    "spikes": (without("spikes"), "It lacks spikes/times"),
    "labels": (without("labels"), "It lacks labels"),
    "table": (replaced("spikes/units", np.zeros((40, 3))), "Its spikes/units are not a list"),
    "flat": (replaced("spikes/times", np.zeros(40)), r"Recording 0: .*got times of shape \[\]"),
    "folder": (replaced("spikes/times/x", 0), "Its spikes/times are not a list"),
    "scalar labels": (replaced("labels", 3), "Its labels are not a list"),
    "text labels": (replaced("labels", ["a"] * 40), "labels must be integers"),
    "empty file": (lambda file: file.write_bytes(b""), "."),
    "html": (lambda file: file.write_bytes(b"<html>not found</html>"), "signature"),
    "half": (cut(0.5), "truncated"),
    "nearly": (cut(0.99), "truncated"),
    "start": (cut(0.01), "."),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_of_another_format_are_errors_that_name_the_file(no_shape_checks, name, tmp_path):
    write, told = BAD_FILES[name]
    write(tmp_path / "shd_train.h5")
    with pytest.raises(
        ValueError, match=rf"{tmp_path}/shd_train.h5 cannot be read. .*{told}.* get it from https://zenkelab.org"
    ):
        shd(tmp_path)


def test_without_the_files_the_error_says_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SLAX_DATA", str(tmp_path))
    for name, read in (("shd", shd), ("ssc", ssc), ("shd", lambda: make_task("shd", random.key(0)))):
        with pytest.raises(
            FileNotFoundError,
            match=rf"There is no {tmp_path}/{name}_train.h5, nor .*Download it from https://zenkelab.org",
        ):
            read()


def test_error_without_h5py_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'slax-data\[events\]'"):
        shd(folder)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"split": "valid"}, "split got 'valid', expected one of: 'test', 'train'"),
        ({"n_steps": 0}, "n_steps got 0"),
        ({"pool": 0}, "pool got 0"),
        ({"pool": 6}, "pool got 6, expected a divisor of the 700 units"),
        ({"duration": -1.0}, "duration got -1.0"),
        ({"outside": "clip"}, "outside got 'clip'"),
    ],
)
def test_bad_options_are_errors(folder, options, told):
    with pytest.raises(ValueError, match=told):
        shd(folder, **options)


def test_speech_commands_have_a_split_to_choose_models(tmp_path):
    options = small_ssc(tmp_path)
    task = make_task("ssc", random.key(0), n_steps=7, **options)
    assert (task.n_units, task.n_classes, task.n_steps) == (35, 35, 7)
    for split in ("train", "valid", "test"):
        spikes, labels = task.full_split(split)
        expected = ssc(tmp_path, split=split, n_steps=7, pool=20)
        np.testing.assert_array_equal(spikes.swapaxes(0, 1), unpacked(expected.packed, 35))
        np.testing.assert_array_equal(labels, expected.labels)


def test_spikes_are_kept_and_made_anew_for_other_options_and_other_files(folder, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"shd_{split}.h5").write_bytes((folder / f"shd_{split}.h5").read_bytes())
    options = {"path": tmp_path, "cache": tmp_path / "cache", "n_steps": 5, "pool": 140}
    first = make_task("shd", random.key(0), **options).full_split("train")
    (file,) = (tmp_path / "cache").iterdir()
    made = file.stat().st_mtime_ns
    again = make_task("shd", random.key(1), **options).full_split("train")
    assert file.stat().st_mtime_ns == made
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    make_task("shd", random.key(0), **options | {"n_steps": 6})
    assert len(list((tmp_path / "cache").iterdir())) == 2
    times = (tmp_path / "shd_train.h5").stat().st_atime_ns, (tmp_path / "shd_train.h5").stat().st_mtime_ns
    write_words(tmp_path / "shd_train.h5", TIMES[::-1], UNITS[::-1], LABELS)
    other = make_task("shd", random.key(0), **options).full_split("train")[0]
    np.testing.assert_array_equal(other, first[0][:, ::-1])
    file.write_bytes(file.read_bytes()[:-50])
    (tmp_path / "shd_train.h5").write_bytes((folder / "shd_train.h5").read_bytes())
    os.utime(tmp_path / "shd_train.h5", ns=times)
    with pytest.raises(ValueError, match=r"is not a complete \.npz file"):
        make_task("shd", random.key(0), **options)


def test_damaged_bytes_are_read_or_refused():
    """In a process of its own, since the library that reads HDF5 is not made for damaged files."""
    script = Path(__file__).with_name("fuzzed_words.py")
    run = subprocess.run([sys.executable, str(script), "150"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert "of 150 were refused" in run.stdout
