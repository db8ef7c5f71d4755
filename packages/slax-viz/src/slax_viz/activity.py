"""The spikes of entire layers: firing rates and raster plots."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from slax_viz.arrays import finite, zeros_and_ones
from slax_viz.figure_style import COLORS, check_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARK = 0.9  # height of a spike in a raster, as a fraction of a unit's row


class FiringRates(NamedTuple):
    """Mean spikes per step of one layer, or per second where `dt` is in seconds.

    layer: mean over time, batch and units.
    units: [N, ...], mean of each unit over time and batch.
    steps: [T], mean of each step over batch and units; NaN where a mask counts no sample.

    Example:
        >>> import numpy as np
        >>> from slax_viz import firing_rates
        >>> spikes = np.zeros((4, 1, 2))  # 4 steps of 1 sample, 2 units
        >>> spikes[:, 0, 1] = 1, 0, 1, 0
        >>> rates = firing_rates(spikes)
        >>> rates.layer, rates.units.tolist(), rates.steps.tolist()
        (0.25, [0.0, 0.5], [0.5, 0.0, 0.5, 0.0])
    """

    layer: float
    units: Float[np.ndarray, "..."]
    steps: Float[np.ndarray, " T"]


def firing_rates(spikes: np.ndarray | Array, *, dt: float = 1.0, mask: np.ndarray | Array | None = None) -> FiringRates:
    """The firing rates of a layer: overall, of each unit, and at each step.

    Args:
        spikes: [T, B, N, ...], time first, 0 or 1, or counts where several fall into one step.
        dt: duration of a step. By default the rates are per step; for spikes per second, in seconds.
        mask: bool [T, B], true where a step counts; by default all do. Padding after the end of a recording lowers the rates if
            it counts.

    Returns:
        `FiringRates`, in float64.

    Raises:
        ValueError: spikes of another shape, empty, negative, NaN or infinite; a mask
            of another shape or type, or without a true entry.

    Example:
        >>> import numpy as np
        >>> from slax_viz import firing_rates
        >>> hidden = np.tile([0.0, 0.0, 0.0, 1.0], (20, 2, 1))  # 20 steps, 2 samples, 4 units
        >>> firing_rates(hidden).layer
        0.25
        >>> layers = {"hidden": hidden, "output": np.ones((20, 2, 3))}
        >>> {layer: firing_rates(spikes, dt=1e-3).layer for layer, spikes in layers.items()}  # per second
        {'hidden': 250.0, 'output': 1000.0}
    """
    shape = ["T", "B", "N", *["features"] * (np.ndim(spikes) - 3)]
    numbers = finite("spikes", spikes, shape, "time first; a single sample is spikes[:, None]")
    if (numbers < 0).any():
        raise ValueError(f"Got spikes down to {numbers.min():g}, expected numbers >= 0.")
    counted = np.ones(numbers.shape[:2], bool) if mask is None else np.asarray(mask)
    if counted.dtype != bool or counted.shape != numbers.shape[:2] or not counted.any():
        of_steps = f"bool{list(numbers.shape[:2])}, true where a step counts"
        raise ValueError(f"Got a mask of {counted.dtype}{list(counted.shape)}, expected {of_steps}.")
    rates, steps = numbers / dt, np.full(len(numbers), np.nan)
    for step in np.flatnonzero(counted.any(axis=1)):
        steps[step] = rates[step, counted[step]].mean()
    return FiringRates(float(rates[counted].mean()), np.asarray(rates[counted].mean(axis=0)), steps)


def plot_raster(ax: "Axes", spikes: np.ndarray | Array | Mapping[str, np.ndarray | Array]) -> "Axes":
    """Draw a mark for each spike of one sample: steps along the x axis, units along the y axis, layers stacked vertically.

    The first layer is at the bottom. Each layer has its own color and a line below it, with its name and number of units
    next to it.

    Args:
        ax: axes to draw on.
        spikes: [T, N] of 0 and 1, one sample: `spikes[:, b]` of a batch; or such an array by layer, at most 8 of the same T.

    Returns:
        `ax`.

    Raises:
        ValueError: spikes of another shape or other than 0 and 1, layers of different T, or none or too many of them.

    Example:
        >>> import numpy as np
        >>> from matplotlib import pyplot as plt
        >>> from slax_viz import plot_raster
        >>> spikes = {"hidden": np.eye(20, 16), "output": np.eye(20, 3)}  # 20 steps of one sample
        >>> fig, ax = plt.subplots()
        >>> ax = plot_raster(ax, spikes)
        >>> [label.get_text().splitlines() for label in ax.get_yticklabels()]
        [['hidden', '16 units'], ['output', '3 units']]
        >>> plt.close(fig)
    """
    from matplotlib.ticker import MaxNLocator

    layers = spikes if isinstance(spikes, Mapping) else {"": spikes}
    check_number("layers", layers)
    hint = "of one sample; of a batch: spikes[:, 0]"
    values = {k: zeros_and_ones(f"spikes of {k}" if k else "spikes", v, ["T", "N"], hint) for k, v in layers.items()}
    durations = {layer: len(numbers) for layer, numbers in values.items()}
    if len(set(durations.values())) > 1:
        raise ValueError(f"Got layers of different steps, {durations}, expected the same for all.")

    bottom, middles, names = 0, [], []
    for color, (layer, numbers) in zip(COLORS, values.items(), strict=False):
        steps, units = np.nonzero(numbers)
        low = bottom + units - _MARK / 2
        ax.vlines(steps, low, low + _MARK, color=color, linewidth=1.0, label=layer)
        if bottom:
            ax.axhline(bottom - 0.5, color="0.6", linewidth=0.8, zorder=0)
        middles.append(bottom + (numbers.shape[1] - 1) / 2)
        names.append(f"{layer}\n{numbers.shape[1]} unit{'s' * (numbers.shape[1] > 1)}".strip())
        bottom += numbers.shape[1]
    ax.set_xlim(-0.5, next(iter(durations.values())) - 0.5)
    ax.set_ylim(-0.5, bottom - 0.5)
    ax.set_xlabel("step")
    if isinstance(spikes, Mapping):
        ax.set_yticks(middles, names)
        ax.tick_params(axis="y", length=0)
    else:
        ax.set_ylabel("unit")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
