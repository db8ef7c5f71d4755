"""Does the cosine to BPTT tell how accurate a rule gets? Its rank correlation with the accuracy over cells of the grid."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from experiments.credit_grid.grid import cells
from experiments.credit_grid.plot_panels import STAGES, Data, Panel
from experiments.drawing import figures, names, statistics, tables

COLUMNS = ["task", "code", "feedback", "stage", "cells", *tables.OF_SEEDS]
FEEDBACK = ("symmetric", "other")


def pairs(panel: Panel, feedback: str, stage: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The cosine in the mean over hidden layers, and the accuracy, of each seed by cell, without cells whose gradient is zero
    and those that equal another one."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for cell in cells(panel.config):
        cosines = panel.cosines(cell, stage)
        if cell.endswith("/symmetric") != (feedback == "symmetric") or None in cosines:
            continue
        pair = np.array(cosines, float), panel.accuracies(cell).mean(axis=1)
        if not any(np.array_equal(pair, other) for other in found.values()):
            found[cell] = pair
    return found


def correlations(panel: Panel, feedback: str, stage: str) -> list[float]:
    """Spearman's rank correlation over the cells, for each seed; none with fewer than three cells."""
    found = pairs(panel, feedback, stage)
    if len(found) < 3:
        return []
    of_seeds = zip(*(np.transpose(of) for of in zip(*found.values(), strict=True)), strict=True)
    return [float(spearmanr(cosines, accuracies).statistic) for cosines, accuracies in of_seeds]


def rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for feedback in FEEDBACK:
            for stage in STAGES:
                if found := correlations(panel, feedback, stage):
                    count = len(pairs(panel, feedback, stage))
                    yield [*panel.start, feedback, stage, count, *tables.of_seeds(found, statistics.COSINE)]


def draw(data: Data) -> Figure:
    """Draw a panel for each task and code: the accuracy of each cell against its cosine at BPTT's weights, in the color of its
    rule with symmetric feedback, and gray with other feedback."""
    figure, axes = figures.panels(1, len(data.panels), 2.2, 0.85, sharey=True)
    gray: dict[str, Any] = {"marker": "o", "color": "0.6", "markerfacecolor": "none", "markersize": 3}
    for panel, ax in zip(data.panels, axes[0], strict=True):
        for place, feedback in enumerate(FEEDBACK):
            is_symmetric = feedback == "symmetric"
            for cell, (cosines, accuracies) in pairs(panel, feedback, "trained").items():
                look = (
                    figures.look_of(cell.partition("/")[0]) | {"markersize": 5, "zorder": 3} if is_symmetric else gray
                )
                ax.plot(cosines.mean(), 100 * accuracies.mean(), linestyle="", **look)
            if found := correlations(panel, feedback, "trained"):
                look = {"va": "top", "fontsize": figures.SMALLEST, "color": "black" if is_symmetric else "0.4"}
                text = f"{feedback} feedback: {np.mean(found):.2f}"
                ax.text(0.03, 0.96 - 0.07 * place, text, transform=ax.transAxes, **look)
        ax.set(xlim=(min(-0.05, ax.get_xlim()[0]), 1.03), xlabel=names.COSINE)
    of_symmetric = [pairs(panel, "symmetric", "trained").values() for panel in data.panels]
    lowest = 10 * int(10 * min(accuracies.mean() for of in of_symmetric for _, accuracies in of)) - 10
    axes[0, 0].set(ylabel=names.TEST_ACCURACY, yticks=range(lowest, 101, 10), ylim=(lowest, 100 + 0.2 * (100 - lowest)))
    figures.name_panels(axes[0], (panel.title for panel in data.panels))
    kept = [rule for rule in names.TEMPORAL if any(rule in config["temporal"] for config in data.configs)]
    looks = [figures.look_of(rule) | {"linestyle": "", "label": names.TEMPORAL[rule]} for rule in kept]
    figures.legend_of(figure, looks, 4)
    return figures.with_note(
        figure,
        f"A mark is a cell of the grid, a mean over {names.seeds_of(data.configs)}: in color, what is kept of the past with "
        "symmetric feedback; gray circles, the same with any other feedback. Cosine: mean over the hidden layers, where BPTT "
        f"ends. Accuracy: after {names.updates_of(data.configs)} under the rule itself; less accurate cells are in the table. "
        "Numbers: rank correlation, mean over seeds.",
    )
