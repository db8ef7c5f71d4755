"""Series of real numbers as a task, with spikes that encode their changes: Japanese Vowels and Basic Motions."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32, PRNGKeyArray, Shaped

from slax_data.checks import check_choice, check_labels, check_size
from slax_data.encoding.delta_code import delta_encode
from slax_data.loading.batching import time_first
from slax_data.loading.padding import padded
from slax_data.storage.packed import SpikeTrains, spike_trains
from slax_data.storage.whole_files import load_arrays
from slax_data.task import SPLITS, Task, check_splits, stored_task

CODES = ("delta",)
THRESHOLD = 0.5  # standard deviations
SPEAKERS, VOWEL_STEPS = tuple(map(str, range(1, 10))), 29
MOTIONS, MOTION_STEPS = ("badminton", "running", "standing", "walking"), 100


class Series(NamedTuple):
    """The series of one split.

    Args:
        values: values of N channels, [D, T, N], 0 after the end of a series.
        labels: classes, [D].
        lengths: number of steps of each series, [D], at most T.

    Example:
        >>> import numpy as np
        >>> from slax_data import Series, time_series_task
        >>> values = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
        >>> series = Series(values, labels=np.array([0, 1], np.int32), lengths=np.array([10, 7], np.int32))
        >>> task = time_series_task({"train": series, "test": series}, n_classes=2)
        >>> task.n_units, task.n_steps
        (6, 10)
    """

    values: Float32[np.ndarray, "D T N"]
    labels: Int32[np.ndarray, " D"]
    lengths: Int32[np.ndarray, " D"]


def japanese_vowels(path: str | Path | None = None, *, split: str = "train") -> Series:
    """The Japanese vowels /ae/ spoken by nine men, who are the classes: 12 cepstrum coefficients in 7 to 29 steps.

    The split is the one defined by the set's authors: 30 series of each speaker for training, 270 in total, and 24 to 88 for
    testing, 370 in total.

    Args:
        path: an .npz file with `values`, `labels` and `lengths` of each split, such as `train_values`; by default the set is
            read from aeon, which includes it.
        split: "train" or "test".

    Raises:
        ImportError: aeon is missing, and no file was given.
        FileNotFoundError: there is no such file.
        ValueError: an unknown split, or a file that is damaged or has other content.

    References:
        M. Kudo, J. Toyama, M. Shimbo, "Multidimensional curve classification using passing-through regions", 1999,
        doi:10.1016/S0167-8655(99)00077-X. UCI Machine Learning Repository, doi:10.24432/C5NS47, CC BY 4.0.

    Example:
        `japanese_vowels()` reads the set from aeon. A file of two series:
        >>> import tempfile
        >>> import numpy as np
        >>> from slax_data import japanese_vowels
        >>> values, labels, lengths = np.zeros((2, 29, 12)), np.array([0, 8]), np.array([20, 26])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/vowels.npz", train_values=values, train_labels=labels, train_lengths=lengths)
        ...     series = japanese_vowels(f"{folder}/vowels.npz", split="train")
        >>> series.values.shape, series.lengths
        ((2, 29, 12), array([20, 26], dtype=int32))
    """
    check_choice("split", split, SPLITS)
    if path is None:
        return _of_aeon("load_japanese_vowels", split, SPEAKERS, VOWEL_STEPS)
    arrays, fields = load_arrays(Path(path).expanduser()), [f"{split}_{field}" for field in Series._fields]
    if missing := set(fields) - set(arrays):
        raise ValueError(f"{path} lacks the arrays {sorted(missing)}, got {sorted(arrays)}. Is it a file of series?")
    return checked_series(*(arrays[field] for field in fields), name=f"{path}, {split}")


def basic_motions(*, split: str = "train") -> Series:
    """The motions of four students measured by a watch: 3 axes of acceleration and 3 of rotation in 100 steps of 0.1 s.

    The classes are badminton, running, standing and walking; each split has ten series of each.

    Args:
        split: "train" or "test", as in the UEA archive.

    Raises:
        ImportError: aeon is missing.
        ValueError: an unknown split.

    References:
        A. Bagnall and others, "The UEA multivariate time series classification archive, 2018", arXiv:1811.00075.

    Example:
        Where aeon is installed, `basic_motions().values` has the shape (40, 100, 6). There are two splits:
        >>> from slax_data import basic_motions
        >>> basic_motions(split="validation")
        Traceback (most recent call last):
            ...
        ValueError: split got 'validation', expected one of: 'test', 'train'.
    """
    check_choice("split", split, SPLITS)
    return _of_aeon("load_basic_motions", split, MOTIONS, MOTION_STEPS)


def japanese_vowels_task(
    key: PRNGKeyArray,
    *,
    n_steps: int | None = None,
    code: str = "delta",
    threshold: float = THRESHOLD,
    path: str | Path | None = None,
) -> Task:
    """The Japanese Vowels as a `Task` of 24 units and 9 classes.

    Args:
        key: not used; the spikes are deterministic.
        n_steps, code, threshold: see `time_series_task`; 29 steps by default.
        path: see `japanese_vowels`.

    Raises:
        ImportError, FileNotFoundError, ValueError: the errors of those functions.

    Example:
        `japanese_vowels_task(key)` reads the set from aeon. A file with a series of each speaker in each split:
        >>> import tempfile
        >>> import jax
        >>> import numpy as np
        >>> from slax_data import japanese_vowels_task
        >>> one = {"values": np.zeros((9, 29, 12)), "labels": np.arange(9), "lengths": np.full(9, 29)}
        >>> arrays = {f"{split}_{name}": one[name] for split in ("train", "test") for name in one}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/vowels.npz", **arrays)
        ...     task = japanese_vowels_task(jax.random.key(0), path=f"{folder}/vowels.npz")
        >>> task.n_units, task.n_classes, task.n_steps
        (24, 9, 29)
    """
    check_series_code(code, n_steps)
    series = {split: japanese_vowels(path, split=split) for split in SPLITS}
    return time_series_task(series, n_classes=len(SPEAKERS), n_steps=n_steps, code=code, threshold=threshold)


def basic_motions_task(
    key: PRNGKeyArray, *, n_steps: int | None = None, code: str = "delta", threshold: float = THRESHOLD
) -> Task:
    """The Basic Motions as a `Task` of 12 units and 4 classes.

    Args:
        key: not used; the spikes are deterministic.
        n_steps, code, threshold: see `time_series_task`; 100 steps by default.

    Raises:
        ImportError: aeon is missing.
        ValueError: as `time_series_task` does.

    Example:
        Where aeon is installed, `basic_motions_task(key)` has 12 units and 100 steps. There is one code:
        >>> import jax
        >>> from slax_data import basic_motions_task
        >>> basic_motions_task(jax.random.key(0), code="rate")
        Traceback (most recent call last):
            ...
        ValueError: code got 'rate', expected one of: 'delta'.
    """
    check_series_code(code, n_steps)
    series = {split: basic_motions(split=split) for split in SPLITS}
    return time_series_task(series, n_classes=len(MOTIONS), n_steps=n_steps, code=code, threshold=threshold)


def japanese_vowel_spikes(
    path: str | Path | None = None, *, n_steps: int | None = None, threshold: float = THRESHOLD
) -> dict[str, SpikeTrains]:
    """The spikes of both splits of `japanese_vowels`; see `time_series_task` for the options.

    Example:
        `japanese_vowel_spikes()` reads the set from aeon. A file with a series of each speaker in each split:
        >>> import tempfile
        >>> import numpy as np
        >>> from slax_data import japanese_vowel_spikes
        >>> one = {"values": np.zeros((9, 29, 12)), "labels": np.arange(9), "lengths": np.full(9, 29)}
        >>> arrays = {f"{split}_{name}": one[name] for split in ("train", "test") for name in one}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/vowels.npz", **arrays)
        ...     spikes = japanese_vowel_spikes(f"{folder}/vowels.npz", threshold=0.5)
        >>> {split: (trains.packed.shape, trains.n_units) for split, trains in spikes.items()}
        {'train': ((9, 29, 3), 24), 'test': ((9, 29, 3), 24)}
    """
    series = {split: japanese_vowels(path, split=split) for split in SPLITS}
    return series_spikes(series, n_steps=n_steps, threshold=threshold)


def time_series_task(
    series: dict[str, Series],
    *,
    n_classes: int,
    n_steps: int | None = None,
    code: str = "delta",
    threshold: float = THRESHOLD,
) -> Task:
    """Series as a `Task`, with two units per channel.

    Args:
        series: the series of "train" and "test", and perhaps of further splits.
        n_classes: number of classes.
        n_steps: T, at least the length of the longest series, which is the default: a step of a series is a step of the task,
            without resampling. Shorter series are followed by silence.
        code: "delta" (`delta_encode`): spikes of one unit where a channel has risen, of another where it has fallen. The
            reference starts at the channel's mean over all steps of the training series, so spikes also encode the start.
        threshold: size of a change, in standard deviations of the channel over all steps of the training series.

    Raises:
        ValueError: an unknown code, too few steps, series with other channels or with values that are not numbers, or a split
            that lacks a class.

    Example:
        >>> import numpy as np
        >>> from slax_data import Series, time_series_task
        >>> values = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.float32)[:, :, None]
        >>> series = Series(values, labels=np.array([0, 1], np.int32), lengths=np.array([4, 4], np.int32))
        >>> task = time_series_task({"train": series, "test": series}, n_classes=2)
        >>> spikes, labels = task.full_split("test")
        >>> spikes.shape
        (4, 2, 2)
        >>> spikes.sum(axis=0)  # rises and falls of each series
        Array([[2., 1.],
               [1., 2.]], dtype=float32)
    """
    check_series_code(code, n_steps)
    spikes = series_spikes(series, n_steps=n_steps, threshold=threshold)
    return stored_task(spikes, n_classes=n_classes, padding="silence")


def series_spikes(
    series: dict[str, Series], *, n_steps: int | None = None, threshold: float = THRESHOLD
) -> dict[str, SpikeTrains]:
    """The spikes of the task that `time_series_task` makes with the same options."""
    checked = {split: checked_series(*one, name=split) for split, one in series.items()}
    check_splits("series", {split: {"channels": one.values.shape[2]} for split, one in checked.items()})
    longest = max(int(one.lengths.max()) for one in checked.values())
    n_steps = longest if n_steps is None else n_steps
    check_size("n_steps", n_steps)
    if n_steps < longest:
        raise ValueError(f"n_steps got {n_steps}, expected at least {longest}, the steps of the longest series.")
    mean, deviation = _mean_and_deviation(checked["train"])
    with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
        return {split: _encoded(one, mean, deviation, n_steps, threshold) for split, one in checked.items()}


def checked_series(
    values: Shaped[np.ndarray, "..."],
    labels: Shaped[np.ndarray, "..."],
    lengths: Shaped[np.ndarray, "..."],
    *,
    name: str,
) -> Series:
    """Make a `Series` from external arrays, after checking them.

    Args:
        values, labels, lengths: see `Series`.
        name: origin of the arrays, for error messages.

    Raises:
        ValueError: arrays of other shapes or types, values that are not finite, labels below 0, lengths outside 1..T.
    """
    if values.ndim != 3 or not values.size or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"{name}: values must be floats [D, T, N], got {values.dtype} of shape {list(values.shape)}.")
    for field, array in (("labels", labels), ("lengths", lengths)):
        if array.shape != values.shape[:1] or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"{name}: {field} must be {len(values)} integers, got {array.dtype} of shape {list(array.shape)}."
            )
    if unknown := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(f"{name}: values must be finite, got {unknown} that are not in {values.size}.")
    if lengths.min() < 1 or lengths.max() > values.shape[1]:
        raise ValueError(
            f"{name}: lengths must lie in 1..{values.shape[1]}, got values from {lengths.min()} to {lengths.max()}."
        )
    check_labels(labels, n_classes=int(labels.max()) + 1 if labels.max() >= 0 else 1)
    return Series(values.astype(np.float32), labels.astype(np.int32), lengths.astype(np.int32))


def check_series_code(code: str, n_steps: int | None) -> None:
    """Raise an error unless the code is known and the number of steps, if given, is a positive integer."""
    check_choice("code", code, CODES)
    if n_steps is not None:
        check_size("n_steps", n_steps)


def _of_aeon(loader: str, split: str, classes: tuple[str, ...], n_steps: int) -> Series:
    try:
        from aeon import datasets
    except ImportError as error:
        raise ImportError(
            "This set is part of aeon, which is not installed. Install it: pip install 'slax-data[timeseries]'"
        ) from error
    channels_first, names = getattr(datasets, loader)(split=split)
    labels = np.array([classes.index(name.lower()) for name in names])
    with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
        padding = padded([np.asarray(one, np.float32).T for one in channels_first], n_steps=n_steps)
        values, mask = (np.asarray(time_first(part)) for part in padding)
    return checked_series(values, labels, mask.sum(axis=1), name=f"aeon's {loader}, {split}")


def _within(series: Series, n_steps: int) -> Shaped[np.ndarray, "D T"]:
    return np.arange(n_steps) < series.lengths[:, None]


def _mean_and_deviation(series: Series) -> tuple[Float32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
    """The mean and standard deviation of each channel over all steps; a constant channel has deviation 1 and stays silent."""
    inside = series.values[_within(series, series.values.shape[1])].astype(np.float64)
    changes = inside.max(axis=0) > inside.min(axis=0)
    return inside.mean(axis=0).astype(np.float32), np.where(changes, inside.std(axis=0), 1).astype(np.float32)


def _encoded(
    series: Series,
    mean: Float32[np.ndarray, " N"],
    deviation: Float32[np.ndarray, " N"],
    n_steps: int,
    threshold: float,
) -> SpikeTrains:
    values = (series.values[:, :n_steps] - mean) / deviation
    # A step at the mean precedes the first, so that the reference of the delta code starts there.
    values = np.pad(values, [(0, 0), (1, n_steps - values.shape[1]), (0, 0)])
    spikes = np.asarray(time_first(delta_encode(time_first(jnp.asarray(values)), threshold=threshold)))[:, 1:]
    # After the end of a series its values drop to 0, which is not a change of the series.
    spikes = (spikes > 0) & _within(series, n_steps)[:, :, None]
    return spike_trains(spikes, series.labels, lengths=series.lengths)
