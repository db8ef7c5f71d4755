"""The samples of a seed are the same for all rules, no two splits share one, and a fifth of the training is for validation."""

import jax
import numpy as np
import pytest

from experiments.common.samples import make_sampler
from experiments.common.tasks import task_maker
from slax_data import make_task, spike_trains
from slax_data.storage.packed import arrays_of_sets

CONFIG = {"task": "tiny", "dataset": "randman", "code": "time", "layers": [20, 8, 3], "n_steps": 30, "seeds": 2}
CONFIG |= {"steps": 6, "batch_size": 8, "validation_size": 10, "test_size": 12}


def test_splits_are_disjoint_where_the_supply_is_endless_and_seeds_differ():
    sampler = make_sampler(CONFIG, None)
    samples = sampler(0)
    batches = list(samples.batches())
    groups = [np.stack([spikes for spikes, _ in batches]), samples.others(3)[0], samples.validation[0], samples.test[0]]
    found = [np.asarray(spikes, bool).reshape(-1, 30, spikes.shape[-2], 20).swapaxes(1, 2) for spikes in groups]
    everything = np.concatenate([group.reshape(-1, 30 * 20) for group in found])
    assert len(batches) == 6 and len(np.unique(everything, axis=0)) == len(everything) == 9 * 8 + 10 + 12
    assert not np.array_equal(batches[0][0], next(sampler(1).batches())[0])


def test_augmented_samples_are_those_of_the_training_alone():
    plain, augmented = (make_sampler(CONFIG | of, None)(0) for of in ({}, {"augmentation": {"drop": 0.5}}))
    for (one, labels), (other, same) in zip(plain.batches(), augmented.batches(), strict=True):
        assert other.sum() < one.sum() and np.array_equal(labels, same)
    np.testing.assert_array_equal(plain.test[0], augmented.test[0])


def fifth_of_each_class(labels):
    """The places of the fifth, tenth, ... sample of each class."""
    return sorted(place for label in set(labels) for place in np.flatnonzero(labels == label)[4::5])


@pytest.mark.parametrize("stored", [False, True])
def test_every_fifth_training_sample_of_each_class_is_left_out_for_validation(stored, tmp_path):
    whole = make_task("digits", jax.random.key(0), n_steps=4, code="latency")
    config = {"task": "digits", "dataset": "digits", "code": "latency", "n_steps": 4, "layers": [64, 10]}
    if stored:
        splits = {name: whole.full_split(name) for name in ("train", "test")}
        sets = {of: spike_trains(np.asarray(x, bool).swapaxes(0, 1), np.asarray(y)) for of, (x, y) in splits.items()}
        np.savez(tmp_path / "some.npz", **arrays_of_sets(sets))
        config |= {"spikes": "some"}
    maker = task_maker(config, tmp_path / "some.npz" if stored else None)
    task = maker(jax.random.key(0))
    assert task is maker(jax.random.key(1))
    spikes, labels = map(np.asarray, whole.full_split("train"))
    left_out = np.isin(np.arange(len(labels)), fifth_of_each_class(labels))
    rows = {"train": ~left_out, "validation": left_out}
    expected = {split: (spikes[:, own], labels[own]) for split, own in rows.items()}
    for split, parts in (expected | {"test": whole.full_split("test")}).items():
        for one, other in zip(task.full_split(split), parts, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_stored_validation_split_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    sets = {
        name: spike_trains(rng.random((n, 3, 2)) < 0.5, np.arange(n) % 2)
        for name, n in zip(("train", "validation", "test"), (30, 10, 12), strict=True)
    }
    np.savez(tmp_path / "some.npz", **arrays_of_sets(sets))
    config = {"task": "tiny", "spikes": "some", "layers": [2, 4, 2], "n_steps": 3}
    task = task_maker(config, tmp_path / "some.npz")(None)
    assert [task.full_split(name)[0].shape[1] for name in ("train", "validation", "test")] == [30, 10, 12]
