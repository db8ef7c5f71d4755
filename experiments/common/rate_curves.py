"""The figure and the table of all trials: the validation accuracy against the learning rate, for each rule.

The trials of a second setting are points at the rate at which they were made, without a line.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import figures, tables

COLUMNS = ["learning_rate", "setting", "value", "chosen", "basin", *tables.OF_SEEDS]  # after row, column, curve
BASIN = 0.05  # a rate belongs to a rule's basin if it costs less than this share of accuracy


Trials = Callable[[dict[str, Any]], dict[str, Any]]  # of a result, by column


class Curve(NamedTuple):
    """The trials of a rule.

    row, column: the panel of the figure.
    name: the name of the rule.
    look: options of a line of matplotlib: color, marker and label.
    trials: the trials of `experiments.common.learning.choose`.
    """

    row: str
    column: str
    name: str
    look: dict[str, Any]
    trials: dict[str, Any]

    @property
    def accuracies(self) -> np.ndarray:
        """The validation accuracy by seed and rate."""
        return np.array(self.trials["validation"])

    @property
    def basin(self) -> float:
        """The largest rate of the basin divided by the smallest one: 1 if neither neighbor of the best rate is as good as it.

        The basin is the run of rates around the chosen one, without a worse rate in between.
        """
        means, rates = self.accuracies.mean(axis=0), self.trials["learning_rates"]
        best, worse = int(np.argmax(means)), np.flatnonzero(means <= means.max() - BASIN)
        first = max(worse[worse < best], default=-1) + 1
        last = min(worse[worse > best], default=len(rates)) - 1
        return float(rates[last] / rates[first])

    def points(self) -> Iterator[tuple[float, str | None, float | None, bool, list[float]]]:
        """The rate of each trial, its second setting and value, None for the first trials, whether its settings were chosen,
        and the validation accuracy of each seed."""
        rates, second, chosen = (self.trials[name] for name in ("learning_rates", "second", "chosen"))
        for rate, accuracies in zip(rates, self.accuracies.T.tolist(), strict=True):
            yield rate, None, None, chosen == {"learning_rate": rate}, accuracies
        if second:
            best, name = rates[int(np.argmax(self.accuracies.mean(axis=0)))], second["setting"]
            for value, accuracies in zip(second["values"], np.transpose(second["validation"]).tolist(), strict=True):
                settings = {"learning_rate": best} | {name: value}
                yield settings["learning_rate"], name, value, chosen == settings, accuracies


def of_rules(tasks: tables.Results, trials_of: Trials = lambda result: {"": result["trials"]}) -> Iterator[Curve]:
    """A curve for each task, rule and column, by which `trials_of` gives the trials of a result."""
    for task, rule, result in tables.each(tasks):
        for column, trials in trials_of(result).items():
            yield Curve(task, column, rule, figures.look_of(rule), trials)


def plot(stem: str, start: Sequence[str], curves_of: Callable[[Any], Iterable[Curve]]) -> figures.Plot:
    """The figure of all trials.

    Args:
        stem: stem of the figure.
        start: titles of the row, the column and the name of a curve in the table; without columns, of row and name.
        curves_of: the curves, from what `prepare` makes.
    """

    def rows(data: Any) -> Iterator[list[Any]]:
        for curve in curves_of(data):
            for *settings, chosen, accuracies in curve.points():
                names = filter(None, curve[:3])
                yield [*names, *settings, int(chosen), curve.basin, *tables.of_seeds(accuracies, tables.SHARE)]

    return figures.Plot([*start, *COLUMNS], rows, partial(draw_rates, stem, curves_of))


def draw_rates(stem: str, curves_of: Callable[[Any], Iterable[Curve]], data: Any) -> Figure:
    """Draw a panel for each row and column, with a line for each rule and a ring around the chosen rate."""
    curves = list(curves_of(data))
    figures.check_given(stem, "trials", curves)
    rows, columns = (list(dict.fromkeys(curve[index] for curve in curves)) for index in (0, 1))
    figure, axes = figures.panels(len(rows), len(columns), (2.6, 2.1), (2.6, 0.9), sharex=True, sharey="row")
    for (line, column), ax in np.ndenumerate(axes):
        draw_panel(ax, [curve for curve in curves if curve[:2] == (rows[line], columns[column])])
        ax.set_title(f"{tables.spoken(rows[line])}\n{columns[column]}".removesuffix("\n"), fontsize="small")
    for ax in axes[:, 0]:
        ax.set_ylabel("validation accuracy (%)", fontsize="small")
    for ax in axes[-1]:
        ax.set_xlabel("learning rate")
    looks = {curve.look["label"]: curve.look for curve in curves}
    handles = [plt.Line2D([], [], markersize=5, **look) for look in looks.values()]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small")
    seeds = tables.numbers_of_seeds(curve.accuracies for curve in curves)
    return figures.with_note(
        figure,
        f"means over the seeds of the trials ({seeds})\n"
        "ring: the chosen settings\nopen mark: a second trial at or near the best rate",
    )


def draw_panel(ax: Axes, curves: Sequence[Curve]) -> None:
    for curve in curves:
        rates, means = curve.trials["learning_rates"], 100 * curve.accuracies.mean(axis=0)
        ax.plot(rates, means, linewidth=1, markersize=3.5, **curve.look)
        alone = {"color": curve.look["color"], "linestyle": "", "fillstyle": "none"}
        for rate, setting, _, chosen, accuracies in curve.points():
            place = rate, 100 * np.mean(accuracies)
            if setting:
                ax.plot(*place, marker=curve.look["marker"], markersize=3.5, **alone)
            if chosen:
                ax.plot(*place, marker="o", markersize=9, **alone)
    tried = sorted({rate for curve in curves for rate in curve.trials["learning_rates"]})
    ax.set_xscale("log")
    ax.set_xticks(tried, [f"{rate:g}" for rate in tried], fontsize="small")
    ax.minorticks_off()
    ax.grid(color="0.9")
    ax.set_axisbelow(True)
