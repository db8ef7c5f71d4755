"""The figures of the grid, and the tables of agreement with BPTT, of costs, and of the accuracy that each choice costs."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.credit_grid import plot_alignment
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, cells, published
from experiments.credit_grid.plot_panels import STAGES, Data, Panel, draw, prepare
from experiments.drawing import figures, length_curves, names, statistics, tables

__all__ = ["FIGURES", "prepare"]

BASES = ("ostl", "e_prop")  # the temporal credit whose loss of accuracy is measured

RECOMPUTED = "recomputed"  # BPTT(remat=True), in the costs

CELL = ["temporal", "spatial", "rules"]
COLUMNS = [
    *("task", "code", *CELL, "learning_rate", "seeds", "carried"),
    *tables.tested_columns("accuracy", "minus_bptt", "minus_fixed"),
    *tables.summary_columns("loss", *(f"cosine_{stage}" for stage in STAGES)),
]


def cell_and_names(cell: str) -> list[str]:
    """Temporal credit, spatial credit, and the published rules of a cell; of a reference, the name alone."""
    return [cell, "", ""] if cell in REFERENCES else [*cell.split("/"), ", ".join(published(cell))]


def rows(data: Data) -> Iterator[list[Any]]:
    """A row for each cell, with the cosine in the mean over hidden layers."""
    for panel in data.panels:
        for cell in (*REFERENCES, *cells(panel.config)):
            result, reached = panel.results[cell], panel.accuracies(cell)
            gaps = [reached - panel.accuracies(reference) for reference in REFERENCES]
            yield [
                *(*panel.start, *cell_and_names(cell)),
                *(result["trials"]["chosen"]["learning_rate"], len(reached), panel.carried[cell]),
                *tables.tested_summary(reached, statistics.SHARE),
                *(cell for gap in gaps for cell in tables.tested_summary(gap, statistics.DIFFERENCE)),
                *tables.summary([seed["loss"] for seed in result["seeds"]], statistics.POSITIVE),
                *(of for stage in STAGES for of in tables.summary(panel.cosines(cell, stage), statistics.COSINE)),
            ]


COSINE_COLUMNS = ["task", "code", *CELL, "stage", "layer", "seeds", *tables.summary_columns("cosine", "norm_ratio")]


def cosine_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for cell, stage, layer in itertools.product(cells(panel.config), STAGES, panel.layers):
            cosines, norms = (panel.agreements(cell, stage, layer, name) for name in ("cosine", "norm_ratio"))
            numbers = [*tables.summary(cosines, statistics.COSINE), *tables.summary(norms, statistics.POSITIVE)]
            yield [*panel.start, *cell_and_names(cell), stage, layer, statistics.count(cosines), *numbers]


def differences(panel: Panel) -> dict[tuple[str, str], np.ndarray]:
    """By base and comparison, the loss of accuracy by seed and test sample: of one choice against eligibility with symmetric
    feedback.

    Both networks of a difference start from the same weights and see the same batches. The cost of spatial credit is the mean
    over the routes in which no signal passes from layer to layer.
    """
    found = {}
    reached = {cell: panel.accuracies(cell) for cell in (FIXED, *cells(panel.config))}
    for base in (base for base in BASES if f"{base}/symmetric" in reached):
        lost = {cell: reached[f"{base}/symmetric"] - numbers for cell, numbers in reached.items()}
        routes = [route for route in panel.config["spatial"] if f"{base}/{route}" in lost and route != "symmetric"]
        of = {route: lost[f"{base}/{route}"] for route in routes} | {FIXED: lost[FIXED]}
        if "sltt/symmetric" in lost and set(names.WITHOUT_TRANSPORT) <= of.keys():
            of["spatial"] = np.mean([of[route] for route in names.WITHOUT_TRANSPORT], axis=0)
            of["temporal"] = lost["sltt/symmetric"]
            for name in (*names.WITHOUT_TRANSPORT, "spatial"):
                of[f"{name}_minus_temporal"] = of[name] - of["temporal"]
        found |= {(base, comparison): numbers for comparison, numbers in of.items()}
    return found


DIFFERENCE_COLUMNS = ["task", "code", "base", "comparison", *tables.OF_TESTS]


def difference_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for (base, comparison), numbers in differences(panel).items():
            yield [*panel.start, base, comparison, *tables.of_tests(numbers, statistics.ANY)]


COST_COLUMNS = ["task", *CELL, "carried", "carried_times_bptt", *tables.OF_COST]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for cost in data.costs:
        carried, costs = cost["carried"], cost["costs"]
        for cell in (REFERENCE, *cells(cost["config"])):
            start = [cost["config"]["task"], *cell_and_names(cell), carried[cell], carried[cell] / carried[REFERENCE]]
            yield [*start, *tables.of_cost(costs[cell], costs[REFERENCE])]
        if RECOMPUTED in costs:
            empty = [None] * (len(CELL) + 1)
            yield [cost["config"]["task"], RECOMPUTED, *empty, *tables.of_cost(costs[RECOMPUTED], costs[REFERENCE])]


def lengths_of(data: Data) -> Iterator[length_curves.Curve]:
    """The curve of each cell."""
    for panel in data.panels:
        for cell, result in panel.results.items():
            yield length_curves.Curve([*panel.start, *cell_and_names(cell)[:2]], result["seeds"], panel.config)


FIGURES = {"credit_grid": figures.Plot(COLUMNS, rows, draw)}
TABLES = {
    "credit_grid_alignment": figures.Plot(plot_alignment.COLUMNS, plot_alignment.rows),
    "credit_grid_differences": figures.Plot(DIFFERENCE_COLUMNS, difference_rows),
    "credit_grid_cosine": figures.Plot(COSINE_COLUMNS, cosine_rows),
    "credit_grid_cost": figures.Plot(COST_COLUMNS, cost_rows),
    "credit_grid_lengths": length_curves.table(["task", "code", "temporal", "spatial"], lengths_of),
}
