"""Laws of series as spikes, on the file of Japanese Vowels that the repository tracks or on one like it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from jax import random

from slax_data import (
    Series,
    basic_motions_task,
    japanese_vowels,
    japanese_vowels_task,
    time_series_task,
)
from slax_data.sets.time_series import series_spikes
from slax_data.storage.packed import unpacked

TRACKED = Path(__file__).parents[2] / "data" / "raw" / "japanese_vowels.npz"
SPLITS = ("train", "test")


def made(lengths, *, seed, n_steps=9, n_channels=3):
    values = np.random.default_rng(seed).normal(size=(len(lengths), n_steps, n_channels)).cumsum(axis=1)
    lengths = np.array(lengths, np.int32)
    values[np.arange(n_steps) >= lengths[:, None]] = 0
    return Series(values.astype(np.float32), np.arange(len(lengths), dtype=np.int32) % 2, lengths)


@pytest.fixture
def series():
    return {"train": made([5, 9, 1, 7], seed=0), "test": made([6, 2, 8], seed=1)}


def written(path, series, **changed):
    arrays = {f"{s}_{field}": array for s, one in series.items() for field, array in one._asdict().items()}
    np.savez(path, **arrays | changed)
    return path


@pytest.fixture
def vowels(tmp_path):
    """The tracked file if the checkout has it, else one of the same form."""
    if TRACKED.exists():
        return TRACKED
    rng = np.random.default_rng(0)
    splits = {}
    for split, size in (("train", 270), ("test", 370)):
        lengths = np.concatenate([[7, 29], rng.integers(7, 30, size - 2)])
        splits[split] = made(lengths, seed=size, n_steps=29, n_channels=12)._replace(
            labels=np.arange(size, dtype=np.int32) % 9
        )
    return written(tmp_path / "vowels.npz", splits)


def changes(signal, threshold):
    """Spikes up and down, by the rule of the delta code: the reference starts at the first value and follows."""
    reference, spikes = signal[0], []
    for x in signal:
        up, down = x - reference >= threshold, reference - x >= threshold
        reference = reference + threshold * (up.astype(np.float32) - down.astype(np.float32))
        spikes.append(np.concatenate([up, down]))
    return np.stack(spikes)


def spikes_of(one):
    return np.asarray(unpacked(one.packed, one.n_units))


def test_each_series_has_the_spikes_of_its_own_changes_and_then_silence(series):
    inside = np.concatenate([one[:length].astype(float) for one, length in zip(*series["train"][::2], strict=True)])
    mean, scale = inside.mean(axis=0).astype(np.float32), inside.std(axis=0).astype(np.float32)
    for split, one in series.items():
        encoded = series_spikes(series, threshold=0.3, n_steps=11)[split]
        np.testing.assert_array_equal(encoded.lengths, one.lengths)
        np.testing.assert_array_equal(encoded.labels, one.labels)
        spikes = spikes_of(encoded)
        assert spikes.shape == (len(one.labels), 11, 6)
        for found, values, length in zip(spikes, one.values, one.lengths, strict=True):
            signal = np.concatenate([np.zeros((1, 3), np.float32), (values[:length] - mean) / scale])
            np.testing.assert_array_equal(found[:length], changes(signal, np.float32(0.3))[1:])
            assert not found[length:].any()
    assert spikes.any()


def test_what_stands_after_the_end_of_a_series_does_not_matter(series):
    expected = series_spikes(series)
    for split, one in series.items():
        values = np.where(np.arange(9)[None, :, None] < one.lengths[:, None, None], one.values, np.float32(17))
        found = series_spikes(series | {split: one._replace(values=values)})
        for name in SPLITS:
            np.testing.assert_array_equal(found[name].packed, expected[name].packed)


def test_units_of_a_channel_do_not_matter_and_what_the_test_split_holds_neither(series):
    expected = series_spikes(series)
    changed = {split: one._replace(values=one.values * np.float32([4, 0.25, 1])) for split, one in series.items()}
    for split in SPLITS:
        np.testing.assert_array_equal(series_spikes(changed)[split].packed, expected[split].packed)
    other = series_spikes(series | {"test": made([9, 9, 9, 9], seed=5)})
    np.testing.assert_array_equal(other["train"].packed, expected["train"].packed)


def test_a_channel_that_never_changes_is_silent(series):
    flat = {
        split: one._replace(values=one.values * np.float32([1, 0, 1]) + np.float32([0, 0.1, 0]))
        for split, one in series.items()
    }
    for one in series_spikes(flat).values():
        spikes = spikes_of(one)
        assert not spikes[:, :, [1, 4]].any() and spikes[:, :, [0, 2, 3, 5]].any()


def test_task_has_a_step_per_step_of_the_longest_series_and_more_if_asked_for(series):
    task = time_series_task(series, n_classes=2)
    assert (task.n_units, task.n_classes, task.n_steps) == (6, 2, 9)
    longer = time_series_task(series, n_classes=2, n_steps=12)
    for split in SPLITS:
        spikes, labels = longer.full_split(split)
        np.testing.assert_array_equal(spikes[:9], task.full_split(split)[0])
        assert not spikes[9:].any()
        np.testing.assert_array_equal(labels, series[split].labels)
    with pytest.raises(ValueError, match="n_steps got 8, expected at least 9, the steps of the longest series"):
        time_series_task(series, n_classes=2, n_steps=8)


def test_japanese_vowels_have_the_sizes_of_the_set(vowels):
    for split, size in (("train", 270), ("test", 370)):
        one = japanese_vowels(vowels, split=split)
        assert one.values.shape == (size, 29, 12) and one.values.dtype == np.float32
        assert set(one.labels) == set(range(9)) and one.lengths.min() >= 7
        assert not one.values[np.arange(29) >= one.lengths[:, None]].any()
    task = japanese_vowels_task(random.key(0), path=vowels)
    assert (task.n_units, task.n_classes, task.n_steps) == (24, 9, 29)
    assert len(task.full_split("test")[1]) == 370


def test_a_file_is_read_as_it_was_written(series, tmp_path):
    path = written(tmp_path / "a.npz", series)
    for split, one in series.items():
        for found, expected in zip(japanese_vowels(path, split=split), one, strict=True):
            np.testing.assert_array_equal(found, expected)


BAD_FIELDS = {
    "train_values": [
        (lambda a: np.where(np.arange(3) == 1, np.nan, a), "train: values must be finite, got 36 that are not in 108"),
        (lambda a: a.astype(np.int32), r"train: values must be floats \[D, T, N\], got int32 of shape \[4, 9, 3\]"),
        (lambda a: a[0], r"values must be floats \[D, T, N\], got float32 of shape \[9, 3\]"),
        (lambda a: a[:, :, :0], r"values must be floats \[D, T, N\], got float32 of shape \[4, 9, 0\]"),
    ],
    "train_labels": [
        (lambda a: a - 1, r"labels must lie in 0\.\.0 for n_classes=1, got values from -1 to 0"),
        (lambda a: 0 * a - 3, "got values from -3 to -3"),
        (lambda a: a.astype(np.float32), r"train: labels must be 4 integers, got float32 of shape \[4\]"),
        (lambda a: a[:3], r"train: labels must be 4 integers, got int32 of shape \[3\]"),
    ],
    "train_lengths": [
        (lambda a: a + 1, r"train: lengths must lie in 1\.\.9, got values from 2 to 10"),
        (lambda a: a - 1, r"train: lengths must lie in 1\.\.9, got values from 0 to 8"),
        (lambda a: a.astype(object), "is not a complete .npz file of plain arrays.*allow_pickle"),
    ],
}
BAD = [(field, *case) for field, cases in BAD_FIELDS.items() for case in cases]


@pytest.mark.parametrize(("field", "change", "message"), BAD)
def test_a_file_with_other_arrays_is_an_error(series, tmp_path, field, change, message):
    good = getattr(series["train"], field.removeprefix("train_"))
    path = written(tmp_path / "a.npz", series, **{field: change(good)})
    with pytest.raises(ValueError, match=message):
        japanese_vowels(path)


def test_a_truncated_file_one_of_something_else_and_none_are_errors(series, tmp_path):
    path = written(tmp_path / "a.npz", series)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"is not a complete \.npz file"):
        japanese_vowels(path)
    np.savez(path, train_values=series["train"].values)
    with pytest.raises(ValueError, match=r"lacks the arrays \['train_labels', 'train_lengths'\]"):
        japanese_vowels(path)
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        japanese_vowels(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {"train": s["train"]},
            "series must have the splits 'train' and 'test', .*, got {'train': {'channels': 3}}",
        ),
        (lambda s: s | {"test": made([2], seed=1, n_channels=4)}, "'test': {'channels': 4}}"),
        (lambda s: s | {"test": made([2], seed=1)}, r"'test' must have all classes 0\.\.1, got none of \[1\]"),
    ],
)
def test_splits_that_do_not_belong_together_are_an_error(series, change, message):
    with pytest.raises(ValueError, match=message):
        time_series_task(change(series), n_classes=2)


@pytest.mark.parametrize("make", [japanese_vowels_task, basic_motions_task])
def test_bad_options_are_an_error_before_anything_is_read(make):
    with pytest.raises(ValueError, match="code got 'rate', expected one of: 'delta'"):
        make(random.key(0), code="rate")
    with pytest.raises(ValueError, match="n_steps got 0, expected an integer of at least 1"):
        make(random.key(0), n_steps=0)


@pytest.mark.parametrize("make", [japanese_vowels_task, basic_motions_task])
def test_error_without_aeon_names_the_extra(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "aeon", None)
    with pytest.raises(ImportError, match=r"pip install 'slax-data\[timeseries\]'"):
        make(random.key(0))


def test_unknown_split_is_an_error(vowels):
    with pytest.raises(ValueError, match="split got 'valid', expected one of: 'test', 'train'"):
        japanese_vowels(vowels, split="valid")
