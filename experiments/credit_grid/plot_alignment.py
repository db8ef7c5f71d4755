"""Does the cosine to BPTT tell how accurate a rule gets? Its rank correlation with the accuracy over cells of the grid."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.credit_grid.grid import cells
from experiments.credit_grid.plot_panels import Data, Panel
from experiments.drawing import figures, names, ranks

COLUMNS = ["task", "code", "feedback", *ranks.COLUMNS]
DRAWN = {"trained": "BPTT's weights", "own": "own weights"}  # stages of weights, of which each has a row of panels
WITHOUT_FEEDBACK = ("local", "fixed_bases")  # routes of losses of the layer's own
LOWEST = 80  # percent; the axis starts there if the cells with symmetric feedback are above it


def feedback_of(cell: str) -> ranks.Feedback:
    """How the error reaches hidden layers."""
    route = cell.partition("/")[2]
    return "symmetric" if route == "symmetric" else "none" if route in WITHOUT_FEEDBACK else "other"


def ranked(panel: Panel) -> dict[str, np.ndarray]:
    """By cell, the cosine in the mean over hidden layers at the weights of each stage, and the accuracy, by seed [4, S];
    without cells whose gradient is zero."""
    found = {}
    for cell in cells(panel.config):
        cosines = [panel.cosines(cell, stage) for stage in panel.stages]
        if not any(None in of_stage for of_stage in cosines):
            found[cell] = np.array([*cosines, panel.accuracies(cell).mean(axis=1)], float)
    return found


def sets_of(panel: Panel) -> dict[str, np.ndarray]:
    """The numbers of the cells in each set."""
    return ranks.sets_of((feedback_of(cell), numbers) for cell, numbers in ranked(panel).items())


def rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        yield from ranks.rows(panel.start, panel.stages, sets_of(panel))


def draw(data: Data) -> Figure:
    """Draw a column for each task and code, with a panel at BPTT's weights and one at those that each cell reaches: the
    accuracy of each cell against its cosine, in the color of its rule with symmetric feedback, and gray with other feedback."""
    stages = [stage for stage in data.panels[0].stages if stage in DRAWN]
    figure, axes = figures.panels(len(stages), len(data.panels), 1.75, 0.85, sharey="col", sharex=True)
    gray: dict[str, Any] = {"marker": "o", "color": "0.6", "markerfacecolor": "none", "markersize": 3}
    for panel, column in zip(data.panels, axes.T, strict=True):
        numbers, sets = ranked(panel), sets_of(panel)
        for ax, stage in zip(column, stages, strict=True):
            place = panel.stages.index(stage)
            for cell, of_cell in numbers.items():
                rule, look = cell.partition("/")[0], gray
                if feedback_of(cell) == "symmetric":
                    look = figures.look_of(rule) | {"markersize": 5, "zorder": 3}
                ax.plot(of_cell[place].mean(), 100 * of_cell[-1].mean(), linestyle="", **look)
            for line, name in enumerate(name for name in ("symmetric", "other") if name in sets):
                look = {"va": "top", "fontsize": figures.SMALLEST, "color": "0.4" if line else "black"}
                text = f"{name} feedback: {ranks.correlation(sets[name], place):.2f}"
                ax.text(0.03, 0.97 - 0.1 * line, text, transform=ax.transAxes, **look)
        symmetric = [100 * of[-1].mean() for cell, of in numbers.items() if feedback_of(cell) == "symmetric"]
        lowest = min(LOWEST, 10 * int(min(symmetric) / 10))
        ax.set(ylim=(lowest, 100 + 0.3 * (100 - lowest)), yticks=range(lowest, 101, 10), xlim=(-0.05, 1.03))
        ax.set_xlabel(names.COSINE)
    for ax in axes[:, 0]:
        ax.set_ylabel(names.TEST_ACCURACY)
    titles = [panel.title for panel in data.panels]
    below = [DRAWN[stage] for stage in stages[1:] for _ in titles]
    figures.name_panels(axes.flat, [*(f"{DRAWN[stages[0]]}: {title}" for title in titles), *below])
    kept = [rule for rule in names.TEMPORAL if any(rule in config["temporal"] for config in data.configs)]
    looks = [figures.look_of(rule) | {"linestyle": "", "label": names.TEMPORAL[rule]} for rule in kept]
    figures.legend_of(figure, looks, 4)
    return figures.with_note(
        figure,
        f"A mark is a cell of the grid, a mean over {names.seeds_of(data.configs)}: in color, what is kept of the past with "
        "symmetric feedback; gray circles, the same with any other feedback or a loss of the layer's own. Cosine: mean over "
        f"the hidden layers. Accuracy: after {names.updates_of(data.configs)} under the rule itself; less accurate cells are "
        "in the table. Numbers: rank correlation, mean over seeds; other feedback is without losses of the layer's own.",
    )
