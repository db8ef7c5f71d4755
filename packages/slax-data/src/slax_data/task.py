"""The information about a data set that an experiment needs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from slax_data.checks import check_choice, check_classes
from slax_data.loading import take_batch, time_first
from slax_data.storage.packed import SpikeTrains, spike_trains

SPLITS = ("train", "test")
PADDINGS = ("mask", "silence")

Batch = tuple[Float[Array, "T B N"], Int32[Array, " B"]]


@dataclass(frozen=True)
class Task:
    """Sequences to learn from, and their targets: spike trains and classes, in most cases.

    n_units, n_classes, n_steps: the number of units N, the number of classes, and the number of steps T of its batches. If
        targets are real numbers, `n_classes` is how many there are in a target.
    sample: `sample(key, *, batch_size, split="train") -> (spikes [T, B, N], labels [B])` draws a batch of a split. It can be
        called inside `jax.jit`; `batch_size` and `split` are static.
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


def splits_of(with_validation: bool) -> tuple[str, ...]:
    """The splits of a set of which a part may be kept back to choose settings by."""
    return (*SPLITS, "validation") if with_validation else SPLITS


def check_splits(name: str, sizes: dict[str, Any]) -> None:
    """Raise an error unless the splits include "train" and all of them have the same sizes.

    Args:
        name: name of the data that are split, for the error message.
        sizes: a quantity that must be the same in all splits, by the name of the split.
    """
    if "train" not in sizes or any(size != sizes["train"] for size in sizes.values()):
        raise ValueError(f"Got {name} in the splits {sizes}, expected a split 'train', and the same sizes in all.")


def stored_task(
    splits: Mapping[str, SpikeTrains | tuple[Any, ...]],
    *,
    n_classes: int | None = None,
    padding: str | None = None,
    per_step: bool = False,
) -> Task:
    """A `Task` made from recordings in arrays: spikes, counts, real numbers or frames, with a class or numbers to predict.

    Args:
        splits: the recordings of "train" and of any further splits, such as "validation" and "test", with as many steps T and
            steps of the same shape: `SpikeTrains`, or the arguments of `spike_trains` as a tuple, (recordings [D, T, ...],
            targets [D, ...]) or (recordings, targets, lengths [D]). A class may be missing in a split, but not in all of them.
        n_classes: number of classes, if targets are integers 0..n_classes-1. It is left out for real numbers.
        padding: what the steps after the end of a shorter recording are. With "mask", the task returns (inputs, targets, mask),
            and the mask [T, B] is true before the end of each recording, so that `fit` and `accuracy` leave the rest out.
            With "silence", they count as any other step. It may be left out if no recording is shorter than T.
        per_step: whether there is a target for each step, [D, T, ...]; batches have them as [T, B, ...]. Without it, real
            targets [D, T] are T numbers to predict for each sample.

    Returns:
        A task with batches (inputs [T, B, ...], targets [B, ...]); the mask [T, B] comes third. Inputs are float32 and have the
        values of the recordings. Its `n_units` is the number of values in a step.

    Raises:
        ValueError: splits that do not belong together, targets that are not the classes or lack one, shorter recordings
            without a `padding`, "mask" for recordings that all have T steps, "silence" with `per_step`; the errors of
            `spike_trains`.

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

        Counts in frames of 8 x 8 pixels and 2 polarities, with a number to predict at each step, and no test split:

        >>> frames = rng.poisson(0.2, (12, 10, 8, 8, 2))
        >>> task = stored_task({"train": (frames, frames.mean(axis=(2, 3, 4)))}, per_step=True)
        >>> inputs, targets = task.sample(jax.random.key(0), batch_size=4)
        >>> inputs.shape, targets.shape
        ((10, 4, 8, 8, 2), (10, 4))
    """
    if padding is not None:
        check_choice("padding", padding, PADDINGS)
    trains = {name: _packed(name, one) for name, one in splits.items()}
    check_splits("recordings", {name: _form(one, per_step) for name, one in trains.items()})
    n_steps, n_units = trains["train"].packed.shape[1], trains["train"].n_units
    n_targets = _check_targets(trains, n_classes, per_step)
    shorter = {name: int(np.count_nonzero(np.asarray(one.lengths) < n_steps)) for name, one in trains.items()}
    _check_padding(padding, shorter, n_steps, per_step)

    def batch(one: SpikeTrains, packed: Array, targets: Array, lengths: Int32[Array, " B"]) -> tuple[Array, ...]:
        inputs = time_first(one.values(packed)), time_first(targets) if per_step else targets
        if padding != "mask":
            return inputs
        return *inputs, jnp.arange(n_steps, dtype=lengths.dtype)[:, None] < lengths[None]

    def sample(key: PRNGKeyArray, *, batch_size: int, split: str = "train") -> tuple[Array, ...]:
        check_choice("split", split, trains)
        one = trains[split]
        chosen, rows = take_batch(key, one.packed, jnp.arange(len(one.packed)), batch_size=batch_size)
        return batch(one, chosen, one.labels[rows], one.lengths[rows])

    def full_split(split: str) -> tuple[Array, ...]:
        check_choice("split", split, trains)
        one = trains[split]
        return batch(one, one.packed, one.labels, one.lengths)

    return Task(n_units=n_units, n_classes=n_targets, n_steps=n_steps, sample=sample, full_split=full_split)


def _packed(name: str, split: SpikeTrains | tuple[Any, ...]) -> SpikeTrains:
    """The recordings of a split, packed; an error names the split."""
    if isinstance(split, SpikeTrains):
        return split
    try:
        return spike_trains(*split)
    except ValueError as error:
        raise ValueError(f"Split {name!r}: {error}") from error


def _form(one: SpikeTrains, per_step: bool) -> dict[str, Any]:
    """What all splits share."""
    return {
        "steps": one.packed.shape[1],
        "shape of a step": one.shape or (one.n_units,),
        "values": "real" if jnp.issubdtype(one.packed.dtype, jnp.floating) else "spikes or counts",
        "shape of a target": one.labels.shape[1 + per_step :],
        "kind of target": "class" if jnp.issubdtype(one.labels.dtype, jnp.integer) else "real",
    }


def _check_targets(trains: Mapping[str, SpikeTrains], n_classes: int | None, per_step: bool) -> int:
    """Raise an error for targets that cannot be learned; return the number of classes, or of numbers in a target."""
    for name, one in trains.items():
        if per_step and one.labels.shape[:2] != one.packed.shape[:2]:
            got = f"per_step=True and targets of shape {list(one.labels.shape)} in the split {name!r}"
            raise ValueError(f"Got {got}, expected one for each step, {list(one.packed.shape[:2])}.")
    targets = trains["train"].labels
    if jnp.issubdtype(targets.dtype, jnp.floating):
        if n_classes is not None:
            cure = "Leave n_classes out to predict numbers, or give classes: labels.astype(int)."
            raise ValueError(f"Got n_classes={n_classes} and targets that are real numbers, expected integers. {cure}")
        return math.prod(targets.shape[1 + per_step :])
    if n_classes is None:
        raise ValueError("Got targets that are integers and no n_classes, expected their number. Or give real targets.")
    if not per_step and targets.shape[:2] == trains["train"].packed.shape[:2]:
        cure = "If there is a class for each step, give per_step=True; if they are one-hot, labels.argmax(axis=-1)."
        raise ValueError(f"Got integer targets of shape {list(targets.shape)}, expected one for each sample. {cure}")
    steps = per_step and targets.ndim == 2
    labels = {name: one.labels.reshape(-1) if steps else one.labels for name, one in trains.items()}
    check_classes(labels, n_classes=n_classes)
    return n_classes


def _check_padding(padding: str | None, shorter: dict[str, int], n_steps: int, per_step: bool) -> None:
    """Raise an error unless `padding` fits the numbers of shorter recordings."""
    if per_step and padding == "silence":
        why = "steps after the end of a sample have no target, and would be trained as 0. Give padding='mask'."
        raise ValueError(f"Got padding='silence' and per_step=True, expected 'mask': {why}")
    if padding == "mask" and not any(shorter.values()):
        cure = "Give their lengths to spike_trains, or leave padding out."
        raise ValueError(f"Got padding='mask' for recordings that all have {n_steps} steps, expected shorter. {cure}")
    for name, number in shorter.items():
        if padding is None and number:
            cure = "Give padding='mask' to count only the steps before each end, or padding='silence' to count all."
            raise ValueError(f"Got {number} recordings of fewer than {n_steps} steps in the split {name!r}. {cure}")
