"""Laws of samples from NeuroBench, on objects that give them out as its classes do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import Series, neurobench_arrays, neurobench_spikes, neurobench_task, stored_task, time_series_task
from slax_data.audio.cochlea import Cochlea, encode_audio
from slax_data.storage.packed import cached_sets

SPLITS = ("train", "test")


class Given:
    """A data set as PyTorch has them: a length, and a sample with its target, and maybe more, at an index."""

    def __init__(self, samples, targets):
        self.items = [(sample, target, "more") for sample, target in zip(samples, targets, strict=True)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def arrays(n=4, *, seed=0, shape=(6, 2), kind=np.float32):
    rng = np.random.default_rng(seed)
    return neurobench_arrays(Given(rng.normal(size=(n, *shape)).astype(kind), np.arange(n) % 2))


@pytest.mark.parametrize("shape", [(6, 2), (5, 2, 3, 4)])
def test_arrays_are_the_samples_in_the_order_asked_for(shape):
    samples = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    dataset = Given(samples, range(5))
    for indices, chosen in ((None, [0, 1, 2, 3, 4]), ([3, 1], [3, 1]), (np.array([2]), [2])):
        values, targets, lengths = neurobench_arrays(dataset, indices)
        np.testing.assert_array_equal(values, samples[chosen])
        np.testing.assert_array_equal(targets, chosen)
        np.testing.assert_array_equal(lengths, shape[0])


def test_shorter_samples_are_followed_by_zeros_and_targets_may_be_real():
    samples = [np.ones((length, 2), np.float32) for length in (3, 1, 4)]
    values, targets, lengths = neurobench_arrays(Given(samples, np.float32([[0.5, 1], [2, 3], [4, 5]])))
    np.testing.assert_array_equal(lengths, [3, 1, 4])
    np.testing.assert_array_equal(values.sum(axis=(1, 2)), [6, 2, 8])
    assert not values[1, 1:].any() and targets.shape == (3, 2)


@pytest.mark.parametrize(
    ("samples", "targets", "indices", "message"),
    [
        ([], [], None, "Given gives no samples, got 0 of them"),
        ([np.ones((2, 1))], [0], [], "Given gives no samples, got 1 of them and indices=\\[\\]"),
        ([np.ones((2, 1)), np.ones((2, 3))], [0, 1], None, r"samples of different shapes: \[\(1,\), \(3,\)\]"),
        ([np.ones((2, 1))] * 2, [np.ones(1), np.ones(2)], None, r"targets of different shapes: \[\(1,\), \(2,\)\]"),
        ([np.float32(3)], [0], None, "must yield samples \\[T, ...\\], got numbers"),
    ],
)
def test_what_gives_no_arrays_is_an_error(samples, targets, indices, message):
    with pytest.raises(ValueError, match=message):
        neurobench_arrays(Given(samples, targets), indices)


def test_real_numbers_have_the_spikes_of_their_changes():
    sets = {split: arrays(seed=k) for k, split in enumerate(SPLITS)}
    expected = time_series_task(
        {s: Series(v, t.astype(np.int32), n.astype(np.int32)) for s, (v, t, n) in sets.items()}, n_classes=2
    )
    task = neurobench_task(random.key(0), sets, n_classes=2)
    assert (task.n_units, task.n_classes, task.n_steps) == (4, 2, 6)
    for split in SPLITS:
        for left, right in zip(task.full_split(split), expected.full_split(split), strict=True):
            np.testing.assert_array_equal(left, right)


def test_frames_have_a_spike_where_they_are_not_zero():
    rng = np.random.default_rng(0)
    frames = {split: rng.integers(-1, 2, (4, 5, 2, 3)).astype(np.int32) for split in SPLITS}
    sets = {split: neurobench_arrays(Given(its, [0, 1, 0, 1])) for split, its in frames.items()}
    task = neurobench_task(random.key(0), sets, n_classes=2, code="frames", n_steps=7)
    for split, its in frames.items():
        spikes, labels = task.full_split(split)
        np.testing.assert_array_equal(spikes[:5].swapaxes(0, 1).reshape(its.shape), its != 0)
        assert spikes.shape == (7, 4, 6) and not spikes[5:].any() and labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="n_steps got 4, expected at least 5, the frames of the longest sample"):
        neurobench_task(random.key(0), sets, n_classes=2, code="frames", n_steps=4)


def test_sounds_have_the_spikes_of_a_cochlea_that_hears_their_rate():
    sounds = np.float32(0.1) * np.sin(np.float32([0.3, 0.9])[:, None] * np.arange(400, dtype=np.float32))
    sets = {
        "train": neurobench_arrays(Given(sounds[:, :200, None], [0, 1])),
        "test": neurobench_arrays(Given(sounds[:, :, None], [0, 1])),
    }
    task = neurobench_task(random.key(0), sets, n_classes=2, code="cochlea", rate=2000, n_steps=10, n_channels=3)
    assert (task.n_units, task.n_steps) == (3, 10)
    spikes = encode_audio(jnp.asarray(sounds), rate=2000, n_steps=10, cochlea=Cochlea(n_channels=3, highest=900.0))
    assert spikes.any()
    np.testing.assert_array_equal(task.full_split("test")[0], spikes)
    # A step is as long in both splits, so that the shorter sounds fill half of them.
    short = np.pad(sounds[:, :200], [(0, 0), (0, 200)])
    spikes = encode_audio(jnp.asarray(short), rate=2000, n_steps=10, cochlea=Cochlea(n_channels=3, highest=900.0))
    np.testing.assert_array_equal(task.full_split("train")[0], spikes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": "rate"}, "code got 'rate', expected one of: 'cochlea', 'delta', 'frames'"),
        ({"n_steps": 0}, "n_steps got 0, expected an integer of at least 1"),
        ({"n_steps": 5}, "n_steps got 5, expected at least 6"),
        ({"n_classes": 1}, r"labels must lie in 0\.\.0 for n_classes=1, got values from 0 to 1"),
        ({"n_classes": 3}, r"'train' must have all classes 0\.\.2, got none of \[2\]"),
        ({"code": "cochlea"}, r"Sounds must have one channel, \[D, L, 1\], got \[4, 6, 2\]"),
    ],
)
def test_options_that_do_not_fit_are_an_error(options, message):
    sets = {split: arrays(seed=k) for k, split in enumerate(SPLITS)}
    with pytest.raises(ValueError, match=message):
        neurobench_task(random.key(0), sets, **{"n_classes": 2, **options})


def test_targets_that_are_no_classes_and_splits_that_are_missing_are_an_error():
    values, _, lengths = arrays()
    real = values, np.ones((4, 1), np.float32), lengths
    with pytest.raises(ValueError, match="labels must be integers of shape"):
        neurobench_task(random.key(0), {"train": real, "test": real}, n_classes=2)
    with pytest.raises(
        ValueError,
        match=r"sets must have the splits .*, got {'train': {'shape of a step': \(2,\)}}",
    ):
        neurobench_task(random.key(0), {"train": arrays()}, n_classes=2)


def test_spikes_can_be_kept_under_a_name_of_ones_own(tmp_path):
    sets = {split: arrays(seed=k) for k, split in enumerate(SPLITS)}
    expected = neurobench_task(random.key(0), sets, n_classes=2)
    made = []

    def make():
        made.append(None)
        return neurobench_spikes(sets)

    for _ in range(2):
        task = stored_task(cached_sets(tmp_path, "mine", [6], make), n_classes=2)
        for split in SPLITS:
            np.testing.assert_array_equal(task.full_split(split)[0], expected.full_split(split)[0])
    assert len(made) == 1


def test_a_task_of_sounds_can_be_made_inside_of_a_program():
    sounds = neurobench_arrays(Given(np.random.default_rng(0).normal(size=(4, 200, 1)), np.arange(4) % 2))
    options = dict(n_classes=2, code="cochlea", rate=2000, n_steps=10, n_channels=3)

    def draw(key):
        task = neurobench_task(key, {"train": sounds, "test": sounds}, **options)
        return task.sample(random.key(1), batch_size=3)[0]

    np.testing.assert_array_equal(jax.jit(draw)(random.key(0)), draw(random.key(0)))
