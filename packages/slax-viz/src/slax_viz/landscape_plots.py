"""Plots of loss surfaces, as contours or in 3D, with the paths of rules on them, and of the loss between two solutions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Float

from slax_viz.arrays import finite
from slax_viz.figure_style import MARKERS, check_number, colors_of, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_LEVELS = 16  # steps of color between the lowest and the highest loss


def plot_landscape(
    ax: "Axes",
    losses: np.ndarray | Array,
    *,
    xs: np.ndarray | Sequence,
    ys: np.ndarray | Sequence,
    trajectories: Mapping[str, np.ndarray] | None = None,
    explained: Sequence[float] | None = None,
    label: str = "loss",
    colors: Mapping[str, str] | None = None,
    legend: bool = True,
) -> "Axes":
    """Draw a surface, and on it the paths of the rules, from a hollow to a filled mark.

    The surface has filled contours and a color bar, or is in space if the axes are. Where a loss is NaN or infinite, it has a
    hole, among contours with a cross at each such grid point and their number in the legend. A path that leaves the grid is
    drawn beyond it, and one in space in front of the surface, even where this would hide it.

    Args:
        ax: axes to draw on; those in space are made with `subplot_kw={"projection": "3d"}`.
        losses: [Y, X], from `surface`.
        xs: [X], increasing.
        ys: [Y], increasing.
        trajectories: for each rule, at most 8, its path [n, 2], from `Plane.coordinates`; in space [n, 3], with the losses
            there, from `losses_at`.
        explained: `Plane.explained`, shown in the labels of the axes.
        label: label of the losses.
        colors: colors of some or all rules, so that a rule looks the same in each figure; assigned in order otherwise.
        legend: True to put a legend above the axes, in place of a title. For several axes with one legend, pass
            False and call `figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center")`.

    Returns:
        `ax`.

    Example:
        >>> import numpy as np
        >>> from matplotlib import pyplot as plt
        >>> from slax_viz import plot_landscape
        >>> xs, ys = np.linspace(-1, 1, 11), np.linspace(-1, 1, 9)
        >>> paths = {"BPTT": np.array([[-1.0, -1.0], [0.0, 0.0]]), "OSTL": np.array([[-1.0, -1.0], [0.1, 0.1]])}
        >>> fig, ax = plt.subplots()
        >>> ax = plot_landscape(ax, xs**2 + ys[:, None] ** 2, xs=xs, ys=ys, trajectories=paths, explained=(0.7, 0.2))
        >>> ax.get_xlabel(), [text.get_text() for text in ax.get_legend().get_texts()]
        ('direction 1 (explains 70.0 %)', ['BPTT', 'OSTL', 'start', 'end'])
        >>> plt.close(fig)
    """
    x, y, z, paths = _checked(losses, xs, ys, trajectories, 3 if ax.name == "3d" else 2)
    (_draw_in_space if ax.name == "3d" else _draw_contours)(ax, x, y, z, label)
    _draw_paths(ax, {rule: path.T for rule, path in paths.items()}, colors)
    ax.set_xlabel(_axis_label(1, explained))
    ax.set_ylabel(_axis_label(2, explained))
    if legend and ax.get_legend_handles_labels()[0]:
        legend_above(ax)
    return ax


def _draw_contours(ax: "Axes", x: np.ndarray, y: np.ndarray, z: np.ndarray, label: str) -> None:
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    known = z[np.isfinite(z)]
    low, high = float(known.min()), float(known.max())
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    steps, shown = np.linspace(low, high, _LEVELS + 1), np.ma.masked_invalid(z)
    filled = ax.contourf(x, y, shown, levels=steps, cmap=_greys(), norm=Normalize(low, high), zorder=0)
    ax.contour(x, y, shown, levels=steps, colors="0.35", linewidths=0.4, zorder=1)
    ax.figure.colorbar(filled, ax=ax, label=label, ticks=MaxNLocator(6), format="%.3g").ax.minorticks_off()
    rows, columns = np.nonzero(~np.isfinite(z))
    if len(rows):
        ax.plot(x[columns], y[rows], "kx", markersize=4, label=f"not finite ({len(rows)})", zorder=2)


def _draw_in_space(ax: Any, x: np.ndarray, y: np.ndarray, z: np.ndarray, label: str) -> None:
    shown = np.where(np.isfinite(z), z, np.nan)
    ax.computed_zorder = False
    look: dict[str, Any] = {"cmap": _greys(), "edgecolor": "0.35", "linewidth": 0.2, "zorder": 1}
    extent: dict[str, Any] = {"vmin": np.nanmin(shown), "vmax": np.nanmax(shown), "rcount": len(y), "ccount": len(x)}
    ax.plot_surface(*np.meshgrid(x, y), shown, **look, **extent)
    ax.set_zlabel(label)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.labelpad = 10


def _checked(
    losses: np.ndarray | Array, xs: Any, ys: Any, trajectories: Mapping[str, np.ndarray] | None, columns: int
) -> tuple[Float[np.ndarray, " X"], Float[np.ndarray, " Y"], Float[np.ndarray, "Y X"], dict[str, np.ndarray]]:
    x, y, z = (np.asarray(values, np.float64) for values in (xs, ys, losses))
    rising = all(axis.ndim == 1 and len(axis) > 1 and (np.diff(axis) > 0).all() for axis in (x, y))
    if not rising or z.shape != (len(y), len(x)):
        raise ValueError(
            f"Got losses {z.shape}, xs {x.shape}, ys {y.shape}, expected [Y, X] over increasing [X] and [Y]."
        )
    if not np.isfinite(z).any():
        raise ValueError("Got losses that are all NaN or infinite, expected some. Take a grid nearer to the origin.")
    if trajectories:
        check_number("lines", trajectories)
    given = (trajectories or {}).items()
    return x, y, z, {rule: finite(f"the trajectory of {rule}", path, ["n", columns]) for rule, path in given}


def _greys() -> "Colormap":
    """A gray color map for surfaces, with low losses light, on which the colors of the rules stay legible."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("slax greys", ["#ffffff", "#6b6b6b"])


def _draw_paths(ax: "Axes", paths: Mapping[str, np.ndarray], colors: Mapping[str, str] | None) -> None:
    """Draw lines with a mark at each point and larger marks at their ends, hollow at the start and filled at the end."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3.2, foreground="white")]  # it sets lines off against the surface
    look: dict[str, Any] = {"linewidth": 1.8, "markersize": 3.5, "path_effects": halo, "zorder": 3}
    for (rule, path), color, marker in zip(paths.items(), colors_of(paths, colors), MARKERS, strict=False):
        ax.plot(*path, color=color, marker=marker, label=rule, **look)
        _mark(ax, path[:, :1], "white", edge=color, markeredgewidth=1.8, marker=marker, label="_")
        _mark(ax, path[:, -1:], color, size=10, marker=marker, label="_")
    for name, face in (("start", "white"), ("end", "0.3")) if paths else ():  # without points, for the legend
        _mark(ax, [[]] * (3 if ax.name == "3d" else 2), face, marker="o", label=name)


def _mark(ax: "Axes", at: Any, face: str, *, edge: str = "black", size: int = 9, **look: Any) -> None:
    ax.plot(*at, linestyle="none", zorder=4, markerfacecolor=face, markeredgecolor=edge, markersize=size, **look)


def _axis_label(number: int, explained: Sequence[float] | None) -> str:
    return f"direction {number}" + (f" (explains {100 * explained[number - 1]:.1f} %)" if explained is not None else "")
