"""Draw the accuracy, the agreement with BPTT and the cost of each cell, and the accuracy that each choice costs."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import rate_curves
from experiments.common.figures import (
    SUMMARY,
    TIMES,
    Plot,
    check_given,
    count,
    interval,
    ratios,
    summary,
    summary_columns,
    write_note,
)
from experiments.common.rate_curves import Curve, look_of
from experiments.common.styles import STYLES
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, cells, published
from slax_rules import RULES

SHARE, COSINE, ANY = (0.0, 1.0), (-1.0, 1.0), (-np.inf, np.inf)
STAGES = ("initial", "trained")
SPATIAL_LABELS = {
    "symmetric": "symmetric",
    "random": "random",
    "adaptive": "adaptive",
    "direct": "direct",
    "target": "target",
    "local": "local loss",
    "fixed_bases": "fixed bases",
}
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
        net = "-".join(map(str, self.config["layers"]))
        name = self.config["task"].replace("_", " ").capitalize()
        return f"{name}, code: {self.code} ({net}, T = {self.config['n_steps']})"

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
    panels: dict[tuple[str, str], Panel] = {}
    with_cells = [result for result in results if "cells" in result]
    for result in sorted(with_cells, key=row_of):
        config = result["config"]
        panel = panels.setdefault(
            (config["task"], config["code"]), Panel(config | {"temporal": [], "spatial": []}, config["code"], {}, {})
        )
        panel.config["temporal"].extend(config.get("temporal", []))
        panel.config["spatial"] = config.get("spatial", panel.config["spatial"])
        panel.results.update(result["cells"])
        panel.carried.update(result["carried"])
    for task, code in (pair for pair, panel in panels.items() if REFERENCE not in panel.results):
        raise SystemExit(
            f"The figures of {task}, {code} need its references: name the job {task}/{code}/references as well."
        )
    return Data(list(panels.values()), [result for result in results if "costs" in result])


def row_of(result: dict[str, Any]) -> int:
    """The place of a result in the grid: the references come first."""
    temporal = result["config"].get("temporal")
    return 1 + list(TEMPORAL_LABELS).index(temporal[0]) if temporal else 0


CELL = ["temporal", "spatial"]
COLUMNS = [
    "task",
    "code",
    *CELL,
    "rules",
    "learning_rate",
    "seeds",
    "carried",
    *summary_columns("accuracy", "minus_bptt", "minus_fixed", "loss", "cosine_initial", "cosine_trained"),
]


def cell_and_names(cell: str) -> list[str]:
    """Temporal credit, spatial credit, and the published rules of a cell; of a reference, the name alone."""
    return [cell, "", ""] if cell in REFERENCES else [*cell.split("/"), ", ".join(published(cell))]


def rows(data: Data) -> Iterator[list[Any]]:
    """A row for each cell, with the cosine in the mean over hidden layers."""
    for panel in data.panels:
        for cell in (*REFERENCES, *cells(panel.config)):
            result, accuracies = panel.results[cell], panel.accuracies(cell)
            cells_of = [
                summary(list(accuracies), SHARE),
                *(summary(list(accuracies - panel.accuracies(reference)), (-1.0, 1.0)) for reference in REFERENCES),
                summary([seed["loss"] for seed in result["seeds"]], (0.0, np.inf)),
                *(summary(cosines_of_hidden(panel, cell, stage), COSINE) for stage in STAGES),
            ]
            carried = panel.carried[cell]
            counts = [result["trials"]["chosen"]["learning_rate"], len(accuracies), carried]
            yield [*panel.start, *cell_and_names(cell), *counts, *itertools.chain(*cells_of)]


def cosines_of_hidden(panel: Panel, cell: str, stage: str) -> list[float | None]:
    """The mean cosine over hidden layers of each seed, None for a seed in which one of the gradients is zero."""
    seeds = [seed["agreement"][stage] for seed in panel.results[cell]["seeds"]]
    cosines = [[seed[layer]["cosine"] for layer in panel.layers[:-1]] for seed in seeds]
    return [None if None in of_seed else float(np.mean(of_seed)) for of_seed in cosines]


COSINE_COLUMNS = ["task", "code", *CELL, "rules", "stage", "layer", "seeds", *summary_columns("cosine", "norm_ratio")]


def cosine_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for cell, stage, layer in itertools.product(cells(panel.config), STAGES, panel.layers):
            cosines = panel.agreements(cell, stage, layer, "cosine")
            ratios = panel.agreements(cell, stage, layer, "norm_ratio")
            numbers = [*summary(cosines, COSINE), *summary(ratios, (0.0, np.inf))]
            yield [*panel.start, *cell_and_names(cell), stage, layer, count(cosines), *numbers]


DIFFERENCE_COLUMNS = ["task", "code", "base", "comparison", *SUMMARY, "seeds"]


def differences(panel: Panel) -> dict[tuple[str, str], np.ndarray]:
    """By base and comparison, the loss of accuracy of each seed: of one choice against eligibility with symmetric feedback.

    Both networks of a difference start from the same weights and see the same batches.
    """
    found = {}
    known = cells(panel.config)
    for base in BASES:
        whole = f"{base}/symmetric"
        if whole not in known:
            continue
        lost = {
            route: panel.accuracies(whole) - panel.accuracies(f"{base}/{route}")
            for route in panel.config["spatial"]
            if f"{base}/{route}" in known and route != "symmetric"
        }
        found |= {(base, route): numbers for route, numbers in lost.items()}
        found[base, FIXED] = panel.accuracies(whole) - panel.accuracies(FIXED)
        if not {"sltt/symmetric", *(f"{base}/{route}" for route in WITHOUT_TRANSPORT)} <= set(known):
            continue
        temporal = panel.accuracies(whole) - panel.accuracies("sltt/symmetric")
        spatial = np.mean([lost[route] for route in WITHOUT_TRANSPORT], axis=0)
        found |= {(base, "spatial"): spatial, (base, "temporal"): temporal}
        found |= {(base, f"{route}_minus_temporal"): lost[route] - temporal for route in WITHOUT_TRANSPORT}
        found[base, "spatial_minus_temporal"] = spatial - temporal
    return found


def difference_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for (base, comparison), numbers in differences(panel).items():
            yield [*panel.start, base, comparison, *summary(list(numbers), ANY), len(numbers)]


COST_COLUMNS = [
    "task",
    *CELL,
    "rules",
    "carried",
    "carried_times_bptt",
    *summary_columns("milliseconds", "times_bptt"),
    "rounds",
    "temporary_bytes",
    "bytes_times_bptt",
]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for cost in data.costs:
        carried = carried_of(data, cost)
        bptt = cost["costs"][REFERENCE]
        for cell in (REFERENCE, *cells(cost["config"])):
            numbers = cost["costs"][cell]
            times, size = numbers["milliseconds"], numbers["temporary_bytes"]
            of_time = [*summary(times, TIMES), *summary(ratios(times, bptt["milliseconds"]), TIMES), len(times)]
            memory = [carried[cell], carried[cell] / carried[REFERENCE]]
            yield [
                cost["config"]["task"],
                *cell_and_names(cell),
                *memory,
                *of_time,
                size,
                size / bptt["temporary_bytes"],
            ]


def carried_of(data: Data, cost: dict[str, Any]) -> dict[str, int]:
    """The numbers that each cell carries in the network of a result of costs."""
    task = cost["config"]["task"]
    for panel in data.panels:
        if panel.config["task"] == task:
            return panel.carried
    raise SystemExit(
        f"The costs of {task} are drawn with the numbers that its cells carry: name its job {task} as well."
    )


def draw(data: Data) -> Figure:
    """Draw a heat map of the accuracy for each task and code."""
    check_given("credit_grid", "tasks", data.panels)
    figure, axes = stacked(data.panels, 1)
    for (ax,), panel in zip(axes, data.panels, strict=True):
        values = as_grid(panel.config, {cell: 100 * panel.accuracies(cell).mean() for cell in cells(panel.config)})
        texts = {cell: spread(panel.accuracies(cell)) for cell in cells(panel.config)}
        lowest = 10 * np.floor(values.min() / 10)
        draw_grid(ax, panel.config, values, texts, bounds=(lowest, max(values.max(), lowest + 1)))
        ax.set_title(f"{panel.title}\n{references_of(panel)}")
    counts = sorted({len(panel.results[REFERENCE]["seeds"]) for panel in data.panels})
    write_note(
        figure,
        f"test accuracy (%), mean of {', '.join(map(str, counts))} seeds with half the width of its 95 % interval;\n"
        "rows: temporal credit, columns: spatial credit; below the number: published rules",
    )
    return figure


def references_of(panel: Panel) -> str:
    bptt, fixed = (spread(panel.accuracies(reference)) for reference in REFERENCES)
    return f"BPTT: {bptt} %, hidden layers fixed: {fixed} %"


def draw_cosine(data: Data) -> Figure:
    """Draw a heat map of the cosine to BPTT for each task and code, and each hidden layer."""
    check_given("credit_grid_cosine", "tasks", data.panels)
    hidden = data.panels[0].layers[:-1]
    figure, axes = stacked(data.panels, len(hidden))
    for row, panel in zip(axes, data.panels, strict=True):
        for ax, layer in zip(row, hidden, strict=True):
            means = {
                cell: [mean_or_nan(panel.agreements(cell, stage, layer, "cosine")) for stage in STAGES]
                for cell in cells(panel.config)
            }
            values = as_grid(panel.config, {cell: before for cell, (before, _) in means.items()})
            texts = {cell: f"{before:z.2f} | {after:z.2f}" for cell, (before, after) in means.items()}
            draw_grid(ax, panel.config, values, texts, bounds=(0.0, 1.0))
            ax.set_title(f"{panel.title}\nhidden layer {layer}")
    write_note(
        figure,
        "cosine of the gradient to BPTT's: at initialization (color) | after training with BPTT; below: published rules",
    )
    return figure


def draw_differences(data: Data) -> Figure:
    """Draw the loss of accuracy by each choice, with its interval, in a panel for each task and code."""
    check_given("credit_grid_differences", "tasks", data.panels)
    names = list(dict.fromkeys(name for panel in data.panels for _, name in differences(panel)))
    labels = {
        "temporal": "no trace",
        "spatial": f"mean of {', '.join(WITHOUT_TRANSPORT)}",
        **SPATIAL_LABELS,
        FIXED: "hidden layers fixed",
        "spatial_minus_temporal": "mean minus no trace",
        **{f"{route}_minus_temporal": f"{SPATIAL_LABELS[route]} minus no trace" for route in WITHOUT_TRANSPORT},
    }
    names = sorted(names, key=list(labels).index)
    count = len(data.panels)
    figure, axes = plt.subplots(
        1, count, figsize=(3.4 * count + 1.6, 0.36 * len(names) + 1.9), sharey=True, squeeze=False
    )
    for ax, panel in zip(axes[0], data.panels, strict=True):
        found = differences(panel)
        for (base, name), numbers in found.items():
            look = STYLES[base]
            height = names.index(name) + (0.17 if base == BASES[1] else -0.17)
            mean, low, high = interval(list(100 * numbers), ANY)
            ends = None if low is None else [[mean - low], [high - mean]]
            ax.errorbar(mean, height, xerr=ends, marker=look.marker, color=look.color, markersize=6, capsize=2)
        ax.axvline(0, color="0.4", linewidth=1)
        for row in (row for row, name in enumerate(names) if name.endswith("_minus_temporal")):
            ax.axhspan(row - 0.5, row + 0.5, color="0.93", zorder=0)
        ax.set_title(panel.title.replace(" (", "\n("))
        ax.set_xlabel("percentage points of accuracy")
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(names)), [labels[name] for name in names])
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        plt.Line2D(
            [],
            [],
            linestyle="",
            marker=STYLES[base].marker,
            color=STYLES[base].color,
            label=TEMPORAL_LABELS[base],
        )
        for base in BASES
        if any(base == other for panel in data.panels for other, _ in differences(panel))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, title="lost, against symmetric feedback with")
    return figure


def draw_cost(data: Data) -> Figure:
    """Draw a heat map of the time of a gradient for each task with costs, with the numbers that each cell carries."""
    check_given("credit_grid_cost", "costs", data.costs)
    figure, axes = stacked(data.costs, 1)
    for (ax,), cost in zip(axes, data.costs, strict=True):
        config, bptt = cost["config"], cost["costs"][REFERENCE]["milliseconds"]
        carried = carried_of(data, cost)
        times = {cell: np.mean(ratios(cost["costs"][cell]["milliseconds"], bptt)) for cell in cells(config)}
        values = as_grid(config, times)
        texts = {cell: f"{times[cell]:.2f} | {carried[cell]:,}" for cell in cells(config)}
        draw_grid(ax, config, values, texts, bounds=(values.min(), max(values.max(), values.min() + 0.1)))
        name = config["task"].replace("_", " ").capitalize()
        name = f"{name}, in windows of {config['window']} of {config['n_steps']} steps"
        ax.set_title(f"{name}\nBPTT: {np.median(bptt):.2g} ms | {carried[REFERENCE]:,} numbers")
    write_note(
        figure,
        "time of a gradient / time of BPTT (color) | numbers that the traces hold per sample (BPTT: that it keeps);\n"
        "below: published rules",
    )
    return figure


def stacked(parts: Sequence[Any], columns: int) -> tuple[Figure, np.ndarray]:
    """A figure with a row for each part, whose height follows from the number of rows of its heat map."""
    heights = [len((part.config if isinstance(part, Panel) else part["config"])["temporal"]) for part in parts]
    widest = max(len((part.config if isinstance(part, Panel) else part["config"])["spatial"]) for part in parts)
    size = (columns * (1.25 * widest + 0.4) + 1.9, sum(0.5 * height + 1.3 for height in heights) + 0.5)
    return plt.subplots(len(parts), columns, figsize=size, squeeze=False, gridspec_kw={"height_ratios": heights})


def as_grid(config: dict[str, Any], values: dict[str, float]) -> np.ndarray:
    """The values of cells as a matrix, temporal credit by spatial credit."""
    return np.array([values[cell] for cell in cells(config)]).reshape(len(config["temporal"]), len(config["spatial"]))


def draw_grid(
    ax: Axes, config: dict[str, Any], values: np.ndarray, texts: dict[str, str], *, bounds: tuple[float, float]
) -> None:
    """Draw values as colors, and in each cell its text and the names of the published rules."""
    ax.imshow(np.clip(values, *bounds), cmap="cividis", vmin=bounds[0], vmax=bounds[1], aspect="auto")
    middle = np.mean(bounds)
    for (row, column), cell in zip(np.ndindex(values.shape), cells(config), strict=True):
        names = ", ".join(RULES[name].title for name in published(cell))
        look: dict[str, Any] = {"ha": "center", "color": "white" if values[row, column] < middle else "black"}
        ax.text(column, row - (0.14 if names else 0), texts[cell], va="center", fontsize="x-small", **look)
        ax.text(column, row + 0.26, names, va="center", fontsize="x-small", fontstyle="italic", **look)
    ax.set_xticks(range(values.shape[1]), [SPATIAL_LABELS[name] for name in config["spatial"]])
    first = ax.get_subplotspec().is_first_col()
    labels = [TEMPORAL_LABELS.get(name, RULES[name].title) for name in config["temporal"]]
    ax.set_yticks(range(values.shape[0]), labels if first else [])
    ax.tick_params(length=0)


def spread(numbers: np.ndarray) -> str:
    """The mean in % with half the width of its 95 % interval."""
    mean, low, high = interval(list(100 * numbers), ANY)
    return f"{mean:.1f}" if low is None or high is None else f"{mean:.1f} ± {(high - low) / 2:.1f}"


def mean_or_nan(numbers: list[float | None]) -> float:
    mean, _, _ = interval(numbers, ANY)
    return np.nan if mean is None else mean


# Of the routes, in the order of SPATIAL_LABELS.
ROUTE_LOOKS = [("C0", "o"), ("C1", "s"), ("C2", "D"), ("C3", "^"), ("C4", "v"), ("C5", "P"), ("C6", "X")]


def curves_of(data: Data) -> list[Curve]:
    """The trials of each task and code, with a panel for each temporal credit and one for the references."""
    looks = {
        route: {"color": color, "marker": marker, "label": label}
        for (route, label), (color, marker) in zip(SPATIAL_LABELS.items(), ROUTE_LOOKS, strict=True)
    }
    looks |= {REFERENCE: look_of(REFERENCE), FIXED: {"color": "0.4", "marker": "*", "label": "hidden layers fixed"}}
    curves = []
    for panel in data.panels:
        row = f"{panel.config['task']} {panel.code}"
        for cell, result in panel.results.items():
            column, _, name = cell.rpartition("/")
            curves.append(Curve(row, column or "references", name, looks[name], result["trials"]))
    return curves


def rate_rows(data: Data) -> Iterator[list[Any]]:
    return rate_curves.rows(curves_of(data))


def draw_rates(data: Data) -> Figure:
    """Draw the validation accuracy against the learning rate."""
    return rate_curves.draw("credit_grid_rates", curves_of(data))


FIGURES = {
    "credit_grid": Plot(COLUMNS, rows, draw),
    "credit_grid_cosine": Plot(COSINE_COLUMNS, cosine_rows, draw_cosine),
    "credit_grid_differences": Plot(DIFFERENCE_COLUMNS, difference_rows, draw_differences),
    "credit_grid_cost": Plot(COST_COLUMNS, cost_rows, draw_cost),
    "credit_grid_rates": Plot(["task", "temporal", "spatial", *rate_curves.COLUMNS], rate_rows, draw_rates),
}
