"""Plots of membranes over time, with thresholds and spikes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 0.16  # distance of the spikes above the curves, in units of the height of all curves
_GAP = 0.35  # between the lanes of several neurons, in units of a lane
_SCALE = 0.4  # maximum length of the scale bar, in units of a lane


def plot_membrane(
    ax: "Axes",
    membrane: np.ndarray | Array,
    *,
    threshold: np.ndarray | Array | float | None = None,
    spikes: np.ndarray | Array | None = None,
) -> "Axes":
    """Plot the membrane of one neuron as a line, its threshold as a dashed line, and above both a mark for each spike.

    Args:
        ax: axes to draw on. The three elements have the labels "membrane", "threshold" and "spike" for a legend.
        membrane: [T], before the reset, so that it reaches the threshold where the neuron fires.
        threshold: a number, or [T] for an adaptive one.
        spikes: [T], 0 or 1.

    Returns:
        `ax`.

    Example:
        >>> import numpy as np
        >>> from matplotlib import pyplot as plt
        >>> from slax_viz import plot_membrane
        >>> fig, ax = plt.subplots()
        >>> ax = plot_membrane(ax, np.array([0.5, 1.0, 0.5, 1.0]), threshold=1.0, spikes=np.array([0, 1, 0, 1]))
        >>> [line.get_label() for line in ax.lines]
        ['membrane', 'threshold', 'spike']
        >>> plt.close(fig)
    """
    v = _checked("membrane", membrane, None)
    steps = np.arange(len(v))
    curves = [v]
    ax.plot(steps, v, linewidth=1.6, color="C0", label="membrane", zorder=3)
    if threshold is not None:
        level = np.asarray(threshold, np.float64)
        curves.append(_checked("threshold", np.broadcast_to(level, v.shape) if level.ndim == 0 else level, len(v)))
        ax.plot(steps, curves[1], linestyle="--", linewidth=1.2, color="0.35", label="threshold", zorder=2)
    if spikes is not None:
        fired = _checked("spikes", spikes, len(v))
        if not np.isin(fired, (0, 1)).all():
            raise ValueError("spikes must be 0 or 1, got other numbers. Draw graded outputs as a curve of their own.")
        top, bottom = np.max(curves), np.min(curves)
        at = np.flatnonzero(fired)
        marks = np.full(len(at), top + _MARGIN * (top - bottom or 1.0))
        ax.plot(
            at, marks, linestyle="none", marker="|", markersize=9, markeredgewidth=1.4, color="black", label="spike"
        )
    return ax


def plot_membranes(
    ax: "Axes",
    membranes: np.ndarray | Array,
    *,
    threshold: np.ndarray | Array | float | None = None,
    spikes: np.ndarray | Array | None = None,
    units: Sequence[str] | None = None,
) -> "Axes":
    """Plot the membranes of several neurons, each in its own lane as by `plot_membrane`, with the first at the bottom.

    All lanes have the same scale, shown by the bar at the right. A tick at the left marks where a unit's membrane is 0.

    Args:
        ax: axes to draw on. The labels "membrane", "threshold" and "spike" occur once each, for a legend.
        membranes: [T, N] of one sample, N >= 1; before the reset.
        threshold: a number, or [T, N]; for one per unit, `np.broadcast_to(threshold, membranes.shape)`.
        spikes: [T, N], 0 or 1.
        units: one label per neuron; "unit 0", "unit 1", ... by default.

    Returns:
        `ax`.

    Raises:
        ValueError: arrays of another shape, not finite, spikes other than 0 and 1, another number of labels.

    Example:
        >>> import numpy as np
        >>> from matplotlib import pyplot as plt
        >>> from slax_viz import plot_membranes
        >>> membranes = np.array([[0.5, 0.25], [1.0, 0.5], [0.5, 0.75], [1.0, 1.0]])  # 4 steps of 2 units
        >>> fig, ax = plt.subplots()
        >>> ax = plot_membranes(ax, membranes, threshold=1.0, spikes=membranes >= 1)
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['unit 0', 'unit 1']
        >>> plt.close(fig)
    """
    v = _all_units("membranes", membranes, None)
    names = [f"unit {index}" for index in range(v.shape[1])] if units is None else list(units)
    if len(names) != v.shape[1]:
        raise ValueError(f"expected one label for each of {v.shape[1]} units, got {len(names)}: {names}.")
    curves, level = [v], None
    if threshold is not None:
        given = np.asarray(threshold, np.float64)
        level = _all_units("threshold", np.broadcast_to(given, v.shape) if given.ndim == 0 else given, v.shape)
        curves.append(level)
    fired = None if spikes is None else _all_units("spikes", spikes, v.shape)
    height = float(max(curve.max() for curve in curves) - min(curve.min() for curve in curves)) or 1.0
    lanes = np.arange(len(names)) * height * (1 + _MARGIN + _GAP)
    for index, lane in enumerate(lanes):
        before = len(ax.lines)
        plot_membrane(
            ax,
            v[:, index] + lane,
            threshold=None if level is None else level[:, index] + lane,
            spikes=None if fired is None else fired[:, index],
        )
        if index:
            for line in ax.lines[before:]:
                line.set_label("_")  # underscored labels are not in a legend
    ax.set_yticks(lanes, names)
    ax.set_xlabel("step")
    _draw_scale(ax, len(v), lanes[-1], height)
    return ax


def _draw_scale(ax: "Axes", steps: int, lane: float, height: float) -> None:
    """Draw a scale bar of a round length, 1, 2 or 5 times a power of ten, in the upper lane beyond the last step."""
    power = 10.0 ** np.floor(np.log10(_SCALE * height))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= _SCALE * height * (1 + 1e-9))
    x = (steps - 1) * 1.03 + 0.5
    ax.plot([x, x], [lane, lane + length], color="black", linewidth=2.0, solid_capstyle="butt", label="_scale")
    ax.annotate(
        f"{length:g}", (x, lane + length / 2), (4, 0), textcoords="offset points", va="center", fontsize="small"
    )


def _all_units(name: str, values: np.ndarray | Array, shape: tuple[int, ...] | None) -> Float[np.ndarray, "T N"]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 2 or not numbers.size or numbers.shape != (shape or numbers.shape):
        expected = f"{list(shape)}, as the membranes have," if shape else "[T, N], of one sample,"
        raise ValueError(f"{name} must have shape {expected} got {list(numbers.shape)}.")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite numbers.")
    return numbers


def _checked(name: str, values: np.ndarray | Array, steps: int | None) -> Float[np.ndarray, " T"]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or len(numbers) != (steps or len(numbers)):
        expected = f"[{steps}], as the membrane has," if steps else "[T], of one neuron,"
        raise ValueError(f"{name} must have shape {expected} got {list(numbers.shape)}.")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite numbers.")
    return numbers
