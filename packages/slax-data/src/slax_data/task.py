"""The information about a data set that an experiment needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PRNGKeyArray, Shaped

from slax_data.checks import check_all_classes, check_choice, is_traced
from slax_data.loading.batching import take_batch, time_first
from slax_data.storage.packed import SpikeTrains, unpacked

SPLITS = ("train", "test")
PADDINGS = ("mask", "silence")

Batch = tuple[Float[Array, "T B N"], Int32[Array, " B"]]


@dataclass(frozen=True)
class Task:
    """Spike trains to classify.

    n_units, n_classes, n_steps: the number of units N, the number of classes, and the number of steps T of its batches. If
        targets are real numbers, `n_classes` is how many there are in a target.
    sample: `sample(key, *, batch_size, split="train") -> (spikes [T, B, N], labels [B])` draws a batch of the split
        "train" or "test". It can be called inside `jax.jit`; `batch_size` and `split` are static.
    full_split: `full_split(split) -> (spikes [T, D, N], labels [D])`, all samples of a split, or None if new
        ones can be drawn without end.

    A task of recordings of different length may return a mask [T, B] after the labels, true where a step counts: see
    `stored_task`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import Task
        >>> def sample(key, *, batch_size, split="train"):
        ...     labels = jnp.arange(batch_size, dtype=jnp.int32) % 2
        ...     often = jnp.array([0.1, 0.5])[labels][None, :, None]
        ...     return (jax.random.uniform(key, (20, batch_size, 5)) < often).astype(jnp.float32), labels
        >>> task = Task(n_units=5, n_classes=2, n_steps=20, sample=sample)
        >>> spikes, labels = task.sample(jax.random.key(0), batch_size=8)
        >>> spikes.shape, labels
        ((20, 8, 5), Array([0, 1, 0, 1, 0, 1, 0, 1], dtype=int32))
    """

    n_units: int
    n_classes: int
    n_steps: int
    sample: Callable[..., tuple[Array, ...]]
    full_split: Callable[[str], tuple[Array, ...]] | None = None


def held_out(task: Task, key: PRNGKeyArray, size: int) -> tuple[Array, ...]:
    """The samples to test on: the entire test split, or `size` samples drawn with the key if the supply is endless.

    Example:
        >>> import jax
        >>> from slax_data import held_out, make_task
        >>> task = make_task("randman", jax.random.key(0), n_steps=20, n_classes=3, n_units=5)  # samples without end
        >>> spikes, labels = held_out(task, jax.random.key(1), size=100)
        >>> spikes.shape, labels.shape
        ((20, 100, 5), (100,))
    """
    return task.full_split("test") if task.full_split else task.sample(key, batch_size=size, split="test")


def check_splits(name: str, sizes: dict[str, Any]) -> None:
    """Raise an error unless the splits include "train" and "test" and all of them have the same sizes.

    Args:
        name: name of the data that are split, for the error message.
        sizes: a quantity that must be the same in all splits, by the name of the split.
    """
    if not set(SPLITS) <= set(sizes) or any(size != sizes["train"] for size in sizes.values()):
        raise ValueError(f"{name} must have the splits 'train' and 'test', all of one size, got {sizes}.")


def stored_task(splits: dict[str, SpikeTrains], *, n_classes: int, padding: str | None = None) -> Task:
    """A `Task` made from recordings that already consist of spikes.

    Args:
        splits: the recordings of "train" and "test", and perhaps of further splits, with the same numbers of units and steps.
            Both of these are needed, and every split needs samples of all classes.
        n_classes: number of classes.
        padding: what the steps after the end of a shorter recording are. With "mask", the task returns (spikes, labels, mask),
            and the mask [T, B] is true before the end of each recording, so that `fit` and `accuracy` leave the rest out.
            With "silence", they count as any other step. It may be left out if no recording is shorter than T.

    Raises:
        ValueError: splits that do not belong together, a split that lacks a class, shorter recordings without a `padding`, or
            "mask" for recordings that all have T steps. Traced lengths are not checked.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> from slax_data import spike_trains, stored_task
        >>> rng = np.random.default_rng(0)
        >>> labels = {"train": np.arange(30) % 3, "test": np.arange(9) % 3}
        >>> splits = {split: spike_trains(rng.random((len(y), 20, 50)) < 0.1, y) for split, y in labels.items()}
        >>> task = stored_task(splits, n_classes=3)
        >>> spikes, labels = task.sample(jax.random.key(0), batch_size=8)
        >>> spikes.shape, task.full_split("test")[0].shape
        ((20, 8, 50), (20, 9, 50))

        Recordings of different length, the second half of which is 5 steps shorter here:

        >>> for split, one in splits.items():
        ...     lengths = np.where(np.arange(len(one.labels)) < len(one.labels) // 2, 20, 15)
        ...     spikes = (rng.random((len(lengths), 20, 50)) < 0.1) & (np.arange(20)[:, None] < lengths[:, None, None])
        ...     splits[split] = spike_trains(spikes, np.asarray(one.labels), lengths=lengths)
        >>> spikes, labels, mask = stored_task(splits, n_classes=3, padding="mask").full_split("test")
        >>> mask.sum(axis=0).tolist()
        [20, 20, 20, 20, 15, 15, 15, 15, 15]
    """
    check_splits("spikes", {name: {"steps": one.packed.shape[1], "units": one.n_units} for name, one in splits.items()})
    n_units = splits["train"].n_units
    for name, one in splits.items():
        check_all_classes(name, one.labels, n_classes=n_classes)
    stored = {name: (one.packed, one.labels, one.lengths) for name, one in splits.items()}
    return task_of_arrays(
        stored, lambda packed: unpacked(packed, n_units), n_units=n_units, n_classes=n_classes, padding=padding
    )


def task_of_arrays(
    splits: dict[str, tuple[Shaped[Array, "D T ..."], Shaped[Array, "D ..."], Int32[Array, " D"]]],
    decode: Callable[[Array], Array],
    *,
    n_units: int,
    n_classes: int,
    padding: str | None,
    per_step: bool = False,
) -> Task:
    """A `Task` from samples, targets and lengths of each split, as they are stored: samples first.

    Args:
        splits: for each split, samples, targets and lengths. All splits have the same number of steps T.
        decode: a function from stored samples [B, T, ...] to the inputs [B, T, ...].
        n_units, n_classes: see `Task`.
        padding: see `stored_task`.
        per_step: whether targets are [D, T, ...], which become [T, B, ...].

    Raises:
        ValueError: shorter samples without a `padding`, or "mask" for samples that all have T steps.
    """
    n_steps = splits["train"][0].shape[1]
    if padding is not None:
        check_choice("padding", padding, PADDINGS)
    if padding == "mask" and all(_shorter(lengths, n_steps) == 0 for _, _, lengths in splits.values()):
        raise ValueError(
            f"padding='mask' got recordings that all have the full {n_steps} steps: give their lengths to spike_trains, or "
            "leave padding out."
        )
    for name, (_, _, lengths) in splits.items():
        if padding is None and (shorter := _shorter(lengths, n_steps)):
            raise ValueError(
                f"The split {name!r} has {shorter} recordings of fewer than its {n_steps} steps. Give padding='mask' for "
                "batches (spikes, labels, mask) in which only the steps before the end of each recording count, or "
                "padding='silence' if the silence after it is to count as well. `padded` makes batches without a task."
            )

    def batch(stored: Array, targets: Array, lengths: Int32[Array, " B"]) -> tuple[Array, ...]:
        inputs = time_first(decode(stored)), time_first(targets) if per_step else targets
        if padding != "mask":
            return inputs
        return *inputs, jnp.arange(n_steps, dtype=lengths.dtype)[:, None] < lengths[None]

    def sample(key: PRNGKeyArray, *, batch_size: int, split: str = "train") -> tuple[Array, ...]:
        check_choice("split", split, splits)
        stored, targets, lengths = splits[split]
        chosen, rows = take_batch(key, stored, jnp.arange(len(stored)), batch_size=batch_size)
        return batch(chosen, targets[rows], lengths[rows])

    def full_split(split: str) -> tuple[Array, ...]:
        check_choice("split", split, splits)
        return batch(*splits[split])

    return Task(n_units=n_units, n_classes=n_classes, n_steps=n_steps, sample=sample, full_split=full_split)


def _shorter(lengths: Int32[Array, " D"], n_steps: int) -> int | None:
    """How many recordings are shorter than T, or None while their lengths are traced."""
    return None if is_traced(lengths) else int(np.count_nonzero(np.asarray(lengths) < n_steps))
