"""Draw the accuracy, the agreement with BPTT and the cost of each cell, and the accuracy that each choice costs."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.credit_grid import alignment
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, cells, published
from experiments.drawing import figures, length_curves, names, statistics, tables
from experiments.drawing.styles import LINE_RULES, STYLES
from slax_rules import RULES

STAGES = ("initial", "trained")
# The cost of spatial credit is the mean over these routes, in which no signal passes from layer to layer.
BASES = ("ostl", "e_prop")  # the temporal credit whose loss of accuracy is measured


class Panel(NamedTuple):
    """The results of a task in one code, which are `start`, by cell."""

    start: tuple[str, str]
    config: dict[str, Any]
    results: dict[str, dict[str, Any]]
    carried: dict[str, int]

    @property
    def title(self) -> str:
        net = f"{names.network(self.config)}, T = {self.config['n_steps']}"
        return f"{names.with_code(*self.start)}\n{net}"

    @property
    def layers(self) -> list[str]:
        return sorted(self.results[REFERENCE]["seeds"][0]["agreement"]["initial"], key=int)

    def accuracies(self, cell: str) -> np.ndarray:
        """The test accuracy by seed and test sample, see `tables.tested`."""
        return tables.tested(self.start[0], self.results[cell]["seeds"])

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
    return 1 + list(names.TEMPORAL).index(temporal[0]) if temporal else 0


CELL = ["temporal", "spatial", "rules"]
COLUMNS = [
    *("task", "code", *CELL, "learning_rate", "seeds", "carried"),
    *tables.tested_columns("accuracy", "minus_bptt", "minus_fixed"),
    *tables.summary_columns("loss", "cosine_initial", "cosine_trained"),
]


def cell_and_names(cell: str) -> list[str]:
    """Temporal credit, spatial credit, and the published rules of a cell; of a reference, the name alone."""
    return [cell, "", ""] if cell in REFERENCES else [*cell.split("/"), ", ".join(published(cell))]


def rows(data: Data) -> Iterator[list[Any]]:
    """A row for each cell, with the cosine in the mean over hidden layers."""
    for panel in data.panels:
        for cell in (*REFERENCES, *cells(panel.config)):
            result, accuracies = panel.results[cell], panel.accuracies(cell)
            tested = [
                (accuracies, statistics.SHARE),
                *((accuracies - panel.accuracies(reference), (-1.0, 1.0)) for reference in REFERENCES),
            ]
            quantities = [
                ([seed["loss"] for seed in result["seeds"]], statistics.POSITIVE),
                *((cosines_of_hidden(panel, cell, stage), statistics.COSINE) for stage in STAGES),
            ]
            counts = [result["trials"]["chosen"]["learning_rate"], len(accuracies), panel.carried[cell]]
            summaries = [*(tables.tested_summary(*of) for of in tested), *(tables.summary(*of) for of in quantities)]
            yield [*panel.start, *cell_and_names(cell), *counts, *itertools.chain.from_iterable(summaries)]


def cosines_of_hidden(panel: Panel, cell: str, stage: str) -> list[float | None]:
    """The mean cosine over hidden layers of each seed, None for a seed in which one of the gradients is zero."""
    cosines = zip(*(panel.agreements(cell, stage, layer, "cosine") for layer in panel.layers[:-1]), strict=True)
    return [None if None in of_seed else float(np.mean(of_seed)) for of_seed in cosines]


COSINE_COLUMNS = ["task", "code", *CELL, "stage", "layer", "seeds", *tables.summary_columns("cosine", "norm_ratio")]


def cosine_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for cell, stage, layer in itertools.product(cells(panel.config), STAGES, panel.layers):
            cosines, norms = (panel.agreements(cell, stage, layer, name) for name in ("cosine", "norm_ratio"))
            numbers = [*tables.summary(cosines, statistics.COSINE), *tables.summary(norms, statistics.POSITIVE)]
            yield [*panel.start, *cell_and_names(cell), stage, layer, statistics.count(cosines), *numbers]


DIFFERENCE_COLUMNS = ["task", "code", "base", "comparison", *tables.OF_TESTS]


def differences(panel: Panel) -> dict[tuple[str, str], np.ndarray]:
    """By base and comparison, the loss of accuracy by seed and test sample: of one choice against eligibility with symmetric
    feedback.

    Both networks of a difference start from the same weights and see the same batches.
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
            of |= {
                f"{name}_minus_temporal": of[name] - of["temporal"] for name in (*names.WITHOUT_TRANSPORT, "spatial")
            }
        found |= {(base, comparison): numbers for comparison, numbers in of.items()}
    return found


def difference_rows(data: Data) -> Iterator[list[Any]]:
    for panel in data.panels:
        for (base, comparison), numbers in differences(panel).items():
            yield [*panel.start, base, comparison, *tables.of_tests(numbers, statistics.ANY)]


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


def draw(data: Data) -> Figure:
    """Draw a heat map of the accuracy for each task and code, below the references."""
    figures.check_given("credit_grid", "tasks", data.panels)
    values = [{cell: 100 * panel.accuracies(cell).mean() for cell in panel.results} for panel in data.panels]
    figure = draw_maps(data.panels, [values], (0, 100), "{:.0f}".format, names.TEST_ACCURACY, references=True)
    seeds = names.numbers_of_seeds(panel.results[REFERENCE]["seeds"] for panel in data.panels)
    ends = [
        tables.tested_summary(panel.accuracies(cell), statistics.SHARE)[:3]
        for panel in data.panels
        for cell in panel.results
    ]
    halves = [50 * (high - low) for _, low, high in ends if isinstance(low, float) and isinstance(high, float)]
    widest = f" The 95 % intervals of the means extend at most {max(halves):.1f} points to each side." if halves else ""
    updates = names.updates_of(panel.config for panel in data.panels)
    chance = names.listed({100 // panel.config["layers"][-1] for panel in data.panels})
    return figures.with_note(
        figure,
        f"Rows: what is kept of the past; columns: how the error reaches a hidden layer. Mean of {seeds} seeds after {updates}."
        f"{widest} Chance: {chance} %. Framed: a published rule, which the table names.",
    )


def draw_cosine(data: Data) -> Figure:
    """Draw a heat map of the cosine to BPTT for each task and code, at initialization and after training."""
    figures.check_given("credit_grid_cosine", "tasks", data.panels)
    values = [
        [
            {cell: statistics.mean_or_nan(cosines_of_hidden(panel, cell, stage)) for cell in cells(panel.config)}
            for panel in data.panels
        ]
        for stage in STAGES
    ]
    stages = ("at initialization", "after training with BPTT")
    figure = draw_maps(
        data.panels, values, (0, 1), lambda value: f"{value:z.2f}".replace("0.", "."), names.COSINE, stages
    )
    seeds = names.numbers_of_seeds(panel.results[REFERENCE]["seeds"] for panel in data.panels)
    return figures.with_note(
        figure,
        f"Mean over the hidden layers and {seeds} seeds, with the feedback matrices as drawn at the start; each layer and the "
        "95 % intervals are in the table. Framed: a published rule.",
    )


def draw_maps(
    shown: Sequence[Panel],
    values: Sequence[Sequence[dict[str, float]]],
    bounds: statistics.Bounds,
    form: Callable[[float], str],
    label: str,
    stages: Sequence[str] = ("",),
    references: bool = False,
) -> Figure:
    """Draw a row of heat maps for each stage, with temporal credit from top to bottom and spatial credit from left to right,
    and if told with the references in rows above them."""
    rows = list(dict.fromkeys(name for panel in shown for name in panel.config["temporal"]))
    columns = list(dict.fromkeys(name for panel in shown for name in panel.config["spatial"]))
    above = [REFERENCE, FIXED] if references else []
    height = 0.19 * (len(rows) + len(above)) + 0.35
    figure, axes = figures.panels(len(stages), len(shown), height, 1.25, sharex=True, sharey=True)
    for line, of_stage in zip(axes, values, strict=True):
        for ax, panel, numbers in zip(line, shown, of_stage, strict=True):
            matrix = np.full((len(above) + len(rows), len(columns)), np.nan)
            for row, name in enumerate(above):
                matrix[row] = numbers[name]
            for cell in cells(panel.config):
                temporal, spatial = cell.split("/")
                place = len(above) + rows.index(temporal), columns.index(spatial)
                matrix[place] = numbers[cell]
                if published(cell):
                    corner = place[1] - 0.46, place[0] - 0.44
                    ax.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, color="white", linewidth=1))
            image = ax.imshow(np.clip(matrix, *bounds), cmap="cividis", vmin=bounds[0], vmax=bounds[1], aspect="auto")
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            for (row, column), value in np.ndenumerate(matrix):
                if np.isnan(value) or (row < len(above) and column):  # a reference has one number for all columns
                    continue
                at, color = (
                    column if row >= len(above) else (len(columns) - 1) / 2,
                    "white" if value < np.mean(bounds) else "black",
                )
                ax.text(at, row, form(value), ha="center", va="center", fontsize=figures.SMALLEST, color=color)
            ax.axhline(len(above) - 0.5, color="white", linewidth=3)
            ax.set_xticks(range(len(columns)), [names.SPATIAL[name] for name in columns], rotation=90)
    labels = [RULES[REFERENCE].title, names.SPATIAL[FIXED]] if above else []
    labels += [names.TEMPORAL.get(name, RULES[name].title) for name in rows]
    axes[0, 0].set_yticks(range(len(labels)), labels)
    figures.name_panels(axes.flat, (f"{panel.title}\n{stage}".strip() for stage in stages for panel in shown))
    figure.colorbar(image, ax=axes, label=label, aspect=40, pad=0.01, fraction=0.03).outline.set_visible(False)
    return figure


def draw_differences(data: Data) -> Figure:
    """Draw the loss of accuracy by each choice, with its interval, in a panel for each task and code."""
    figures.check_given("credit_grid_differences", "tasks", data.panels)
    labels = names.COMPARISONS
    found = [differences(panel) for panel in data.panels]
    bases = [base for base in BASES if any((base, FIXED) in of for of in found)]
    shown = [name for name in labels if any((base, name) in of for of in found for base in bases)]
    figure, axes = figures.panels(1, len(found), 0.21 * len(shown) + 0.4, 0.8, sharex=True, sharey=True)
    for ax, of in zip(axes[0], found, strict=True):
        figures.name_rows(ax, [labels[name] for name in shown])
        for (base, name), numbers in of.items():
            height = shown.index(name) + (0.17 if base == BASES[1] else -0.17)
            of_seeds, tests = statistics.seeds_and_tests(numbers)
            figures.draw_interval(ax, height, of_seeds, scale=100, tests=tests, **figures.look_of(base))
        ax.axvline(0, color="0.4", linewidth=0.8)
        for row in (row for row, name in enumerate(shown) if name.endswith("_minus_temporal")):
            ax.axhspan(row - 0.5, row + 0.5, color="0.93", zorder=0)
        ax.set_xlabel("points of accuracy lost")
    figures.name_panels(axes[0], (panel.title for panel in data.panels))
    looks = [figures.look_of(base) | {"linestyle": "", "label": names.TEMPORAL[base]} for base in bases]
    figures.legend_of(figure, looks, 2, title="against symmetric feedback with")
    seeds = names.numbers_of_seeds(panel.results[REFERENCE]["seeds"] for panel in data.panels)
    updates = names.updates_of(panel.config for panel in data.panels)
    return figures.with_note(
        figure,
        f"Mean difference of {seeds} pairs of networks of the same seed after {updates}, with its 95 % interval. Gray: what a "
        "route loses more than the lack of traces does.",
    )


def draw_cost(data: Data) -> Figure:
    """Draw the time of a gradient, and the numbers that a cell carries, in a row for each temporal credit: a dot for each
    spatial credit, on which both hardly depend."""
    figures.check_given("credit_grid_cost", "costs", data.costs)
    temporal = [name for name in names.TEMPORAL if any(name in cost["config"]["temporal"] for cost in data.costs)]
    figure, axes = figures.panels(len(data.costs), 2, 0.24 * len(temporal) + 0.75, 0.4, sharey=True)
    for (times, memory), cost in zip(axes, data.costs, strict=True):
        carried, costs = carried_of(data, cost), cost["costs"]
        bptt = costs[REFERENCE]["milliseconds"]
        for cell in cells(cost["config"]):
            row = 1 + temporal.index(cell.split("/")[0])
            look = {"color": STYLES[temporal[row - 1]].color, "marker": "o", "markersize": 3}
            figures.draw_interval(
                times, row, statistics.ratios(costs[cell]["milliseconds"], bptt), statistics.POSITIVE, **look
            )
            memory.plot(carried[cell], row, **look)
        look = {"color": STYLES[REFERENCE].color, "marker": "o", "markersize": 4}
        times.plot(1, 0, **look)
        memory.plot(carried[REFERENCE], 0, **look)
        for ax, label in ((times, "time of a gradient / that of BPTT"), (memory, "numbers kept per sample")):
            ax.set_xlabel(label)
            figures.name_rows(ax, [RULES[REFERENCE].title, *(names.TEMPORAL[name] for name in temporal)], striped=True)
        times.axvline(1, color="0.45", linestyle=":")
        times.set_xlim(0, None)
        figures.log_axis(memory)
    config = cost["config"]
    figures.name_panels(axes.flat, [title for _ in axes for title in ("time", "memory")])
    windows = f"windows of {config['window']} of {config['n_steps']} steps"
    about = f"{names.task_name(config['task'])}, {names.network(config)}, {windows}"
    spatial = len(config["spatial"])
    return figures.with_note(
        figure,
        f"A dot for each of {spatial} kinds of spatial credit, on which both hardly depend; lines: 95 % interval of the mean "
        f"over {len(bptt)} rounds of timing. {about}; BPTT keeps the inputs and membranes of the entire sequence, a rule "
        "without a trace nothing.",
    )


def lengths_of(data: Data) -> Iterator[length_curves.Curve]:
    """The course of each cell: in the figure, the temporal credits of published rules with symmetric feedback, and e-prop's
    spatial credits, each beside the references."""
    routes = {"symmetric": "e_prop", "direct": "e_prop_direct", "target": "osttp", "local": "decolle"}
    for panel in data.panels:
        title, chance, steps = names.with_code(*panel.start), 1 / panel.config["layers"][-1], panel.config["steps"]
        for cell, result in panel.results.items():
            temporal, _, spatial = cell.rpartition("/")
            cells = [*panel.start, temporal or cell, spatial if temporal else ""]
            curve = partial(length_curves.Curve, cells, chance=chance, seeds=result["seeds"], steps=steps)
            kept, sent = ("symmetric feedback", title), ("filtered eligibility", title)
            if cell == REFERENCE:
                yield curve(kept, REFERENCE, RULES[REFERENCE].title)
            elif cell == FIXED:
                yield curve(sent, "drtp", names.SPATIAL[FIXED])
            elif spatial == "symmetric" and temporal in LINE_RULES:
                yield curve(kept, temporal, RULES[temporal].title)
            elif temporal == "e_prop" and spatial in routes:
                yield curve(sent, routes[spatial], names.SPATIAL[spatial])
            else:
                yield curve(None, "bptt", cell)


FIGURES = {
    "credit_grid": figures.Plot(COLUMNS, rows, draw),
    "credit_grid_alignment": figures.Plot(alignment.COLUMNS, alignment.rows, alignment.draw),
    "credit_grid_cosine": figures.Plot(COSINE_COLUMNS, cosine_rows, draw_cosine),
    "credit_grid_differences": figures.Plot(DIFFERENCE_COLUMNS, difference_rows, draw_differences),
    "credit_grid_cost": figures.Plot(COST_COLUMNS, cost_rows, draw_cost),
    "credit_grid_lengths": length_curves.plot(
        "credit_grid_lengths", ["task", "code", "temporal", "spatial"], lengths_of
    ),
}
