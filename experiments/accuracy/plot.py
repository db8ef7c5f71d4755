"""Draw the test accuracy of each rule, next to the published one of the same task and rule, from published.csv, and the
validation accuracy against the learning rate."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import rate_curves
from experiments.common.figures import (
    MARKS,
    SUMMARY,
    Plot,
    Results,
    by_task_and_rule,
    draw_interval,
    legend_of_modes,
    look_of,
    name_rows,
    network,
    panels,
    summary,
    title_of,
    write_note,
)
from experiments.common.rate_curves import Curve
from experiments.common.styles import STYLES
from slax_rules import RULES

COLUMNS = ["task", "layers", "n_steps", "rule", "mode", "quantity", *SUMMARY, "seeds"]
SHARE = (0.0, 1.0)
PUBLISHED = Path(__file__).with_name("published.csv")
PUBLISHED_MARK = {"color": "black", "marker": "*", "markersize": 9, "linestyle": ""}

Published = dict[tuple[str, str], float]  # by task and rule
Data = tuple[Results, Published]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by task and rule, and the published accuracies."""
    tasks = by_task_and_rule(results)
    return tasks, published_of(tasks)


def modes_of(result: dict[str, Any]) -> list[str]:
    return [mode for mode in MARKS if mode in result["updates"]]


def seeds_of(result: dict[str, Any], mode: str) -> list[dict[str, Any]]:
    return result["updates"][mode]["seeds"]


def published_of(tasks: Results) -> Published:
    """The published accuracy of each task and rule for which there is a result."""
    published = csv.DictReader(PUBLISHED.read_text(encoding="utf-8").splitlines())
    known = {(row["task"], row["rule"]): float(row["accuracy"]) for row in published}
    return {pair: known[pair] for pair in known if pair[1] in tasks.get(pair[0], {})}


def rows(data: Data) -> Iterator[list[Any]]:
    tasks, published = data
    for task, rules in tasks.items():
        for rule, result in rules.items():
            start = [task, network(result["config"]), result["config"]["n_steps"], rule]
            for mode in modes_of(result):
                stages = seeds_of(result, mode)
                quantities = {name: [stage[name] for stage in stages] for name in ("accuracy", "validation_accuracy")}
                for layer in stages[0]["spikes"]:
                    quantities[f"spikes_{layer}"] = [stage["spikes"][layer] for stage in stages]
                for quantity, numbers in quantities.items():
                    yield [*start, mode, quantity, *summary(numbers, SHARE), len(numbers)]
    for (task, rule), accuracy in published.items():
        config = tasks[task][rule]["config"]
        start = [task, network(config), config["n_steps"], rule]
        yield [*start, "offline", "published_accuracy", accuracy, None, None, None, None]


def draw(data: Data) -> Figure:
    """Draw a panel for each task: for each rule every seed, the mean with its interval, and the published accuracy."""
    tasks, published = data
    names = [name for name in RULES if any(name in rules for rules in tasks.values())]
    figure, axes = panels(1, len(tasks), (2.6, 0.45 * len(names)), (1.2, 1.9), sharey=True)
    for ax, (task, rules) in zip(axes[0], tasks.items(), strict=True):
        draw_task(ax, names, rules)
        for rule, accuracy in ((rule, accuracy) for (name, rule), accuracy in published.items() if name == task):
            ax.plot(100 * accuracy, names.index(rule) - 0.34, **PUBLISHED_MARK)
        ax.set_title(title_of(next(iter(rules.values()))["config"]))
    looks = [{"label": "published", **PUBLISHED_MARK}] if published else []
    legend_of_modes(figure, len(MARKS) + len(looks) if len(tasks) > 1 else 1, *looks)
    seeds = sorted({result["config"]["seeds"] for rules in tasks.values() for result in rules.values()})
    text = "seeds, each a small dot; bars: 95 % interval of the mean; the axes differ"
    write_note(figure, f"mean of {', '.join(map(str, seeds))} {text}")
    return figure


def draw_task(ax: Axes, names: list[str], rules: dict[str, Any]) -> None:
    """Draw one task, on an axis that begins at the tens below the smallest number, or at chance level if that is near."""
    name_rows(ax, [RULES[name].title for name in names])
    for row, name in enumerate(names):
        color = STYLES[name].color
        if name not in rules:
            look = {"ha": "center", "va": "center", "color": "0.4", "fontsize": "small"}
            ax.text(0.5, row, "not run here", transform=ax.get_yaxis_transform(), **look)
        for mode in modes_of(rules[name]) if name in rules else []:
            height = row + {"offline": -0.16, "online": 0.16}[mode]
            reached = [seed["accuracy"] for seed in seeds_of(rules[name], mode)]
            ax.plot([100 * x for x in reached], [height + 0.11] * len(reached), ".", color=color, markersize=3)
            look = {"markersize": 5.5, "elinewidth": 1.3, "capsize": 2, "color": color, **MARKS[mode]}
            draw_interval(ax, height, reached, SHARE, scale=100, **look)
    chance = 100 / next(iter(rules.values()))["config"]["layers"][-1]
    start = 10 * ((ax.dataLim.x0 - 1) // 10)
    if start <= 3 * chance:
        start = 0
        ax.axvline(chance, color="0.4", linestyle="--", linewidth=1)
    ax.set_xlim(start, 100 + (100 - start) / 50)
    ax.set_xlabel(f"test accuracy (%)\nchance: {chance:.0f} %")


def curves_of(data: Data) -> list[Curve]:
    """The trials of each task, way of updating and rule."""
    tasks, _ = data
    return [
        Curve(task, mode, rule, look_of(rule), result["updates"][mode]["trials"])
        for task, rules in tasks.items()
        for rule, result in rules.items()
        for mode in modes_of(result)
    ]


FIGURES = {
    "accuracy": Plot(COLUMNS, rows, draw),
    "accuracy_rates": rate_curves.plot("accuracy_rates", ["task", "mode", "rule"], curves_of),
}
