"""Any indexable data set as a task: two arrays, or an object that gives a sample and its target for an index."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from slax_data.checks import check_size
from slax_data.task import Task, stored_task


def indexed_task(
    splits: Mapping[str, Any],
    *,
    n_classes: int | None = None,
    n_steps: int | None = None,
    padding: str | None = None,
    per_step: bool = False,
    transform: Callable[[Any], Any] | None = None,
) -> Task:
    """Any indexable data set as a `Task`, such as the sets of tonic, TensorFlow Datasets, aeon, PyTorch and NeuroBench.

    It reads the samples [T, ...] one by one and gives them to `stored_task`. Nothing is encoded; use `transform` to encode
    samples.

    Args:
        splits: for "train", and for any further splits such as "test", an object with a length that gives (sample, target) for
            an index from 0, or a tuple of two arrays, inputs [D, T, ...] and targets [D, ...].
        n_classes, padding: see `stored_task`.
        n_steps: T, by default the length of the longest sample; shorter samples are followed by zeros.
        per_step: whether there is a target for each step of a sample, [T, ...], rather than one for the entire sample.
        transform: a function from a sample to an array [T, ...], or [T] for one unit, called once for each sample.

    Returns:
        The task, as of `stored_task`.

    Raises:
        ValueError: samples or targets that differ in shape, a sample longer than `n_steps`; the errors of
            `stored_task`.

    Example:
        A list of recordings of different length, each a number of steps with 6 counts, and its class:
        >>> import jax
        >>> import numpy as np
        >>> from slax_data import indexed_task
        >>> rng = np.random.default_rng(0)
        >>> recordings = [(rng.poisson(0.3, (8 + i % 3, 6)), i % 2) for i in range(12)]
        >>> task = indexed_task({"train": recordings[:8], "test": recordings[8:]}, n_classes=2, padding="mask")
        >>> inputs, labels, mask = task.sample(jax.random.key(0), batch_size=4)
        >>> inputs.shape, labels.shape, mask.shape
        ((10, 4, 6), (4,), (10, 4))

        Two arrays, with a real number to predict at each step:
        >>> signals = rng.normal(size=(8, 20, 3))
        >>> task = indexed_task(dict.fromkeys(("train", "test"), (signals, signals.sum(axis=2))), per_step=True)
        >>> inputs, targets = task.full_split("test")
        >>> inputs.shape, targets.shape
        ((20, 8, 3), (20, 8))

        Images of 8 x 8 pixels as 8 steps of a row, whose bright pixels spike:
        >>> images, labels = rng.random((6, 64)), np.arange(6) % 2
        >>> rows = images.reshape(-1, 8, 8) > 0.5
        >>> indexed_task({"train": (rows, labels), "test": (rows, labels)}, n_classes=2).full_split("test")[0].shape
        (8, 6, 8)
    """
    read = {name: arrays_of(splits[name], name=name, per_step=per_step, transform=transform) for name in splits}
    n_steps = enough_steps(n_steps, max(values.shape[1] for values, _, _ in read.values()))
    arrays = {}
    for name, (values, targets, lengths) in read.items():
        arrays[name] = stacked(values, n_steps), stacked(targets, n_steps) if per_step else targets, lengths
    return stored_task(arrays, n_classes=n_classes, padding=padding, per_step=per_step)


def arrays_of(
    items: Any,
    *,
    name: str,
    per_step: bool = False,
    transform: Callable[[Any], Any] | None = None,
) -> tuple[Shaped[np.ndarray, "D T ..."], Shaped[np.ndarray, "D ..."], Int32[np.ndarray, " D"]]:
    """The samples of a data set, with zeros after the end of the shorter ones, their targets, and the lengths of the samples.

    Args:
        items: see the splits of `indexed_task`.
        name: name of the set, for error messages.
        per_step, transform: see `indexed_task`.

    Raises:
        ValueError: samples with steps of different shapes, not as many targets as samples, or targets of different shapes.
    """
    if isinstance(items, tuple) and len(items) == 2 and hasattr(items[0], "shape"):
        inputs, goals = (np.asarray(part) for part in items)
        if len(inputs) != len(goals):
            raise ValueError(f"Got {len(inputs)} samples and {len(goals)} targets in {name}, expected one for each.")
        items = list(zip(inputs, goals, strict=True))
    pairs = [items[index][:2] for index in range(len(items))]
    samples = [np.asarray(transform(sample) if transform else sample) for sample, _ in pairs]
    targets = [np.asarray(target) for _, target in pairs]
    if any(sample.ndim == 0 for sample in samples):
        raise ValueError(f"Got numbers as samples in {name}, expected [T, ...]. Give a transform that makes steps.")
    samples = [sample[:, None] if sample.ndim == 1 else sample for sample in samples]
    if len(shapes := {sample.shape[1:] for sample in samples}) > 1:
        raise ValueError(f"Got samples of different shapes in {name}, {sorted(shapes)} in a step, expected one shape.")
    if per_step and [one.shape[:1] for one in samples] != [one.shape[:1] for one in targets]:
        raise ValueError(f"Got per_step=True and a target in {name} that has other steps than its sample.")
    if len(shapes := {target.shape[per_step:] for target in targets}) > 1:
        cure = "If there is a target for each step, give per_step=True."
        raise ValueError(f"Got targets of different shapes in {name}, {sorted(shapes)}, expected one shape. {cure}")
    lengths = np.array([len(sample) for sample in samples], np.int32)
    longest = int(lengths.max())
    return stacked(samples, longest), stacked(targets, longest) if per_step else np.stack(targets), lengths


def enough_steps(n_steps: int | None, longest: int) -> int:
    """The number of steps, by default the length of the longest sample; raise an error for fewer."""
    n_steps = longest if n_steps is None else n_steps
    check_size("n_steps", n_steps)
    if n_steps < longest:
        raise ValueError(f"n_steps got {n_steps}, expected at least {longest}, the steps of the longest sample.")
    return n_steps


def stacked(samples: Sequence[np.ndarray] | np.ndarray, n_steps: int) -> Shaped[np.ndarray, "D T ..."]:
    """Samples [T_i, ...] as one array of a type for all of them, with zeros after the end of the shorter ones."""
    kind = np.result_type(*{sample.dtype for sample in samples})
    array = np.zeros((len(samples), n_steps, *samples[0].shape[1:]), kind)
    for row, sample in zip(array, samples, strict=True):
        row[: len(sample)] = sample
    return array
