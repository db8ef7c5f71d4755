"""Draw the test accuracy of each rule, next to the published one of the same task and rule, from published.csv, and the
validation accuracy against the learning rate."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import rate_curves
from experiments.common.figures import (
    MARKS,
    MODE_LABELS,
    NO_RULE,
    SUMMARY,
    Plot,
    Results,
    by_task_and_rule,
    interval,
    summary,
    write_note,
)
from experiments.common.rate_curves import Curve, look_of
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


def published_rows(tasks: Results, published: Published) -> Iterator[list[Any]]:
    for (task, rule), accuracy in published.items():
        config = tasks[task][rule]["config"]
        net = "-".join(map(str, config["layers"]))
        yield [task, net, config["n_steps"], rule, "offline", "published_accuracy", accuracy, None, None, None, None]


def rows(data: Data) -> Iterator[list[Any]]:
    tasks, published = data
    for task, rules in tasks.items():
        for rule, result in rules.items():
            net = "-".join(map(str, result["config"]["layers"]))
            for mode in modes_of(result):
                stages = seeds_of(result, mode)
                quantities = {name: [stage[name] for stage in stages] for name in ("accuracy", "validation_accuracy")}
                quantities |= {
                    f"spikes_{layer}": [stage["spikes"][layer] for stage in stages] for layer in stages[0]["spikes"]
                }
                for quantity, numbers in quantities.items():
                    yield [
                        task,
                        net,
                        result["config"]["n_steps"],
                        rule,
                        mode,
                        quantity,
                        *summary(numbers, SHARE),
                        len(numbers),
                    ]
    yield from published_rows(tasks, published)


def draw(data: Data) -> Figure:
    """Draw a panel for each task: for each rule every seed, the mean with its interval, and the published accuracy."""
    tasks, published = data
    names = [name for name in RULES if any(name in rules for rules in tasks.values())]
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(2.6 * len(tasks) + 1.2, 0.45 * len(names) + 1.9), sharey=True, squeeze=False
    )
    for ax, (task, rules) in zip(axes[0], tasks.items(), strict=True):
        draw_task(ax, names, rules)
        for rule, accuracy in ((rule, accuracy) for (name, rule), accuracy in published.items() if name == task):
            ax.plot(100 * accuracy, names.index(rule) - 0.34, **PUBLISHED_MARK)
        config = next(iter(rules.values()))["config"]
        net = "-".join(map(str, config["layers"]))
        ax.set_title(f"{task.replace('_', ' ').capitalize()}\n{net}, T = {config['n_steps']}")
    axes[0, 0].set_yticks(range(len(names)), [RULES[name].title for name in names])
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        plt.Line2D([], [], linestyle="", color=NO_RULE, label=MODE_LABELS[mode], **mark) for mode, mark in MARKS.items()
    ]
    if published:
        handles.append(plt.Line2D([], [], label="published", **PUBLISHED_MARK))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles) if len(tasks) > 1 else 1)
    seeds = sorted({result["config"]["seeds"] for rules in tasks.values() for result in rules.values()})
    write_note(
        figure,
        f"mean of {', '.join(map(str, seeds))} seeds, each a small dot; bars: 95 % interval of the mean; the axes differ",
    )
    return figure


def draw_task(ax: Axes, names: list[str], rules: dict[str, Any]) -> None:
    """Draw one task, on an axis that begins at the tens below the smallest number, or at chance level if that is near."""
    lowest, middle = 100.0, ax.get_yaxis_transform()
    for row, name in enumerate(names):
        color = STYLES[name].color
        if name not in rules:
            ax.text(0.5, row, "not run here", ha="center", va="center", color="0.4", fontsize="small", transform=middle)
        for mode in modes_of(rules[name]) if name in rules else []:
            height = row + {"offline": -0.16, "online": 0.16}[mode]
            reached = [100 * seed["accuracy"] for seed in seeds_of(rules[name], mode)]
            mean, low, high = (
                None if cell is None else 100 * cell for cell in interval([x / 100 for x in reached], SHARE)
            )
            ends = [[mean - low], [high - mean]] if low is not None else None
            lowest = min([lowest, lowest if low is None else low, *reached])
            ax.plot(reached, [height + 0.11] * len(reached), ".", color=color, markersize=3)
            ax.errorbar(mean, height, xerr=ends, markersize=5.5, elinewidth=1.3, capsize=2, color=color, **MARKS[mode])
    chance = 100 / next(iter(rules.values()))["config"]["layers"][-1]
    start = 10 * ((lowest - 1) // 10)
    if start <= 3 * chance:
        start = 0
        ax.axvline(chance, color="0.4", linestyle="--", linewidth=1)
    ax.set_xlim(start, 100 + (100 - start) / 50)
    ax.set_xlabel(f"test accuracy (%)\nchance: {chance:.0f} %")
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)


def curves_of(data: Data) -> list[Curve]:
    """The trials of each task, way of updating and rule."""
    tasks, _ = data
    return [
        Curve(task, mode, rule, look_of(rule), result["updates"][mode]["trials"])
        for task, rules in tasks.items()
        for rule, result in rules.items()
        for mode in modes_of(result)
    ]


def rate_rows(data: Data) -> Iterator[list[Any]]:
    return rate_curves.rows(curves_of(data))


def draw_rates(data: Data) -> Figure:
    """Draw the validation accuracy against the learning rate."""
    return rate_curves.draw("accuracy_rates", curves_of(data))


FIGURES = {
    "accuracy": Plot(COLUMNS, rows, draw),
    "accuracy_rates": Plot(["task", "mode", "rule", *rate_curves.COLUMNS], rate_rows, draw_rates),
}
