"""The definition of a figure, and what the pictures of several experiments have in common."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.common.styles import STYLES
from experiments.common.tables import ANY, SHARE, Bounds, interval, ratio_interval
from slax_rules import RULES
from slax_viz import PNG_METADATA, SVG_METADATA

# Update modes differ in marker shape and filling; the color belongs to the rule.
MARKS: dict[str, dict[str, Any]] = {
    "offline": {"marker": "o"},
    "online": {"marker": "D", "markerfacecolor": "white"},
}
MODE_LABELS = {"offline": "one update per sequence", "online": "updates within the sequence"}
NO_RULE = "0.3"  # color of a legend mark that does not belong to a rule


class Plot(NamedTuple):
    """A figure with the table behind it. `prepare` of the same plot.py makes `data` from the results.

    columns: the names of the table's columns.
    rows: maps `data` to the rows of the table.
    draw: maps `data` to the figure.
    """

    columns: Sequence[str]
    rows: Callable[[Any], Iterable[Sequence[Any]]]
    draw: Callable[[Any], Figure]


def check_given(figure: str, part: str, given: Sized) -> None:
    """Stop if none of the given results is of a part that a figure needs."""
    if not given:
        raise SystemExit(f"The figure {figure} needs results of {part}, and got none: name more jobs after --jobs.")


def look_of(rule: str) -> dict[str, Any]:
    """The look of a rule's line or mark, with its title for a legend."""
    return {"color": STYLES[rule].color, "marker": STYLES[rule].marker, "label": RULES[rule].title}


def line_of(rule: str, **more: Any) -> dict[str, Any]:
    """The same of a line with the style of the rule, and perhaps another look."""
    return {**look_of(rule), "linestyle": STYLES[rule].line, **more}


def panels(
    rows: int, columns: int, size: tuple[float, float], more: tuple[float, float], **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [rows, columns], each of a size in inches, with more inches for what is around all of them."""
    figsize = columns * size[0] + more[0], rows * size[1] + more[1]
    return plt.subplots(rows, columns, figsize=figsize, squeeze=False, **options)


def draw_interval(
    ax: Axes,
    at: float,
    numbers: Sequence[Any],
    bounds: Bounds = ANY,
    *,
    scale: float = 1.0,
    upright: bool = False,
    geometric: bool = False,
    **look: Any,
) -> float | None:
    """Draw a mark at the mean of numbers, in a row or, if upright, in a column, with its 95 % interval as a line.

    Args:
        ax: axes to draw on.
        at: place of the row or column.
        numbers: one for each seed or round, None where it is missing; of none that is known, nothing is drawn.
        bounds: bounds of each number.
        scale: factor of what is drawn, such as 100 for percent.
        geometric: draw the geometric mean, of ratios.
        look: options of `Axes.errorbar`.

    Returns:
        The mean as it is drawn, None if there is none.
    """
    mean, low, high = ratio_interval(numbers) if geometric else interval(numbers, bounds)
    if mean is None:
        return None
    ends = None if low is None or high is None else [[scale * (mean - low)], [scale * (high - mean)]]
    place = (at, scale * mean) if upright else (scale * mean, at)
    ax.errorbar(*place, **{"yerr" if upright else "xerr": ends}, **{"linestyle": "", **look})
    return scale * mean


def draw_means(ax: Axes, numbers: Mapping[float, Sequence[Any]], bounds: Bounds = ANY, **look: Any) -> None:
    """Draw a line through the means of the numbers at several places, with their 95 % intervals as bars.

    Args:
        ax: axes to draw on.
        numbers: by place, as in `draw_interval`; where none is known, nothing is drawn.
        bounds: bounds of each number.
        look: options of `Axes.errorbar`.
    """
    found = [(at, *interval(of_place, bounds)) for at, of_place in numbers.items()]
    if points := [point for point in found if point[1] is not None]:
        x, mean, low, high = np.array(points, float).T
        ends = None if np.isnan(low).all() else (mean - low, high - mean)
        ax.errorbar(x, mean, ends, **{"elinewidth": 0.8, **look})


def name_rows(ax: Axes, names: Sequence[str], *, striped: bool = False) -> None:
    """Name the rows of axes from top to bottom, with lines, and in stripes if told, to find what belongs to a name."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    for row in range(0, len(names), 2) if striped else ():
        ax.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)


def write_in_row(ax: Axes, row: float, text: str, x: float, **look: Any) -> None:
    """Write a text in a row, from a place in the width of the axes."""
    ax.text(x, row, text, transform=ax.get_yaxis_transform(), va="center", **look)


def draw_colors(ax: Axes, values: np.ndarray, bounds: Bounds) -> None:
    """Draw a matrix as colors, the same ones beyond the bounds."""
    ax.imshow(np.clip(values, *bounds), cmap="cividis", vmin=bounds[0], vmax=bounds[1], aspect="auto")


def on_color(value: float, bounds: Bounds) -> dict[str, Any]:
    """The look of a text in the middle of such a color."""
    return {"ha": "center", "color": "white" if value < np.mean(bounds) else "black"}


def log_axis(ax: Axes) -> None:
    """A logarithmic x axis with labels at 1, 2, 5 and 10, or at powers of ten alone if it is long."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e4 * low else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def legend_of(figure: Figure, looks: Iterable[dict[str, Any]], columns: int, **options: Any) -> None:
    """Put a legend above all axes, with a mark of each look."""
    handles = [plt.Line2D([], [], **look) for look in looks]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, **options)


def legend_of_modes(figure: Figure, columns: int, *more: dict[str, Any]) -> None:
    """Put a legend above all axes, of the marks of update modes and of more looks."""
    modes = [{"linestyle": "", "color": NO_RULE, "label": MODE_LABELS[mode], **mark} for mode, mark in MARKS.items()]
    legend_of(figure, [*modes, *more], columns)


def plot_seed_intervals(ax: Axes, rows: Sequence[tuple[str, str, Sequence[float]]], bounds: Bounds) -> None:
    """Draw rows from top to bottom: the mean as the rule's mark, its 95 % interval as a line, and below it each seed as a dot.

    Args:
        ax: axes to draw on.
        rows: of each, its rule, its name, and one number of each seed.
        bounds: bounds of each number.
    """
    for row, (rule, _, numbers) in enumerate(rows):
        look = STYLES[rule]
        ax.plot(numbers, [row + 0.22] * len(numbers), ".", color=look.color, markersize=7, alpha=0.7)
        mark = {"markeredgecolor": "black", "markersize": 8, "elinewidth": 2}
        draw_interval(ax, row, numbers, bounds, marker=look.marker, color=look.color, **mark)
    name_rows(ax, [name for _, name, _ in rows])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plot_modes(ax: Axes, rules: Sequence[str], shares: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draw a row for each rule: in each update mode the mean of shares in percent, its 95 % interval, and each seed as a dot.

    Args:
        ax: axes to draw on.
        rules: from top to bottom.
        shares: by rule and update mode, one number for each seed.
    """
    name_rows(ax, [RULES[rule].title for rule in rules])
    for row, rule in enumerate(rules):
        if rule not in shares:
            write_in_row(ax, row, "not run here", 0.5, ha="center", color="0.4", fontsize="small")
        for mode, of_mode in shares.get(rule, {}).items():
            height, color = row + {"offline": -0.16, "online": 0.16}[mode], STYLES[rule].color
            ax.plot([100 * share for share in of_mode], [height + 0.11] * len(of_mode), ".", color=color, markersize=3)
            look = {"markersize": 5.5, "elinewidth": 1.3, "capsize": 2, "color": color, **MARKS[mode]}
            draw_interval(ax, height, of_mode, SHARE, scale=100, **look)


LETTERS = 11.5  # of the size "small" in an inch


def with_note(figure: Figure, text: str) -> Figure:
    """The figure with a note below it, in lines no longer than the figure is wide."""
    widest = int(LETTERS * figure.get_figwidth())
    figure.supxlabel("\n".join(textwrap.fill(line, widest) for line in text.split("\n")), fontsize="small")
    return figure


def save(figure: Figure, output: Path) -> None:
    """Save a figure as output.png and output.svg, with the same bytes each time."""
    figure.savefig(output.with_suffix(".png"), metadata=PNG_METADATA)
    figure.savefig(output.with_suffix(".svg"), metadata=SVG_METADATA)
    plt.close(figure)
