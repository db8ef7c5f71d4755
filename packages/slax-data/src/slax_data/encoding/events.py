"""Conversion of event lists, which state when each unit fired, to spikes in time steps."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Shaped
from tqdm import tqdm

from slax_data.checks import check_choice, check_size
from slax_data.storage.packed import SpikeTrains, trains_of_bytes

OUTSIDE = ("error", "drop")


def bin_events(
    times: Shaped[np.ndarray, "..."] | Sequence[float],
    units: Shaped[np.ndarray, "..."] | Sequence[int],
    *,
    n_units: int,
    n_steps: int,
    duration: float,
    outside: str = "error",
) -> Bool[np.ndarray, "T N"]:
    """The spikes of one recording: a unit has one in each step that holds at least one of its events.

        spikes[k, n] = there is an e with units[e] = n and k duration / T <= times[e] < (k + 1) duration / T

    Args:
        times: times of the E events, in any order, in seconds or another unit of time shared with `duration`, [E], as an array
            or a list.
        units: the unit that fired at each event, integers in 0..N-1, [E]. Ids of units that are other numbers become such
            integers by `np.searchsorted(ids, units)`, with the sorted ids of all recordings. A recording without events may
            have any type.
        n_units: N.
        n_steps: T.
        duration: duration of the window, which begins at 0.
        outside: treatment of events at or after the end of the window: "error", or "drop" to omit them. Any other
            defect is an error in both cases.

    Raises:
        ValueError: a time that is NaN, infinite, negative or not before the end, a unit out of range, units that are not
            integers, different numbers of times and units, or an option outside its range.

    Example:
        >>> import numpy as np
        >>> from slax_data import bin_events
        >>> times, units = np.array([0.1, 0.12, 0.9]), np.array([0, 0, 2])
        >>> bin_events(times, units, n_units=3, n_steps=2, duration=1.0)
        array([[ True, False, False],
               [False, False,  True]])
    """
    check_size("n_units", n_units)
    check_size("n_steps", n_steps)
    check_duration(duration)
    check_choice("outside", outside, OUTSIDE)
    times, units = np.asarray(times), np.asarray(units)
    if times.ndim != 1 or times.shape != units.shape:
        raise ValueError(
            f"Events have a time and a unit each, got times of shape {list(times.shape)} and units of {list(units.shape)}."
        )
    if not times.size:  # whatever its type: np.array([]) has floating-point numbers
        return np.zeros((n_steps, n_units), bool)
    if times.dtype.kind not in "iuf" or units.dtype.kind not in "iu":
        raise ValueError(
            f"Events have times that are numbers and units that are integers, got {times.dtype} and {units.dtype}."
        )
    if not 0 <= units.min() <= units.max() < n_units:
        raise ValueError(
            f"Events have units in 0..{n_units - 1}, got units from {units.min()} to {units.max()}. Ids that are other numbers "
            "become such units by np.searchsorted(ids, units), with the sorted ids of all recordings, "
            "ids = np.unique(np.concatenate(units_of_all))."
        )
    exact = times.astype(np.float64)
    if unknown := np.count_nonzero(~np.isfinite(exact)):
        raise ValueError(f"Events have times that are finite, got {unknown} NaN or infinite ones of {exact.size}.")
    if exact.min() < 0:
        raise ValueError(
            f"Events have times from 0 on, got {np.count_nonzero(exact < 0)} before, the first at {exact.min():.6g}."
        )
    inside = exact < duration
    if outside == "error" and not inside.all():
        raise ValueError(
            f"Events have times before the end of the window, {duration:.6g}, got {np.count_nonzero(~inside)} of {exact.size} "
            f"at or after it, the last at {exact.max():.6g}. Give a longer duration, or outside='drop' to leave them out."
        )
    # Compare with edges instead of rounding a quotient, so that an event at an edge falls in the step that begins there.
    edges = np.arange(1, n_steps) * duration / n_steps
    spikes = np.zeros((n_steps, n_units), bool)
    spikes[np.searchsorted(edges, exact[inside], side="right"), units[inside]] = True
    return spikes


def event_trains(
    recordings: Iterable[Bool[np.ndarray, "T N"]], labels: Shaped[np.ndarray, " D"], *, name: str
) -> SpikeTrains:
    """Pack recordings one after another, so that a set whose spikes would not fit into memory as booleans can be processed.

    Args:
        recordings: the spikes of at least one recording. The length of each is set by the step of its last spike.
        labels: their classes.
        name: name of the set, for the progress bar.
    """
    packed, lengths = [], []
    for spikes in tqdm(recordings, desc=name, total=len(labels), unit="recordings", disable=None):
        fired = np.flatnonzero(spikes.any(axis=1))
        packed.append(np.packbits(spikes, axis=-1))
        lengths.append(fired[-1] + 1 if fired.size else 0)
    return trains_of_bytes(np.stack(packed), labels, np.array(lengths), n_units=spikes.shape[1])


def check_duration(duration: float) -> None:
    """Raise an error unless `duration` is a finite time above 0."""
    if not 0 < duration < math.inf:
        raise ValueError(f"duration got {duration}, expected a time above 0.")
