"""The definition of a figure, the order of results, and the writing of tables and pictures, shared by all experiments."""

import csv
import math
import textwrap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.common.styles import STYLES
from slax_rules import RULES
from slax_viz import PNG_METADATA, SVG_METADATA, mean_interval

# Update modes differ in marker shape and filling; the color belongs to the rule.
MARKS: dict[str, dict[str, Any]] = {
    "offline": {"marker": "o"},
    "online": {"marker": "D", "markerfacecolor": "white"},
}
MODE_LABELS = {"offline": "one update per sequence", "online": "updates within the sequence"}
NO_RULE = "0.3"  # color of a legend mark that does not belong to a rule

Results = dict[str, dict[str, dict[str, Any]]]


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


def network(config: dict[str, Any]) -> str:
    """The sizes of the layers: "64-128-10"."""
    return "-".join(map(str, config["layers"]))


def title_of(config: dict[str, Any]) -> str:
    """The task, and below it its network and the length of its sequences."""
    return f"{config['task'].replace('_', ' ').capitalize()}\n{network(config)}, T = {config['n_steps']}"


def numbers_of_seeds(results: Iterable[dict[str, Any]]) -> str:
    """The numbers of seeds that occur: "3", or "3, 20"."""
    return ", ".join(map(str, sorted({len(result["seeds"]) for result in results})))


def by_task_and_rule(results: Iterable[dict[str, Any]]) -> Results:
    """The results of each task by rule, in the order of the table of rules."""
    order = list(RULES)
    tasks: Results = {}
    for result in sorted(results, key=lambda result: order.index(result["config"]["rule"])):
        task, rule = (result["config"][name] for name in ("task", "rule"))
        if rule in tasks.get(task, {}):
            raise SystemExit(f"Got two results of the task {task} and the rule {rule}, expected one of each.")
        tasks.setdefault(task, {})[rule] = result
    return {task: tasks[task] for task in sorted(tasks)}


def interval(
    numbers: Sequence[float | None], bounds: tuple[float, float]
) -> tuple[float | None, float | None, float | None]:
    """The mean, and the low and high ends of its 95 % interval, without the numbers that are missing (None); None where there
    are too few numbers."""
    known = [number for number in numbers if number is not None]
    if len(known) < 2:
        return (known[0] if known else None), None, None
    mean, low, high = (float(number) for number in mean_interval(known, bounds=bounds))
    return mean, low, high


UNBOUNDED = (-float("inf"), float("inf"))
TIMES = (0.0, float("inf"))  # the bounds of a time, and of the ratio of two times


def ratios(times: Sequence[float], reference: Sequence[float]) -> list[float]:
    """The ratios of two times round by round, in which other load on the machine is common to both."""
    return [time / other for time, other in zip(times, reference, strict=True)]


SUMMARY = ("mean", "low", "high", "values")  # the columns of a `summary`


def summary(numbers: Sequence[float | None], bounds: tuple[float, float]) -> list[float | str | None]:
    """The cells of a quantity of all seeds, or of all rounds of timing: mean, ends of its interval, and the numbers themselves.

    A claim that compares two quantities is judged by the differences of the numbers at the same place. A number that is missing
    is None and keeps its place.

    Args:
        numbers: one for each seed.
        bounds: bounds of each number.
    """
    return [*interval(numbers, bounds), " ".join(map(in_full, numbers))]


def ratio_interval(numbers: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The geometric mean of ratios of times, and the ends of its 95 % interval, which is that of their logarithms.

    A mean of ratios a / b is above 1 even if a and b are times of the same program, since noise makes it so, and so is the mean
    of b / a. The geometric mean of one is the inverse of the other.
    """
    mean, low, high = (None if end is None else math.exp(end) for end in interval([*map(math.log, numbers)], UNBOUNDED))
    return mean, low, high


def ratio_summary(numbers: Sequence[float]) -> list[float | str | None]:
    """The cells of `ratio_columns`: as in `summary`, but with the geometric mean; a claim is judged by the logarithms."""
    return [*ratio_interval(numbers), " ".join(map(in_full, numbers)), "geometric"]


def ratio_columns(quantity: str) -> list[str]:
    """The columns of `ratio_summary`: `ratio`, `ratio_low`, `ratio_high`, `ratio_values` and `ratio_mean`."""
    return [*summary_columns(quantity), f"{quantity}_mean"]


def in_full(number: float | None) -> str:
    """A number in seven digits, which are those of a float32; a whole number in all of its digits."""
    if number is None:
        return "None"
    return f"{number:.0f}" if number == int(number) else f"{number:.7g}"


def summary_columns(*quantities: str) -> list[str]:
    """The columns of the summaries of several quantities: `cosine`, `cosine_low`, `cosine_high` and `cosine_values`."""
    return [name for quantity in quantities for name in (quantity, *(f"{quantity}_{end}" for end in SUMMARY[1:]))]


def count(numbers: Iterable[float | None]) -> int:
    """How many of the numbers are not missing."""
    return sum(number is not None for number in numbers)


def look_of(rule: str) -> dict[str, Any]:
    """The look of a rule's line or mark, with its title for a legend."""
    return {"color": STYLES[rule].color, "marker": STYLES[rule].marker, "label": RULES[rule].title}


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
    bounds: tuple[float, float] = UNBOUNDED,
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


def name_rows(ax: Axes, names: Sequence[str], *, striped: bool = False) -> None:
    """Name the rows of axes from top to bottom, with lines, and in stripes if told, to find what belongs to a name."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    for row in range(0, len(names), 2) if striped else ():
        ax.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)


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


def plot_seed_intervals(
    ax: Axes,
    rows: Mapping[Hashable, tuple[str, str]],
    numbers: Mapping[Hashable, Sequence[float]],
    bounds: tuple[float, float],
) -> None:
    """Draw a row for each key: the mean as the rule's mark, its 95 % interval as a line, and below it each seed as a dot.

    Args:
        rows: by key, the name of the rule and the name of the row, from top to bottom.
        numbers: by key, one number of each seed.
        bounds: bounds of each number.
    """
    for row, (key, (rule, _)) in enumerate(rows.items()):
        look = STYLES[rule]
        ax.plot(numbers[key], [row + 0.22] * len(numbers[key]), ".", color=look.color, markersize=7, alpha=0.7)
        mark = {"markeredgecolor": "black", "markersize": 8, "elinewidth": 2}
        draw_interval(ax, row, numbers[key], bounds, marker=look.marker, color=look.color, **mark)
    name_rows(ax, [name for _, name in rows.values()])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


LETTERS = 11.5  # of the size "small" in an inch


def write_note(figure: Figure, text: str) -> None:
    """Write a note below a figure, in lines no longer than the figure is wide."""
    widest = int(LETTERS * figure.get_figwidth())
    figure.supxlabel("\n".join(textwrap.fill(line, widest) for line in text.split("\n")), fontsize="small")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with numbers to six decimal places and an empty cell for None."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        for row in rows:
            table.writerow([round(cell, 6) if isinstance(cell, float) else cell for cell in row])


def save(figure: Figure, output: Path) -> None:
    """Save a figure as output.png and output.svg, with the same bytes each time."""
    figure.savefig(output.with_suffix(".png"), metadata=PNG_METADATA)
    figure.savefig(output.with_suffix(".svg"), metadata=SVG_METADATA)
    plt.close(figure)
