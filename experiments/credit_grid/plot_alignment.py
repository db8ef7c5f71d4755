"""Does the cosine to BPTT tell how accurate a rule gets? Its rank correlation with the accuracy over cells of the grid."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.credit_grid.grid import cells
from experiments.credit_grid.plot_panels import Data, Panel
from experiments.drawing import ranks

COLUMNS = ["task", "code", "feedback", *ranks.COLUMNS]
WITHOUT_FEEDBACK = ("local", "fixed_bases")  # routes of losses of the layer's own


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
