"""Draw the agreement with BPTT of each rule by layer, and the test accuracy by the number of hidden layers."""

import itertools
from collections.abc import Iterator
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common.figures import SUMMARY, Plot, count, interval, summary
from slax_rules import RULES

COLUMNS = ["task", "depth", "rule", "quantity", "layer", *SUMMARY, "seeds"]
STAGES = {"initial": "before training", "trained": "where BPTT ends"}
BOUNDS = {"accuracy": (0.0, 1.0), "initial": (-1.0, 1.0), "trained": (-1.0, 1.0)}

Tasks = dict[str, dict[int, dict[str, Any]]]
Numbers = list[float | None]  # of all seeds


def prepare(results: list[dict[str, Any]]) -> Tasks:
    """The results by task and number of hidden layers."""
    tasks: Tasks = {}
    for result in sorted(results, key=lambda result: result["config"]["depth"]):
        tasks.setdefault(result["config"]["task"], {})[result["config"]["depth"]] = result
    return dict(sorted(tasks.items(), reverse=True))


def of_seeds(result: dict[str, Any], rule: str) -> dict[tuple[str, str], Numbers]:
    """By quantity and layer the numbers of all seeds; a seed in which a gradient is zero has no cosine."""
    seeds = result["rules"][rule]["seeds"]
    numbers: dict[tuple[str, str], Numbers] = {("accuracy", ""): [seed["accuracy"] for seed in seeds]}
    for stage in STAGES:
        for layer in seeds[0].get(stage, {}):
            numbers[stage, layer] = [seed[stage][layer]["cosine"] for seed in seeds]
    return numbers


def rows(tasks: Tasks) -> Iterator[list[Any]]:
    for task, by_depth in tasks.items():
        for depth, result in by_depth.items():
            for rule in in_order(result):
                for (quantity, layer), numbers in of_seeds(result, rule).items():
                    cells = summary(numbers, BOUNDS[quantity])
                    yield [task, depth, rule, quantity, layer, *cells, count(numbers)]


def in_order(result: dict[str, Any]) -> list[str]:
    """The rules in the order of the table of rules."""
    return [rule for rule in RULES if rule in result["rules"]]


def draw(tasks: Tasks) -> Figure:
    """Draw a row for each code: the cosines before training and after it in the deepest network, of its first layer by the
    number of hidden layers, and the accuracy."""
    figure, axes = plt.subplots(len(tasks), 4, figsize=(16, 4.0 * len(tasks)), squeeze=False)
    for (task, by_depth), (before, after, first, accuracy) in zip(tasks.items(), axes, strict=True):
        deepest = max(by_depth)
        for ax, stage in ((before, "initial"), (after, "trained")):
            draw_layers(ax, by_depth[deepest], stage)
            ax.set_title(f"{task} code, {deepest} hidden layer{'s' * (deepest > 1)}, {STAGES[stage]}")
        draw_depths(first, by_depth, "trained", "1")
        first.set_title(f"{task} code, first layer, {STAGES['trained']}")
        first.set_ylabel("cosine to BPTT")
        draw_depths(accuracy, by_depth, "accuracy", "")
        accuracy.set_title(f"{task} code")
        accuracy.set_ylabel("test accuracy")
    config = next(iter(next(iter(tasks.values())).values()))["config"]
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    figure.supxlabel(
        f"Randman, {config['n_units']} inputs, {config['layers'][1]} units in each hidden layer, T = {config['n_steps']}, "
        f"{config['steps']:,} batches of {config['batch_size']}; means of {config['seeds']} seeds, bars: 95 % intervals",
        fontsize="small",
    )
    return figure


def draw_layers(ax: Axes, result: dict[str, Any], stage: str) -> None:
    for rule in in_order(result):
        found = {int(layer): numbers for (of, layer), numbers in of_seeds(result, rule).items() if of == stage}
        draw_line(ax, rule, found, BOUNDS[stage])
    ax.set_xlabel("layer; the last one is the read-out")
    ax.set_ylabel("cosine to BPTT")
    ax.set_ylim(top=1.03)


def draw_depths(ax: Axes, by_depth: dict[int, dict[str, Any]], quantity: str, layer: str) -> None:
    rules = dict.fromkeys(itertools.chain.from_iterable(map(in_order, by_depth.values())))
    for rule in rules:
        found = {depth: of_seeds(result, rule).get((quantity, layer), []) for depth, result in by_depth.items()}
        draw_line(ax, rule, found, BOUNDS[quantity])
    ax.set_xlabel("number of hidden layers")


def draw_line(ax: Axes, rule: str, found: dict[int, Numbers], bounds: tuple[float, float]) -> None:
    """Draw the means that exist as a line with their intervals as bars."""
    known = {x: interval(numbers, bounds) for x, numbers in found.items() if count(numbers)}
    if not known:
        return
    look = RULES[rule].style
    ax.plot(
        list(known),
        [mean for mean, _, _ in known.values()],
        look.marker + "-",
        color=look.color,
        label=RULES[rule].title,
    )
    for x, (_, low, high) in known.items():
        if low is not None:
            ax.plot([x, x], [low, high], "-", color=look.color, linewidth=1.5)
    ax.set_xticks(sorted({*ax.get_xticks().astype(int), *known} & set(range(1, max(known) + 1))))


FIGURES = {"depth": Plot(COLUMNS, rows, draw)}
