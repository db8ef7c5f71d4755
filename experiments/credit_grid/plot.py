"""Draw the accuracy, the agreement with BPTT and the cost of each cell, and the accuracy that each choice costs."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.common import figures, rate_curves, tables
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, cells, published
from slax_rules import RULES

STAGES = ("initial", "trained")
LOOKS = {  # of the trials of spatial credit and of references, with their labels
    "symmetric": {"label": "symmetric", "color": "C0", "marker": "o"},
    "random": {"label": "random", "color": "C1", "marker": "s"},
    "adaptive": {"label": "adaptive", "color": "C2", "marker": "D"},
    "direct": {"label": "direct", "color": "C3", "marker": "^"},
    "target": {"label": "target", "color": "C4", "marker": "v"},
    "local": {"label": "local loss", "color": "C5", "marker": "P"},
    "fixed_bases": {"label": "fixed bases", "color": "C6", "marker": "X"},
    FIXED: {"label": "hidden layers fixed", "color": "0.4", "marker": "*"},
    REFERENCE: figures.look_of(REFERENCE),
}
SPATIAL_LABELS = {name: look["label"] for name, look in LOOKS.items()}
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
    """The results of a task in one code, which are `start`, by cell."""

    start: tuple[str, str]
    config: dict[str, Any]
    results: dict[str, dict[str, Any]]
    carried: dict[str, int]

    @property
    def title(self) -> str:
        net = f"{tables.network(self.config)}, T = {self.config['n_steps']}"
        return f"{tables.spoken(self.config['task'])}, code: {self.start[1]} ({net})"

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
        start = config["task"], config["code"]
        panel = found.setdefault(start, Panel(start, config | {"temporal": [], "spatial": []}, {}, {}))
        panel.config["temporal"].extend(config.get("temporal", []))
        panel.config["spatial"] = config.get("spatial", panel.config["spatial"])
        panel.results.update(result["cells"])
        panel.carried.update(result["carried"])
    for task, code in (pair for pair, panel in found.items() if REFERENCE not in panel.results):
        raise SystemExit(f"The figures of {task}, {code} need its references: name the job {task}/{code}/references.")
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
            summaries = (number for of in quantities for number in tables.summary(*of))
            yield [*panel.start, *cell_and_names(cell), *counts, *summaries]


def cosines_of_hidden(panel: Panel, cell: str, stage: str) -> list[float | None]:
    """The mean cosine over hidden layers of each seed, None for a seed in which one of the gradients is zero."""
    cosines = zip(*(panel.agreements(cell, stage, layer, "cosine") for layer in panel.layers[:-1]), strict=True)
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
    reached = {cell: panel.accuracies(cell) for cell in (FIXED, *cells(panel.config))}
    for base in (base for base in BASES if f"{base}/symmetric" in reached):
        lost = {cell: reached[f"{base}/symmetric"] - numbers for cell, numbers in reached.items()}
        routes = [route for route in panel.config["spatial"] if f"{base}/{route}" in lost and route != "symmetric"]
        of = {route: lost[f"{base}/{route}"] for route in routes} | {FIXED: lost[FIXED]}
        if "sltt/symmetric" in lost and set(WITHOUT_TRANSPORT) <= of.keys():
            of["spatial"] = np.mean([of[route] for route in WITHOUT_TRANSPORT], axis=0)
            of["temporal"] = lost["sltt/symmetric"]
            of |= {f"{name}_minus_temporal": of[name] - of["temporal"] for name in (*WITHOUT_TRANSPORT, "spatial")}
        found |= {(base, comparison): numbers for comparison, numbers in of.items()}
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
            f"The costs of {task} are drawn with the numbers that its cells carry: name its jobs {task}/..."
        )
    return carried[0]


class Map(NamedTuple):
    """A heat map: the value and the text of each cell, and the values where the colors end."""

    config: dict[str, Any]
    title: str
    values: dict[str, float]
    texts: dict[str, str]
    bounds: tables.Bounds


def draw(data: Data) -> Figure:
    """Draw a heat map of the accuracy for each task and code."""
    figures.check_given("credit_grid", "tasks", data.panels)
    maps = []
    for panel in data.panels:
        values = {cell: 100 * panel.accuracies(cell).mean() for cell in cells(panel.config)}
        texts = {cell: spread(panel.accuracies(cell)) for cell in (*REFERENCES, *values)}
        title = f"{panel.title}\nBPTT: {texts[REFERENCE]} %, hidden layers fixed: {texts[FIXED]} %"
        lowest = 10 * np.floor(min(values.values()) / 10)
        maps.append(Map(panel.config, title, values, texts, (lowest, max(*values.values(), lowest + 1))))
    counts = tables.numbers_of_seeds(panel.results[REFERENCE]["seeds"] for panel in data.panels)
    return figures.with_note(
        draw_maps(maps, 1),
        f"test accuracy (%), mean of {counts} seeds with half the width of its 95 % interval;\n"
        "rows: temporal credit, columns: spatial credit; below the number: published rules",
    )


def draw_cosine(data: Data) -> Figure:
    """Draw a heat map of the cosine to BPTT for each task and code, and each hidden layer."""
    figures.check_given("credit_grid_cosine", "tasks", data.panels)
    hidden, maps = data.panels[0].layers[:-1], []
    for panel, layer in itertools.product(data.panels, hidden):
        before, after = (
            {cell: tables.mean_or_nan(panel.agreements(cell, stage, layer, "cosine")) for cell in cells(panel.config)}
            for stage in STAGES
        )
        texts = {cell: f"{before[cell]:z.2f} | {after[cell]:z.2f}" for cell in before}
        maps.append(Map(panel.config, f"{panel.title}\nhidden layer {layer}", before, texts, (0.0, 1.0)))
    text = "cosine of the gradient to BPTT's: at initialization (color) | after training with BPTT"
    return figures.with_note(draw_maps(maps, len(hidden)), f"{text}; below: published rules")


def draw_differences(data: Data) -> Figure:
    """Draw the loss of accuracy by each choice, with its interval, in a panel for each task and code."""
    figures.check_given("credit_grid_differences", "tasks", data.panels)
    labels = {
        "temporal": "no trace",
        "spatial": f"mean of {', '.join(WITHOUT_TRANSPORT)}",
        **SPATIAL_LABELS,
        "spatial_minus_temporal": "mean minus no trace",
        **{f"{route}_minus_temporal": f"{SPATIAL_LABELS[route]} minus no trace" for route in WITHOUT_TRANSPORT},
    }
    found = [differences(panel) for panel in data.panels]
    bases = [base for base in BASES if any((base, FIXED) in of for of in found)]
    names = [name for name in labels if any((base, name) in of for of in found for base in bases)]
    figure, axes = figures.panels(1, len(found), (3.4, 0.36 * len(names)), (1.6, 1.9), sharey=True)
    for ax, panel, of in zip(axes[0], data.panels, found, strict=True):
        figures.name_rows(ax, [labels[name] for name in names])
        for (base, name), numbers in of.items():
            height = names.index(name) + (0.17 if base == BASES[1] else -0.17)
            look = figures.look_of(base) | {"markersize": 6, "capsize": 2}
            figures.draw_interval(ax, height, numbers, scale=100, **look)
        ax.axvline(0, color="0.4", linewidth=1)
        for row in (row for row, name in enumerate(names) if name.endswith("_minus_temporal")):
            ax.axhspan(row - 0.5, row + 0.5, color="0.93", zorder=0)
        ax.set(title=panel.title.replace(" (", "\n("), xlabel="percentage points of accuracy")
    looks = [figures.look_of(base) | {"linestyle": "", "label": TEMPORAL_LABELS[base]} for base in bases]
    figures.legend_of(figure, looks, 2, title="lost, against symmetric feedback with")
    return figure


def draw_cost(data: Data) -> Figure:
    """Draw a heat map of the time of a gradient for each task with costs, with the numbers that each cell carries."""
    figures.check_given("credit_grid_cost", "costs", data.costs)
    maps = []
    for cost in data.costs:
        config, carried = cost["config"], carried_of(data, cost)
        times = {cell: of["milliseconds"] for cell, of in cost["costs"].items()}
        bptt = times[REFERENCE]
        values = {cell: np.mean(tables.ratios(times[cell], bptt)) for cell in cells(config)}
        texts = {cell: f"{value:.2f} | {carried[cell]:,}" for cell, value in values.items()}
        name = f"{tables.spoken(config['task'])}, in windows of {config['window']} of {config['n_steps']} steps"
        title = f"{name}\nBPTT: {np.median(bptt):.2g} ms | {carried[REFERENCE]:,} numbers"
        lowest = min(values.values())
        maps.append(Map(config, title, values, texts, (lowest, max(*values.values(), lowest + 0.1))))
    return figures.with_note(
        draw_maps(maps, 1),
        "time of a gradient / time of BPTT (color) | numbers that the traces hold per sample (BPTT: that it keeps);\n"
        "below: published rules",
    )


def draw_maps(maps: Sequence[Map], columns: int) -> Figure:
    """Draw heat maps in so many columns, each with temporal credit from top to bottom and spatial credit from left to right. In
    each cell are its text and the names of the published rules."""
    heights = [len(of.config["temporal"]) for of in maps[::columns]]
    widest = max(len(of.config["spatial"]) for of in maps)
    size = (columns * (1.25 * widest + 0.4) + 1.9, sum(0.5 * height + 1.3 for height in heights) + 0.5)
    figure, axes = plt.subplots(len(heights), columns, figsize=size, squeeze=False, height_ratios=heights)
    for ax, (config, title, values, texts, bounds) in zip(axes.flat, maps, strict=True):
        temporal, spatial = config["temporal"], config["spatial"]
        figures.draw_colors(ax, np.reshape([values[cell] for cell in cells(config)], (len(temporal), -1)), bounds)
        for cell, (row, column) in zip(cells(config), np.ndindex(len(temporal), len(spatial)), strict=True):
            names = ", ".join(RULES[name].title for name in published(cell))
            look = figures.on_color(values[cell], bounds)
            ax.text(column, row - (0.14 if names else 0), texts[cell], va="center", fontsize="x-small", **look)
            ax.text(column, row + 0.26, names, va="center", fontsize="x-small", fontstyle="italic", **look)
        ax.set_xticks(range(len(spatial)), [SPATIAL_LABELS[name] for name in spatial])
        labels = [TEMPORAL_LABELS.get(name, RULES[name].title) for name in temporal]
        ax.set_yticks(range(len(temporal)), labels if ax.get_subplotspec().is_first_col() else [])
        ax.tick_params(length=0)
        ax.set_title(title)
    return figure


def spread(numbers: np.ndarray) -> str:
    """The mean in % with half the width of its 95 % interval."""
    mean, low, high = tables.interval(list(100 * numbers), tables.ANY)
    return f"{mean:.1f}" if low is None or high is None else f"{mean:.1f} ± {(high - low) / 2:.1f}"


def curves_of(data: Data) -> Iterator[rate_curves.Curve]:
    """The trials of each task and code, with a panel for each temporal credit and one for the references."""
    for panel in data.panels:
        for cell, result in panel.results.items():
            column, _, name = cell.rpartition("/")
            yield rate_curves.Curve(" ".join(panel.start), column or "references", name, LOOKS[name], result["trials"])


FIGURES = {
    "credit_grid": figures.Plot(COLUMNS, rows, draw),
    "credit_grid_cosine": figures.Plot(COSINE_COLUMNS, cosine_rows, draw_cosine),
    "credit_grid_differences": figures.Plot(DIFFERENCE_COLUMNS, difference_rows, draw_differences),
    "credit_grid_cost": figures.Plot(COST_COLUMNS, cost_rows, draw_cost),
    "credit_grid_rates": rate_curves.plot("credit_grid_rates", ["task", "temporal", "spatial"], curves_of),
}
