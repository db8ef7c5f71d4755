"""The results of the grid by task and code, and heat maps of the accuracies of all cells."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.credit_grid.grid import FIXED, REFERENCE, cells, published
from experiments.drawing import figures, names, tables

NEAR = 2  # points below BPTT that are little
STAGES = ("initial", "trained", "own")  # of the weights at which gradients are compared: BPTT trained the second ones
MOST = 30  # points below BPTT at the dark end of the scale


class Panel(NamedTuple):
    """The results of a task in one code, which are `start`, by cell."""

    start: tuple[str, str]
    config: dict[str, Any]
    results: dict[str, dict[str, Any]]
    carried: dict[str, int]

    @property
    def title(self) -> str:
        return f"{names.with_code(*self.start)}\n{names.network(self.config)}, T = {self.config['n_steps']}"

    @property
    def layers(self) -> list[str]:
        return sorted(self.results[REFERENCE]["seeds"][0]["agreement"]["initial"], key=int)

    @property
    def stages(self) -> list[str]:
        """Those of STAGES that the results have."""
        return [stage for stage in STAGES if stage in self.results[REFERENCE]["seeds"][0]["agreement"]]

    def accuracies(self, cell: str) -> np.ndarray:
        """The test accuracy by seed and test sample, see `tables.tested`."""
        return tables.tested(self.start[0], self.results[cell]["seeds"])

    def agreements(self, cell: str, stage: str, layer: str, quantity: str) -> list[float | None]:
        """The cosine or the norm ratio of each seed, None for a seed whose gradient is zero, and at weights that older results
        lack."""
        of_seeds = (seed["agreement"].get(stage) for seed in self.results[cell]["seeds"])
        return [of and of[layer][quantity] for of in of_seeds]

    def cosines(self, cell: str, stage: str) -> list[float | None]:
        """The mean cosine over hidden layers of each seed, None for a seed in which one of the gradients is zero."""
        cosines = zip(*(self.agreements(cell, stage, layer, "cosine") for layer in self.layers[:-1]), strict=True)
        return [None if None in of_seed else float(np.mean(of_seed)) for of_seed in cosines]


class Data(NamedTuple):
    """The results of each task and code, and the costs of some tasks, with the numbers that their cells carry."""

    panels: list[Panel]
    costs: list[dict[str, Any]]

    @property
    def configs(self) -> list[dict[str, Any]]:
        return [panel.config for panel in self.panels]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by task and code, and the costs."""
    found: dict[tuple[str, str], Panel] = {}
    for result in sorted((result for result in results if "cells" in result), key=row_of):
        config = result["config"]
        start = config["task"], config["code"]
        panel = found.setdefault(start, Panel(start, config | {"temporal": [], "spatial": []}, {}, {}))
        panel.config["temporal"].extend(config.get("temporal", []))
        panel.config["spatial"] = config.get("spatial", panel.config["spatial"])
        panel.results.update(result["cells"])
        panel.carried.update(result["carried"])
    for task, code in (pair for pair, panel in found.items() if REFERENCE not in panel.results):
        raise SystemExit(f"The figures of {task}, {code} need its references: name the job {task}/{code}/references.")
    carried = {task: panel.carried for (task, _), panel in found.items()}
    costs = [result for result in results if "costs" in result and result["config"]["task"] in carried]
    return Data([*found.values()], [result | {"carried": carried[result["config"]["task"]]} for result in costs])


def row_of(result: dict[str, Any]) -> int:
    """The place of a result in the grid: the references come first."""
    temporal = result["config"].get("temporal")
    return 1 + list(names.TEMPORAL).index(temporal[0]) if temporal else 0


def draw(data: Data) -> Figure:
    """Draw a heat map for each task and code: how far the accuracy of each cell is below BPTT's, temporal credit from top to
    bottom and spatial credit from left to right, the best ones first. Cells near BPTT are gray."""
    gaps = [gaps_of(panel) for panel in data.panels]
    rows, columns = (ordered(gaps, place) for place in (0, 1))
    figure, axes = figures.panels(1, len(gaps), 0.19 * (1 + len(rows)) + 0.35, 1.25, sharex=True, sharey=True)
    colors = plt.get_cmap("viridis_r").with_extremes(bad="0.9")
    for ax, of_panel in zip(axes[0], gaps, strict=True):
        matrix = np.full((1 + len(rows), len(columns)), np.nan)
        matrix[0] = of_panel.pop(FIXED)
        for cell, gap in of_panel.items():
            temporal, spatial = cell.split("/")
            matrix[1 + rows.index(temporal), columns.index(spatial)] = gap
            if published(cell):
                place = columns.index(spatial) - 0.46, rows.index(temporal) + 0.56
                ax.add_patch(Rectangle(place, 0.92, 0.88, fill=False, color="black", linewidth=0.8))
        lost = np.ma.masked_less(-matrix, NEAR)
        image = ax.imshow(lost, cmap=colors, vmin=0, vmax=MOST, aspect="auto")
        for (y, x), gap in np.ndenumerate(matrix):
            if not np.isnan(gap) and (y or x == 0):  # fixed hidden layers have one number for all columns
                look = {"color": "white" if gap < -MOST / 2 else "black", "fontsize": figures.SMALLEST}
                ax.text(x if y else (len(columns) - 1) / 2, y, f"{gap:z.0f}", ha="center", va="center", **look)
        ax.axhline(0.5, color="white", linewidth=3, zorder=0.5)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xticks(range(len(columns)), [names.SPATIAL[name] for name in columns], rotation=90)
    labels = [names.SPATIAL[FIXED], *(names.TEMPORAL[name] for name in rows)]
    axes[0, 0].set_yticks(range(len(labels)), labels)
    titles = [f"{panel.title}, BPTT {100 * panel.accuracies(REFERENCE).mean():.0f} %" for panel in data.panels]
    figures.name_panels(axes[0], titles)
    bar = figure.colorbar(image, ax=axes, label="points below BPTT", aspect=40, pad=0.01, fraction=0.03)
    bar.outline.set_visible(False)
    return figures.with_note(
        figure,
        f"Test accuracy minus that of BPTT, in points; gray: less than {NEAR} points below it. Mean of "
        f"{names.seeds_of(data.configs)} after {names.updates_of(data.configs)}. Rows: what is kept of the past; columns: how "
        "the error reaches a hidden layer. Framed: a published rule.",
    )


def gaps_of(panel: Panel) -> dict[str, float]:
    """The mean accuracy of each cell and of fixed hidden layers, minus that of BPTT, in points."""
    exact = panel.accuracies(REFERENCE)
    return {cell: 100 * float((panel.accuracies(cell) - exact).mean()) for cell in (FIXED, *cells(panel.config))}


def ordered(gaps: Sequence[dict[str, float]], place: int) -> list[str]:
    """The temporal credits (place 0) or the spatial ones (1) of all cells, those with the most accurate cells first."""
    found: dict[str, list[float]] = {}
    for cell, gap in ((cell, gap) for of in gaps for cell, gap in of.items() if cell != FIXED):
        found.setdefault(cell.split("/")[place], []).append(gap)
    return sorted(found, key=lambda name: -float(np.mean(found[name])))
