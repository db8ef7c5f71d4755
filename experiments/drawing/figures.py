"""The definition of a figure, and what the pictures of several experiments have in common."""

import string
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy.optimize import isotonic_regression

from experiments.drawing import names
from experiments.drawing.statistics import ANY, DIFFERENCE, Bounds, interval, ratio_interval, seeds_and_tests
from experiments.drawing.styles import LINE_RULES, STYLES
from slax_rules import RULES
from slax_viz import PNG_METADATA, SVG_METADATA, style

LIGHTNESS = (0.299, 0.587, 0.114)  # of red, green and blue
WIDTH = 7.0  # of each figure, in inches: that of a text column
SMALLEST = 7.0  # size of the smallest text, in points
PRINTED = Path(__file__).with_name("print.mplstyle")

# Update modes differ in marker shape and filling; the color belongs to the rule.
MARKS: dict[str, dict[str, Any]] = {"offline": {"marker": "o"}, "online": {"marker": "D", "markerfacecolor": "white"}}
GLYPHS = {"offline": "•", "online": "◇"}  # these marks in a text
LOWEST, HIGHEST = -25, 6  # points above BPTT that are drawn
NO_RULE = "0.3"  # color of a legend mark that does not belong to a rule


Shares = Mapping[str, Mapping[str, np.ndarray]]  # accuracies by rule and update mode


class Plot(NamedTuple):
    """A figure with the table behind it. `prepare` of the same plot.py makes `data` from the results.

    columns: the names of the table's columns.
    rows: maps `data` to the rows of the table.
    draw: maps `data` to the figure; a table without a picture has none.
    """

    columns: Sequence[str]
    rows: Callable[[Any], Iterable[Sequence[Any]]]
    draw: Callable[[Any], Figure] | None = None


def look_of(rule: str) -> dict[str, Any]:
    """The look of a rule's line or mark, with its title for a legend."""
    return {"color": STYLES[rule].color, "marker": STYLES[rule].marker, "label": RULES[rule].title}


@contextmanager
def print_style() -> Iterator[None]:
    """Apply the style of slax_viz in the sizes of a printed column."""
    with style():
        plt.style.use(PRINTED)
        yield


def panels(rows: int, columns: int, height: float, more: float = 0.3, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure as wide as a column, and its axes [rows, columns], each of a height in inches, with more inches for what is
    around all of them."""
    return plt.subplots(rows, columns, figsize=(WIDTH, rows * height + more), squeeze=False, **options)


def grid(count: int, columns: int, height: float, more: float = 0.3, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, row by row in at most so many columns; see `panels`."""
    figure, axes = panels(-(-count // columns), min(columns, count), height, more, **options)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:count])


def name_panels(axes: Iterable[Axes], titles: Iterable[str]) -> None:
    """Name panels, each by a letter in bold, if there are several, and a title."""
    named = list(zip(axes, titles, strict=False))
    for letter, (ax, title) in zip(string.ascii_letters, named, strict=False):
        start = f"$\\bf{{{letter}}}$  " if len(named) > 1 else ""
        ax.set_title(start + title, loc="left", linespacing=1.1)


def line_rules(rules: Iterable[str]) -> list[str]:
    """The rules that are drawn as lines, in the order of the table of rules."""
    return [rule for rule in RULES if rule in LINE_RULES and rule in set(rules)]


def others_of(rules: Collection[str]) -> str:
    """A sentence for the note of a line plot, on the rules that it does not show; empty if it shows all of them."""
    others = [rule.title for name, rule in RULES.items() if name in rules and name not in LINE_RULES]
    which = ", ".join(others) if len(others) < 3 else f"{len(others)} more rules"
    return f" In the table alone: {which}." if others else ""


def draw_lines(
    ax: Axes,
    of_rules: Mapping[str, Mapping[float, Any]],
    bounds: Bounds = ANY,
    scale: float = 1.0,
    titles: Mapping[str, str] | None = None,
    rules: Iterable[str] | None = None,
) -> None:
    """Draw a line through the means of each rule of line plots, with a band for the 95 % intervals; `label_lines` names them.

    Args:
        ax: axes to draw on.
        of_rules: the numbers of all seeds, by rule and place, see `statistics.seeds_and_tests`; where none is known, nothing is
            drawn.
        bounds: bounds of each number.
        scale: factor of what is drawn, such as 100 for percent.
        titles: of rules that have other ones here.
        rules: to draw, by default those of line plots.
    """
    for rule in line_rules(of_rules) if rules is None else rules:
        found = [(at, *interval(of_place, bounds)) for at, of_place in of_rules[rule].items()]
        if points := [point for point in found if point[1] is not None]:
            x, mean, low, high = np.array(points, float).T * np.array([[1], [scale], [scale], [scale]])
            look = {"linestyle": STYLES[rule].line, "markersize": 3}
            ax.plot(x, mean, **look_of(rule) | look | {"label": (titles or {}).get(rule, RULES[rule].title)})
            ax.fill_between(x, low, high, color=STYLES[rule].color, alpha=0.2, linewidth=0)


def label_lines(axes: Iterable[Axes]) -> None:
    """Name each line with a label at its end, in its color, to the right of the axes, so that no name covers another one.

    It is called when the limits of all axes are known.
    """
    for ax in axes:
        ax.autoscale_view()
        lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
        ends = np.array([(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines], float).reshape(-1, 2)
        heights = ax.transAxes.inverted().transform(ax.transData.transform(ends))[:, 1]
        # Lines with ends that are alike are in the order of their means.
        levels = [np.mean(line.get_ydata()) for line in lines]
        order = np.lexsort((levels, np.round(heights, 2)))
        gap = 1.12 * SMALLEST / (72 * ax.get_position().height * ax.figure.get_figheight())
        # The nearest heights that are a gap apart: without the gaps, the nearest ones that do not fall.
        gaps = gap * np.arange(len(order))
        within = np.clip(heights[order] - gaps, 0, max(0.0, 0.97 - gap * (len(order) - 1)))
        apart = isotonic_regression(within).x + gaps
        for line, height in zip(np.array(lines, object)[order], apart, strict=True):
            color = np.array(to_rgb(line.get_color()))
            dark = color * min(1, 0.5 / max(color @ LIGHTNESS, 0.1))  # pale letters are hard to read
            look = {"color": dark, "fontsize": SMALLEST, "va": "center", "transform": ax.transAxes}
            ax.text(1.03, height, str(line.get_label()).replace("approximate", "approx."), **look)


def draw_levels(ax: Axes, *, chance: float | None = None, ceiling: float | None = None, upright: bool = False) -> None:
    """Draw a dashed line at chance and a dotted one at what BPTT reaches, in rows or, if upright, in columns of accuracies."""
    for level, line in ((chance, "--"), (ceiling, ":")):
        if level is not None:
            (ax.axvline if upright else ax.axhline)(level, color="0.45", linestyle=line, linewidth=0.9, zorder=0.5)


def draw_interval(
    ax: Axes,
    at: float,
    numbers: Any,
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
        numbers: those of all seeds or rounds, see `statistics.seeds_and_tests`; of none that is known, nothing is drawn.
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


def name_rows(ax: Axes, rows: Sequence[str], *, striped: bool = False) -> None:
    """Name the rows of axes from top to bottom, with lines, and in stripes if told, to find what belongs to a name."""
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    for row in range(0, len(rows), 2) if striped else ():
        ax.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)


def write_in_row(ax: Axes, row: float, text: str, x: float, **look: Any) -> None:
    """Write a text in a row, from a place in the width of the axes, and above what is drawn there."""
    behind = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
    ax.text(x, row, text, transform=ax.get_yaxis_transform(), va="center", bbox=behind, **look)


def log_axis(ax: Axes, which: str = "x") -> None:
    """Make an axis logarithmic, with labels at 1, 2, 5 and 10, or at powers of ten alone if it is long."""
    ax.set(**{f"{which}scale": "log"})
    axis = {"x": ax.xaxis, "y": ax.yaxis}[which]
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def legend_of(figure: Figure, looks: Iterable[dict[str, Any]], columns: int, **options: Any) -> None:
    """Put a legend above all axes, with a mark of each look."""
    handles = [plt.Line2D([], [], **look) for look in looks]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, **options)


def legend_of_modes(figure: Figure) -> None:
    """Put a legend above all axes, of the marks of update modes."""
    looks = [{"linestyle": "", "color": NO_RULE, "label": names.UPDATES[mode], **mark} for mode, mark in MARKS.items()]
    legend_of(figure, looks, len(looks))


def draw_seeds(
    ax: Axes, at: float, numbers: Any, bounds: Bounds, beside: float, size: float, *, upright: bool = False, **look: Any
) -> None:
    """Draw the mean of a row, or if upright of a column, with its 95 % interval, and so far below or beside it each seed as a
    dot. The arguments are those of `draw_interval`, with a color."""
    dots = [look.get("scale", 1.0) * number for number in seeds_and_tests(numbers)[0] if number is not None]
    places = [at + beside] * len(dots)
    ax.plot(*((places, dots) if upright else (dots, places)), ".", color=look["color"], markersize=size, alpha=0.7)
    draw_interval(ax, at, numbers, bounds, upright=upright, **look)


def plot_seed_intervals(ax: Axes, rows: Sequence[tuple[str, str, Any]], bounds: Bounds) -> None:
    """Draw rows from top to bottom: the mean as the rule's mark, its 95 % interval as a line, and below it each seed as a dot.

    Args:
        ax: axes to draw on.
        rows: of each, its rule, its name, and its numbers, see `statistics.seeds_and_tests`, or nothing.
        bounds: bounds of each number.
    """
    look = {"markeredgecolor": "black", "markeredgewidth": 0.6, "markersize": 4.5, "elinewidth": 1.3}
    for row, (rule, _, numbers) in enumerate(rows):
        if len(numbers):
            style = {"color": STYLES[rule].color, "marker": STYLES[rule].marker}
            draw_seeds(ax, row, numbers, bounds, 0.25, 3, **style, **look)
    name_rows(ax, [name for _, name, _ in rows])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def gaps_of(shares: Shares) -> Shares:
    """How far accuracies are above those of `reference_of`, by rule and update mode; all have the same number of seeds."""
    reference = reference_of(shares)
    exact = next(iter(shares[reference].values()))
    seeds = {f"{RULES[rule].title}, {mode}": len(of) for rule, modes in shares.items() for mode, of in modes.items()}
    if len(set(seeds.values())) > 1:
        raise SystemExit(f"Rules are compared seed by seed, expected as many seeds of each, got {seeds}.")
    return {rule: {mode: of - exact for mode, of in modes.items()} for rule, modes in shares.items()}


def reference_of(shares: Shares) -> str:
    """BPTT, or where it was not run, the first rule in the order of the table of rules."""
    return next(rule for rule in RULES if rule in shares)


def plot_gaps(ax: Axes, rules: Sequence[str], shares: Shares) -> str:
    """Draw a row for each rule: in each update mode how far its mean accuracy is above BPTT's, with its 95 % interval and each
    seed as a dot. Means beyond an end of the axis are numbers at an arrow, each behind the mark of its mode.

    Args:
        ax: axes to draw on.
        rules: from top to bottom.
        shares: the accuracies by rule and update mode, by seed and test sample [S, I]; see `tables.tested`.

    Returns:
        The accuracy of BPTT, in words.
    """
    name_rows(ax, [RULES[rule].title for rule in rules])
    look = {"markersize": 3.3, "markeredgewidth": 0.8, "elinewidth": 1, "scale": 100}
    gaps, reference = gaps_of(shares), reference_of(shares)
    for row, rule in enumerate(rules):
        if rule not in gaps:
            write_in_row(ax, row, "not run", 0.5, ha="center", color="0.4", fontsize="small")
        means = {mode: 100 * of.mean() for mode, of in gaps.get(rule, {}).items()}
        low = [f"{GLYPHS[mode]}{mean:+.0f}" for mode, mean in means.items() if mean < LOWEST]
        high = [f"{GLYPHS[mode]}{mean:+.0f}" for mode, mean in means.items() if mean > HIGHEST]
        if low:
            write_in_row(ax, row, " ".join(["←", *low]), 0.02, fontsize=SMALLEST)
        if high:
            write_in_row(ax, row, " ".join([*high, "→"]), 0.98, fontsize=SMALLEST, ha="right")
        for mode, of_mode in gaps.get(rule, {}).items():
            height = row + {"offline": -0.16, "online": 0.16}[mode]
            draw_seeds(ax, height, of_mode, DIFFERENCE, 0.13, 1.2, color=STYLES[rule].color, **look, **MARKS[mode])
    ax.axvline(0, color="0.4", linewidth=0.8, zorder=0)
    title = RULES[reference].title
    ax.set(xlim=(LOWEST, HIGHEST), xlabel=f"points above {title}")
    return f"{title}: {100 * next(iter(shares[reference].values())).mean():.1f} %"


def write_beside(ax: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """Write a small text beside a place in the axes, so many points to the right and above."""
    ax.annotate(text, place, offset, textcoords="offset points", fontsize=SMALLEST, **look)


LETTERS = 19  # of the smallest text in an inch


def with_note(figure: Figure, text: str) -> Figure:
    """The figure with a note below it, in lines no longer than the figure is wide. What all figures of a kind have in common,
    such as what an interval contains, is in the caption on the page."""
    widest = int(LETTERS * figure.get_figwidth())
    lines = "\n".join(textwrap.fill(line, widest) for line in text.split("\n"))
    figure.supxlabel(lines, fontsize=SMALLEST, x=0.01, ha="left")
    return figure


def without_results(stem: str) -> Figure:
    """A picture that says that there is nothing to draw."""
    figure = plt.figure(figsize=(WIDTH, 0.5))
    figure.text(0.5, 0.5, f"{stem}: not run at this scale", ha="center", va="center")
    return figure


def save(figure: Figure, output: Path) -> None:
    """Save a figure as output.png and output.svg, with the same bytes each time."""
    figure.savefig(output.with_suffix(".png"), metadata=PNG_METADATA)
    figure.set_layout_engine("none")  # that of the first is taken
    figure.savefig(output.with_suffix(".svg"), metadata=SVG_METADATA)
    plt.close(figure)
