"""Draw the spectra of the Hessian at the solution of each rule, and gradients, costs and accuracies by window length."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments.common.figures import (
    SUMMARY,
    Plot,
    check_given,
    count,
    interval,
    network,
    panels,
    plot_seed_intervals,
    summary,
    write_note,
)
from experiments.common.styles import STYLES
from slax_rules import RULES

COLUMNS = ["rule", "quantity", "which", *SUMMARY, "seeds"]
WINDOW_COLUMNS = ["rule", "window", "stage", "layer", "quantity", *SUMMARY, "seeds", "rounds"]
REAL, POSITIVE, SHARE = (-np.inf, np.inf), (0.0, np.inf), (0.0, 1.0)
BOUNDS = {"accuracy": SHARE, "loss": POSITIVE, "gradient": POSITIVE, "cosine": (-1.0, 1.0), "norm_ratio": POSITIVE}
ENDS = {"largest": 1, "smallest": -1}  # ends of the spectrum, and the sign of their ranks
TITLES = {"tbptt": "TBPTT(K)"}  # titles where each rule has a window
LAYER = "1"  # layer whose agreement the figure shows: the first hidden layer
COSTS = {"milliseconds": "time of a gradient (ms)", "temporary_bytes": "temporaries (bytes)"}

# Keys are a rule, a stage, a layer and a quantity; values map windows to a list of all seeds' numbers, or a single number.
Line = tuple[str, str, str, str]
Lines = dict[Line, dict[int, list[float | None]]]


class Data(NamedTuple):
    """The results of the solutions by rule, the numbers by window, and the configuration of the windows."""

    solutions: list[dict[str, Any]]
    lines: Lines
    config: dict[str, Any]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results of each part, the solutions in the order of the table of rules."""
    parts = {part: [r for r in results if r["config"]["part"] == part] for part in ("solutions", "online", "windows")}
    parts["solutions"].sort(key=lambda result: list(RULES).index(result["config"]["rule"]))
    config = parts["windows"][0]["config"] if parts["windows"] else {}
    return Data(parts["solutions"], lines_of(parts["online"], parts["windows"]), config)


def solution_rows(data: Data) -> Iterator[list[Any]]:
    return itertools.chain(*map(rows_of_rule, data.solutions))


def rows_of_rule(result: dict[str, Any]) -> Iterator[list[Any]]:
    """The table rows of one rule. `which` is the rank of an eigenvalue, counted down from 1 and up from -1, or a seed."""
    rule, seeds = result["config"]["rule"], result["seeds"]
    for quantity in ("accuracy", "loss", "gradient"):
        numbers = [seed[quantity] for seed in seeds]
        yield [rule, quantity, "", *summary(numbers, BOUNDS[quantity]), len(seeds)]
    for (end, sign), i in itertools.product(ENDS.items(), range(result["config"]["eigenvalues"])):
        numbers = [seed[end]["values"][i] for seed in seeds]
        yield [rule, "eigenvalue", sign * (i + 1), *summary(numbers, REAL), len(seeds)]
        residuals = [seed[end]["residuals"][i] for seed in seeds]
        yield [rule, "residual", sign * (i + 1), *small(summary(residuals, POSITIVE)), len(seeds)]
    asymmetries = [max(seed[end]["asymmetry"] for end in ENDS) for seed in seeds]
    yield [rule, "asymmetry", "", *small(summary(asymmetries, POSITIVE)), len(seeds)]
    converged = [float(np.mean([seed[end]["converged"] for end in ENDS])) for seed in seeds]
    yield [rule, "share_converged", "", *summary(converged, SHARE), len(seeds)]
    yield [rule, "trace", "", *summary([seed["trace"]["mean"] for seed in seeds], REAL), len(seeds)]
    for seed in seeds:
        yield [rule, "trace_of_seed", seed["seed"], *summary(seed["trace"]["samples"], REAL), 1]
        yield [rule, "standard_error_of_trace", seed["seed"], seed["trace"]["standard_error"], None, None, None, 1]


def small(cells: list[float | str | None]) -> list[str | None]:
    """Format numbers that six decimal places would round to zero with three significant digits."""
    return [f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells]


def lines_of(online: list[dict[str, Any]], windows: list[dict[str, Any]]) -> Lines:
    lines: Lines = {}
    for result in windows:
        for cell in result["cells"]:
            rule, window, stage = cell["rule"], cell["window"], cell["stage"]
            lines.setdefault((rule, stage, "all", "change"), {})[window] = [seed["change"] for seed in cell["seeds"]]
            for layer, quantity in itertools.product(cell["seeds"][0]["layers"], ("cosine", "norm_ratio")):
                found = [seed["layers"][layer][quantity] for seed in cell["seeds"]]
                lines.setdefault((rule, stage, layer, quantity), {})[window] = found
    for result in online:
        for cell in result["cells"]:
            line = (result["config"]["rule"], cell["mode"], "all", "accuracy")
            lines.setdefault(line, {})[cell["window"]] = cell["accuracy"]
    for result in windows:
        for cell, quantity in itertools.product(result["times"]["cells"], COSTS):
            numbers = cell[quantity] if isinstance(cell[quantity], list) else [cell[quantity]]
            lines.setdefault((cell["rule"], "cost", "all", quantity), {})[cell["window"]] = numbers
    order = list(RULES)
    return dict(sorted(lines.items(), key=lambda line: (order.index(line[0][0]), line[0])))


def window_rows(data: Data) -> Iterator[list[Any]]:
    for (rule, stage, layer, quantity), windows in data.lines.items():
        for window, numbers in windows.items():
            start = [rule, window, stage, layer, quantity]
            if quantity == "temporary_bytes":  # it does not vary
                yield [*start, numbers[0], *[None] * 5]
                continue
            cells = summary(numbers, BOUNDS.get(quantity, POSITIVE))
            cells = small(cells) if quantity == "change" else cells
            counts = [None, len(numbers)] if stage == "cost" else [count(numbers), None]
            yield [*start, *cells, *counts]


def draw(data: Data) -> Figure:
    """Draw a row for each rule, with the ends of the spectrum, the trace, the loss and the norm of its gradient."""
    check_given("curvature", "solutions", data.solutions)
    of_seeds = {result["config"]["rule"]: result["seeds"] for result in data.solutions}
    named = {rule: (rule, RULES[rule].title) for rule in of_seeds}
    figure, axes = panels(1, 4, (3.75, 0.55 * len(named)), (0, 1.9), sharey=True)
    spectrum, trace, loss, gradient = axes[0]
    for ax, label, bounds, number in (
        (spectrum, "smallest and largest eigenvalue", REAL, lambda seed: seed["largest"]["values"][0]),
        (spectrum, "smallest and largest eigenvalue", REAL, lambda seed: seed["smallest"]["values"][0]),
        (trace, "trace", REAL, lambda seed: seed["trace"]["mean"]),
        (loss, "cross entropy (nats)", POSITIVE, lambda seed: seed["loss"]),
        (gradient, "length of its gradient", POSITIVE, lambda seed: seed["gradient"]),
    ):
        numbers = {rule: [number(seed) for seed in seeds] for rule, seeds in of_seeds.items()}
        plot_seed_intervals(ax, named, numbers, bounds)
        ax.set_xlabel(label)
    for ax in (spectrum, trace):
        ax.axvline(0, color="0.5", linewidth=0.8, zorder=0)
    config = data.solutions[0]["config"]
    write_note(
        figure,
        f"The Hessian in the surrogates' calculus. {setting(config)}, {config['steps']:,} batches, one update per sequence; "
        f"{config['seeds']} seeds, and the 95 % interval of their mean.",
    )
    return figure


def draw_windows(data: Data) -> Figure:
    """Draw six panels against the window length, with a line for each rule."""
    check_given("curvature_windows", "windows", data.config)
    config = data.config
    figure, axes = panels(2, 3, (14.5 / 3, 4.2), (0, 0))
    agreement, size, change, reached, time, memory = axes.flat
    shown = {
        ("trained", LAYER, "cosine"): (agreement, "cosine to BPTT, first layer"),
        ("trained", LAYER, "norm_ratio"): (size, "length relative to BPTT, first layer"),
        ("trained", "all", "change"): (change, "change of the gradient from K = T"),
        ("online", "all", "accuracy"): (reached, "test accuracy, an update every K steps"),
        ("cost", "all", "milliseconds"): (time, COSTS["milliseconds"]),
        ("cost", "all", "temporary_bytes"): (memory, COSTS["temporary_bytes"]),
    }
    handles = {}  # by title: a rule may be in only some of the panels
    for (rule, *where), windows in data.lines.items():
        if tuple(where) in shown:
            line = draw_line(shown[tuple(where)][0], rule, windows, BOUNDS.get(where[-1], POSITIVE))
            handles.setdefault(line.get_label(), line)
    for ax, label in shown.values():
        ax.set_ylabel(label)
        ax.set_xscale("log")
        ax.set_xticks(config["windows"], config["windows"])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("K, steps of a window")
    for ax in (size, change, time, memory):
        ax.set_yscale("log")
    reached.set_ylim(0, 1)
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=6)
    write_note(
        figure,
        f"{setting(config)}, batches of {config['batch_size']}; gradients after {config['steps']:,} batches of BPTT. "
        f"{config['seeds']} seeds; lines: mean, bars: 95 % interval. A change of exactly 0, as at K = T, is not drawn.",
    )
    return figure


def draw_line(ax: Axes, rule: str, windows: dict[int, list[float | None]], bounds: tuple[float, float]) -> Line2D:
    look, title = STYLES[rule], TITLES.get(rule, RULES[rule].title)
    shown = {window: interval(numbers, bounds) for window, numbers in windows.items() if any(numbers)}
    means = [mean for mean, _, _ in shown.values()]
    style = {"color": look.color, "marker": look.marker, "linestyle": look.line, "markersize": 6, "linewidth": 1.4}
    (line,) = ax.plot(list(shown), means, label=title, **style)
    for window, (_, low, high) in shown.items():
        if low is not None:
            ax.plot([window, window], [low, high], "-", color=look.color, linewidth=1, alpha=0.4)
    return line


def setting(config: dict[str, Any]) -> str:
    return f"Randman, {config['code']} code, {network(config)}, T = {config['n_steps']}"


FIGURES = {
    "curvature": Plot(COLUMNS, solution_rows, draw),
    "curvature_windows": Plot(WINDOW_COLUMNS, window_rows, draw_windows),
}
