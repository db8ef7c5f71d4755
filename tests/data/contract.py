"""The contract that every line of `DATASETS` keeps, without pytest, so that the scripts of foreign/ can ask for it, too.

A law is a function of `make`, which makes the task from a key, and of the task that it made from `random.key(0)`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from slax_data import Task, check_labels, held_out

SPLITS = ("train", "test")
BATCH = 40

Make = Callable[[Array], Task]


def size_of(task: Task, split: str) -> int:
    """Samples of a batch: so many, or the whole split."""
    return BATCH if task.full_split is None else min(BATCH, len(task.full_split(split)[1]))


def is_batch(task: Task, spikes: Array, labels: Array) -> None:
    assert spikes.shape == (task.n_steps, len(labels), task.n_units) and spikes.dtype == jnp.float32
    assert labels.dtype == jnp.int32
    assert set(np.unique(spikes)) == {0, 1}
    check_labels(labels, n_classes=task.n_classes)


def same(left: object, right: object) -> None:
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(one, other)


@contextlib.contextmanager
def raises(kind: type[Exception], told: str) -> Iterator[None]:
    try:
        yield
    except kind as error:
        assert told in str(error), error
    else:
        raise AssertionError(f"There was no {kind.__name__}: {told}")


def batches_have_the_sizes_of_the_task(make: Make, task: Task) -> None:
    for split in SPLITS:
        size = size_of(task, split)
        spikes, labels = task.sample(random.key(1), batch_size=size, split=split)
        assert len(labels) == size
        is_batch(task, spikes, labels)
        assert len(np.unique(labels)) > task.n_classes / 2


def batches_follow_their_key_and_jit_changes_nothing(make: Make, task: Task) -> None:
    def draw(key: Array) -> tuple[Array, Array]:
        return task.sample(key, batch_size=size_of(task, "train"))

    batch = draw(random.key(1))
    same(batch, draw(random.key(1)))
    same(batch, jax.jit(draw)(random.key(1)))
    assert not np.array_equal(batch[0], draw(random.key(2))[0])


def splits_differ_under_one_key(make: Make, task: Task) -> None:
    size = min(size_of(task, split) for split in SPLITS)
    train, test = (task.sample(random.key(1), batch_size=size, split=split)[0] for split in SPLITS)
    assert not np.array_equal(train, test)


def a_whole_split_is_a_batch_with_all_classes(make: Make, task: Task) -> None:
    for split in SPLITS:
        spikes, labels = (
            task.full_split(split) if task.full_split else task.sample(random.key(3), batch_size=50, split=split)
        )
        is_batch(task, spikes, labels)
        assert set(np.asarray(labels)) == set(range(task.n_classes))


def splits_share_no_sample(make: Make, task: Task) -> None:
    if task.full_split is not None:
        train, test = ({one.tobytes() for one in np.asarray(task.full_split(s)[0]).swapaxes(0, 1)} for s in SPLITS)
        assert not train & test


def same_key_gives_the_same_task(make: Make, task: Task) -> None:
    def drawn(task: Task) -> object:
        return held_out(task, random.key(2), 40), task.sample(random.key(1), batch_size=size_of(task, "train"))

    same(drawn(task), drawn(make(random.key(0))))


def a_task_can_be_made_inside_of_a_program(make: Make, task: Task) -> None:
    size = size_of(task, "train")
    made = jax.jit(lambda key: make(key).sample(random.key(1), batch_size=size))(random.key(0))
    same(made, task.sample(random.key(1), batch_size=size))


def an_unknown_split_is_an_error(make: Make, task: Task) -> None:
    with raises(ValueError, "split got 'all', expected one of: 'test', 'train'"):
        task.sample(random.key(1), batch_size=4, split="all")


def a_task_cannot_be_changed(make: Make, task: Task) -> None:
    with raises(dataclasses.FrozenInstanceError, "n_steps"):
        task.n_steps = 3  # type: ignore[misc]


LAWS = (
    batches_have_the_sizes_of_the_task,
    batches_follow_their_key_and_jit_changes_nothing,
    splits_differ_under_one_key,
    a_whole_split_is_a_batch_with_all_classes,
    splits_share_no_sample,
    same_key_gives_the_same_task,
    a_task_can_be_made_inside_of_a_program,
    an_unknown_split_is_an_error,
    a_task_cannot_be_changed,
)


def keeps_contract(make: Make) -> None:
    """All laws, one after the other."""
    task = make(random.key(0))
    for law in LAWS:
        law(make, task)
