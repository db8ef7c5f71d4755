"""The figure and the table of training length: how accurate each rule is along its training, and whether its end is flat."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES
from slax_rules import RULES

COLUMNS = ["batches", "quantity", *tables.OF_TESTS, "flat"]  # after what `plot` starts with

FLAT = 0.01  # a validation curve is flat if its last gain is surely less
NAMED = 3  # columns of panels in which each line has its name at its end; more have a legend


class Curve(NamedTuple):
    """The results of a rule.

    cells: its first cells in the table, the task before all.
    panel: the row and the column of its panel, by the names that are shown; None if it is in the table alone.
    rule: whose look its line has.
    label: its name in the panel.
    chance: the accuracy of guesses.
    seeds: for each seed, the numbers of `experiments.common.lengths.along`.
    steps: the last number of batches.
    """

    cells: Sequence[Any]
    panel: tuple[str, str] | None
    rule: str
    label: str
    chance: float
    seeds: Sequence[dict[str, Any]]
    steps: int

    @property
    def batches(self) -> list[int]:
        return statistics.lengths_of(self.seeds) or [self.steps]

    def gains(self) -> list[float]:
        """The validation accuracy that each seed gains from the second last length to the last."""
        before, after = (statistics.validated(self.seeds, batches) for batches in self.batches[-2:])
        return np.subtract(after, before).tolist()


def of_rule(cells: Sequence[Any], panel: tuple[str, str], rule: str, seeds: Any, config: dict[str, Any]) -> Curve:
    """The course of a rule, in a panel if it is one of those of line plots."""
    shown = panel if figures.line_rules([rule]) else None
    return Curve(cells, shown, rule, RULES[rule].title, 1 / config["layers"][-1], seeds, config["steps"])


def of_modes(tasks: tables.Results, seeds_of: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[Curve]:
    """The course of each task, way of updating and rule, where `seeds_of` gives the seeds of a result by way of updating."""
    for task, rule, result in tables.each(tasks):
        for mode, seeds in seeds_of(result).items():
            yield of_rule(
                [task, mode, rule], (names.UPDATES[mode], names.task_name(task)), rule, seeds, result["config"]
            )


def rows(curve: Curve) -> Iterator[list[Any]]:
    """The rows of a curve: test and validation accuracy at each length; then whether its end is flat."""
    for batches in curve.batches:
        start = [*curve.cells, batches]
        yield [
            *start,
            "accuracy",
            *tables.of_tests(tables.tested(curve.cells[0], curve.seeds, batches), statistics.SHARE),
            None,
        ]
        if statistics.lengths_of(curve.seeds):
            validated = statistics.validated(curve.seeds, batches)
            yield [*start, "validation_accuracy", *tables.without_tests(validated, statistics.SHARE), None]
    if len(curve.batches) > 1:
        start, gains = [*curve.cells, curve.batches[-1]], curve.gains()
        yield [*start, "gain", *tables.without_tests(gains, (-1.0, 1.0)), int(is_flat(gains))]


def plot(stem: str, start: Sequence[str], curves_of: Callable[[Any], Iterable[Curve]]) -> figures.Plot:
    """The figure of training length.

    Args:
        stem: stem of the figure.
        start: titles of the first cells of a curve in the table.
        curves_of: the curves, from what `prepare` makes.
    """

    def all_rows(data: Any) -> Iterator[list[Any]]:
        return (row for curve in curves_of(data) for row in rows(curve))

    return figures.Plot([*start, *COLUMNS], all_rows, partial(draw, stem, curves_of))


def draw(stem: str, curves_of: Callable[[Any], Iterable[Curve]], data: Any) -> Figure:
    """Draw a panel for each task and way of updating: the test accuracy of each rule against the batches."""
    curves = [curve for curve in curves_of(data) if curve.panel]
    figures.check_given(stem, "trainings", curves)
    lines, columns = (list(dict.fromkeys(curve.panel[index] for curve in curves)) for index in (0, 1))
    figure, axes = figures.panels(len(lines), len(columns), 1.95, 0.3, sharey=True)
    for (line, column), ax in np.ndenumerate(axes):
        of_panel = [curve for curve in curves if curve.panel == (lines[line], columns[column])]
        if not of_panel:
            ax.set_axis_off()
        for curve in of_panel:
            draw_curve(ax, curve)
        if of_panel:
            figures.draw_levels(ax, chance=100 * of_panel[0].chance)
            figures.log_axis(ax)
            ax.set_xticks(sorted({batches for curve in of_panel for batches in curve.batches}))
            ends = min(curve.batches[0] for curve in of_panel), max(curve.batches[-1] for curve in of_panel)
            ax.set(xlim=ends if ends[0] < ends[1] else None, ylim=(0, 100))
    for ax in axes[-1]:
        ax.set_xlabel("batches")
    for ax, line in zip(axes[:, 0], lines, strict=True):
        ax.set_ylabel(f"{line}\n{names.TEST_ACCURACY}".strip())
    titles = [textwrap.fill(column, 75 // len(columns), break_long_words=False) for _ in lines for column in columns]
    shown = [(ax, title) for ax, title in zip(axes.flat, titles, strict=True) if ax.axison]
    figures.name_panels(*zip(*shown, strict=True))
    if len(columns) > NAMED:
        looks = {curve.label: figures.line_of(curve.rule, markersize=3, label=curve.label) for curve in curves}
        figures.legend_of(figure, looks.values(), len(looks))
    else:
        figures.label_lines(axes.flat)
    seeds = names.numbers_of_seeds(curve.seeds for curve in curves)
    return figures.with_note(
        figure,
        f"Accuracy along one training of each seed, at the learning rate that is best at its end. Mean of {seeds} seeds; "
        "bands: 95 % intervals of the mean over seeds and, where seeds have a test set in common, its samples; dashed: chance. "
        "The table says where the validation accuracy is flat at the end.",
    )


def draw_curve(ax: Axes, curve: Curve) -> None:
    found = []
    for batches in curve.batches:
        mean, low, high, *_ = tables.tested_summary(
            tables.tested(curve.cells[0], curve.seeds, batches), statistics.SHARE
        )
        found.append((batches, *(np.nan if end is None else 100 * float(end) for end in (mean, low, high))))
    at, mean, low, high = np.array(found).T
    ax.plot(at, mean, **figures.line_of(curve.rule, markersize=3, label=curve.label))
    ax.fill_between(at, low, high, color=STYLES[curve.rule].color, alpha=0.2, linewidth=0)


def is_flat(gains: Sequence[float]) -> bool:
    """True if a validation curve is flat: with 97.5 % confidence, the mean gain of the seeds from the second last length to the
    last is below a point. Two seeds are the fewest that can tell."""
    _, _, high = statistics.interval(gains, (-1.0, 1.0))
    return high is not None and high < FLAT
