"""A validation split is a tenth of the training split, and has its spikes."""

import numpy as np
import pytest

from experiments.common.tasks import with_validation
from slax_data import Task

CLASSES = 2
SIZES = {"train": 40, "test": 12}
FIRST = {"train": 0, "test": 40}
NUMBERS = 2 ** np.arange(6)


def bits(numbers):
    """Each number in binary, as spikes [T=3, D, N=2] that tell samples apart."""
    return (numbers[:, None] & NUMBERS > 0).astype(np.float32).reshape(-1, 3, 2).swapaxes(0, 1)


def numbers_of(spikes):
    """The numbers whose `bits` these are."""
    return np.asarray(spikes).swapaxes(0, 1).reshape(-1, 6) @ NUMBERS


def samples(split):
    numbers = FIRST[split] + np.arange(SIZES[split])
    return bits(numbers), numbers // 3 % CLASSES


def task_of(splits):
    def sample(key, *, batch_size, split="train"):
        raise AssertionError("full_split alone has the spikes")

    return Task(n_units=2, n_classes=CLASSES, n_steps=3, sample=sample, full_split=splits and splits.__getitem__)


def test_every_tenth_training_sample_is_left_out_for_validation():
    task = with_validation(task_of({split: samples(split) for split in SIZES}))
    found = {split: task.full_split(split) for split in ("train", "validation", "test")}
    numbers = {split: numbers_of(spikes) for split, (spikes, _) in found.items()}
    assert {split: len(of_split) for split, of_split in numbers.items()} == {"train": 36, "validation": 4, "test": 12}
    assert list(numbers["validation"]) == [0, 10, 20, 30]
    assert sorted([*numbers["train"], *numbers["validation"]]) == list(range(40))
    assert list(numbers["test"]) == list(range(40, 52))
    for split, (_, labels) in found.items():
        assert list(np.asarray(labels)) == list(numbers[split] // 3 % CLASSES)


def test_samples_without_end_need_no_split():
    task = task_of(None)
    assert with_validation(task) is task


@pytest.mark.parametrize("wrong", [0.25, -1.0, 2.0, np.nan])
@pytest.mark.parametrize("split", SIZES)
def test_inputs_that_are_not_spikes_are_refused(split, wrong):
    splits = {split: samples(split) for split in SIZES}
    splits[split][0][1, 3, 0] = wrong
    with pytest.raises(SystemExit, match=f"The split '{split}' .* an input of {wrong:g}, expected spikes, .* 0 or 1"):
        with_validation(task_of(splits))
