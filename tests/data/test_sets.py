"""Digits, images and vowels: what the task has is what the set has, in the code that it says."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from contract import same
from jax import random
from small_sets import japanese_vowels as write_vowels

import slax_data as sd
from slax_data.sets.images import stratified_holdout_mask
from slax_data.sets.japanese_vowels import series_spikes
from slax_data.storage.packed import unpacked

KEY = random.key(0)
SPLITS = ("train", "test")


def test_digits_are_those_of_scikit_learn_and_every_fifth_of_a_class_is_in_the_test():
    pixels, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    for split, size in (("train", 1442), ("test", 355)):
        images, found = map(np.asarray, sd.digits(split=split))
        assert images.dtype == np.float32 and len(found) == size
        for label in range(10):
            of_class = pixels[labels == label]
            chosen = (np.arange(len(of_class)) % 5 == 4) == (split == "test")
            np.testing.assert_array_equal(images[found == label] * 16, of_class[chosen])
    assert stratified_holdout_mask(np.array([3, 7, 3, 3, 3, 3, 7])).tolist() == [False] * 5 + [True, False]


@pytest.mark.parametrize("code", ["latency", "rate"])
def test_digits_have_the_spikes_of_the_encoder_under_the_keys_of_the_task(code):
    def encoded(key, images, labels):
        encode = sd.latency_encode if code == "latency" else partial(sd.rate_encode, key)
        return encode(images, n_steps=4), labels

    task = sd.digits_task(random.key(5), n_steps=4, code=code)
    for index, split in enumerate(SPLITS):
        images, (batch_key, spike_key) = sd.digits(split=split), random.split(random.key(6))
        drawn = sd.take_batch(batch_key, *images, batch_size=20)
        same(task.sample(random.key(6), batch_size=20, split=split), encoded(spike_key, *drawn))
        same(task.full_split(split), encoded(random.fold_in(random.key(5), index), *images))


def made_series(lengths, seed):
    values = np.random.default_rng(seed).normal(size=(len(lengths), 9, 3)).cumsum(axis=1)
    labels = np.arange(len(lengths), dtype=np.int32) % 2
    return sd.Series(values.astype(np.float32), labels, np.array(lengths, np.int32))


SERIES = {"train": made_series([5, 9, 1, 7], 0), "test": made_series([6, 2, 8], 1)}


def spikes_of(one):
    return np.asarray(unpacked(one.packed, one.n_units))


def test_series_have_the_spikes_of_their_changes_in_units_of_the_training_series_and_then_silence():
    """Values after the end of a series are random here: they do not matter."""
    inside = np.concatenate([one[:n].astype(float) for one, n in zip(*SERIES["train"][::2], strict=True)])
    mean, scale = inside.mean(axis=0).astype(np.float32), inside.std(axis=0).astype(np.float32)
    for split, found in series_spikes(SERIES, threshold=0.3, n_steps=11).items():
        spikes, one = spikes_of(found), SERIES[split]
        assert spikes.shape == (len(one.labels), 11, 6) and spikes.any() and not spikes[:, 9:].any()
        np.testing.assert_array_equal((found.labels, found.lengths), (one.labels, one.lengths))
        signal = np.concatenate([np.zeros((len(spikes), 1, 3), np.float32), (one.values - mean) / scale], axis=1)
        expected = np.asarray(sd.delta_encode(jnp.asarray(signal.swapaxes(0, 1)), threshold=0.3)).swapaxes(0, 1)[:, 1:]
        goes_on = np.arange(9)[:, None] < one.lengths[:, None, None]
        np.testing.assert_array_equal(spikes[:, :9], np.where(goes_on, expected, 0))
    flat = {split: one._replace(values=one.values * np.float32([1, 0, 1])) for split, one in SERIES.items()}
    assert not spikes_of(series_spikes(flat)["train"])[:, :, [1, 4]].any()  # a channel that never changes


def test_vowels_are_those_of_the_file(tmp_path):
    path = write_vowels(tmp_path)["path"]
    arrays = dict(np.load(path))
    for split in SPLITS:
        for found, field in zip(sd.japanese_vowels(path, split=split), sd.Series._fields, strict=True):
            np.testing.assert_array_equal(found, arrays[f"{split}_{field}"])
