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


def is_batch(task: Task, spikes: Array, labels: Array) -> None:
    assert spikes.shape == (task.n_steps, len(labels), task.n_units) and spikes.dtype == jnp.float32
    assert labels.dtype == jnp.int32
    assert set(np.unique(spikes)) == {0, 1}
    check_labels(labels, n_classes=task.n_classes)


def keeps_contract(make: Callable[[Array], Task], *, redrawn: bool = False) -> None:
    """All laws of the task that `make` makes from a key; `redrawn` says that each batch draws other spikes of a sample."""
    task = make(random.key(0))
    draw = jax.jit(task.sample, static_argnames=("batch_size", "split"))

    def wholes(task: Task) -> dict[str, tuple[Array, ...]]:
        """All samples of each split, or many."""
        if task.full_split is not None:
            return {split: task.full_split(split) for split in SPLITS}
        return {split: task.sample(random.key(3), batch_size=BATCH, split=split) for split in SPLITS}

    whole = wholes(task)
    for spikes, labels in whole.values():
        is_batch(task, spikes, labels)
        assert set(np.asarray(labels)) == set(range(task.n_classes))
    train, test = ({one.tobytes() for one in np.asarray(whole[split][0]).swapaxes(0, 1)} for split in SPLITS)
    assert not train & test, "The splits share a sample."

    size = min(BATCH, *(len(labels) for _, labels in whole.values()))
    batches = {split: draw(random.key(1), batch_size=size, split=split) for split in SPLITS}
    for split, batch in batches.items():
        is_batch(task, *batch)
        assert len(batch[1]) == size and len(np.unique(batch[1])) > task.n_classes / 2
        if task.full_split is not None and not redrawn:
            drawn = {one.tobytes() for one in np.asarray(batch[0]).swapaxes(0, 1)}
            assert drawn <= (train if split == "train" else test), "A batch is not of its split."
    same(batches["train"], task.sample(random.key(1), batch_size=size))
    assert not np.array_equal(batches["train"][0], batches["test"][0])
    assert not np.array_equal(batches["train"][0], draw(random.key(2), batch_size=size)[0])

    same(whole, wholes(make(random.key(0))))
    inside = jax.jit(lambda key: make(key).sample(random.key(1), batch_size=size))(random.key(0))
    same(inside, batches["train"])
