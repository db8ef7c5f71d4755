"""NeuroBench data sets as a task: the samples, which NeuroBench's classes yield one at a time, as arrays and as spikes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray, Shaped

from slax_data.audio.cochlea import Cochlea
from slax_data.audio.hearing import encode_batch, make_cochlea
from slax_data.audio.sounds import Sound
from slax_data.checks import check_choice, check_labels, check_size
from slax_data.loading.batching import time_first
from slax_data.loading.padding import padded
from slax_data.sets.time_series import THRESHOLD, Series, series_spikes
from slax_data.storage.packed import SpikeTrains, spike_trains
from slax_data.task import Task, check_splits, stored_task

CODES = ("delta", "frames", "cochlea")

Arrays = tuple[Shaped[np.ndarray, "D T ..."], Shaped[np.ndarray, "D ..."], Shaped[np.ndarray, " D"]]


def neurobench_arrays(dataset: Any, indices: Iterable[Any] | None = None) -> Arrays:
    """The samples of a NeuroBench data set as arrays.

    Any object works that has a length and returns, for an index, a sample [T, ...] and its target as tensors, arrays or
    numbers, as the classes of `neurobench.datasets` do. Neither NeuroBench nor PyTorch is imported here.

    Args:
        dataset: the data set.
        indices: indices of the samples, all by default; some sets store their splits as indices, such as
            `MackeyGlass.ind_test`.

    Returns:
        Samples of shape [D, T, ...], float32, with zeros after the end of shorter samples, targets of shape [D, ...], integers
        for classes, and lengths of shape [D].

    Raises:
        ValueError: no sample, or samples or targets of different shapes.

    Example:
        A list of samples and classes stands in for a set of `neurobench.datasets`:
        >>> import numpy as np
        >>> from slax_data import neurobench_arrays
        >>> dataset = [(np.ones((5, 3)), 0), (np.ones((4, 3)), 1)]
        >>> values, targets, lengths = neurobench_arrays(dataset)
        >>> values.shape, targets, lengths
        ((2, 5, 3), array([0, 1]), array([5, 4]))
    """
    chosen = range(len(dataset)) if indices is None else list(indices)
    if not chosen:
        raise ValueError(
            f"{type(dataset).__name__} gives no samples, got {len(dataset)} of them and indices={indices}."
        )
    samples, targets = zip(*((np.asarray(part) for part in dataset[index][:2]) for index in chosen), strict=True)
    for part, shapes in (("samples", {s.shape[1:] for s in samples}), ("targets", {t.shape for t in targets})):
        if len(shapes) > 1:
            raise ValueError(f"{type(dataset).__name__} has {part} of different shapes: {sorted(shapes)}.")
    if not samples[0].ndim:
        raise ValueError(f"{type(dataset).__name__} must yield samples [T, ...], got numbers.")
    values, mask = padded([sample.reshape(len(sample), -1).astype(np.float32) for sample in samples])
    array = np.asarray(time_first(values)).reshape(len(samples), len(values), *samples[0].shape[1:])
    return array, np.stack(targets), np.asarray(mask).sum(axis=0)


def neurobench_task(
    key: PRNGKeyArray,
    sets: dict[str, Arrays],
    *,
    n_classes: int,
    n_steps: int | None = None,
    code: str = "delta",
    threshold: float = THRESHOLD,
    rate: int = 16_000,
    n_channels: int = 70,
) -> Task:
    """The samples of `neurobench_arrays` as a `Task`, for sets whose targets are classes.

        sets = {"train": neurobench_arrays(SpeechCommands(path, subset="training")), "test": neurobench_arrays(...)}
        task = neurobench_task(key, sets, n_classes=35, n_steps=100, code="cochlea")

    The spikes are made at each call, since these objects have no lasting identity. To keep the spikes of a cochlea, which
    take minutes for thousands of sounds, name them yourself with `cached_sets` of slax_data.storage.packed:

        def make():
            return neurobench_spikes({"train": neurobench_arrays(...), "test": ...}, n_steps=100, code="cochlea")

        spikes = cached_sets(folder, "speech_commands", ["training", "testing", 100], make)
        task = stored_task(spikes, n_classes=35, padding="silence")

    Args:
        key: not used; the spikes are deterministic.
        sets: arrays of "train" and "test", and perhaps of further splits.
        n_classes: number of classes.
        n_steps: T. For sounds any number, by default 100; otherwise at least the length of the longest sample, the default.
        code: "delta" for real numbers (see `time_series_task`), "frames" for frames of events, where a unit has a spike at a
            step if its count is not 0, or "cochlea" for sounds (see `encode_audio`) of one channel.
        threshold: threshold of the delta code.
        rate: samples per second of sounds.
        n_channels: neurons of the cochlea, up to 3,600 Hz or 0.45 of the rate.

    Raises:
        ValueError: an unknown code, too few steps, targets that are not classes, a split that lacks a class, or the errors of
            the encoders.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> from slax_data import neurobench_arrays, neurobench_task
        >>> frames = np.random.default_rng(0).poisson(0.2, (4, 10, 6))
        >>> arrays = neurobench_arrays([(sample, i % 2) for i, sample in enumerate(frames)])
        >>> task = neurobench_task(jax.random.key(0), {"train": arrays, "test": arrays}, n_classes=2, code="frames")
        >>> task.full_split("test")[0].shape
        (10, 4, 6)
    """
    for _, targets, _ in sets.values():
        check_labels(targets, n_classes=n_classes)
    spikes = neurobench_spikes(sets, n_steps=n_steps, code=code, threshold=threshold, rate=rate, n_channels=n_channels)
    return stored_task(spikes, n_classes=n_classes, padding="silence")


def neurobench_spikes(
    sets: dict[str, Arrays],
    *,
    n_steps: int | None = None,
    code: str = "delta",
    threshold: float = THRESHOLD,
    rate: int = 16_000,
    n_channels: int = 70,
) -> dict[str, SpikeTrains]:
    """The spikes of the task that `neurobench_task` makes with the same options.

    Example:
        >>> import numpy as np
        >>> from slax_data import neurobench_arrays, neurobench_spikes
        >>> arrays = neurobench_arrays([(np.ones((10, 6)), 0), (np.zeros((8, 6)), 1)])
        >>> spikes = neurobench_spikes({"train": arrays, "test": arrays}, code="frames")
        >>> spikes["train"].packed.shape, spikes["train"].lengths
        ((2, 10, 1), Array([10,  8], dtype=int32))
    """
    check_choice("code", code, CODES)
    if n_steps is not None:
        check_size("n_steps", n_steps)
    check_splits("sets", {split: {"shape of a step": values.shape[2:]} for split, (values, _, _) in sets.items()})
    if code == "cochlea":
        cochlea = make_cochlea(rate, n_channels)
        duration = max(values.shape[1] for values, _, _ in sets.values()) / rate
        return {split: _heard(one, rate, n_steps or 100, duration, cochlea) for split, one in sets.items()}
    if code == "frames":
        longest = max(values.shape[1] for values, _, _ in sets.values())
        return {split: _framed(one, longest if n_steps is None else n_steps) for split, one in sets.items()}
    series = {split: Series(_flat(values), labels, lengths) for split, (values, labels, lengths) in sets.items()}
    return series_spikes(series, n_steps=n_steps, threshold=threshold)


def _flat(values: Shaped[np.ndarray, "D T ..."]) -> Shaped[np.ndarray, "D T N"]:
    return values.reshape(*values.shape[:2], -1)


def _framed(arrays: Arrays, n_steps: int) -> SpikeTrains:
    values, labels, lengths = arrays
    if n_steps < values.shape[1]:
        raise ValueError(
            f"n_steps got {n_steps}, expected at least {values.shape[1]}, the frames of the longest sample."
        )
    spikes = np.pad(_flat(values) != 0, [(0, 0), (0, n_steps - values.shape[1]), (0, 0)])
    return spike_trains(spikes, labels, lengths=lengths)


def _heard(arrays: Arrays, rate: int, n_steps: int, duration: float, cochlea: Cochlea) -> SpikeTrains:
    values, labels, lengths = arrays
    flat = _flat(values)
    if flat.shape[2] != 1:
        raise ValueError(f"Sounds must have one channel, [D, L, 1], got {list(values.shape)}.")
    sounds = [Sound(one[:length, 0], rate) for one, length in zip(flat, lengths, strict=True)]
    return encode_batch(sounds, labels, n_steps=n_steps, duration=duration, cochlea=cochlea)
