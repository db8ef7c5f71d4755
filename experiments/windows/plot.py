"""Draw gradients, costs and accuracies by window length."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from slax_rules import RULES

COLUMNS = ["rule", "window", "stage", "layer", "quantity", *tables.OF_SEEDS, "rounds"]
BOUNDS = {"accuracy": statistics.SHARE, "cosine": statistics.COSINE}  # of the others: POSITIVE
LAYER = "1"  # layer whose agreement the figure shows: the first hidden layer
COSTS = ("milliseconds", "temporary_bytes")
# The panels of the figure: stage, layer and quantity, the title of the panel and of its axis, and factor and limits.
SHOWN = {
    ("cost", "all", "milliseconds"): ("time of a gradient of {} steps", "milliseconds", 1, (0, None)),
    ("cost", "all", "temporary_bytes"): ("its memory", "temporaries (kB)", 1e-3, (0, None)),
    ("online", "all", "accuracy"): ("accuracy, an update every K steps", names.TEST_ACCURACY, 100, (0, 100)),
    ("trained", LAYER, "cosine"): ("agreement in the first layer", names.COSINE, 1, (0, 1.05)),
}

# Keys are a rule, a stage, a layer and a quantity; values map windows to a list of all seeds' numbers, or a single number.
Line = tuple[str, str, str, str]
Lines = dict[Line, dict[int, list[float | None]]]


class Data(NamedTuple):
    """The numbers by window, and the configuration."""

    lines: Lines
    config: dict[str, Any]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The numbers of both parts."""
    windows, online = ([r for r in results if r["config"]["part"] == part] for part in ("windows", "online"))
    (config,) = [result["config"] for result in (*windows, *online)][:1] or [{}]
    return Data(lines_of(windows, online), config)


def small(cells: list[Any]) -> list[Any]:
    """Format numbers that six decimal places would round to zero with three significant digits."""
    return [f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells]


def lines_of(windows: list[dict[str, Any]], online: list[dict[str, Any]]) -> Lines:
    lines: Lines = defaultdict(dict)
    for result in windows:
        for cell in result["cells"]:
            window, seeds, start = cell["window"], cell["seeds"], (cell["rule"], cell["stage"])
            lines[*start, "all", "change"][window] = [seed["change"] for seed in seeds]
            for layer, quantity in itertools.product(seeds[0]["layers"], ("cosine", "norm_ratio")):
                lines[*start, layer, quantity][window] = [seed["layers"][layer][quantity] for seed in seeds]
        for cell, quantity in itertools.product(result["times"]["cells"], COSTS):
            numbers = np.atleast_1d(cell[quantity]).tolist()
            lines[cell["rule"], "cost", "all", quantity][cell["window"]] = numbers
    for result in online:
        for cell in result["cells"]:
            lines[result["config"]["rule"], cell["mode"], "all", "accuracy"][cell["window"]] = cell["accuracy"]
    order = list(RULES)
    return dict(sorted(lines.items(), key=lambda line: (order.index(line[0][0]), line[0])))


def rows(data: Data) -> Iterator[list[Any]]:
    for (rule, stage, layer, quantity), windows in data.lines.items():
        for window, numbers in windows.items():
            start = [rule, window, stage, layer, quantity]
            if quantity == "temporary_bytes":  # it does not vary
                yield [*start, numbers[0], *[None] * 5]
                continue
            cells = tables.summary(numbers, BOUNDS.get(quantity, statistics.POSITIVE))
            cells = small(cells) if quantity == "change" else cells
            counts = [None, len(numbers)] if stage == "cost" else [statistics.count(numbers), None]
            yield [*start, *cells, *counts]


def draw(data: Data) -> Figure:
    """Draw four panels against the window length, with a line for each rule."""
    config = data.config
    figure, axes = figures.panels(2, 2, 1.9, 0.3)
    for ax, (where, (_, label, scale, limits)) in zip(axes.flat, SHOWN.items(), strict=True):
        found = {rule: windows for (rule, *of_line), windows in data.lines.items() if tuple(of_line) == where}
        figures.draw_lines(ax, found, BOUNDS.get(where[-1], statistics.POSITIVE), scale, {"tbptt": "TBPTT"})
        ax.set(xlabel="K, steps of a window", ylabel=label, ylim=limits)
        ax.set(xlim=(0, max(config["windows"])), xticks=config["windows"])
        if where[-1] == "accuracy":
            figures.draw_levels(ax, chance=100 / config["layers"][-1])
    figures.name_panels(axes.flat, (title.format(config["n_steps"]) for title, *_ in SHOWN.values()))
    figures.label_lines(axes.flat)
    return figures.with_note(
        figure,
        f"{names.randman(config)}. {names.means_of([config])}; a: rounds; d: under BPTT; dashed: chance. TBPTT has windows of "
        f"K steps, the other rules carry traces from window to window.{figures.others_of({rule for rule, *_ in data.lines})}",
    )


FIGURES = {"windows": figures.Plot(COLUMNS, rows, draw)}
