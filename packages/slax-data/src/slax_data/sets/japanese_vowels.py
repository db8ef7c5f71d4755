"""The Japanese Vowels, series of real numbers, as a task with spikes that encode their changes."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32, PRNGKeyArray

from slax_data.checks import check_choice, check_classes
from slax_data.encoding.delta_code import delta_encode
from slax_data.extras import import_extra
from slax_data.loading import time_first
from slax_data.sets.indexed import enough_steps, stacked
from slax_data.storage.packed import SpikeTrains, spike_trains
from slax_data.storage.whole_files import load_arrays
from slax_data.task import SPLITS, Task, check_splits, stored_task

THRESHOLD = 0.5  # standard deviations
SPEAKERS, VOWEL_STEPS = tuple(map(str, range(1, 10))), 29


class Series(NamedTuple):
    """The series of one split.

    Args:
        values: values of N channels, [D, T, N], 0 after the end of a series.
        labels: classes, [D].
        lengths: number of steps of each series, [D], at most T.
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
        ValueError: an unknown split, or a file that is damaged.

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
        return _of_aeon(split)
    arrays, fields = load_arrays(Path(path).expanduser()), [f"{split}_{field}" for field in Series._fields]
    kinds = (np.float32, np.int32, np.int32)
    return Series(*(arrays[field].astype(kind) for field, kind in zip(fields, kinds, strict=True)))


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
        n_steps: T, at least the length of the longest series, 29, which is the default: a step of a series is a step of the
            task, without resampling. Shorter series are followed by silence.
        code: "delta" (`delta_encode`): spikes of one unit where a channel has risen, of another where it has fallen. The
            reference starts at the channel's mean over all steps of the training series, so spikes also encode the start.
        threshold: size of a change, in standard deviations of the channel over all steps of the training series.
        path: see `japanese_vowels`.

    Raises:
        ImportError, FileNotFoundError: the errors of `japanese_vowels`.
        ValueError: an unknown code, too few steps, a split that lacks a speaker, or a threshold not above 0.

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
    check_choice("code", code, ["delta"])
    spikes = japanese_vowel_spikes(path, n_steps=n_steps, threshold=threshold)
    return stored_task(spikes, n_classes=len(SPEAKERS), padding="silence")


def japanese_vowel_spikes(
    path: str | Path | None = None, *, n_steps: int | None = None, threshold: float = THRESHOLD
) -> dict[str, SpikeTrains]:
    """The spikes of both splits of `japanese_vowels`; see `japanese_vowels_task` for the options.

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
    for split, one in series.items():
        check_classes({split: one.labels}, n_classes=len(SPEAKERS))
    return series_spikes(series, n_steps=n_steps, threshold=threshold)


def series_spikes(
    series: dict[str, Series], *, n_steps: int | None = None, threshold: float = THRESHOLD
) -> dict[str, SpikeTrains]:
    """The spikes of each split, with the reference and the unit of the training series, and two units per channel.

    Args:
        series: the series of "train" and "test", and perhaps of further splits.
        n_steps, threshold: see `japanese_vowels_task`; by default, n_steps is the length of the longest series.

    Raises:
        ValueError: too few steps, or series with other channels.
    """
    check_splits("series", {split: {"channels": one.values.shape[2]} for split, one in series.items()})
    n_steps = enough_steps(n_steps, max(int(one.lengths.max()) for one in series.values()))
    mean, deviation = mean_and_deviation(series["train"])
    with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
        return {
            split: _encoded((one.values - mean) / deviation, one, n_steps, threshold) for split, one in series.items()
        }


def _of_aeon(split: str) -> Series:
    channels_first, names = import_extra("aeon.datasets", extra="timeseries").load_japanese_vowels(split=split)
    samples = [np.asarray(one, np.float32).T for one in channels_first]
    labels, lengths = [SPEAKERS.index(name) for name in names], [len(one) for one in samples]
    return Series(stacked(samples, VOWEL_STEPS), np.array(labels, np.int32), np.array(lengths, np.int32))


def _within(series: Series, n_steps: int) -> Bool[np.ndarray, "D T"]:
    return np.arange(n_steps) < series.lengths[:, None]


def mean_and_deviation(series: Series) -> tuple[Float32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
    """The mean and standard deviation of each channel over all steps; a constant channel has deviation 1 and stays silent."""
    inside = series.values[_within(series, series.values.shape[1])].astype(np.float64)
    changes = inside.max(axis=0) > inside.min(axis=0)
    return inside.mean(axis=0).astype(np.float32), np.where(changes, inside.std(axis=0), 1).astype(np.float32)


def _encoded(values: Float32[np.ndarray, "D T N"], series: Series, n_steps: int, threshold: float) -> SpikeTrains:
    # A step at the mean precedes the first, so that the reference of the delta code starts there.
    values = np.pad(values[:, :n_steps], [(0, 0), (1, max(0, n_steps - values.shape[1])), (0, 0)])
    spikes = np.asarray(time_first(delta_encode(time_first(jnp.asarray(values)), threshold=threshold)))[:, 1:]
    # After the end of a series its values drop to 0, which is not a change of the series.
    spikes = (spikes > 0) & _within(series, n_steps)[:, :, None]
    return spike_trains(spikes, series.labels, lengths=series.lengths)
