"""Conversion of event lists, which state when each unit fired, to spikes in time steps."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from slax_data.checks import check_choice, check_finite, check_size

OUTSIDE = ("error", "drop")


def bin_events(
    times: Shaped[np.ndarray, "..."] | Sequence[float],
    units: Shaped[np.ndarray, "..."] | Sequence[Any],
    *,
    n_units: int,
    n_steps: int,
    duration: float,
    outside: str = "error",
    counts: bool = False,
) -> Shaped[np.ndarray, "T ..."]:
    """Convert the events of one recording to spikes: a unit spikes in each step that has at least one of its events.

        spikes[k, n] = 1 if units[e] = n and k <= (T times[e]) / duration < k + 1    # for any event e

    Args:
        times: times of the E events, in any order, in seconds or another unit of time shared with `duration`, [E], as an array
            or a list.
        units: the unit that fired at each event, integers in 0..N-1, [E]. Ids of units that are other numbers become such
            integers by `np.searchsorted(ids, units)`, with the sorted ids of all recordings, and addresses by
            `np.ravel_multi_index((x, y, polarity), (34, 34, 2))`. A recording without events may have any type.
        n_units: N.
        n_steps: T.
        duration: duration of the window, which begins at 0.
        outside: treatment of events at or after the end of the window: "error", or "drop" to omit them. Any other
            defect is an error in both cases.
        counts: whether to return how many events there are, rather than whether there are any.

    Returns:
        Booleans, or counts as the smallest unsigned integers that hold them, of shape [T, N].

    Raises:
        ValueError: a time that is NaN, infinite, negative or not before the end, a unit out of range, units that are not
            integers, different numbers of times and units, or an option outside its range.

    Warns:
        UserWarning: at least ten events, all within 1 % of the duration.

    Example:
        >>> import numpy as np
        >>> from slax_data import bin_events
        >>> times, units = np.array([0.1, 0.12, 0.9]), np.array([0, 0, 2])
        >>> bin_events(times, units, n_units=3, n_steps=2, duration=1.0)
        array([[ True, False, False],
               [False, False,  True]])

        The events of a camera, as counts in frames [T, width, height, polarities]:
        >>> x, y, polarity = np.array([[3, 3, 0], [1, 1, 2], [0, 0, 1]])
        >>> addresses = np.ravel_multi_index((x, y, polarity), (4, 4, 2))
        >>> frames = bin_events(times, addresses, n_units=32, n_steps=2, duration=1.0, counts=True).reshape(2, 4, 4, 2)
        >>> frames.shape, int(frames[0, 3, 1, 0]), int(frames[1, 0, 2, 1])
        ((2, 4, 4, 2), 2, 1)
    """
    made = binned(times, units, n_units=n_units, n_steps=n_steps, duration=duration, outside=outside, counts=counts)
    late = np.count_nonzero(np.asarray(times) >= duration)
    if 2 * late > np.size(times):
        late_ones = f"{late} of {np.size(times)} times at or after the end of the window, {duration:.6g}"
        warnings.warn(f"Got {late_ones}, and left them out. Give times and duration in the same unit.", stacklevel=2)
    return made


def binned(
    times: Any, units: Any, *, n_units: int, n_steps: int, duration: float, outside: str, counts: bool = False
) -> np.ndarray:
    """`bin_events` without a word about how many events are left out."""
    check_size("n_units", n_units)
    check_window(n_steps, duration, outside)
    times, units = np.asarray(times), np.asarray(units)
    if times.ndim != 1 or times.shape != units.shape:
        cure = "Of addresses: np.ravel_multi_index((x, y, polarity), (width, height, 2))."
        raise ValueError(f"Got times {list(times.shape)} and units {list(units.shape)}, expected both [E]. {cure}")
    if not times.size:  # whatever its type: np.array([]) has floating-point numbers
        return np.zeros((n_steps, n_units), np.uint8 if counts else bool)
    if times.dtype.kind not in "iuf" or units.dtype.kind not in "iu":
        raise ValueError(f"Got times of {times.dtype} and units of {units.dtype}, expected numbers, and integers.")
    if not 0 <= units.min() <= units.max() < n_units:
        cure = "Of other ids: np.searchsorted(ids, units), with ids = np.unique(np.concatenate(units_of_all))."
        raise ValueError(f"Got units from {units.min()} to {units.max()}, expected 0..{n_units - 1}. {cure}")
    exact = times.astype(np.float64)
    check_finite("times", exact)
    if exact.min() < 0:
        raise ValueError(f"Got times from {exact.min():.6g} on, expected >= 0. Subtract the start of the recording.")
    inside = exact < duration
    if outside == "error" and not inside.all():
        got = f"{np.count_nonzero(~inside)} of {exact.size} times at or after the end of the window, {duration:.6g}"
        raise ValueError(f"Got {got}, the last at {exact.max():.6g}. Give a longer duration, or outside='drop'.")
    if exact.size >= 10 and 100 * exact.max() < duration:
        got = f"{exact.size} times up to {exact.max():.6g} for a duration of {duration:.6g}"
        warnings.warn(f"Got {got}, less than 1 % of it. Give both in the same unit.", stacklevel=2)
    # An event at an edge falls in the step that begins there, although neither 0.003 nor 3 * 0.1 / 100 is a binary number.
    half = float(np.finfo(np.float32).eps) / 2
    rounding = half / (1 + half) if times.dtype == np.float32 else 1e-12  # the largest of a number, relative to it
    edges = np.arange(1, n_steps) * duration / n_steps * (1 - rounding)
    steps, units = np.searchsorted(edges, exact[inside], side="right"), units[inside].astype(np.int64)
    if not counts:
        spikes = np.zeros((n_steps, n_units), bool)
        spikes[steps, units] = True
        return spikes
    found = np.bincount(steps * n_units + units, minlength=n_steps * n_units).reshape(n_steps, n_units)
    return found.astype(np.min_scalar_type(found.max()))


def check_window(n_steps: int, duration: float, outside: str) -> None:
    """Raise an error unless these are the steps and the duration of a window, and a treatment of the events after it."""
    check_size("n_steps", n_steps)
    if not 0 < duration < math.inf:
        raise ValueError(f"duration got {duration}, expected a finite time above 0.")
    check_choice("outside", outside, OUTSIDE)
