"""The definition of a figure, the order of results, and the writing of tables and pictures, shared by all experiments."""

import csv
import math
import textwrap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

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
        mean, low, high = interval(numbers[key], bounds)
        ax.plot(numbers[key], [row + 0.22] * len(numbers[key]), ".", color=look.color, markersize=7, alpha=0.7)
        ax.plot(mean, row, look.marker, color=look.color, markeredgecolor="black", markersize=8, zorder=3)
        if low is not None:
            ax.plot([low, high], [row, row], "-", color=look.color, linewidth=2)
    ax.set_yticks(range(len(rows)), [name for _, name in rows.values()])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
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
