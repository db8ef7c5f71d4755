"""Draw the test accuracy of each rule."""

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from experiments.drawing import figures, names, tables
from experiments.drawing.statistics import SHARE
from slax_rules import RULES

COLUMNS = ["rule", *tables.summary_columns("accuracy")]


def prepare(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The accuracies of the seeds, by rule."""
    return {result["config"]["rule"]: result["accuracy"] for result in results}


def rows(accuracies: dict[str, list[float]]) -> Iterator[list[Any]]:
    for rule, numbers in accuracies.items():
        yield [rule, *tables.summary(numbers, SHARE)]


def draw(accuracies: dict[str, list[float]]) -> Figure:
    figure, ((ax,),) = figures.panels(1, 1, 0.4 * len(accuracies) + 0.6)
    figures.plot_seed_intervals(ax, [(rule, RULES[rule].title, of) for rule, of in accuracies.items()], SHARE)
    ax.set_xlabel(names.TEST_ACCURACY.replace(" (%)", ""))
    return figures.with_note(figure, "The mean over seeds with its 95 % interval; small dots: seeds.")


FIGURES = {"NAME": figures.Plot(COLUMNS, rows, draw)}
