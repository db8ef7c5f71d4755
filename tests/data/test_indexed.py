"""The adapter for indexable sets gives out the values that it was given."""

import jax
import numpy as np
import pytest
from jax import random

from slax_data import held_out, indexed_task, spike_trains, stored_task

RNG = np.random.default_rng(0)

VALUES = {  # and the type and the bytes of a step in memory
    "counts": (RNG.poisson(0.5, (9, 8, 4)), np.uint8, 4),
    "negative": (RNG.integers(-9, 9, (9, 8, 4)), np.int8, 4),
    "real": (RNG.normal(size=(9, 8, 4)), np.float32, 16),
    "spikes": (RNG.random((9, 8, 11)) < 0.3, np.uint8, 2),
    "frames": (RNG.integers(0, 255, (9, 8, 3, 5, 2)), np.uint8, 30),
}
TARGETS = {
    "classes": (np.arange(9) % 3, False, 3),
    "classes of steps": (np.arange(72).reshape(9, 8) % 3, True, 3),
    "numbers": (RNG.normal(size=9), False, 1),
    "numbers of steps": (RNG.normal(size=(9, 8, 2)), True, 2),
}
LENGTHS = np.array([8, 3, 5, 8, 1, 7, 8, 2, 6])
INSIDE = np.arange(8)[:, None] < LENGTHS  # [T, D]


def cut(values, targets, per_step):
    """A set as PyTorch and tonic have them: a length, and a sample with its target, and maybe more, at an index."""
    return [(x[:n], y[:n] if per_step else y, "more") for x, y, n in zip(values, targets, LENGTHS, strict=True)]


@pytest.mark.parametrize("form", TARGETS)
@pytest.mark.parametrize("kind", VALUES)
def test_values_and_targets_are_those_of_the_set(kind, form):
    """Of arrays of one length, of items of different length, and of arrays of them that end early."""
    (values, dtype, size), (targets, per_step, n_targets) = VALUES[kind], TARGETS[form]
    options = {"n_classes": 3 if "class" in form else None, "per_step": per_step}
    short = np.where(np.expand_dims(INSIDE.T, tuple(range(2, values.ndim))), values, 0).astype(values.dtype)
    trains = spike_trains(short, targets, lengths=LENGTHS)
    assert (trains.packed.dtype, trains.packed.nbytes) == (dtype, 72 * size)
    tasks = [
        indexed_task({"train": (values, targets)}, **options),
        indexed_task({"train": cut(values, targets, per_step)}, padding="mask", **options),
        stored_task({"train": trains}, padding="mask", **options),
        stored_task({"train": (values, targets)}, **options),
    ]
    for task in tasks:
        assert (task.n_steps, task.n_classes, task.n_units) == (8, n_targets, values[0, 0].size)
        inputs, found, *mask = (np.asarray(part) for part in task.full_split("train"))
        here = INSIDE if mask else np.ones_like(INSIDE)
        assert inputs.dtype == np.float32 and found.dtype == (np.int32 if "class" in form else np.float32)
        np.testing.assert_array_equal(inputs[here], values.swapaxes(0, 1)[here].astype(np.float32))
        assert not inputs[~here].any()
        goals = targets.swapaxes(0, 1)[here] if per_step else targets
        np.testing.assert_array_equal(found[here] if per_step else found, goals.astype(found.dtype))
        for one in mask:
            np.testing.assert_array_equal(one, INSIDE)


def test_a_split_may_lack_a_class_and_there_may_be_no_test():
    """As where a subject is left out, or a class is rare."""
    values, labels = np.ones((9, 8, 4)), np.arange(9) % 3
    task = stored_task({"train": (values, labels), "subject": (values[:2], labels[:2])}, n_classes=3)
    assert task.full_split("subject")[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match="split got 'test', expected one of: 'subject', 'train'"):
        held_out(task, random.key(0), 5)


def test_batches_are_samples_with_their_own_targets():
    steps = np.arange(9.0)[:, None, None] + np.zeros((9, 8, 2))
    task = indexed_task(dict.fromkeys(("train", "test"), cut(steps, np.arange(9.0), False)), padding="mask", n_steps=10)
    drawn = jax.jit(task.sample, static_argnames="batch_size")(random.key(0), batch_size=6)
    inputs, targets, mask = map(np.asarray, drawn)
    assert inputs.shape == (10, 6, 2) and len(set(targets)) == 6
    np.testing.assert_array_equal(mask.sum(axis=0), LENGTHS[targets.astype(int)])
    np.testing.assert_array_equal(inputs, np.where(mask, targets, 0)[..., None].repeat(2, axis=2))
