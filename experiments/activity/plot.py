"""Draw the activity of the layers over training."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables

COLUMNS = ["task", "rule", "training_steps", "layer", "quantity", *tables.OF_SEEDS]
QUANTITIES = ("rates", "silent")  # of layers

Rules = dict[str, dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Rules:
    """The results of the only task by rule."""
    (rules,) = tables.by_task_and_rule(results).values()
    return rules


def of_seeds(result: dict[str, Any], stage: int, quantity: str, layer: str = "") -> list[float]:
    found = [seed["stages"][stage][quantity] for seed in result["seeds"]]
    return [numbers[layer] for numbers in found] if layer else found


def layers_of(result: dict[str, Any]) -> list[str]:
    """The input as "0", and the hidden layers."""
    return list(result["seeds"][0]["stages"][0]["rates"])


def rows(rules: Rules) -> Iterator[list[Any]]:
    for rule, result in rules.items():
        task = result["config"]["task"]
        for stage, step in enumerate(result["config"]["measure_at"]):
            for quantity, layer in [("accuracy", ""), *itertools.product(QUANTITIES, layers_of(result))]:
                numbers = of_seeds(result, stage, quantity, layer)
                yield [task, rule, step, layer, quantity, *tables.of_seeds(numbers, statistics.SHARE)]


def draw(rules: Rules) -> Figure:
    """Draw the spikes of each hidden layer, and the accuracy, over training."""
    config, hidden = tables.config_of(rules), layers_of(next(iter(rules.values())))[1:]
    shown = [*(("rates", layer) for layer in hidden), ("accuracy", "")]
    figure, axes = figures.panels(1, len(shown), 2.0, 0.3)
    for ax, (quantity, layer) in zip(axes[0], shown, strict=True):
        numbers = {
            rule: {step: of_seeds(result, i, quantity, layer) for i, step in enumerate(config["measure_at"])}
            for rule, result in rules.items()
        }
        figures.draw_lines(ax, numbers, statistics.SHARE, scale=100)
        ax.set(xlim=(0, config["measure_at"][-1]), xlabel="updates", ylim=(0, None if layer else 100))
        ax.set_ylabel("spikes per 100 steps and unit" if layer else names.TEST_ACCURACY)
    figures.draw_levels(ax, chance=100 / config["layers"][-1])
    figures.name_panels(axes[0], [f"hidden layer {layer}" if layer else "accuracy" for _, layer in shown])
    figures.label_lines(axes[0])
    places = itertools.product(rules.values(), range(len(config["measure_at"])), ["silent"], hidden)
    silent = max(np.mean(of_seeds(*place)) for place in places)
    return figures.with_note(
        figure,
        f"{names.randman(config)}; updates with batches of {config['batch_size']}. Mean of {config['seeds']} seeds, with "
        f"95 % intervals; dashed: chance. At most {100 * silent:.1f} % of the units of a layer never "
        f"spike.{figures.others_of(rules)}",
    )


FIGURES = {"activity": figures.Plot(COLUMNS, rows, draw)}
