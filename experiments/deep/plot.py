"""Draw the test accuracy of each rule in deep networks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from slax_rules import RULES

COLUMNS = ["task", "network", "n_steps", "rule", "quantity", *tables.OF_TESTS]

prepare = tables.by_task_and_rule


def network_of(config: dict[str, Any]) -> str:
    """The network in a few characters."""
    n_in, n_out = config["layers"]
    if config["network"] == "convolutional":
        return f"{'-'.join(f'{channels}c3' for channels in config['channels'])}-{n_out}, {config['norm']}"
    return f"{n_in}-{'-'.join(f'{size}r' for size in config['hidden'])}-{n_out}"


def title_of(rule: str, result: dict[str, Any]) -> str:
    """The name of a rule; the pieces of TBPTT are the windows between its updates."""
    window = result["trials"]["chosen"].get("online_window", result["config"]["online_window"])
    return f"TBPTT({window})" if rule == "tbptt" else RULES[rule].title


def rows(tasks: tables.Results) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(tasks):
        config, seeds = result["config"], result["seeds"]
        head = [task, network_of(config), config["n_steps"], rule]
        for quantity, numbers in ({"accuracy": tables.tested(task, seeds)} | tables.spikes_of(seeds)).items():
            yield [*head, quantity, *tables.of_tests(numbers, statistics.SHARE)]


def draw(tasks: tables.Results) -> Figure:
    """Draw a panel for each task, with a row for each rule."""
    most = max(len(rules) for rules in tasks.values())
    figure, axes = figures.panels(1, len(tasks), 0.26 * most + 0.6, 0.4, sharex=True)
    for ax, (task, rules) in zip(axes[0], tasks.items(), strict=True):
        reached = {name: 100 * tables.tested(task, result["seeds"]) for name, result in rules.items()}
        lines = [(name, title_of(name, rules[name]), numbers) for name, numbers in reached.items()]
        figures.plot_seed_intervals(ax, lines, (0.0, 100.0))
        figures.draw_levels(ax, ceiling=np.mean(reached["bptt"]) if "bptt" in reached else None, upright=True)
        ax.set_xlabel(names.TEST_ACCURACY)
    configs = [tables.config_of(rules) for rules in tasks.values()]
    titles = [f"{names.task_name(c['task'])}\n{network_of(c).partition(',')[0]}, T = {c['n_steps']}" for c in configs]
    figures.name_panels(axes[0], [title.replace(", w", ",\nw") for title in titles])
    lowest = min(ax.dataLim.x0 for ax in axes[0])
    ax.set_xlim(10 * np.floor(lowest / 10), 100.5)
    chance = names.listed({100 // config["layers"][-1] for config in configs})
    return figures.with_note(
        figure,
        f"{names.means_of(configs)}; dots: seeds; dotted: BPTT. Chance, {chance} %, is far to the left. BPTT: one update per "
        "sequence; all others: updates within it, or one if their window is as long. 8c3: convolution with 8 channels "
        "of 3 x 3; 128r: recurrent layer of 128 units.",
    )


FIGURES = {"deep": figures.Plot(COLUMNS, rows, draw)}
