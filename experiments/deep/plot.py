"""Draw the test accuracy of each rule in deep networks."""

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from experiments.common import rate_curves
from experiments.common.figures import (
    SUMMARY,
    Plot,
    Results,
    by_task_and_rule,
    look_of,
    numbers_of_seeds,
    panels,
    plot_seed_intervals,
    summary,
    write_note,
)
from experiments.common.rate_curves import Curve
from slax_rules import RULES

COLUMNS = ["task", "network", "n_steps", "rule", "quantity", *SUMMARY, "seeds"]
SHARE = (0.0, 1.0)


def prepare(results: list[dict[str, Any]]) -> Results:
    """The results by task and rule."""
    return by_task_and_rule(results)


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


def rows(tasks: Results) -> Iterator[list[Any]]:
    for task, rules in tasks.items():
        for rule, result in rules.items():
            config, seeds = result["config"], result["seeds"]
            quantities = {"accuracy": [seed["accuracy"] for seed in seeds]}
            quantities |= {f"spikes_{layer}": [seed["spikes"][layer] for seed in seeds] for layer in seeds[0]["spikes"]}
            for quantity, numbers in quantities.items():
                cells = summary(numbers, SHARE)
                yield [task, network_of(config), config["n_steps"], rule, quantity, *cells, len(numbers)]


def draw(tasks: Results) -> Figure:
    """Draw a panel for each task, with a row for each rule."""
    most = max(len(rules) for rules in tasks.values())
    figure, axes = panels(1, len(tasks), (2.9, 0.5 * most), (0.6, 1.6))
    for ax, (task, rules) in zip(axes[0], tasks.items(), strict=True):
        names = {name: (name, title_of(name, result)) for name, result in rules.items()}
        numbers = {name: [100 * seed["accuracy"] for seed in rules[name]["seeds"]] for name in rules}
        plot_seed_intervals(ax, names, numbers, (0.0, 100.0))
        config = next(iter(rules.values()))["config"]
        net = f"{network_of(config)}, T = {config['n_steps']}"
        ax.set_title(f"{task.replace('_', ' ').capitalize()}\n{net}", fontsize="small")
        ax.set_xlabel("test accuracy (%)")
    seeds = numbers_of_seeds(result for rules in tasks.values() for result in rules.values())
    write_note(
        figure,
        f"mean of {seeds} seeds, each a dot, with its 95 % interval; BPTT: one update per sequence, all others: updates within "
        "it, or one if their window is as long; the axes differ",
    )
    return figure


def curves_of(tasks: Results) -> list[Curve]:
    """The trials of each task and rule."""
    return [
        Curve(task, "", rule, look_of(rule) | ({"label": "TBPTT"} if rule == "tbptt" else {}), result["trials"])
        for task, rules in tasks.items()
        for rule, result in rules.items()
    ]


FIGURES = {
    "deep": Plot(COLUMNS, rows, draw),
    "deep_rates": rate_curves.plot("deep_rates", ["task", "rule"], curves_of),
}
