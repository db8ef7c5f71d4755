"""A file of events as a stream: memory holds one block of events, however long the file is."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from slax_data.checks import check_size
from slax_data.encoding.events import check_duration
from slax_data.live.piece import StreamPiece

Events = tuple[np.ndarray, np.ndarray]


def read_events(path: str | Path, *, block: int = 65536) -> Iterator[Events]:
    r"""Read a file of events block by block.

    Args:
        path: a text file with a line `time,unit` for each event, and perhaps a first line of names; or an HDF5 file, ending in
            .h5 or .hdf5, with the datasets `times` and `units`.
        block: events that are read together, at least 1.

    Returns:
        An iterator over (times, units), each of E <= block events.

    Raises:
        FileNotFoundError: raised at the call: no such file.
        ValueError: a line that is not a time and a unit; an HDF5 file without the two datasets, or with different lengths.
        ImportError: h5py is missing.

    Example:
        >>> import os, tempfile
        >>> from slax_data import read_events
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "events.csv")
        ...     with open(path, "w") as file:
        ...         _ = file.write("0.1,3\n0.25,0\n0.3,2\n")
        ...     [times.tolist() for times, units in read_events(path, block=2)]
        [[0.1, 0.25], [0.3]]
    """
    check_size("block", block)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_events got {path}, expected a file of events.")
    return _blocks_of_hdf5(path, block) if path.suffix in (".h5", ".hdf5") else _blocks_of_text(path, block)


def event_pieces(events: Iterable[Events], *, n_units: int, step: float, length: int = 1) -> Iterator[StreamPiece]:
    """Turn events in the order of their times into pieces of a stream of one sample; each step holds the spikes of its events.

        spikes[k, n] = 1 if there is an event with unit n and k step <= time < (k + 1) step

    A time that differs from an edge k step by rounding alone is at the edge, and so in step k, as in `bin_events`.

    Args:
        events: blocks (times, units), as from `read_events`. Times begin at 0 and never decrease.
        n_units: N.
        step: duration of a step, in the unit of the times.
        length: steps L of a piece, at least 1; the last piece is filled with silence.

    Returns:
        An iterator over pieces with inputs [L, 1, N] and without targets, each with the number of its first step.

    Raises:
        ValueError: a time that decreases, is negative or not finite, a unit out of range.

    Example:
        >>> import numpy as np
        >>> from slax_data import event_pieces
        >>> events = [(np.array([0.1, 0.25, 2.9]), np.array([3, 0, 2]))]
        >>> [(piece.start, piece.inputs.sum()) for piece in event_pieces(events, n_units=4, step=1.0, length=2)]
        [(0, np.float32(2.0)), (2, np.float32(1.0))]
    """
    check_size("n_units", n_units)
    check_size("length", length)
    check_duration(step)
    return _pieces(events, n_units, step, length)


def _pieces(events: Iterable[Events], n_units: int, step: float, length: int) -> Iterator[StreamPiece]:
    number, latest = 0, 0.0  # of the piece that is being filled
    spikes = np.zeros((length, 1, n_units), np.float32)
    for times, units in events:
        exact = _checked(times, units, n_units, latest)
        steps = _steps(exact, step)
        begins = np.flatnonzero(np.diff(steps // length, prepend=-1))  # the first event of each piece
        for begin, end in itertools.pairwise([*begins, len(steps)]):
            while number < steps[begin] // length:
                yield StreamPiece(spikes, start=number * length)
                number, spikes = number + 1, np.zeros_like(spikes)
            spikes[steps[begin:end] % length, 0, units[begin:end]] = 1
        latest = exact[-1] if len(exact) else latest
    if spikes.any() or number:
        yield StreamPiece(spikes, start=number * length)


def _steps(times: np.ndarray, step: float) -> np.ndarray:
    """The step of each time."""
    quotients = times / step
    # Time, step and quotient are rounded: 0.15 / 0.05 is 2.9999999999999996, and 0.15 is the edge of step 3.
    return np.floor(quotients + 4 * np.spacing(quotients)).astype(np.int64)


def _checked(times: np.ndarray, units: np.ndarray, n_units: int, latest: float) -> np.ndarray:
    exact = times.astype(np.float64)
    if times.shape != units.shape or times.ndim != 1 or units.dtype.kind not in "iu":
        raise ValueError(
            f"Events have a time and an integer unit each, got times of shape {list(times.shape)} and units of "
            f"{units.dtype}{list(units.shape)}."
        )
    if not np.isfinite(exact).all() or (np.diff(exact, prepend=latest) < 0).any():
        raise ValueError(
            "Events of a stream come in the order of their times, from 0 on and finite, got "
            f"{exact[~np.isfinite(exact) | (np.diff(exact, prepend=latest) < 0)][0]:.6g} after {latest:.6g}. Sort them first."
        )
    if units.size and not 0 <= units.min() <= units.max() < n_units:
        raise ValueError(f"Events have units in 0..{n_units - 1}, got units from {units.min()} to {units.max()}.")
    return exact


def _blocks_of_text(path: Path, block: int) -> Iterator[Events]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = enumerate(csv.reader(file), start=1)
        while rows := list(itertools.islice(lines, block)):
            if rows[0][0] == 1 and not _is_number(rows[0][1]):
                rows = rows[1:]
            times, units = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
            for index, (number, row) in enumerate(rows):
                try:
                    times[index], units[index] = float(row[0]), int(row[1])
                except (ValueError, IndexError):
                    raise ValueError(
                        f"Line {number} of {path} is {','.join(row)!r}, expected a time and a unit, as in 0.25,3."
                    ) from None
            yield times, units


def _is_number(row: list[str]) -> bool:
    try:
        float(row[0])
    except (ValueError, IndexError):
        return False
    return True


def _blocks_of_hdf5(path: Path, block: int) -> Iterator[Events]:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} is read by h5py, which is not installed: pip install 'slax-data[events]'") from error
    with h5py.File(path, "r") as file:
        if not {"times", "units"} <= file.keys() or file["times"].shape != file["units"].shape:
            names = ", ".join(itertools.islice(file, 5)) + (f" and {len(file) - 5} more" if len(file) > 5 else "")
            raise ValueError(
                f"{path} has {names or 'nothing'}, expected the datasets times and units at its top, of the same length."
            )
        for first in range(0, len(file["times"]), block):
            yield file["times"][first : first + block], file["units"][first : first + block]
