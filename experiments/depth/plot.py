"""Draw the agreement with BPTT of each rule by layer, and the test accuracy by the number of hidden layers."""

import itertools
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.common import figures, tables
from slax_rules import RULES

COLUMNS = ["task", "depth", "rule", "quantity", "layer", *tables.OF_SEEDS]
STAGES = {"initial": "before training", "trained": "where BPTT ends"}
BOUNDS = {"accuracy": tables.SHARE, "initial": tables.COSINE, "trained": tables.COSINE}

Tasks = dict[str, dict[int, dict[str, Any]]]
Key = tuple[str, str]  # a quantity, and a layer or ""


def prepare(results: list[dict[str, Any]]) -> Tasks:
    """The results by task and number of hidden layers."""
    tasks: Tasks = {}
    for result in sorted(results, key=lambda result: result["config"]["depth"]):
        tasks.setdefault(result["config"]["task"], {})[result["config"]["depth"]] = result
    return dict(sorted(tasks.items(), reverse=True))


def of_seeds(result: dict[str, Any], rule: str) -> dict[Key, list[float | None]]:
    """The numbers of the seeds by quantity and layer; None where a gradient is zero, which has no cosine."""
    seeds = result["rules"][rule]["seeds"]
    numbers = {("accuracy", ""): [seed["accuracy"] for seed in seeds]}
    for stage in STAGES:
        for layer in seeds[0].get(stage, {}):
            numbers[stage, layer] = [seed[stage][layer]["cosine"] for seed in seeds]
    return numbers


def rows(tasks: Tasks) -> Iterator[list[Any]]:
    for task, by_depth in tasks.items():
        for depth, result in by_depth.items():
            for rule in in_order(result):
                for key, numbers in of_seeds(result, rule).items():
                    yield [task, depth, rule, *key, *tables.of_seeds(numbers, BOUNDS[key[0]])]


def in_order(result: dict[str, Any]) -> list[str]:
    """The rules in the order of the table of rules."""
    return [rule for rule in RULES if rule in result["rules"]]


def draw(tasks: Tasks) -> Figure:
    """Draw a row for each code: the cosines before training and after it in the deepest network, of its first layer by the
    number of hidden layers, and the accuracy."""
    figure, axes = figures.panels(len(tasks), 4, (4, 4), (0, 0))
    for (task, by_depth), (before, after, first, accuracy) in zip(tasks.items(), axes, strict=True):
        deepest = max(by_depth)
        for ax, stage in ((before, "initial"), (after, "trained")):
            draw_layers(ax, by_depth[deepest], stage)
            ax.set_title(f"{task} code, {deepest} hidden layer{'s' * (deepest > 1)},\n{STAGES[stage]}")
        draw_depths(first, by_depth, ("trained", "1"))
        first.set(title=f"{task} code, first layer,\n{STAGES['trained']}", ylabel="cosine to BPTT")
        draw_depths(accuracy, by_depth, ("accuracy", ""))
        accuracy.set(title=f"{task} code", ylabel="test accuracy")
    for ax in axes.flat:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    config = tables.config_of(by_depth)
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figures.with_note(
        figure,
        f"Randman, {config['n_units']} inputs, {config['layers'][1]} units in each hidden layer, T = {config['n_steps']}, "
        f"{config['steps']:,} batches of {config['batch_size']}; means of {config['seeds']} seeds and their 95 % intervals",
    )


def draw_layers(ax: Axes, result: dict[str, Any], stage: str) -> None:
    for rule in in_order(result):
        numbers = of_seeds(result, rule)
        cosines = {int(layer): values for (of, layer), values in numbers.items() if of == stage}
        figures.draw_means(ax, cosines, tables.COSINE, **figures.look_of(rule))
    ax.set(xlabel="layer; the last one is the read-out", ylabel="cosine to BPTT")


def draw_depths(ax: Axes, by_depth: dict[int, dict[str, Any]], key: Key) -> None:
    for rule in dict.fromkeys(itertools.chain.from_iterable(map(in_order, by_depth.values()))):
        numbers = {depth: of_seeds(result, rule).get(key, []) for depth, result in by_depth.items()}
        figures.draw_means(ax, numbers, BOUNDS[key[0]], **figures.look_of(rule))
    ax.set(xlim=(min(by_depth) - 0.5, max(by_depth) + 0.5), xlabel="number of hidden layers")


FIGURES = {"depth": figures.Plot(COLUMNS, rows, draw)}
