"""Draw the agreement of each rule's gradient with BPTT, its bias and variance, and the terms of the exact gradient."""

import functools
import itertools
import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from experiments.common import figures, tables
from experiments.common.styles import STYLES
from slax_rules import RULES

NOISE = {
    "bias_squared": tables.ANY,
    "variance": tables.POSITIVE,
    "projection": tables.ANY,
    "cosine_of_means": tables.ANY,
    "relative_variance": tables.POSITIVE,
}
BOUNDS = {"cosine": tables.COSINE, "norm_ratio": tables.POSITIVE, **NOISE}
# Defined where the rule's own gradient is, which may hold for other seeds.
COUNTED = ("cosine_of_means", "relative_variance")
NOISE_MARKS: dict[str, dict[str, Any]] = {
    "bias_squared": {"marker": "o", "label": "squared bias"},
    "variance": {"marker": "D", "markerfacecolor": "white", "label": "variance of the gradient of a batch"},
}
# Each term has the color of the first rule that keeps it; a term that no rule keeps is gray.
TERMS = {
    name: {"label": label, "facecolor": color, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}
    for name, label, color, hatch in (
        ("within_step", "within the step: kept by SLTT", STYLES["sltt"].color, STYLES["sltt"].hatch),
        ("own_membrane", "+ own membrane: kept by OTTT", STYLES["ottt"].color, STYLES["ottt"].hatch),
        ("own_reset", "+ own reset: kept by OSTL", STYLES["ostl"].color, STYLES["ostl"].hatch),
        ("above", "+ time in layers above: estimated by OTPE", STYLES["otpe"].color, STYLES["otpe"].hatch),
        ("above_with_reset", "+ the same, through a reset: BPTT", "0.75", ""),
    )
}
PANELS_IN_A_ROW = 6
LINE = {"markersize": 4, "linewidth": 1.1}

Results = list[dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Results:
    """The results of the tasks, ordered by number of layers."""
    return sorted(results, key=lambda result: (len(result["config"]["layers"]), result["config"]["task"]))


def rules_of(*results: dict[str, Any]) -> list[str]:
    """The rules that some result is about, in the order of the table of rules."""
    return [rule for rule in RULES if any(rule in result["config"]["rules"] for result in results)]


def layers_of(result: dict[str, Any]) -> list[str]:
    return sorted(result["seeds"][0]["stages"][0]["rules"]["bptt"], key=int)


def of_seeds(result: dict[str, Any], stage: int, *path: str) -> list[float | None]:
    """A number for all seeds after one of the steps, None for a seed that lacks it."""
    return [functools.reduce(operator.getitem, path, seed["stages"][stage]) for seed in result["seeds"]]


def of_all_seeds(result: dict[str, Any], stage: int, *path: str) -> list[float | None]:
    """The numbers of `of_seeds`, or none if a seed lacks it, since noise would otherwise select the seeds in the mean."""
    numbers = of_seeds(result, stage, *path)
    return numbers if None not in numbers else []


START = ["task", "layers", "n_steps", "training_steps"]

Place = tuple[dict[str, Any], int]  # a result and the index of a step


def stages_of(results: Results) -> Iterator[tuple[Place, list[str], list[Any]]]:
    """Each result and step index, with the layers, and the leading cells of its rows."""
    for result in results:
        config = result["config"]
        for stage, step in enumerate(config["measure_at"]):
            yield (result, stage), layers_of(result), [config["task"], tables.network(config), config["n_steps"], step]


AGREEMENT = [*START, "rule", "layer", "seeds", "batches"]
COSINE_COLUMNS = [*AGREEMENT, *tables.summary_columns("cosine", "spikes", "test_accuracy")]
NORM_COLUMNS = [*AGREEMENT, *tables.summary_columns("norm_ratio")]


def agreement_rows(quantity: str, results: Results) -> Iterator[list[Any]]:
    """The agreement of each rule and layer, with the smallest number, over seeds, of batches in a seed's means, which use only
    batches where no gradient is zero. The cosine has the spikes of a hidden layer and the accuracy beside it."""
    for place, layers, start in stages_of(results):
        for rule, layer in itertools.product(rules_of(place[0]), layers):
            numbers, batches = (of_seeds(*place, "rules", rule, layer, name) for name in (quantity, "batches"))
            cells = [tables.count(numbers), int(min(batches)), *tables.summary(numbers, BOUNDS[quantity])]
            if quantity == "cosine":
                is_hidden = layer != layers[-1]
                cells += tables.summary(of_seeds(*place, "spikes", layer), tables.SHARE) if is_hidden else [None] * 4
                cells += tables.summary(of_seeds(*place, "test_accuracy"), tables.SHARE)
            yield [*start, rule, layer, *cells]


NOISE_COLUMNS = [
    *(*START, "rule", "layer", "seeds"),
    *(f"{name}_seeds" for name in COUNTED),
    *tables.summary_columns(*NOISE),
]


def noise_rows(results: Results) -> Iterator[list[Any]]:
    for place, layers, start in stages_of(results):
        for rule, layer in itertools.product(["bptt", *rules_of(place[0])], layers):
            where = *place, "rules", rule, layer
            counts = [tables.count(of_seeds(*where, name)) for name in ("variance", *COUNTED)]
            cells = [cell for name in NOISE for cell in tables.summary(of_all_seeds(*where, name), BOUNDS[name])]
            yield [*start, rule, layer, *counts, *cells]


TERM_COLUMNS = [*START, "layer", "term", "seeds", *tables.summary_columns("share", "norm_ratio")]


def term_rows(results: Results) -> Iterator[list[Any]]:
    for place, layers, start in stages_of(results):
        for layer, term in itertools.product(layers, TERMS):
            where = *place, "terms", term, layer
            count, norms = tables.count(of_seeds(*where, "share")), of_seeds(*where, "norm_ratio")
            shares = tables.summary(of_all_seeds(*where, "share"), tables.ANY)
            yield [*start, layer, term, count, *shares, *tables.summary(norms, tables.POSITIVE)]


def heading_of(result: dict[str, Any]) -> str:
    """The task, its network, and the length of its sequences, in one line."""
    return tables.title_of(result["config"]).replace("\n", ", ")


def name_of(result: dict[str, Any], layer: str) -> str:
    if layer != layers_of(result)[-1]:
        return f"layer {layer}"
    return "read-out (LI)" if result["config"]["network"] == "fluctuation_driven" else "read-out (LIF)"


def grid_of(results: Results, extra_height: float) -> tuple[Figure, GridSpec, list[tuple[int, int]]]:
    """A figure, its grid, and the row and column of the start of each task in it, which takes one column for each layer."""
    widths = [len(layers_of(result)) for result in results]
    length = max(PANELS_IN_A_ROW, *widths)
    at, row, column = [], 0, 0
    for width in widths:
        if column + width > length:
            row, column = row + 1, 0
        at.append((row, column))
        column += width
    figure = plt.figure(figsize=(2.1 * length + 0.4, 2.6 * (row + 1) + extra_height))
    return figure, figure.add_gridspec(row + 1, length), at


def draw_over_training(quantity: str, label: str, results: Results) -> Figure:
    """Draw a panel for each task and layer: the quantity over training, with a line for each rule."""
    figure, grid, at = grid_of(results, extra_height=1.0)
    for result, (row, column) in zip(results, at, strict=True):
        for index, layer in enumerate(layers_of(result)):
            ax = figure.add_subplot(grid[row, column + index], sharey=figure.axes[0] if figure.axes else None)
            draw_layer(ax, result, layer, quantity)
            ax.set_title(name_of(result, layer), fontsize="small")
            if index > 0:
                ax.tick_params(labelleft=False)
                continue
            above = {"xycoords": "axes fraction", "xytext": (0, 20), "textcoords": "offset points"}
            heading = ax.annotate(heading_of(result), (0, 1), **above, fontsize="small")
            heading.set_in_layout(False)  # else each panel that it reaches over would be made as wide as the text
            if column == 0:
                ax.set_ylabel(label)
    figures.legend_of(figure, [figures.line_of(rule, **LINE) for rule in rules_of(*results)], 6)
    figure.get_layout_engine().set(h_pad=0.12)  # inches, for the headings
    return figures.with_note(figure, "training steps with BPTT; marks: mean over seeds, bars: its 95 % interval")


def draw_layer(ax: Axes, result: dict[str, Any], layer: str, quantity: str) -> None:
    steps, rules = result["config"]["measure_at"], rules_of(result)
    for number, rule in enumerate(rules):
        shift = 0.5 * ((number + 0.5) / len(rules) - 0.5)  # so that no rule hides another
        stages = {i + shift: of_seeds(result, i, "rules", rule, layer, quantity) for i in range(len(steps))}
        figures.draw_means(ax, stages, BOUNDS[quantity], **figures.line_of(rule, **LINE))
    ax.set_xticks(range(len(steps)), map(str, steps), fontsize="small")
    if quantity == "norm_ratio":
        ax.set_yscale("log")
    for level in (0, 1) if quantity == "cosine" else (1,):
        ax.axhline(level, color="0.6", linewidth=0.8, zorder=0)
    ax.tick_params(axis="y", labelsize="small")


def draw_noise(results: Results) -> Figure:
    """Draw the bias and variance of each rule in the first layer and in the read-out, after all training steps."""
    rules = ["bptt", *rules_of(*results)]
    size, more = (1.9, 0.23 * len(rules) + 1.4), (1.9, 0)
    figure, axes = figures.panels(2, len(results), size, more, sharex=True, sharey=True)
    for column, result in enumerate(results):
        layers = layers_of(result)
        for ax, layer in zip(axes[:, column], (layers[0], layers[-1]), strict=True):
            draw_noise_of(ax, result, layer, rules)
            ax.set_title(name_of(result, layer), fontsize="small")
        about = heading_of(result).replace(", ", "\n"), f"after {result['config']['measure_at'][-1]} steps", ""
        axes[0, column].set_title("\n".join([*about, name_of(result, layers[0])]), fontsize="small")
    look = {"color": figures.NO_RULE, "linestyle": ""}
    figures.legend_of(figure, [look | mark for mark in NOISE_MARKS.values()], 2)
    return figures.with_note(
        figure,
        "in units of the squared norm of the expected gradient of BPTT; linear between -0.1 and 0.1; mean over seeds with its "
        "95 % interval,\nnone where a seed has too few batches",
    )


def draw_noise_of(ax: Axes, result: dict[str, Any], layer: str, rules: list[str]) -> None:
    last = len(result["config"]["measure_at"]) - 1
    figures.name_rows(ax, [RULES[rule].title for rule in rules], striped=True)
    known = ["bptt", *rules_of(result)]
    for (row, rule), (quantity, mark) in itertools.product(enumerate(rules), NOISE_MARKS.items()):
        numbers = of_all_seeds(result, last, "rules", rule, layer, quantity) if rule in known else []
        height = row + (0.17 if quantity == "variance" else -0.17)
        look = {"color": STYLES[rule].color, "markersize": 4.5, "elinewidth": 1, **mark}
        figures.draw_interval(ax, height, numbers, BOUNDS[quantity], **look)
    ax.set_xscale("symlog", linthresh=0.1, linscale=0.5)
    ax.set_xticks([-1e3, 0, 1, 1e3], ["-1000", "0", "1", "1000"])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.tick_params(labelsize="small")
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)


def draw_terms(results: Results) -> Figure:
    """Draw a panel for each task: for each step and layer, the stacked shares of the terms."""
    figure, grid, at = grid_of(results, extra_height=1.2)
    for result, (row, column) in zip(results, at, strict=True):
        where = grid[row, column : column + len(layers_of(result))]
        ax = figure.add_subplot(where, sharey=figure.axes[0] if figure.axes else None)
        draw_shares(ax, result)
        ax.set_title(heading_of(result), loc="left", fontsize="small")
        if column == 0:
            ax.set_ylabel("share of the\nexact gradient")
    figure.legend(handles=[Patch(**term) for term in TERMS.values()], loc="outside upper center", ncols=2)
    return figures.with_note(
        figure,
        "layer (out: the read-out), below it the training steps with BPTT; mean over seeds, where all have enough batches",
    )


def draw_shares(ax: Axes, result: dict[str, Any]) -> None:
    layers, ticks = layers_of(result), []
    for stage, step in enumerate(result["config"]["measure_at"]):
        start = stage * (len(layers) + 1)
        for index, layer in enumerate(layers):
            ends = [0.0, 0.0]  # ends of the stack below zero, and of the one above
            for name, term in TERMS.items():
                share, _, _ = tables.interval(of_all_seeds(result, stage, "terms", name, layer, "share"), tables.ANY)
                if share is not None:
                    ax.bar(start + index, share, 0.85, bottom=ends[share > 0], **term)
                    ends[share > 0] += share
            ticks.append((start + index, "out" if index == len(layers) - 1 else layer))
        middle = start + (len(layers) - 1) / 2
        ax.text(middle, -0.2, str(step), transform=ax.get_xaxis_transform(), ha="center", va="top", fontsize="small")
    ax.set_xticks(*zip(*ticks, strict=True), fontsize="small")
    ax.tick_params(axis="x", length=0)
    ax.tick_params(axis="y", labelsize="small")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axhline(1, color="0.5", linewidth=0.8, linestyle="--")


def over_training(columns: list[str], quantity: str, label: str) -> figures.Plot:
    return figures.Plot(columns, partial(agreement_rows, quantity), partial(draw_over_training, quantity, label))


FIGURES = {
    "gradient_similarity": over_training(COSINE_COLUMNS, "cosine", "cosine to BPTT"),
    "gradient_similarity_norms": over_training(NORM_COLUMNS, "norm_ratio", "norm / that of BPTT"),
    "gradient_similarity_noise": figures.Plot(NOISE_COLUMNS, noise_rows, draw_noise),
    "gradient_similarity_terms": figures.Plot(TERM_COLUMNS, term_rows, draw_terms),
}
