"""The Free Spoken Digit Dataset: 3,000 recordings of six speakers saying the digits 0 to 9, and the corresponding spikes."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, PRNGKeyArray

from slax_data.audio.cochlea import Cochlea
from slax_data.audio.hearing import Sound, encode_recordings, read_wav
from slax_data.checks import check_choice, check_classes
from slax_data.storage.packed import SpikeTrains, cached_sets
from slax_data.storage.whole_files import data_folder, download, file_stamp, read_archive, resolve_folder, sha256_of
from slax_data.task import Task, splits_of, stored_task

N_CLASSES = 10
RATE = 8000
ARCHIVE = "free-spoken-digit-dataset-26eb9aa.tar.gz"
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aa.tar.gz"
SHA256 = "6c549ebe9cafb9657467e64e956680778a6a69c7655de64d0ecea9bc59018c3d"
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)\.wav")
# What separates the splits: a part of a recording's name, and its values in the test and in the validation split. The set's
# authors intend the first recordings of each digit by each speaker for the test.
DIVISIONS = {
    "recording": ("take", {"0", "1", "2", "3", "4"}, {"5", "6", "7", "8", "9"}),
    "speaker": ("speaker", {"theo", "yweweler"}, {"jackson"}),
    "other_speaker": ("speaker", {"george", "lucas"}, {"theo"}),
}


class Recordings(NamedTuple):
    """The recordings of one split, ordered by name.

    Args:
        sounds: in [-1, 1), at 8,000 samples per second, of different lengths.
        labels: the digits.
        speakers: names of the speakers.
        takes: index of the recording among a speaker's recordings of a digit.
    """

    sounds: list[Sound]
    labels: Int32[np.ndarray, " D"]
    speakers: list[str]
    takes: Int32[np.ndarray, " D"]


def spoken_digits(
    path: str | Path | None = None, *, split: str = "train", split_by: str = "recording", with_validation: bool = False
) -> Recordings:
    """Read the recordings of one split.

    Args:
        path: the archive from the hosting site, an archive of your own, or a folder; by default the file of
            `download_spoken_digits`.
        split: "train", "test" or, with `with_validation`, "validation".
        split_by: property that separates the splits. "recording": the test split has the 300 recordings 0 to 4 of each digit
            by each speaker, as the set's authors intend, and the training split the other 2,700. "speaker": the test split has
            all 1,000 recordings of theo and yweweler, who are absent from the training split. "other_speaker": the same with
            george and lucas, for what was found with the other two.
        with_validation: whether a part of the training split is the split "validation" instead, to choose settings by: the
            recordings 5 to 9 of each digit by each speaker, or all recordings of jackson or, by other speaker, of theo.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: an unknown option, a damaged archive or recording, or a set that lacks recordings of a class.

    References:
        Z. Jackson and others, Free Spoken Digit Dataset, doi 10.5281/zenodo.1342401, CC BY-SA 4.0.

    Example:
        `spoken_digits()` reads the archive of `download_spoken_digits`. A folder with a recording of each digit:
        >>> import tempfile
        >>> import wave
        >>> from slax_data import spoken_digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for digit in range(10):
        ...         with wave.open(f"{folder}/{digit}_theo_7.wav", "wb") as file:
        ...             file.setparams((1, 2, 8000, 0, "NONE", "NONE"))
        ...             file.writeframes(bytes(2 * 4000))
        ...     recordings = spoken_digits(folder)
        >>> recordings.labels
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], dtype=int32)
        >>> recordings.sounds[0].samples.shape, recordings.sounds[0].rate, recordings.speakers[0]
        ((4000,), 8000, 'theo')
    """
    check_choice("split", split, splits_of(with_validation))
    check_choice("split_by", split_by, DIVISIONS)
    path = _place(path)
    found = [
        (match, read_wav(content, f"{path}: {name}"))
        for name, content in read_archive(path, lambda name: NAME.fullmatch(name.name) is not None)
        for match in [NAME.fullmatch(name.name)]
        if match and _split_of(match, split_by, with_validation) == split
    ]
    if other := {sound.rate for _, sound in found} - {RATE}:
        raise ValueError(f"Got recordings of {sorted(other)} Hz in {path}, expected {RATE}.")
    labels = np.array([int(match["digit"]) for match, _ in found], np.int32)
    check_classes({f"{split} by {split_by}": labels}, n_classes=N_CLASSES)
    takes = np.array([int(match["take"]) for match, _ in found], np.int32)
    return Recordings([sound for _, sound in found], labels, [match["speaker"] for match, _ in found], takes)


def download_spoken_digits(path: str | Path | None = None) -> Path:
    """Download the archive (16 MB) unless it already exists, and verify it.

    Args:
        path: destination, by default in `data_folder()`.

    Raises:
        ConnectionError: the site cannot be reached.
        ValueError: a file other than the expected one.

    Example:
        `path = download_spoken_digits()` fetches the archive once. A file that is already there is verified:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from slax_data import download_spoken_digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "digits.tar.gz")
        ...     size = path.write_bytes(b"a part of the archive")
        ...     download_spoken_digits(path)
        Traceback (most recent call last):
            ...
        ValueError: ...digits.tar.gz has the wrong checksum: its sha256 is ...
    """
    return download(URL, Path(path) if path else data_folder() / ARCHIVE, sha256=SHA256)


def spoken_digits_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 100,
    code: str = "cochlea",
    path: str | Path | None = None,
    split_by: str = "recording",
    with_validation: bool = False,
    duration: float = 1.0,
    n_channels: int = 70,
    cache: str | Path | None = None,
) -> Task:
    """Spoken digits as a `Task`, encoded as the spikes of a cochlea (`encode_audio`).

    The spikes of the entire set are made once and kept in a file whose name identifies what they depend on.

    Args:
        key: not used; the spikes are deterministic.
        n_steps: T.
        code: "cochlea".
        path, split_by, with_validation: see `spoken_digits`.
        duration: seconds of each recording that are encoded; 31 of the 3,000 are longer than 0.92 s.
        n_channels: number of neurons N of the cochlea; the Heidelberg Digits have 700.
        cache: folder for the spikes, by default `data_folder()`.

    Raises:
        FileNotFoundError, ValueError: as `spoken_digits` does, or for a value outside its range.

    Example:
        `spoken_digits_task(key)` takes the archive of `download_spoken_digits`. A folder with two recordings of each
        digit:
        >>> import tempfile
        >>> import wave
        >>> import jax
        >>> from slax_data import spoken_digits_task
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in (f"{digit}_theo_{take}.wav" for digit in range(10) for take in (0, 7)):
        ...         with wave.open(f"{folder}/{name}", "wb") as file:
        ...             file.setparams((1, 2, 8000, 0, "NONE", "NONE"))
        ...             file.writeframes(bytes(range(200)) * 8)
        ...     options = {"n_steps": 10, "duration": 0.1, "n_channels": 4}
        ...     task = spoken_digits_task(jax.random.key(0), path=folder, cache=folder, **options)
        >>> task.full_split("test")[0].shape
        (10, 10, 4)
    """
    check_choice("code", code, ["cochlea"])
    path = _place(path)
    options: dict[str, Any] = dict(n_steps=n_steps, split_by=split_by, with_validation=with_validation)
    options |= dict(duration=duration, n_channels=n_channels)
    depends_on = [sorted(options.items()), _stamp(path)]
    sets = cached_sets(resolve_folder(cache), "spoken_digits", depends_on, lambda: spoken_digit_spikes(path, **options))
    return stored_task(sets, n_classes=N_CLASSES, padding="silence")


def spoken_digit_spikes(
    path: str | Path | None = None,
    *,
    n_steps: int = 100,
    split_by: str = "recording",
    with_validation: bool = False,
    duration: float = 1.0,
    n_channels: int = 70,
) -> dict[str, SpikeTrains]:
    """The spikes of all splits, computed without a cache; see `spoken_digits_task` for the options.

    Example:
        `spoken_digit_spikes()` takes the archive of `download_spoken_digits`. A folder with two recordings of each
        digit:
        >>> import tempfile
        >>> import wave
        >>> from slax_data import spoken_digit_spikes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in (f"{digit}_theo_{take}.wav" for digit in range(10) for take in (0, 7)):
        ...         with wave.open(f"{folder}/{name}", "wb") as file:
        ...             file.setparams((1, 2, 8000, 0, "NONE", "NONE"))
        ...             file.writeframes(bytes(range(200)) * 8)
        ...     spikes = spoken_digit_spikes(folder, n_steps=10, duration=0.1, n_channels=4)
        >>> {split: trains.packed.shape for split, trains in spikes.items()}
        {'train': (10, 10, 1), 'test': (10, 10, 1)}
    """
    which: dict[str, Any] = dict(split_by=split_by, with_validation=with_validation)
    how: dict[str, Any] = dict(n_steps=n_steps, duration=duration, cochlea=Cochlea(n_channels=n_channels))
    found = {split: spoken_digits(path, split=split, **which) for split in splits_of(with_validation)}
    return {split: encode_recordings(one.sounds, one.labels, **how) for split, one in found.items()}


def _split_of(match: re.Match[str], split_by: str, with_validation: bool) -> str:
    """The split of a recording, by its name."""
    part, of_test, of_validation = DIVISIONS[split_by]
    if match[part] in of_test:
        return "test"
    return "validation" if with_validation and match[part] in of_validation else "train"


def _place(path: str | Path | None) -> Path:
    place = Path(path).expanduser() if path else data_folder() / ARCHIVE
    if not place.exists():
        cure = f"Get it with slax_data.download_spoken_digits(), or give path=, of {URL} or of a folder of recordings."
        raise FileNotFoundError(f"There is no {place}. {cure}")
    return place


def _stamp(path: Path) -> str:
    """A value that changes with the recordings: the checksum of an archive, or names, sizes and times of a folder's files."""
    if path.is_file():
        return sha256_of(path)
    return " ".join(map(file_stamp, sorted(path.rglob("*.wav"))))
