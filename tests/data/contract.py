"""The contract that every line of `DATASETS` keeps, without pytest, so that other environments can ask for it, too."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from slax_data import Task, check_labels

SPLITS = ("train", "test")
BATCH = 40
same = partial(jax.tree.map, np.testing.assert_array_equal)


def is_batch(task: Task, inputs: Array, targets: Array, mask: Array | None = None, *, spikes: bool, per_step: bool):
    size = inputs.shape[1]
    assert inputs.shape == (task.n_steps, size, task.n_units) and inputs.dtype == jnp.float32
    assert (set(np.unique(inputs)) == {0, 1}) == spikes
    if per_step:
        assert targets.shape == (task.n_steps, size, task.n_classes) and targets.dtype == jnp.float32
    else:
        assert targets.dtype == jnp.int32 and len(targets) == size
        check_labels(targets, n_classes=task.n_classes)
    if mask is not None:
        assert mask.shape == (task.n_steps, size) and mask.dtype == bool and mask[0].all()
        assert not (np.diff(mask.astype(int), axis=0) > 0).any() and not np.asarray(inputs)[~np.asarray(mask)].any()


def keeps_contract(make: Callable[[Array], Task], *, redrawn=False, spikes=True, per_step=False):
    """All laws of the task that `make` makes from a key.

    redrawn: each batch draws other spikes of a sample. spikes: inputs are 0 or 1. per_step: targets are real numbers for each
    step, not classes.
    """
    task = make(random.key(0))
    draw = jax.jit(task.sample, static_argnames=("batch_size", "split"))

    def wholes(task: Task) -> dict[str, tuple[Array, ...]]:
        """All samples of each split, or many."""
        if task.full_split is not None:
            return {split: task.full_split(split) for split in SPLITS}
        return {split: task.sample(random.key(3), batch_size=BATCH, split=split) for split in SPLITS}

    whole = wholes(task)
    for batch in whole.values():
        is_batch(task, *batch, spikes=spikes, per_step=per_step)
        assert per_step or set(np.asarray(batch[1])) == set(range(task.n_classes))
    train, test = ({one.tobytes() for one in np.asarray(whole[split][0]).swapaxes(0, 1)} for split in SPLITS)
    assert not train & test, "The splits share a sample."

    size = min(BATCH, *(one[0].shape[1] for one in whole.values()))
    batches = {split: draw(random.key(1), batch_size=size, split=split) for split in SPLITS}
    for split, batch in batches.items():
        is_batch(task, *batch, spikes=spikes, per_step=per_step)
        assert batch[0].shape[1] == size and (per_step or len(np.unique(batch[1])) > task.n_classes / 2)
        if task.full_split is not None and not redrawn:
            drawn = {one.tobytes() for one in np.asarray(batch[0]).swapaxes(0, 1)}
            assert drawn <= (train if split == "train" else test), "A batch is not of its split."
    same(batches["train"], task.sample(random.key(1), batch_size=size))
    assert not np.array_equal(batches["train"][0], batches["test"][0])
    assert not np.array_equal(batches["train"][0], draw(random.key(2), batch_size=size)[0])

    same(whole, wholes(make(random.key(0))))
    inside = jax.jit(lambda key: make(key).sample(random.key(1), batch_size=size))(random.key(0))
    same(inside, batches["train"])
