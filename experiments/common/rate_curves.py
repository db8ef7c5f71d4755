"""The figure and the table of all trials: the validation accuracy at each learning rate, for each rule.

The trials of a second setting are in the table alone; the figure marks where one of them was chosen.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from experiments.common import figures, names, tables
from slax_rules import RULES

COLUMNS = ["learning_rate", "setting", "value", "chosen", "basin", *tables.OF_SEEDS]  # after row, column, curve
BASIN = 0.05  # a rate belongs to a rule's basin if it costs less than this share of accuracy


Trials = Callable[[dict[str, Any]], dict[str, Any]]  # of a result, by column


class Curve(NamedTuple):
    """The trials of a rule.

    row, column, name: its first cells in the table.
    panel: the row and the column of its panel, by the names that are shown.
    label: its name in the panel.
    trials: the trials of `experiments.common.learning.choose`.
    """

    row: str
    column: str
    name: str
    panel: tuple[str, str]
    label: str
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
            panel = names.UPDATES.get(column, column), names.task_name(task)
            yield Curve(task, column, rule, panel, RULES[rule].title, trials)


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
                cells = filter(None, curve[:3])
                yield [*cells, *settings, int(chosen), curve.basin, *tables.of_seeds(accuracies, tables.SHARE)]

    return figures.Plot([*start, *COLUMNS], rows, partial(draw_rates, stem, curves_of))


def draw_rates(stem: str, curves_of: Callable[[Any], Iterable[Curve]], data: Any) -> Figure:
    """Draw a panel for each task and way of updating: the accuracy of each rule at each rate as a color, with a mark on the
    chosen rate."""
    curves = list(curves_of(data))
    figures.check_given(stem, "trials", curves)
    rows, columns = (list(dict.fromkeys(curve.panel[index] for curve in curves)) for index in (0, 1))
    labels = {row: list(dict.fromkeys(curve.label for curve in curves if curve.panel[0] == row)) for row in rows}
    heights = [max(1.4, 0.135 * len(of_row) + 0.6) for of_row in labels.values()]  # room for the labels of axes
    figure, axes = figures.panels(
        len(rows), len(columns), sum(heights) / len(heights), sharey="row", height_ratios=heights
    )
    for (row, column), ax in np.ndenumerate(axes):
        of_panel = [curve for curve in curves if curve.panel == (rows[row], columns[column])]
        if of_panel:
            image = draw_panel(ax, of_panel, labels[rows[row]])
        else:
            ax.set_axis_off()
    titles = [textwrap.fill(column, 75 // len(columns), break_long_words=False) for _ in rows for column in columns]
    figures.name_panels(axes.flat, titles)
    for ax, row in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(row)
    for ax in axes[-1]:
        ax.set_xlabel("learning rate")
    figures.color_bar(figure, image, axes, "validation accuracy (%)")
    seeds = tables.numbers_of_seeds(curve.accuracies for curve in curves)
    text = f"Mean over the seeds of the trials ({seeds}). Dot: the rate that was chosen"
    second = (
        "; square: chosen with a second setting, which is in the table"
        if any(c.trials["second"] for c in curves)
        else ""
    )
    return figures.with_note(figure, f"{text}{second}.")


def draw_panel(ax: Axes, curves: Sequence[Curve], labels: Sequence[str]) -> AxesImage:
    rates = sorted({rate for curve in curves for rate in curve.trials["learning_rates"]})
    values = np.full((len(labels), len(rates)), np.nan)
    for curve in curves:
        row = labels.index(curve.label)
        for rate, setting, _, chosen, accuracies in curve.points():
            value = 100 * float(np.mean(accuracies))
            if not setting:
                values[row, rates.index(rate)] = value
            if chosen:
                at, color = (
                    np.interp(np.log(rate), np.log(rates), range(len(rates))),
                    "white" if value < 50 else "black",
                )
                ax.plot(at, row, "s" if setting else "o", color=color, markersize=3)
    image = figures.draw_colors(ax, values, (0, 100))
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], rotation=90)
    ax.set_yticks(range(len(labels)), labels)
    return image
