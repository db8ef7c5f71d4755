"""Any indexable data set as a task: two arrays, or an object that gives a sample and its target for an index."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from slax_data.checks import check_all_classes, check_finite, check_labels, check_size
from slax_data.storage.packed import unpacked
from slax_data.task import Task, check_splits, task_of_arrays


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

    Samples [T, ...] may have counts, real numbers, or frames with several axes. They become inputs [T, B, ...] with the values
    that they have, as floating-point numbers. Nothing is encoded; `transform` is the place for that. Booleans are stored as
    bits.

    Args:
        splits: for "train" and "test", and perhaps for further splits, a tuple of two arrays, inputs [D, T, ...] and targets
            [D, ...], or an object with a length that gives (sample, target) for an index from 0.
        n_classes: number of classes, if targets are integers; they are then 0..n_classes-1, and each split has all of them.
            For real targets it is left out.
        n_steps: T, by default the length of the longest sample; shorter samples are followed by zeros.
        padding: "mask" or "silence", if there are shorter samples: see `stored_task`. With `per_step`, it is "mask", since
            steps after the end have no target.
        per_step: whether there is a target for each step of a sample, [T, ...], rather than one for the entire sample.
        transform: a function from a sample to an array [T, ...], or [T] for one unit, called once for each sample.

    Returns:
        A task with batches (inputs [T, B, ...], targets [B, ...]), or [T, B, ...] with `per_step`; the mask [T, B] comes third.
        Its `n_units` is the number of values in a step.

    Raises:
        ValueError: no samples, samples or targets that differ in shape, values that are not finite, integers that int32 does
            not hold, splits that do not belong together, integers that are not the classes, a sample longer than `n_steps`, or
            silence with `per_step`; the errors of `stored_task`.

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
    if per_step and padding == "silence":
        raise ValueError(
            "padding='silence' got per_step=True: the steps after the end of a shorter sample have no target, and they would "
            "be trained as class 0, or as the number 0. Give padding='mask', or samples and targets of n_steps steps."
        )
    read = {name: read_samples(items, name=name, transform=transform) for name, items in splits.items()}
    check_splits("data", {name: _form(*one, per_step) for name, one in read.items()})
    n_steps = enough_steps(n_steps, max(len(sample) for samples, _ in read.values() for sample in samples))
    shape, are_bits = read["train"][0][0].shape[1:], read["train"][0][0].dtype == bool
    stored = {}
    for name, (samples, targets) in read.items():
        n_targets = _check_targets(name, samples, targets, n_classes, per_step)
        kept = [np.packbits(one.reshape(len(one), -1), axis=1) for one in samples] if are_bits else samples
        goals = stacked(targets, n_steps) if per_step else np.stack(targets)
        lengths = np.array([len(sample) for sample in samples], np.int32)
        stored[name] = jnp.asarray(stacked(kept, n_steps)), jnp.asarray(_narrow(name, goals)), jnp.asarray(lengths)
    n_units = int(np.prod(shape))

    def decode(kept: Shaped[Array, "B T ..."]) -> Shaped[Array, "B T ..."]:
        values = unpacked(kept, n_units) if are_bits else kept
        kind = values.dtype if jnp.issubdtype(values.dtype, jnp.floating) else jnp.result_type(float)
        return values.reshape(*kept.shape[:2], *shape).astype(kind)

    return task_of_arrays(stored, decode, n_units=n_units, n_classes=n_targets, padding=padding, per_step=per_step)


def read_samples(
    items: Any,
    *,
    name: str,
    indices: Iterable[Any] | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The samples [T_i, ...] of a data set, of one type and with steps of one shape, and their targets.

    Args:
        items: see the splits of `indexed_task`.
        name: name of the set, for error messages.
        indices: indices of the samples, all by default.
        transform: see `indexed_task`.

    Raises:
        ValueError: no samples, samples with steps of different shapes or without steps, integers that int32 does not hold, or
            not as many targets as samples.
    """
    if isinstance(items, tuple) and len(items) == 2 and hasattr(items[0], "shape"):
        inputs, targets = (np.asarray(part) for part in items)
        if len(inputs) != len(targets):
            raise ValueError(
                f"{name} must have a target for each sample, got {len(inputs)} samples, {len(targets)} targets."
            )
        items = list(zip(inputs, targets, strict=True))
    chosen = range(len(items)) if indices is None else list(indices)
    if not chosen:
        raise ValueError(f"{name} gives no samples, got {len(items)} of them and indices={indices}.")
    pairs = [items[index][:2] for index in chosen]
    samples = [np.asarray(transform(sample) if transform else sample) for sample, _ in pairs]
    if shapes := {sample.shape for sample in samples if not sample.size}:
        raise ValueError(f"{name} must give samples [T, ...] of at least one step, got the shapes {sorted(shapes)}.")
    if any(sample.ndim == 0 for sample in samples):
        raise ValueError(f"{name} must give samples [T, ...], got numbers. Give a transform that makes their steps.")
    samples = [_narrow(name, sample[:, None] if sample.ndim == 1 else sample) for sample in samples]
    if len(shapes := {sample.shape[1:] for sample in samples}) > 1:
        raise ValueError(f"{name} has samples of different shapes: {sorted(shapes)} in a step.")
    kind = np.result_type(*{sample.dtype for sample in samples})
    return [sample.astype(kind, copy=False) for sample in samples], [np.asarray(target) for _, target in pairs]


def enough_steps(n_steps: int | None, longest: int) -> int:
    """The number of steps, by default that of the longest sample; raise an error for fewer than these."""
    n_steps = longest if n_steps is None else n_steps
    check_size("n_steps", n_steps)
    if n_steps < longest:
        raise ValueError(f"n_steps got {n_steps}, expected at least {longest}, the steps of the longest sample.")
    return n_steps


def stacked(samples: list[np.ndarray], n_steps: int) -> Shaped[np.ndarray, "D T ..."]:
    """Samples [T_i, ...] as one array, with zeros after the end of the shorter ones."""
    array = np.zeros((len(samples), n_steps, *samples[0].shape[1:]), samples[0].dtype)
    for row, sample in zip(array, samples, strict=True):
        row[: len(sample)] = sample
    return array


def _narrow(name: str, values: np.ndarray) -> np.ndarray:
    """Real numbers as float32 and large integers as int32, which is what a batch has; small types stay as they are."""
    if values.dtype.itemsize < 8 or values.dtype.kind not in "iuf":
        return values
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    limits = np.iinfo(np.int32)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise ValueError(
            f"{name} has integers from {values.min()} to {values.max()}, expected {limits.min} to {limits.max}, those of "
            "int32. Subtract an offset, or give real numbers: values.astype(np.float32) keeps 7 digits."
        )
    return values.astype(np.int32)


def _form(samples: list[np.ndarray], targets: list[np.ndarray], per_step: bool) -> dict[str, Any]:
    """What all splits share."""
    return {
        "shape of a step": samples[0].shape[1:],
        "type": samples[0].dtype.name,
        "shape of a target": targets[0].shape[per_step:],
        "kind of target": "real" if targets[0].dtype.kind == "f" else "class",
    }


def _check_targets(
    name: str, samples: list[np.ndarray], targets: list[np.ndarray], n_classes: int | None, per_step: bool
) -> int:
    """Raise an error for values and targets that cannot be learned; return the number of classes, or of values in a target."""
    for sample in samples:
        check_finite(f"The samples of {name}", sample)
    if per_step and any(target.shape[:1] != sample.shape[:1] for sample, target in zip(samples, targets, strict=True)):
        raise ValueError(f"per_step=True, but {name} has samples whose targets are not [T, ...], one for each step.")
    if len(shapes := {target.shape[per_step:] for target in targets}) > 1:
        raise ValueError(f"{name} has targets of different shapes: {sorted(shapes)}. Is there one for each step?")
    flat = np.concatenate([target.reshape(-1) for target in targets])
    if flat.dtype.kind == "f":
        if n_classes is not None:
            raise ValueError(f"{name} has real targets, got n_classes={n_classes}. Leave it out, or give integers.")
        check_finite(f"The targets of {name}", flat)
        return int(np.prod(targets[0].shape[per_step:]))
    if n_classes is None:
        raise ValueError(f"{name} has targets of {flat.dtype}, expected n_classes, their number, or real targets.")
    check_labels(flat, n_classes=n_classes)
    check_all_classes(name, flat, n_classes=n_classes)
    return n_classes
