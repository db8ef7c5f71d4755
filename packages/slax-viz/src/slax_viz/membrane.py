"""Plots of membranes over time, with thresholds and spikes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array

from slax_viz.arrays import finite, zeros_and_ones

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
    v = finite("membrane", membrane, ["T"], "of one neuron")
    steps, curves = np.arange(len(v)), [v]
    ax.plot(steps, v, linewidth=1.6, color="C0", label="membrane", zorder=3)
    if threshold is not None:
        curves.append(_like(v, "threshold", threshold, "as the membrane has"))
        ax.plot(steps, curves[1], linestyle="--", linewidth=1.2, color="0.35", label="threshold", zorder=2)
    if spikes is not None:
        at = np.flatnonzero(zeros_and_ones("spikes", spikes, v.shape, "as the membrane has"))
        top, bottom = np.max(curves), np.min(curves)
        marks = np.full(len(at), top + _MARGIN * (top - bottom or 1.0))
        ax.plot(at, marks, "k|", markersize=9, markeredgewidth=1.4, label="spike")
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
    v = finite("membranes", membranes, ["T", "N"], "of one sample")
    names = [f"unit {index}" for index in range(v.shape[1])] if units is None else list(units)
    if len(names) != v.shape[1]:
        raise ValueError(f"Got {len(names)} labels, {names}, expected one for each of {v.shape[1]} units.")
    curves = [v] if threshold is None else [v, _like(v, "threshold", threshold, "as the membranes have")]
    fired = None if spikes is None else zeros_and_ones("spikes", spikes, v.shape, "as the membranes have")
    height = float(np.ptp(curves)) or 1.0
    lanes = np.arange(len(names)) * height * (1 + _MARGIN + _GAP)
    for index, lane in enumerate(lanes):
        membrane, *level = (curve[:, index] + lane for curve in curves)
        before = len(ax.lines)
        of_unit = None if fired is None else fired[:, index]
        plot_membrane(ax, membrane, threshold=level[0] if level else None, spikes=of_unit)
        for line in ax.lines[before:] if index else ():
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
    middle = (x, lane + length / 2)
    ax.annotate(f"{length:g}", middle, (4, 0), textcoords="offset points", va="center", fontsize="small")


def _like(membranes: np.ndarray, name: str, values: np.ndarray | Array | float, hint: str) -> np.ndarray:
    """Numbers of the shape of membranes; a single number holds everywhere."""
    return finite(name, values if np.ndim(values) else np.full(membranes.shape, values), membranes.shape, hint)
