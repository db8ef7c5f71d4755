"""Draw the activity of the layers over training, the spikes of one sample, and membranes under the first rule."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from slax_rules import RULES
from slax_viz import plot_membranes, plot_raster

COLUMNS = ["task", "rule", "training_steps", "layer", "quantity", *tables.OF_SEEDS]
RASTER_COLUMNS = ["rule", "when", "layer", "unit", "step"]
MEMBRANE_COLUMNS = ["rule", "when", "layer", "unit", "step", "membrane", "threshold", "spike"]
QUANTITIES = ("rates", "silent")  # of layers
RASTERS = 3  # number of rules whose sample is drawn

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


def samples(rules: Rules) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """The layers of the sample, by rule, before and after training."""
    for rule, result in rules.items():
        for when, layers in result["sample"].items():
            for layer, of in layers.items():
                yield rule, when, layer, of


def raster_rows(rules: Rules) -> Iterator[list[Any]]:
    for *start, of in samples(rules):
        yield from ([*start, unit, step] for step, unit in of["spikes"])


def membrane_rows(rules: Rules) -> Iterator[list[Any]]:
    for *start, of in samples(rules):
        fired = {*map(tuple, of["spikes"])}
        for unit, membrane in of.get("membranes", {}).items():
            for step, (u, threshold) in enumerate(zip(membrane, of["threshold"][unit], strict=True)):
                yield [*start, unit, step, u, threshold, int((step, int(unit)) in fired)]


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


def draw_rasters(rules: Rules) -> Figure:
    """Draw the spikes of one test sample before training, and after training under each of the first rules."""
    first, n_steps = next(iter(rules.values())), tables.config_of(rules)["n_steps"]
    shown = {"before training": first["sample"]["before"]}
    shown |= {f"after {RULES[rule].title}": rules[rule]["sample"]["after"] for rule in [*rules][:RASTERS]}
    figure, axes = figures.panels(1, len(shown), 3.6, 0.3, sharey=True)
    for ax, layers in zip(axes[0], shown.values(), strict=True):
        plot_raster(ax, {_name(layer): _dense(of, n_steps) for layer, of in layers.items()})
    figures.name_panels(axes[0], shown)
    return figures.with_note(figure, "A mark for each spike in one test sample of the first seed.")


def draw_membranes(rules: Rules) -> Figure:
    """Draw the membranes of some units of each hidden layer, before and after training under the first rule."""
    rule, result = next(iter(rules.items()))
    sample = result["sample"]
    hidden = [layer for layer in sample["before"] if layer != "0"]
    figure, axes = figures.panels(len(hidden), 2, 1.9, 0.5, sharex=True)
    titles = {"before": "before training", "after": f"after {RULES[rule].title}"}
    for ax, (layer, when) in zip(axes.flat, itertools.product(hidden, titles), strict=True):
        of, units = sample[when][layer], [*sample[when][layer]["membranes"]]
        membranes, threshold = (np.transpose([of[name][unit] for unit in units]) for name in ("membranes", "threshold"))
        spikes = _dense(of, len(membranes))[:, [int(unit) for unit in units]]
        plot_membranes(ax, membranes, threshold=threshold, spikes=spikes, units=[f"unit {unit}" for unit in units])
        ax.set_xlabel("step" if layer == hidden[-1] else "")
    figures.name_panels(axes.flat, [f"{_name(layer)}, {title}" for layer in hidden for title in titles.values()])
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figures.with_note(
        figure, "The units of each layer that spike most after training; bar: scale of the membrane, in its own unit."
    )


def _dense(of: dict[str, Any], n_steps: int) -> np.ndarray:
    """The spikes of a layer, [T, N]."""
    spikes = np.zeros((n_steps, of["units"]))
    for step, unit in of["spikes"]:
        spikes[step, unit] = 1
    return spikes


def _name(layer: str) -> str:
    return "input" if layer == "0" else f"hidden {layer}"


FIGURES = {
    "activity": figures.Plot(COLUMNS, rows, draw),
    "activity_raster": figures.Plot(RASTER_COLUMNS, raster_rows, draw_rasters),
    "activity_membranes": figures.Plot(MEMBRANE_COLUMNS, membrane_rows, draw_membranes),
}
