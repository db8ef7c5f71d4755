"""NeuroBench data sets as a task: the samples, which NeuroBench's classes yield one at a time, as arrays and as spikes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray, Shaped

from slax_data.audio.cochlea import Cochlea
from slax_data.audio.hearing import Sound, encode_recordings
from slax_data.checks import check_choice
from slax_data.sets.indexed import arrays_of, enough_steps, stacked
from slax_data.sets.japanese_vowels import THRESHOLD, Series, series_spikes
from slax_data.storage.packed import SpikeTrains, spike_trains
from slax_data.task import Task, check_splits, stored_task

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
        ((2, 5, 3), array([0, 1]), array([5, 4], dtype=int32))
    """
    values, targets, lengths = arrays_of(dataset, name=type(dataset).__name__, indices=indices)
    return values.astype(np.float32), targets, lengths


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

    ```python
    sets = {"train": neurobench_arrays(SpeechCommands(path, subset="training")), "test": neurobench_arrays(...)}
    task = neurobench_task(key, sets, n_classes=35, n_steps=100, code="cochlea")
    ```

    The spikes are made at each call, since these objects have no lasting identity. A cochlea takes minutes for thousands of
    sounds. `indexed_task` takes NeuroBench's objects themselves, with values as they are.

    Args:
        key: not used; the spikes are deterministic.
        sets: arrays of "train" and "test", and perhaps of further splits.
        n_classes: number of classes.
        n_steps: T. For sounds any number, by default 100; otherwise at least the length of the longest sample, the default.
        code: "delta" for real numbers (see `japanese_vowels_task`), "frames" for frames of events, where a unit has a spike
            at a step if its count is not 0, or "cochlea" for sounds (see `encode_audio`) of one channel.
        threshold: threshold of the delta code.
        rate: samples per second of sounds.
        n_channels: neurons of the cochlea, up to 3,600 Hz or 0.45 of the rate.

    Raises:
        ValueError: an unknown code, too few steps, targets that are not classes, a class that is in no split, or the errors of
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
    check_choice("code", code, ["delta", "frames", "cochlea"])
    check_splits("sets", {split: {"shape of a step": values.shape[2:]} for split, (values, _, _) in sets.items()})
    flat = {split: Series(one[0].reshape(*one[0].shape[:2], -1), *one[1:]) for split, one in sets.items()}
    longest = max(one.values.shape[1] for one in flat.values())
    if code == "cochlea":
        spikes = {split: _heard(one, rate, n_steps or 100, longest / rate, n_channels) for split, one in flat.items()}
    elif code == "frames":
        n_steps = enough_steps(n_steps, longest)
        frames = {split: stacked(one.values != 0, n_steps) for split, one in flat.items()}
        spikes = {split: spike_trains(frames[split], one.labels, lengths=one.lengths) for split, one in flat.items()}
    else:
        spikes = series_spikes(flat, n_steps=n_steps, threshold=threshold)
    return stored_task(spikes, n_classes=n_classes, padding="silence")


def _heard(series: Series, rate: int, n_steps: int, duration: float, n_channels: int) -> SpikeTrains:
    if series.values.shape[2] != 1:
        raise ValueError(f"Got sounds of shape {list(series.values.shape)}, expected one channel, [D, L, 1].")
    sounds = [Sound(one[:length, 0], rate) for one, length in zip(series.values, series.lengths, strict=True)]
    cochlea = Cochlea(n_channels=n_channels, highest=min(Cochlea.highest, 0.45 * rate))
    return encode_recordings(sounds, series.labels, n_steps=n_steps, duration=duration, cochlea=cochlea)
