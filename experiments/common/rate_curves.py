"""The figure and the table of all trials: the validation accuracy against the learning rate, for each rule.

The trials of a second setting are points at the rate at which they were made, without a line.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common.figures import SUMMARY, Plot, check_given, panels, summary, write_note

COLUMNS = ["learning_rate", "setting", "value", "chosen", "basin", *SUMMARY, "seeds"]  # after row, column, curve
SHARE = (0.0, 1.0)
BASIN = 0.05  # a rate belongs to a rule's basin if it costs less than this share of accuracy


class Point(NamedTuple):
    """A trial.

    rate: its learning rate.
    setting, value: the second setting and its value, None for the trials before it.
    chosen: whether its settings were chosen.
    accuracies: the validation accuracy of each seed.
    """

    rate: float
    setting: str | None
    value: float | None
    chosen: bool
    accuracies: list[float]


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
        first = last = int(np.argmax(means))
        good = means > means.max() - BASIN
        while first > 0 and good[first - 1]:
            first -= 1
        while last < len(rates) - 1 and good[last + 1]:
            last += 1
        return float(rates[last] / rates[first])

    @property
    def points(self) -> list[Point]:
        """All trials: the ones of `learning_rates` first."""
        rates, second, chosen = (self.trials[name] for name in ("learning_rates", "second", "chosen"))
        best = rates[int(np.argmax(self.accuracies.mean(axis=0)))]
        found = [
            Point(rate, None, None, chosen == {"learning_rate": rate}, of_rate)
            for rate, of_rate in zip(rates, self.accuracies.T.tolist(), strict=True)
        ]
        if second:
            name, by_value = second["setting"], np.transpose(second["validation"]).tolist()
            for value, of_value in zip(second["values"], by_value, strict=True):
                settings = {"learning_rate": best} | {name: value}
                found.append(Point(settings["learning_rate"], name, value, chosen == settings, of_value))
        return found


def plot(stem: str, start: Sequence[str], curves_of: Callable[[Any], Iterable[Curve]]) -> Plot:
    """The figure of all trials.

    Args:
        stem: stem of the figure.
        start: titles of the row, the column and the name of a curve in the table; without columns, of row and name.
        curves_of: the curves, from what `prepare` makes.
    """

    def rows(data: Any) -> Iterator[list[Any]]:
        for curve in curves_of(data):
            names = [curve.row, curve.column, curve.name] if len(start) == 3 else [curve.row, curve.name]
            for rate, setting, value, chosen, accuracies in curve.points:
                cells = [rate, setting, value, int(chosen), curve.basin, *summary(accuracies, SHARE), len(accuracies)]
                yield [*names, *cells]

    return Plot([*start, *COLUMNS], rows, lambda data: draw(stem, [*curves_of(data)]))


def draw(stem: str, curves: Sequence[Curve]) -> Figure:
    """Draw a panel for each row and column, with a line for each rule and a ring around the chosen rate."""
    check_given(stem, "trials", curves)
    names_of_rows = list(dict.fromkeys(curve.row for curve in curves))
    names_of_columns = list(dict.fromkeys(curve.column for curve in curves))
    shape = len(names_of_rows), len(names_of_columns)
    figure, axes = panels(*shape, (2.6, 2.1), (2.6, 0.9), sharex=True, sharey="row")
    for line, row in zip(axes, names_of_rows, strict=True):
        for ax, column in zip(line, names_of_columns, strict=True):
            own = [curve for curve in curves if (curve.row, curve.column) == (row, column)]
            draw_panel(ax, own)
            ax.set_title(f"{row.replace('_', ' ').capitalize()}\n{column}".removesuffix("\n"), fontsize="small")
        line[0].set_ylabel("validation accuracy (%)", fontsize="small")
    for ax in axes[-1]:
        ax.set_xlabel("learning rate")
    looks = {curve.look["label"]: curve.look for curve in curves}
    handles = [plt.Line2D([], [], markersize=5, **look) for look in looks.values()]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small")
    seeds = sorted({len(curve.accuracies) for curve in curves})
    write_note(
        figure,
        f"means over the seeds of the trials ({', '.join(map(str, seeds))})\n"
        "ring: the chosen settings\nopen mark: a second trial at or near the best rate",
    )
    return figure


def draw_panel(ax: Axes, curves: Sequence[Curve]) -> None:
    for curve in curves:
        rates, means = curve.trials["learning_rates"], 100 * curve.accuracies.mean(axis=0)
        ax.plot(rates, means, linewidth=1, markersize=3.5, **curve.look)
        for point in curve.points:
            place, look = (point.rate, 100 * np.mean(point.accuracies)), {"color": curve.look["color"], "linestyle": ""}
            if point.setting:
                ax.plot(*place, marker=curve.look["marker"], markersize=3.5, fillstyle="none", **look)
            if point.chosen:
                ax.plot(*place, marker="o", markersize=9, fillstyle="none", **look)
    tried = sorted({rate for curve in curves for rate in curve.trials["learning_rates"]})
    ax.set_xscale("log")
    ax.set_xticks(tried, [f"{rate:g}" for rate in tried], fontsize="small")
    ax.minorticks_off()
    ax.grid(color="0.9")
    ax.set_axisbelow(True)
