"""The results of the grid by task and code, and heat maps of numbers of all cells."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.credit_grid.grid import FIXED, REFERENCE, cells, published
from experiments.drawing import figures, names, statistics, tables
from slax_rules import RULES


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

    def accuracies(self, cell: str) -> np.ndarray:
        """The test accuracy by seed and test sample, see `tables.tested`."""
        return tables.tested(self.start[0], self.results[cell]["seeds"])

    def agreements(self, cell: str, stage: str, layer: str, quantity: str) -> list[float | None]:
        """The cosine or the norm ratio of each seed, None for a seed whose gradient is zero."""
        return [seed["agreement"][stage][layer][quantity] for seed in self.results[cell]["seeds"]]

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


def draw_maps(
    shown: Sequence[Panel],
    values: Sequence[Sequence[dict[str, Any]]],
    bounds: statistics.Bounds,
    form: Callable[[float], str],
    label: str,
    stages: Sequence[str] = ("",),
    above: Sequence[str] = (),
) -> Figure:
    """Draw a row of heat maps for each stage, with temporal credit from top to bottom and spatial credit from left to right,
    and the references `above` in rows above them."""
    rows = list(dict.fromkeys(name for panel in shown for name in panel.config["temporal"]))
    columns = list(dict.fromkeys(name for panel in shown for name in panel.config["spatial"]))
    height = 0.19 * (len(rows) + len(above)) + 0.35
    figure, axes = figures.panels(len(stages), len(shown), height, 1.25, sharex=True, sharey=True)
    for line, of_stage in zip(axes, values, strict=True):
        for ax, panel, numbers in zip(line, shown, of_stage, strict=True):
            matrix = np.full((len(above) + len(rows), len(columns)), np.nan)
            for row, name in enumerate(above):
                matrix[row] = numbers[name]
            for cell in cells(panel.config):
                temporal, spatial = cell.split("/")
                y, x = len(above) + rows.index(temporal), columns.index(spatial)
                matrix[y, x] = numbers[cell]
                if published(cell):
                    frame = Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, color="white", linewidth=1)
                    ax.add_patch(frame)
            image = ax.imshow(np.clip(matrix, *bounds), cmap="cividis", vmin=bounds[0], vmax=bounds[1], aspect="auto")
            for (y, x), value in np.ndenumerate(matrix):
                is_cell = y >= len(above)
                if np.isnan(value) or not (is_cell or x == 0):  # a reference has one number for all columns
                    continue
                look = {"color": "white" if value < np.mean(bounds) else "black", "fontsize": figures.SMALLEST}
                ax.text(x if is_cell else (len(columns) - 1) / 2, y, form(value), ha="center", va="center", **look)
            ax.axhline(len(above) - 0.5, color="white", linewidth=3)
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            ax.set_xticks(range(len(columns)), [names.SPATIAL[name] for name in columns], rotation=90)
    labels = {REFERENCE: RULES[REFERENCE].title, FIXED: names.SPATIAL[FIXED], **names.TEMPORAL}
    axes[0, 0].set_yticks(range(len(above) + len(rows)), [labels[name] for name in (*above, *rows)])
    figures.name_panels(axes.flat, (f"{panel.title}\n{stage}".strip() for stage in stages for panel in shown))
    figure.colorbar(image, ax=axes, label=label, aspect=40, pad=0.01, fraction=0.03).outline.set_visible(False)
    return figure
