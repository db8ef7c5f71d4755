"""Draw the accuracy, the agreement with BPTT and the cost of each cell, and the accuracy that each choice costs."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import figures, rate_curves, tables
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, cells, published
from slax_rules import RULES

STAGES = ("initial", "trained")
ROUTES = {  # the labels of spatial credit, and the color and marker of its trials
    "symmetric": ("symmetric", "C0", "o"),
    "random": ("random", "C1", "s"),
    "adaptive": ("adaptive", "C2", "D"),
    "direct": ("direct", "C3", "^"),
    "target": ("target", "C4", "v"),
    "local": ("local loss", "C5", "P"),
    "fixed_bases": ("fixed bases", "C6", "X"),
}
SPATIAL_LABELS = {route: label for route, (label, _, _) in ROUTES.items()}
TEMPORAL_LABELS = {
    "sltt": "none",
    "ottt": "input traces",
    "ostl": "eligibility",
    "e_prop": "filtered eligibility",
    "otpe": "leaky sum (OTPE)",
    "approximate_otpe": "approximate leaky sum",
    "pp_prop": "two traces (pp-prop)",
    "s_tllr": "causal and non-causal",
}
# The cost of spatial credit is the mean over these routes, in which no signal passes from layer to layer.
WITHOUT_TRANSPORT = ("direct", "target", "local")
BASES = ("ostl", "e_prop")  # the temporal credit whose loss of accuracy is measured


class Panel(NamedTuple):
    """The results of a task in one code, by cell."""

    config: dict[str, Any]
    code: str
    results: dict[str, dict[str, Any]]
    carried: dict[str, int]

    @property
    def start(self) -> list[str]:
        """The first cells of its rows."""
        return [self.config["task"], self.code]

    @property
    def title(self) -> str:
        net = f"{tables.network(self.config)}, T = {self.config['n_steps']}"
        return f"{tables.spoken(self.config['task'])}, code: {self.code} ({net})"

    @property
    def layers(self) -> list[str]:
        return sorted(self.results[REFERENCE]["seeds"][0]["agreement"]["initial"], key=int)

    def accuracies(self, cell: str) -> np.ndarray:
        """The test accuracy of each seed."""
        return np.array([seed["accuracy"] for seed in self.results[cell]["seeds"]])

    def agreements(self, cell: str, stage: str, layer: str, quantity: str) -> list[float | None]:
        """The cosine or the norm ratio of each seed, None for a seed whose gradient is zero."""
        return [seed["agreement"][stage][layer][quantity] for seed in self.results[cell]["seeds"]]


class Data(NamedTuple):
    """The results of each task and code, and the costs of some tasks."""

    panels: list[Panel]
    costs: list[dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by task and code, and the costs."""
    found: dict[tuple[str, str], Panel] = {}
    for result in sorted((result for result in results if "cells" in result), key=row_of):
        config = result["config"]
        new = Panel(config | {"temporal": [], "spatial": []}, config["code"], {}, {})
        panel = found.setdefault((config["task"], config["code"]), new)
        panel.config["temporal"].extend(config.get("temporal", []))
        panel.config["spatial"] = config.get("spatial", panel.config["spatial"])
        panel.results.update(result["cells"])
        panel.carried.update(result["carried"])
    for task, code in (pair for pair, panel in found.items() if REFERENCE not in panel.results):
        raise SystemExit(
            f"The figures of {task}, {code} need its references: name the job {task}/{code}/references as well."
        )
    return Data(list(found.values()), [result for result in results if "costs" in result])


def row_of(result: dict[str, Any]) -> int:
    """The place of a result in the grid: the references come first."""
    temporal = result["config"].get("temporal")
    return 1 + list(TEMPORAL_LABELS).index(temporal[0]) if temporal else 0


CELL = ["temporal", "spatial", "rules"]
COLUMNS = [
    *("task", "code", *CELL, "learning_rate", "seeds", "carried"),
    *tables.summary_columns("accuracy", "minus_bptt", "minus_fixed", "loss", "cosine_initial", "cosine_trained"),
]


def cell_and_names(cell: str) -> list[str]:
    """Temporal credit, spatial credit, and the published rules of a cell; of a reference, the name alone."""
    return [cell, "", ""] if cell in REFERENCES else [*cell.split("/"), ", ".join(published(cell))]


def rows(data: Data) -> Iterator[list[Any]]:
    """A row for each cell, with the cosine in the mean over hidden layers."""
    for panel in data.panels:
        for cell in (*REFERENCES, *cells(panel.config)):
            result, accuracies = panel.results[cell], panel.accuracies(cell)
            quantities = [
                (accuracies, tables.SHARE),
                *((accuracies - panel.accuracies(reference), (-1.0, 1.0)) for reference in REFERENCES),
                ([seed["loss"] for seed in result["seeds"]], tables.POSITIVE),
                *((cosines_of_hidden(panel, cell, stage), tables.COSINE) for stage in STAGES),
            ]
            counts = [result["trials"]["chosen"]["learning_rate"], len(accuracies), panel.carried[cell]]
            summaries = itertools.chain(*(tables.summary(list(numbers), bounds) for numbers, bounds in quantities))
            yield [*panel.start, *cell_and_names(cell), *counts, *summaries]


def cosines_of_hidden(panel: Panel, cell: str, stage: str) -> list[float | None]:
    """The mean cosine over hidden layers of each seed, None for a seed in which one of the gradients is zero."""
    seeds = [seed["agreement"][stage] for seed in panel.results[cell]["seeds"]]
    cosines = [[seed[layer]["cosine"] for layer in panel.layers[:-1]] for seed in seeds]
    return [None if None in of_seed else float(np.mean(of_seed)) for of_seed in cosines]


COSINE_COLUMNS = ["task", "code", *CELL, "stage", "layer", "seeds", *tables.summary_columns("cosine", "norm_ratio")]


def cosine_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for cell, stage, layer in itertools.product(cells(panel.config), STAGES, panel.layers):
            cosines, norms = (panel.agreements(cell, stage, layer, name) for name in ("cosine", "norm_ratio"))
            numbers = [*tables.summary(cosines, tables.COSINE), *tables.summary(norms, tables.POSITIVE)]
            yield [*panel.start, *cell_and_names(cell), stage, layer, tables.count(cosines), *numbers]


DIFFERENCE_COLUMNS = ["task", "code", "base", "comparison", *tables.OF_SEEDS]


def differences(panel: Panel) -> dict[tuple[str, str], np.ndarray]:
    """By base and comparison, the loss of accuracy of each seed: of one choice against eligibility with symmetric feedback.

    Both networks of a difference start from the same weights and see the same batches.
    """
    found = {}
    known = cells(panel.config)
    for base in (base for base in BASES if f"{base}/symmetric" in known):
        whole = panel.accuracies(f"{base}/symmetric")
        routes = [route for route in panel.config["spatial"] if f"{base}/{route}" in known and route != "symmetric"]
        lost = {route: whole - panel.accuracies(f"{base}/{route}") for route in routes}
        found |= {(base, route): numbers for route, numbers in lost.items()}
        found[base, FIXED] = whole - panel.accuracies(FIXED)
        if "sltt/symmetric" in known and lost.keys() >= set(WITHOUT_TRANSPORT):
            temporal = whole - panel.accuracies("sltt/symmetric")
            spatial = np.mean([lost[route] for route in WITHOUT_TRANSPORT], axis=0)
            found |= {(base, "spatial"): spatial, (base, "temporal"): temporal}
            found |= {(base, f"{route}_minus_temporal"): lost[route] - temporal for route in WITHOUT_TRANSPORT}
            found[base, "spatial_minus_temporal"] = spatial - temporal
    return found


def difference_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for (base, comparison), numbers in differences(panel).items():
            yield [*panel.start, base, comparison, *tables.of_seeds(list(numbers), tables.ANY)]


COST_COLUMNS = ["task", *CELL, "carried", "carried_times_bptt", *tables.OF_COST]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for cost in data.costs:
        carried, costs = carried_of(data, cost), cost["costs"]
        for cell in (REFERENCE, *cells(cost["config"])):
            counts = carried[cell], carried[cell] / carried[REFERENCE]
            start = [cost["config"]["task"], *cell_and_names(cell), *counts]
            yield [*start, *tables.of_cost(costs[cell], costs[REFERENCE])]


def carried_of(data: Data, cost: dict[str, Any]) -> dict[str, int]:
    """The numbers that each cell carries in the network of a result of costs."""
    task = cost["config"]["task"]
    carried = [panel.carried for panel in data.panels if panel.config["task"] == task]
    if not carried:
        raise SystemExit(
            f"The costs of {task} are drawn with the numbers that its cells carry: name its job {task} as well."
        )
    return carried[0]


def draw(data: Data) -> Figure:
    """Draw a heat map of the accuracy for each task and code."""
    figures.check_given("credit_grid", "tasks", data.panels)
    figure, axes = stacked([panel.config for panel in data.panels], 1)
    for (ax,), panel in zip(axes, data.panels, strict=True):
        values = as_grid(panel.config, {cell: 100 * panel.accuracies(cell).mean() for cell in cells(panel.config)})
        texts = {cell: spread(panel.accuracies(cell)) for cell in cells(panel.config)}
        lowest = 10 * np.floor(values.min() / 10)
        draw_grid(ax, panel.config, values, texts, bounds=(lowest, max(values.max(), lowest + 1)))
        bptt, fixed = (spread(panel.accuracies(reference)) for reference in REFERENCES)
        ax.set_title(f"{panel.title}\nBPTT: {bptt} %, hidden layers fixed: {fixed} %")
    counts = tables.numbers_of_seeds(panel.results[REFERENCE] for panel in data.panels)
    return figures.with_note(
        figure,
        f"test accuracy (%), mean of {counts} seeds with half the width of its 95 % interval;\n"
        "rows: temporal credit, columns: spatial credit; below the number: published rules",
    )


def draw_cosine(data: Data) -> Figure:
    """Draw a heat map of the cosine to BPTT for each task and code, and each hidden layer."""
    figures.check_given("credit_grid_cosine", "tasks", data.panels)
    hidden = data.panels[0].layers[:-1]
    figure, axes = stacked([panel.config for panel in data.panels], len(hidden))
    for ax, (panel, layer) in zip(axes.flat, itertools.product(data.panels, hidden), strict=True):
        means = {
            cell: [tables.mean_or_nan(panel.agreements(cell, stage, layer, "cosine")) for stage in STAGES]
            for cell in cells(panel.config)
        }
        values = as_grid(panel.config, {cell: before for cell, (before, _) in means.items()})
        texts = {cell: f"{before:z.2f} | {after:z.2f}" for cell, (before, after) in means.items()}
        draw_grid(ax, panel.config, values, texts, bounds=(0.0, 1.0))
        ax.set_title(f"{panel.title}\nhidden layer {layer}")
    text = "cosine of the gradient to BPTT's: at initialization (color) | after training with BPTT"
    return figures.with_note(figure, f"{text}; below: published rules")


def draw_differences(data: Data) -> Figure:
    """Draw the loss of accuracy by each choice, with its interval, in a panel for each task and code."""
    figures.check_given("credit_grid_differences", "tasks", data.panels)
    labels = {
        "temporal": "no trace",
        "spatial": f"mean of {', '.join(WITHOUT_TRANSPORT)}",
        **SPATIAL_LABELS,
        FIXED: "hidden layers fixed",
        "spatial_minus_temporal": "mean minus no trace",
        **{f"{route}_minus_temporal": f"{SPATIAL_LABELS[route]} minus no trace" for route in WITHOUT_TRANSPORT},
    }
    found = [differences(panel) for panel in data.panels]
    bases, drawn = ({pair[index] for of in found for pair in of} for index in (0, 1))
    names = [name for name in labels if name in drawn]
    figure, axes = figures.panels(1, len(found), (3.4, 0.36 * len(names)), (1.6, 1.9), sharey=True)
    for ax, panel, of in zip(axes[0], data.panels, found, strict=True):
        figures.name_rows(ax, [labels[name] for name in names])
        for (base, name), numbers in of.items():
            height = names.index(name) + (0.17 if base == BASES[1] else -0.17)
            figures.draw_interval(
                ax, height, list(numbers), tables.ANY, scale=100, **figures.look_of(base), markersize=6, capsize=2
            )
        ax.axvline(0, color="0.4", linewidth=1)
        for row in (row for row, name in enumerate(names) if name.endswith("_minus_temporal")):
            ax.axhspan(row - 0.5, row + 0.5, color="0.93", zorder=0)
        ax.set(title=panel.title.replace(" (", "\n("), xlabel="percentage points of accuracy")
    looks = [
        figures.look_of(base) | {"linestyle": "", "label": TEMPORAL_LABELS[base]} for base in BASES if base in bases
    ]
    figures.legend_of(figure, looks, 2, title="lost, against symmetric feedback with")
    return figure


def draw_cost(data: Data) -> Figure:
    """Draw a heat map of the time of a gradient for each task with costs, with the numbers that each cell carries."""
    figures.check_given("credit_grid_cost", "costs", data.costs)
    figure, axes = stacked([cost["config"] for cost in data.costs], 1)
    for (ax,), cost in zip(axes, data.costs, strict=True):
        config, bptt, carried = cost["config"], cost["costs"][REFERENCE]["milliseconds"], carried_of(data, cost)
        times = {cell: np.mean(tables.ratios(cost["costs"][cell]["milliseconds"], bptt)) for cell in cells(config)}
        values = as_grid(config, times)
        texts = {cell: f"{times[cell]:.2f} | {carried[cell]:,}" for cell in cells(config)}
        draw_grid(ax, config, values, texts, bounds=(values.min(), max(values.max(), values.min() + 0.1)))
        name = f"{tables.spoken(config['task'])}, in windows of {config['window']} of {config['n_steps']} steps"
        ax.set_title(f"{name}\nBPTT: {np.median(bptt):.2g} ms | {carried[REFERENCE]:,} numbers")
    return figures.with_note(
        figure,
        "time of a gradient / time of BPTT (color) | numbers that the traces hold per sample (BPTT: that it keeps);\n"
        "below: published rules",
    )


def stacked(configs: Sequence[dict[str, Any]], columns: int) -> tuple[Figure, np.ndarray]:
    """A figure with a row for each heat map, whose height follows from its number of rows."""
    heights = [len(config["temporal"]) for config in configs]
    widest = max(len(config["spatial"]) for config in configs)
    size = (columns * (1.25 * widest + 0.4) + 1.9, sum(0.5 * height + 1.3 for height in heights) + 0.5)
    return plt.subplots(len(configs), columns, figsize=size, squeeze=False, height_ratios=heights)


def as_grid(config: dict[str, Any], values: dict[str, float]) -> np.ndarray:
    """The values of cells as a matrix, temporal credit by spatial credit."""
    return np.array([values[cell] for cell in cells(config)]).reshape(len(config["temporal"]), len(config["spatial"]))


def draw_grid(
    ax: Axes, config: dict[str, Any], values: np.ndarray, texts: dict[str, str], *, bounds: tuple[float, float]
) -> None:
    """Draw values as colors, and in each cell its text and the names of the published rules."""
    figures.draw_colors(ax, values, bounds)
    for (row, column), cell in zip(np.ndindex(values.shape), cells(config), strict=True):
        names = ", ".join(RULES[name].title for name in published(cell))
        look = figures.on_color(values[row, column], bounds)
        ax.text(column, row - (0.14 if names else 0), texts[cell], va="center", fontsize="x-small", **look)
        ax.text(column, row + 0.26, names, va="center", fontsize="x-small", fontstyle="italic", **look)
    ax.set_xticks(range(values.shape[1]), [SPATIAL_LABELS[name] for name in config["spatial"]])
    first = ax.get_subplotspec().is_first_col()
    labels = [TEMPORAL_LABELS.get(name, RULES[name].title) for name in config["temporal"]]
    ax.set_yticks(range(values.shape[0]), labels if first else [])
    ax.tick_params(length=0)


def spread(numbers: np.ndarray) -> str:
    """The mean in % with half the width of its 95 % interval."""
    mean, low, high = tables.interval(list(100 * numbers), tables.ANY)
    return f"{mean:.1f}" if low is None or high is None else f"{mean:.1f} ± {(high - low) / 2:.1f}"


def curves_of(data: Data) -> Iterator[rate_curves.Curve]:
    """The trials of each task and code, with a panel for each temporal credit and one for the references."""
    looks = {route: dict(zip(("label", "color", "marker"), look, strict=True)) for route, look in ROUTES.items()}
    looks[REFERENCE] = figures.look_of(REFERENCE)
    looks[FIXED] = {"color": "0.4", "marker": "*", "label": "hidden layers fixed"}
    for panel in data.panels:
        for cell, result in panel.results.items():
            column, _, name = cell.rpartition("/")
            yield rate_curves.Curve(" ".join(panel.start), column or "references", name, looks[name], result["trials"])


FIGURES = {
    "credit_grid": figures.Plot(COLUMNS, rows, draw),
    "credit_grid_cosine": figures.Plot(COSINE_COLUMNS, cosine_rows, draw_cosine),
    "credit_grid_differences": figures.Plot(DIFFERENCE_COLUMNS, difference_rows, draw_differences),
    "credit_grid_cost": figures.Plot(COST_COLUMNS, cost_rows, draw_cost),
    "credit_grid_rates": rate_curves.plot("credit_grid_rates", ["task", "temporal", "spatial"], curves_of),
}
