"""The Spiking Heidelberg Digits and the Spiking Speech Commands: spoken words as the spikes of the 700 units of a cochlea."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray
from tqdm import tqdm

from slax_data.checks import check_choice, check_classes
from slax_data.encoding.events import binned, check_window
from slax_data.extras import import_extra
from slax_data.storage.packed import SpikeTrains, cached_sets, packed_trains
from slax_data.storage.whole_files import file_stamp, resolve_folder
from slax_data.task import Task, stored_task

N_UNITS = 700
DURATION = 1.4  # seconds, as is usual
LEFT_OUT = 2  # speakers whose recordings are the validation split of the digits
PAGE = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/"


class WordSet(NamedTuple):
    """One of the two sets: its files are `{name}_{split}.h5`."""

    name: str
    n_classes: int
    splits: tuple[str, ...]


SHD = WordSet("shd", 20, ("train", "test"))
SSC = WordSet("ssc", 35, ("train", "valid", "test"))


def shd(
    path: str | Path | None = None,
    *,
    split: str = "train",
    n_steps: int = 100,
    duration: float = DURATION,
    outside: str = "error",
    with_validation: bool = False,
) -> SpikeTrains:
    """Read the Spiking Heidelberg Digits: 0 to 9, in English and then in German, by twelve speakers.

    There are 8,156 training recordings and 2,264 test recordings, which include all recordings of two speakers.

    Args:
        path: the folder with shd_train.h5 and shd_test.h5, by default `data_folder()`.
        split: "train", "test" or, with `with_validation`, "validation".
        n_steps: T.
        duration: seconds of the window. The recordings of the digits end before 1.4 s.
        outside: treatment of spikes after the window, "error" or "drop".
        with_validation: whether a part of the training split is the split "validation" instead, to choose settings by: all
            recordings of the two speakers with the highest numbers in shd_train.h5, since the test has speakers of its own.

    Returns:
        Spikes, in [D, T, N], and labels, 0 to 9 in English and 10 to 19 in German. A recording's length is set by its last
        spike.

    Raises:
        FileNotFoundError: no such file; the error says where to get it.
        ImportError: h5py is missing.
        ValueError: an option outside its range, or a file that is truncated, damaged or of another format.

    Note:
        Damaged files are rejected, except for a few that make the HDF5 library itself hang. The site provides checksums.

    References:
        B. Cramer, Y. Stradmann, J. Schemmel, F. Zenke, "The Heidelberg spiking data sets for the systematic evaluation of
        spiking neural networks", 2020, doi 10.1109/TNNLS.2020.3044364. The sets are under CC BY 4.0.

    Example:
        `shd()` reads shd_train.h5 in `data_folder()`. A file of that form, with a spike in each recording:
        >>> import tempfile
        >>> import h5py
        >>> import numpy as np
        >>> from slax_data import shd
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with h5py.File(f"{folder}/shd_train.h5", "w") as file:
        ...         file["labels"] = np.arange(20)
        ...         for name, dtype, value in (("times", "float32", 0.5), ("units", "int32", 3)):
        ...             data = file.create_dataset(f"spikes/{name}", (20,), h5py.vlen_dtype(dtype))
        ...             data[:] = np.full((20, 1), value, dtype)
        ...     recordings = shd(folder, split="train", n_steps=50)
        >>> recordings.packed.shape, recordings.n_units
        ((20, 50, 88), 700)
    """
    return _read(SHD, path, split, with_validation, n_steps=n_steps, duration=duration, outside=outside)


def shd_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 100,
    code: str = "events",
    path: str | Path | None = None,
    duration: float = DURATION,
    outside: str = "error",
    with_validation: bool = False,
    cache: str | Path | None = None,
) -> Task:
    """The Spiking Heidelberg Digits as a `Task`.

    The files are read once: the spikes are kept in a file whose name changes with everything that they depend on.

    Args:
        key: not used; nothing is drawn.
        n_steps: T.
        code: "events", as they were recorded.
        path, duration, outside, with_validation: see `shd`.
        cache: folder for the spikes, by default `data_folder()`.

    Raises:
        FileNotFoundError, ImportError, ValueError: as `shd` does.

    Example:
        With shd_train.h5 and shd_test.h5 in the folder, this is the task. Without them, the error says where to get
        them:
        >>> import jax
        >>> from slax_data import shd_task
        >>> shd_task(jax.random.key(0), path="no/such/folder", n_steps=100)
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no ...shd_train.h5. Unpack shd_train.h5.gz of https://zenkelab.org/...
    """
    return _task(SHD, code, path, cache, with_validation, n_steps=n_steps, duration=duration, outside=outside)


def ssc_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 100,
    code: str = "events",
    path: str | Path | None = None,
    duration: float = DURATION,
    outside: str = "error",
    cache: str | Path | None = None,
) -> Task:
    """The Spiking Speech Commands, 35 words by many speakers, as a `Task`, which also has the split "valid".

    There are 75,466 recordings for training, 9,981 for validation, and 20,382 for testing.

    Args:
        key: not used; nothing is drawn.
        path: the folder with ssc_train.h5, ssc_valid.h5 and ssc_test.h5, by default `data_folder()`.
        n_steps, code, duration, outside, cache: see `shd_task`.

    Raises:
        FileNotFoundError, ImportError, ValueError: as `shd` does.

    Example:
        With ssc_train.h5, ssc_valid.h5 and ssc_test.h5 in the folder, this is the task. Without them, the error says
        where to get them:
        >>> import jax
        >>> from slax_data import ssc_task
        >>> ssc_task(jax.random.key(0), path="no/such/folder", n_steps=100)
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no ...ssc_train.h5. Unpack ssc_train.h5.gz of https://zenkelab.org/...
    """
    return _task(SSC, code, path, cache, False, n_steps=n_steps, duration=duration, outside=outside)


def _task(
    words: WordSet, code: str, path: str | Path | None, cache: str | Path | None, with_validation: bool, **options: Any
) -> Task:
    check_choice("code", code, ["events"])
    stamps = [file_stamp(_file(words, path, split)) for split in words.splits]

    def read() -> dict[str, SpikeTrains]:
        return {one: _read(words, path, one, with_validation, **options) for one in _splits(words, with_validation)}

    sets = cached_sets(resolve_folder(cache), words.name, [sorted(options.items()), with_validation, *stamps], read)
    return stored_task(sets, n_classes=words.n_classes, padding="silence")


def _read(words: WordSet, path: str | Path | None, split: str, with_validation: bool, **window: Any) -> SpikeTrains:
    check_choice("split", split, _splits(words, with_validation))
    check_window(**window)
    file = _file(words, path, "train" if with_validation and split == "validation" else split)
    h5py = import_extra("h5py", extra="events")
    packed, lengths = [], []
    # h5py raises many types of errors for a damaged file, without naming the file.
    try:
        with h5py.File(file, "r") as content:
            times, units, labels = content["spikes/times"], content["spikes/units"], content["labels"][()]
            rows = np.arange(len(labels))
            if with_validation and split != "test":
                speakers = content["extra/speaker"][()]
                left_out = np.isin(speakers, np.unique(speakers)[-LEFT_OUT:])
                rows = np.flatnonzero(left_out == (split == "validation"))
            check_classes({split: labels[rows]}, n_classes=words.n_classes)
            for row in tqdm(rows, desc=file.name, unit="recordings", disable=None):
                try:
                    spikes = binned(times[row], units[row], n_units=N_UNITS, **window)
                except ValueError as error:
                    raise ValueError(f"recording {row}: {error}") from error
                packed.append(np.packbits(spikes, axis=-1))
                lengths.append(np.flatnonzero(spikes.any(axis=1)).max(initial=-1) + 1)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"Got {file}, expected a complete file of {words.name}: {error} Get it from {PAGE}") from error
    return packed_trains(np.stack(packed), labels[rows], np.array(lengths), n_units=N_UNITS)


def _splits(words: WordSet, with_validation: bool) -> tuple[str, ...]:
    return (*words.splits, "validation") if with_validation else words.splits


def _file(words: WordSet, path: str | Path | None, split: str) -> Path:
    file = resolve_folder(path) / f"{words.name}_{split}.h5"
    if not file.exists():
        raise FileNotFoundError(f"There is no {file}. Unpack {file.name}.gz of {PAGE} there, or give path=, a folder.")
    return file
