"""Does the cosine to BPTT tell how accurate a rule gets? Its rank correlation with the accuracy over cells of the grid."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from experiments.credit_grid.grid import cells
from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES

if TYPE_CHECKING:
    from experiments.credit_grid.plot import Data, Panel

COLUMNS = ["task", "code", "feedback", "stage", "cells", *tables.OF_SEEDS]
FEEDBACK = ("symmetric", "other")
STAGES = ("initial", "trained")


def pairs(panel: "Panel", feedback: str, stage: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The cosine in the mean over hidden layers, and the accuracy, of each seed by cell, without cells whose gradient is zero
    and those that equal another one."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for cell in cells(panel.config):
        if (cell.rpartition("/")[2] == "symmetric") != (feedback == "symmetric"):
            continue
        cosines = [panel.agreements(cell, stage, layer, "cosine") for layer in panel.layers[:-1]]
        if any(None in of_layer for of_layer in cosines):
            continue
        pair = np.mean(np.array(cosines, float), axis=0), panel.accuracies(cell).mean(axis=1)
        if not any(np.array_equal(pair, other) for other in found.values()):
            found[cell] = pair
    return found


def correlations(panel: "Panel", feedback: str, stage: str) -> list[float]:
    """Spearman's rank correlation over the cells, for each seed; none with fewer than three cells."""
    found = pairs(panel, feedback, stage)
    if len(found) < 3:
        return []
    cosines, accuracies = (np.array(part) for part in zip(*found.values(), strict=True))
    return [float(spearmanr(cosines[:, seed], accuracies[:, seed]).statistic) for seed in range(cosines.shape[1])]


def rows(data: "Data") -> Iterator[list[Any]]:
    for panel in data.panels:
        for feedback in FEEDBACK:
            for stage in STAGES:
                if found := correlations(panel, feedback, stage):
                    cells_ = len(pairs(panel, feedback, stage))
                    yield [*panel.start, feedback, stage, cells_, *tables.of_seeds(found, statistics.COSINE)]


def draw(data: "Data") -> Figure:
    """Draw a panel for each task and code: the accuracy of each cell against its cosine at BPTT's weights, in the color of its
    rule with symmetric feedback, and gray with other feedback."""
    figures.check_given("credit_grid_alignment", "tasks", data.panels)
    figure, axes = figures.panels(1, len(data.panels), 2.2, 0.85, sharey=True)
    for panel, ax in zip(data.panels, axes[0], strict=True):
        look: dict[str, Any]
        for feedback in reversed(FEEDBACK):
            for cell, (cosines, accuracies) in pairs(panel, feedback, "trained").items():
                look = {"marker": "o", "color": "0.6", "markerfacecolor": "none", "markersize": 3}
                if feedback == "symmetric":
                    style = STYLES[cell.partition("/")[0]]
                    look = {"marker": style.marker, "color": style.color, "markersize": 5, "zorder": 3}
                ax.plot(cosines.mean(), 100 * accuracies.mean(), linestyle="", **look)
        for place, feedback in enumerate(FEEDBACK):
            if found := correlations(panel, feedback, "trained"):
                look = {
                    "va": "top",
                    "fontsize": figures.SMALLEST,
                    "color": "black" if feedback == "symmetric" else "0.4",
                }
                at = 0.03, 0.96 - 0.07 * place
                ax.text(*at, f"{feedback} feedback: {np.mean(found):.2f}", transform=ax.transAxes, **look)
        figures.draw_levels(ax, chance=100 / panel.config["layers"][-1])
        ax.set(xlim=(min(-0.05, ax.get_xlim()[0]), 1.03), xlabel=names.COSINE, ylim=(0, 125))
    axes[0, 0].set(ylabel=names.TEST_ACCURACY, yticks=range(0, 101, 20))
    figures.name_panels(axes[0], (panel.title for panel in data.panels))
    kept = [rule for rule in names.TEMPORAL if any(rule in panel.config["temporal"] for panel in data.panels)]
    looks = [figures.look_of(rule) | {"linestyle": "", "label": names.TEMPORAL[rule]} for rule in kept]
    figures.legend_of(figure, looks, 4)
    seeds = names.numbers_of_seeds(panel.results["bptt"]["seeds"] for panel in data.panels)
    updates = names.updates_of(panel.config for panel in data.panels)
    return figures.with_note(
        figure,
        f"A mark is a cell of the grid, a mean over {seeds} seeds: in color, what is kept of the past with symmetric feedback; "
        "gray circles, the same with any other feedback. Cosine: mean over the hidden layers, at the weights where BPTT ends. "
        f"Accuracy: after {updates} under the rule itself; dashed: chance. Numbers: rank correlation, mean over seeds.",
    )
