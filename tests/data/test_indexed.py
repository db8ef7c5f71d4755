"""The adapter for indexable sets gives out the values that it was given."""

import jax
import numpy as np
import pytest
from jax import random

from slax_data import indexed_task

RNG = np.random.default_rng(0)


class Indexable:
    """A set as PyTorch and tonic have them: a length, and a sample with its target, and maybe more, at an index."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return *self.items[index], "more"


VALUES = {
    "counts": RNG.poisson(0.5, (9, 8, 4)),
    "real": RNG.normal(size=(9, 8, 4)),
    "spikes": RNG.random((9, 8, 11)) < 0.3,
    "frames": RNG.integers(0, 255, (9, 8, 3, 5, 2)).astype(np.uint8),
    "frames of bits": RNG.random((9, 8, 3, 5, 2)) < 0.3,
    "one unit": RNG.normal(size=(9, 8)),
}
TARGETS = {
    "classes": (np.arange(9) % 3, False, 3),
    "classes of steps": (np.arange(72).reshape(9, 8) % 3, True, 3),
    "numbers": (RNG.normal(size=9), False, 1),
    "numbers of steps": (RNG.normal(size=(9, 8, 2)), True, 2),
}
LENGTHS = np.array([8, 3, 5, 8, 1, 7, 8, 2, 6])


def cut(values, targets, per_step):
    return Indexable([(x[:n], y[:n] if per_step else y) for x, y, n in zip(values, targets, LENGTHS, strict=True)])


@pytest.mark.parametrize("form", TARGETS)
@pytest.mark.parametrize("kind", VALUES)
def test_values_and_targets_are_those_of_the_set(kind, form):
    values, (targets, per_step, size) = VALUES[kind], TARGETS[form]
    options = {"n_classes": 3 if "class" in form else None, "per_step": per_step}
    arrays = indexed_task(dict.fromkeys(("train", "test"), (values, targets)), **options)
    items = indexed_task(dict.fromkeys(("train", "test"), cut(values, targets, per_step)), padding="mask", **options)
    expected = values.reshape(9, 8, *values.shape[2:]) if values.ndim > 2 else values[..., None]
    assert (arrays.n_steps, arrays.n_classes, arrays.n_units) == (8, size, expected[0, 0].size)
    inside = np.arange(8)[:, None] < LENGTHS  # [T, D]
    for task in (arrays, items):
        inputs, found, *mask = (np.asarray(part) for part in task.full_split("test"))
        here = inside if mask else np.ones_like(inside)
        assert inputs.dtype == np.float32 and found.dtype == (np.int32 if "class" in form else np.float32)
        np.testing.assert_array_equal(inputs[here], expected.swapaxes(0, 1)[here].astype(np.float32))
        assert not inputs[~here].any()
        goals = targets.swapaxes(0, 1)[here] if per_step else targets
        np.testing.assert_array_equal(found[here] if per_step else found, goals.astype(found.dtype))
        for one in mask:
            np.testing.assert_array_equal(one, inside)


def test_the_largest_integers_of_32_bits_are_kept():
    values = np.array([[[-(2**31)], [2**31 - 1], [0]]])
    task = indexed_task(dict.fromkeys(("train", "test"), (values, np.zeros(1, int))), n_classes=1)
    inputs, _ = task.full_split("test")
    np.testing.assert_array_equal(inputs[:, 0, 0], np.float32([-(2.0**31), 2.0**31, 0]))


def test_batches_are_samples_with_their_own_targets():
    steps = np.arange(9.0)[:, None, None] + np.zeros((9, 8, 2))
    task = indexed_task(dict.fromkeys(("train", "test"), cut(steps, np.arange(9.0), False)), padding="mask", n_steps=10)
    drawn = jax.jit(task.sample, static_argnames="batch_size")(random.key(0), batch_size=6)
    inputs, targets, mask = map(np.asarray, drawn)
    assert inputs.shape == (10, 6, 2) and len(set(targets)) == 6
    np.testing.assert_array_equal(mask.sum(axis=0), LENGTHS[targets.astype(int)])
    np.testing.assert_array_equal(inputs, np.where(mask, targets, 0)[..., None].repeat(2, axis=2))


def test_a_transform_makes_steps_of_anything():
    items = [({"x": np.full((4, 3), i)}, i % 2) for i in range(6)]
    splits = {"train": items[:4], "test": items[4:]}
    inputs, labels = indexed_task(splits, n_classes=2, transform=lambda sample: sample["x"] - 1).full_split("test")
    np.testing.assert_array_equal(inputs, np.float32([[[3], [4]]]) + np.zeros((4, 2, 3)))
    assert labels.tolist() == [0, 1]
