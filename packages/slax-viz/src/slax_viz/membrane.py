"""A neuron's membrane over time, with what makes it fire."""

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes

_MARGIN = 0.16  # of the spikes above the rest, in units of the height of all curves


def plot_membrane(
    ax: Axes,
    membrane: np.ndarray | Array,
    *,
    threshold: np.ndarray | Array | float | None = None,
    spikes: np.ndarray | Array | None = None,
) -> Axes:
    """The membrane of one neuron as a line, its threshold dashed, and above both a mark for each spike.

    Args:
        ax: where to draw. The three have the labels "membrane", "threshold" and "spike" for a legend.
        membrane: [T]; before the reset, so that it reaches the threshold where it fires.
        threshold: a number, or [T] for an adaptive one.
        spikes: [T], 0 or 1.

    Returns:
        `ax`.
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


def _checked(name: str, values: np.ndarray | Array, steps: int | None) -> Float[np.ndarray, " T"]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or len(numbers) != (steps or len(numbers)):
        expected = f"[{steps}], as the membrane has," if steps else "[T], of one neuron,"
        raise ValueError(f"{name} must have shape {expected} got {list(numbers.shape)}.")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite numbers.")
    return numbers
