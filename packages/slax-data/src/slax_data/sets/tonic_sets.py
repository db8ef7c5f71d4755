"""N-MNIST and DVS128 Gesture, recordings of an event camera, read by tonic."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, PRNGKeyArray, Shaped

from slax_data.checks import check_choice, check_labels, check_size
from slax_data.encoding.events import bin_events, check_duration, event_trains
from slax_data.storage.packed import SpikeTrains, cached_sets
from slax_data.storage.whole_files import resolve_folder
from slax_data.task import SPLITS, Task, stored_task

MICROSECONDS = 1e6  # microseconds in a second
N_MNIST_EVENT = 5  # bytes per event
GESTURE_SIDE = 128  # pixels


class CameraSet(NamedTuple):
    """A data set of tonic.

    Args:
        name: name in `DATASETS`.
        tonic: name of its class in `tonic.datasets`.
        n_classes: number of classes.
        side: width and height of the sensor in pixels.
        check_file: function that raises ValueError for a file that tonic would misread without an error.
    """

    name: str
    tonic: str
    n_classes: int
    side: int
    check_file: Callable[[Path], None]


def nmnist_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 30,
    code: str = "events",
    path: str | Path | None = None,
    duration: float | None = 0.3,
    pool: int = 1,
    cache: str | Path | None = None,
) -> Task:
    """N-MNIST as a `Task`: MNIST's digits on a screen, recorded by a 34 x 34 pixel camera that moves three times in 0.3 s.

    There are 60,000 training recordings and 10,000 test recordings. The binned spikes are kept in a file whose name identifies
    what they depend on.

    Args:
        key: not used; nothing is drawn.
        n_steps: T.
        code: "events", as they were recorded.
        path: the folder that tonic saved to, with the folder NMNIST; by default `data_folder()`. Nothing is downloaded.
        duration: seconds after a recording's first event that are divided into steps; later events are dropped. With None,
            each recording is used in full, with steps of a matching length.
        pool: number of pixels in x and in y that are merged into one, 1, 2, 17 or 34.
        cache: folder for the spikes, by default `data_folder()`.

    Returns:
        A task with N = 2 (34 / pool)^2 units, of which (y W + x) 2 + p is the pixel x, y of W in a row that became darker
        (p = 0) or brighter (p = 1): spikes.reshape(T, B, H, W, 2) are images.

    Raises:
        FileNotFoundError: the files are missing.
        ImportError: tonic is missing.
        ValueError: an option outside its range, or a file that is truncated, damaged or of another format.

    References:
        G. Orchard, A. Jayawant, G. K. Cohen, N. Thakor, "Converting static image datasets to spiking neuromorphic datasets
        using saccades", 2015, doi 10.3389/fnins.2015.00437.

    Example:
        With the folder NMNIST of tonic in data, `nmnist_task(key, path="data", pool=2)` has 2 x 17 x 17 units. Options
        are checked before any file is read:
        >>> import jax
        >>> from slax_data import nmnist_task
        >>> nmnist_task(jax.random.key(0), n_steps=30, pool=3)
        Traceback (most recent call last):
            ...
        ValueError: pool got 3, expected a divisor of the 34 pixels of the sensor's sides.
    """
    return _task(NMNIST, code, path, cache, n_steps=n_steps, duration=duration, pool=pool)


def dvs_gesture_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 60,
    code: str = "events",
    path: str | Path | None = None,
    duration: float | None = 1.5,
    pool: int = 4,
    cache: str | Path | None = None,
) -> Task:
    """DVS128 Gesture as a `Task`: 11 gestures of hands and arms in front of a 128 x 128 pixel camera.

    There are 1,077 training and 264 test recordings, most of about 6 s, as tonic cuts them, with times in milliseconds.

    Args:
        key: not used; nothing is drawn.
        n_steps: T.
        code: "events", as they were recorded.
        path: the folder that tonic saved to, with the folder DVSGesture; by default `data_folder()`. Nothing is downloaded.
        duration, cache: see `nmnist_task`.
        pool: number of pixels in x and in y that are merged into one, a power of two; by default 32 x 32 remain.

    Returns:
        A task whose units are numbered as in `nmnist_task`.

    Raises:
        FileNotFoundError, ImportError, ValueError: as `nmnist_task` does.

    References:
        A. Amir and others, "A low power, fully event-based gesture recognition system", 2017, doi 10.1109/CVPR.2017.781.

    Example:
        With the folder DVSGesture of tonic in data, `dvs_gesture_task(key, path="data")` has 2 x 32 x 32 units. Options
        are checked before any file is read:
        >>> import jax
        >>> from slax_data import dvs_gesture_task
        >>> dvs_gesture_task(jax.random.key(0), n_steps=60, pool=5)
        Traceback (most recent call last):
            ...
        ValueError: pool got 5, expected a divisor of the 128 pixels of the sensor's sides.
    """
    return _task(DVS_GESTURE, code, path, cache, n_steps=n_steps, duration=duration, pool=pool)


def _check_nmnist_file(file: Path) -> None:
    if file.stat().st_size % N_MNIST_EVENT:
        raise ValueError(
            f"{file} has {file.stat().st_size} bytes, expected {N_MNIST_EVENT} for each event. It is truncated."
        )


def _check_gesture_file(file: Path) -> None:
    """Raise an error for values that tonic's types cannot hold, since tonic would misread them without an error."""
    try:
        events = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is not a complete .npy file of plain numbers: {error}") from error
    if events.ndim != 2 or events.shape[1] != 4 or events.dtype.kind not in "iuf":
        raise ValueError(f"{file} has {events.dtype} of shape {list(events.shape)}, expected numbers of shape [E, 4].")
    largest = 2**53 if events.dtype.kind == "f" else np.iinfo(events.dtype).max
    for name, values, end in zip("xypt", events.T, (GESTURE_SIDE, GESTURE_SIDE, 2, largest // 1000), strict=True):
        if values.size and not (values.min() >= 0 and values.max() < end):
            raise ValueError(f"{file} has {name} from {values.min()} to {values.max()}, expected 0..{end - 1}.")


NMNIST = CameraSet("nmnist", "NMNIST", 10, 34, _check_nmnist_file)
DVS_GESTURE = CameraSet("dvs_gesture", "DVSGesture", 11, GESTURE_SIDE, _check_gesture_file)


def _task(camera: CameraSet, code: str, path: str | Path | None, cache: str | Path | None, **options: Any) -> Task:
    check_choice("code", code, ["events"])
    _check_options(camera.side, **options)
    folder = resolve_folder(path)
    files = {split: _files(camera, folder, split) for split in SPLITS}
    depends_on = [
        sorted(options.items()),
        [(split, *_stamp(file, folder)) for split, (_, order) in files.items() for file, _ in order],
    ]
    sets = cached_sets(
        resolve_folder(cache),
        camera.name,
        depends_on,
        lambda: {split: _read(camera, split, *files[split], **options) for split in SPLITS},
    )
    return stored_task(sets, n_classes=camera.n_classes, padding="silence")


def _files(camera: CameraSet, folder: Path, split: str) -> tuple[Any, list[tuple[Path, int]]]:
    """The tonic data set, and its files with their indices, sorted by name, since tonic leaves the order to the file system."""
    try:
        import tonic.datasets
    except ImportError as error:
        raise ImportError(
            f"{camera.name} is read by tonic, which is not installed. Install it: pip install 'slax-data[tonic]'"
        ) from error

    def refuse(_: Any) -> None:
        raise FileNotFoundError(
            f"There is no {camera.tonic} with its archive and all of its files in {folder}. Get it with "
            f"tonic.datasets.{camera.tonic}({str(folder)!r}, train={split == 'train'}), or give path=, where it is."
        )

    # tonic downloads missing files, and it looks for files in a folder named after the class.
    here = type(camera.tonic, (getattr(tonic.datasets, camera.tonic),), {"download": refuse})
    try:
        dataset = here(str(folder), train=split == "train")
    except ValueError as error:
        raise ValueError(f"{folder / camera.tonic} has files whose names do not belong to the set: {error}.") from error
    return dataset, sorted((Path(file), index) for index, file in enumerate(dataset.data))


def _read(camera: CameraSet, split: str, dataset: Any, order: list[tuple[Path, int]], **options: Any) -> SpikeTrains:
    labels = np.array([dataset.targets[index] for _, index in order], np.int32)
    check_labels(labels, n_classes=camera.n_classes)

    def recordings() -> Iterator[Bool[np.ndarray, "T N"]]:
        for file, index in order:
            camera.check_file(file)
            try:
                spikes = _spikes(dataset[index][0], camera.side, **options)
            except ValueError as error:
                raise ValueError(f"{file} cannot be read. {error}") from error
            yield spikes

    return event_trains(recordings(), labels, name=f"{camera.name} {split}")


def _spikes(
    events: Shaped[np.ndarray, " E"], side: int, *, n_steps: int, duration: float | None, pool: int
) -> Bool[np.ndarray, "T N"]:
    for axis, size in (("x", side), ("y", side), ("p", 2)):
        values = events[axis]
        if values.size and not 0 <= values.min() <= values.max() < size:
            raise ValueError(f"Events have {axis} in 0..{size - 1}, got values from {values.min()} to {values.max()}.")
    x, y, p, times = (events[field].astype(np.int64) for field in ("x", "y", "p", "t"))
    width = side // pool
    units = (y // pool * width + x // pool) * 2 + p
    times -= times.min(initial=np.iinfo(np.int64).max)
    window = duration * MICROSECONDS if duration else float(times.max(initial=0) + 1)
    return bin_events(times, units, n_units=2 * width**2, n_steps=n_steps, duration=window, outside="drop")


def _check_options(side: int, *, n_steps: int, duration: float | None, pool: int) -> None:
    check_size("n_steps", n_steps)
    check_size("pool", pool)
    if duration is not None:
        check_duration(duration)
    if side % pool:
        raise ValueError(f"pool got {pool}, expected a divisor of the {side} pixels of the sensor's sides.")


def _stamp(file: Path, folder: Path) -> tuple[str, int, int]:
    """Values that change with a file: its name, size and time, since reading 70,000 files for checksums would be slow."""
    status = file.stat()
    return file.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns
