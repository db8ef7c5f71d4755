# /// script
# requires-python = ">=3.11"
# dependencies = ["tonic==1.7.0", "slax-data"]
#
# [tool.uv.sources]
# slax-data = { path = "../../../packages/slax-data", editable = true }
# ///
"""N-MNIST and DVS128 Gesture through tonic: folders of the true form, the spikes that they must give, and what is refused."""

import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np

from slax_data import make_task

sys.path.insert(0, str(Path(__file__).parents[1]))
from contract import keeps_contract

SPLITS = {"train": ("Train", "ibmGestureTrain"), "test": ("Test", "ibmGestureTest")}
EACH = 1000  # N-MNIST files of each digit: tonic takes less than 10,000 for a set that is not there

Event = tuple[int, int, int, int]  # x, y, t in microseconds, p


def n_mnist_bytes(events: list[Event]) -> bytes:
    """x, y, and a bit of polarity before 23 bits of time."""
    return b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for x, y, t, p in events)


def n_mnist_events(digit: int, number: int, shift: int) -> list[Event]:
    """The third is of another polarity in each split, and the last after the window."""
    when = 1_000 * (number % 250) + 100 + shift
    return [(digit, 33, 0, 1), (33, 3 * digit, when, number % 2), (5, 5, 50_000, shift), (5, 5, 310_000, 0)]


def write_n_mnist(folder: Path) -> None:
    for shift, (split, (name, _)) in enumerate(SPLITS.items()):
        (folder / "NMNIST").mkdir(exist_ok=True)
        (folder / "NMNIST" / f"{split}.zip").write_bytes(b"")
        for digit in range(10):
            place = folder / "NMNIST" / name / str(digit)
            place.mkdir(parents=True)
            for number in range(EACH):
                (place / f"{number:05}.bin").write_bytes(n_mnist_bytes(n_mnist_events(digit, number, shift)))


def gesture_events(user: int, label: int, shift: int) -> np.ndarray:
    """x, y, p, t in milliseconds, as float64; the first event is not at 0."""
    return np.array([[0, 127, 0, 90], [label, user, 1, 90 + 100 * label + 50 * shift], [127, 127, 1, 2089]], float)


def write_gestures(folder: Path) -> None:
    for shift, (_, name) in enumerate(SPLITS.values()):
        (folder / "DVSGesture").mkdir(exist_ok=True)
        (folder / "DVSGesture" / f"{name}.tar.gz").write_bytes(b"")
        for user in range(10):
            place = folder / "DVSGesture" / name / f"user{user:02}_led"
            place.mkdir(parents=True)
            for label in range(11):
                np.save(place / f"{label}.npy", gesture_events(user, label, shift))


def spikes_at(events: list[Event], step: float, n_steps: int, side: int, factor: int) -> set[tuple[int, int]]:
    """Steps and units of events within the steps, by the definition."""
    first = min(t for _, _, t, _ in events)
    width = side // factor
    placed = {(int((t - first) // step), ((y // factor) * width + x // factor) * 2 + p) for x, y, t, p in events}
    return {(at, unit) for at, unit in placed if at < n_steps}


def found_in(spikes: jax.Array) -> set[tuple[int, int]]:
    return {(int(step), int(unit)) for step, unit in zip(*np.nonzero(np.asarray(spikes)), strict=True)}


def check_n_mnist(folder: Path) -> None:
    options = {"path": folder, "cache": folder / "cache", "n_steps": 3, "pool": 17}
    task = make_task("nmnist", jax.random.key(0), **options)
    assert (task.n_units, task.n_classes, task.n_steps) == (8, 10, 3)
    keeps_contract(partial(make_task, "nmnist", **options))
    for shift, split in enumerate(SPLITS):
        spikes, labels = task.full_split(split)
        assert labels.tolist() == [digit for digit in range(10) for _ in range(EACH)]
        for row in range(0, 10 * EACH, 77):
            events = n_mnist_events(*divmod(row, EACH), shift)
            assert found_in(spikes[:, row]) == spikes_at(events, 100_000, 3, 34, 17), (split, row)
    (file,) = (folder / "cache").glob("nmnist-*")
    made = file.stat().st_mtime_ns
    assert np.array_equal(make_task("nmnist", jax.random.key(1), **options).full_split("test")[0], spikes)
    assert file.stat().st_mtime_ns == made

    bad = folder / "NMNIST" / "Train" / "3" / "00007.bin"
    for content, told in (
        (
            n_mnist_bytes(n_mnist_events(3, 7, 0))[:-1],
            "00007.bin has 19 bytes, expected 5 for each event. It is truncated.",
        ),
        (n_mnist_bytes([(34, 0, 0, 0)]), "00007.bin cannot be read. Events have x in 0..33, got values from 34 to 34."),
    ):
        bad.write_bytes(content)
        expect(ValueError, told, "nmnist", options)
    (folder / "NMNIST" / "Train" / "other").mkdir()
    (folder / "NMNIST" / "Train" / "other" / "1.bin").write_bytes(b"")
    expect(ValueError, "NMNIST has files whose names do not belong to the set", "nmnist", options)


def check_gestures(folder: Path) -> None:
    options = {"path": folder, "cache": folder / "cache", "n_steps": 30}
    task = make_task("dvs_gesture", jax.random.key(0), **options)
    assert (task.n_units, task.n_classes, task.n_steps) == (2 * 32**2, 11, 30)
    keeps_contract(partial(make_task, "dvs_gesture", **options))
    all_of_it = make_task("dvs_gesture", jax.random.key(0), **options | {"duration": None, "n_steps": 20, "pool": 1})
    assert all_of_it.n_units == 2 * 128**2
    for shift, split in enumerate(SPLITS):
        for one, step, n_steps, factor in ((task, 50_000, 30, 4), (all_of_it, 1_999_001 / 20, 20, 1)):
            spikes, labels = one.full_split(split)
            assert np.bincount(labels).tolist() == [10] * 11
            seen = [0] * 11
            for row, label in enumerate(labels.tolist()):
                user, seen[label] = seen[label], seen[label] + 1
                events = [(int(x), int(y), int(t) * 1000, int(p)) for x, y, p, t in gesture_events(user, label, shift)]
                assert found_in(spikes[:, row]) == spikes_at(events, step, n_steps, 128, factor), (split, row)

    bad = folder / "DVSGesture" / "ibmGestureTest" / "user03_led" / "4.npy"
    good = gesture_events(3, 4, 1)
    for change, told in (
        ({(1, 0): 128}, "4.npy has x from 0.0 to 128.0, expected 0..127."),
        ({(1, 2): 2}, "4.npy has p from 0.0 to 2.0, expected 0..1."),
        ({(1, 3): np.nan}, "4.npy has t from nan to nan"),
        ({(1, 3): -1}, "4.npy has t from -1.0"),
    ):
        events = good.copy()
        for place, value in change.items():
            events[place] = value
        np.save(bad, events)
        expect(ValueError, told, "dvs_gesture", options)
    np.save(bad, np.array([[{}] * 4], object), allow_pickle=True)
    expect(
        ValueError,
        "4.npy is not a complete .npy file of plain numbers: Object arrays cannot be loaded",
        "dvs_gesture",
        options,
    )
    np.save(bad, good[:, :3])
    expect(ValueError, "4.npy has float64 of shape [3, 3], expected numbers of shape [E, 4].", "dvs_gesture", options)
    np.save(bad, good.astype(np.int16))  # whose times in microseconds are more than its type can hold
    expect(ValueError, "4.npy has t from 90 to 2089, expected 0..31.", "dvs_gesture", options)
    np.save(bad, good)
    bad.write_bytes(bad.read_bytes()[:-9])
    expect(ValueError, "4.npy is not a complete .npy file", "dvs_gesture", options)
    bad.unlink()


def check_missing(folder: Path) -> None:
    for name, tonic in (("nmnist", "NMNIST"), ("dvs_gesture", "DVSGesture")):
        expect(FileNotFoundError, f"tonic.datasets.{tonic}({str(folder)!r}, train=True)", name, {"path": folder})
    assert not list(folder.iterdir())


def expect(kind: type[Exception], told: str, name: str, options: dict) -> None:
    try:
        make_task(name, jax.random.key(0), **options)
    except kind as error:
        assert told in str(error), error
    else:
        raise AssertionError(f"{name} did not raise: {told}")


if __name__ == "__main__":
    for write, check in (
        (write_n_mnist, check_n_mnist),
        (write_gestures, check_gestures),
        (lambda _: None, check_missing),
    ):
        with tempfile.TemporaryDirectory() as name:
            write(Path(name))
            check(Path(name))
