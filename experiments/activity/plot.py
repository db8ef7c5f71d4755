"""Draw the activity of the layers over training, the spikes of one sample, and membranes under the first rule."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from experiments.common import figures, tables
from experiments.common.styles import STYLES
from slax_rules import RULES
from slax_viz import plot_firing_rates, plot_membranes, plot_raster

COLUMNS = ["task", "rule", "training_steps", "layer", "quantity", *tables.OF_SEEDS]
RASTER_COLUMNS = ["rule", "when", "layer", "unit", "step"]
MEMBRANE_COLUMNS = ["rule", "when", "layer", "unit", "step", "membrane", "threshold", "spike"]
TITLES = {"rates": "spikes per step and unit", "silent": "share of units that never spike"}
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
            for quantity, layer in [("accuracy", ""), *itertools.product(TITLES, layers_of(result))]:
                numbers = of_seeds(result, stage, quantity, layer)
                yield [task, rule, step, layer, quantity, *tables.of_seeds(numbers, tables.SHARE)]


def samples(rules: Rules) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """The layers of the sample, by rule, before and after training."""
    for rule, result in rules.items():
        for when, layers in result["sample"].items():
            for layer, of in layers.items():
                yield rule, when, layer, of


def raster_rows(rules: Rules) -> Iterator[list[Any]]:
    for rule, when, layer, of in samples(rules):
        for step, unit in of["spikes"]:
            yield [rule, when, layer, unit, step]


def membrane_rows(rules: Rules) -> Iterator[list[Any]]:
    for rule, when, layer, of in samples(rules):
        fired = {tuple(spike) for spike in of["spikes"]}
        for unit, membrane in of.get("membranes", {}).items():
            for step, u in enumerate(membrane):
                spike = int((step, int(unit)) in fired)
                yield [rule, when, layer, unit, step, u, of["threshold"][unit][step], spike]


def draw(rules: Rules) -> Figure:
    """Draw the accuracy, and a row of panels for each quantity of the hidden layers, with a line for each rule."""
    config, hidden = tables.config_of(rules), layers_of(next(iter(rules.values())))[1:]
    steps = config["measure_at"]
    figure, axes = figures.panels(2, len(hidden) + 1, (3.6, 3.1), (0, 0), sharex=True, sharey="row")
    accuracy = figure.add_subplot(axes[0, -1].get_gridspec()[:, -1])
    for ax in axes[:, -1]:
        ax.remove()
    colors = {RULES[rule].title: STYLES[rule].color for rule in rules}
    shown = [(axes[row, i], q, layer) for row, q in enumerate(TITLES) for i, layer in enumerate(hidden)]
    for ax, quantity, layer in [*shown, (accuracy, "accuracy", "")]:
        table = {
            RULES[rule].title: np.transpose([of_seeds(result, stage, quantity, layer) for stage in range(len(steps))])
            for rule, result in rules.items()
        }
        plot_firing_rates(ax, steps, table, ylabel=TITLES.get(quantity, "test accuracy"), colors=colors, legend=False)
        ax.set_xscale("symlog", linthresh=steps[1], linscale=0.4)
        ax.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=steps[1]))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set_xlim(-steps[1] / 10, 1.02 * steps[-1])
        if layer:
            ax.set_title(f"hidden layer {layer}")
            ax.label_outer()
    accuracy.set_ylim(0, 1)
    figures.with_note(figure, f"{tables.randman(config)}; mean of {config['seeds']} seeds, bands: 95 % interval")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside upper center", ncols=len(rules))
    return figure


def draw_rasters(rules: Rules) -> Figure:
    """Draw the spikes of one test sample before training, and after training under each of the first rules."""
    first, n_steps = next(iter(rules.values())), tables.config_of(rules)["n_steps"]
    shown = {"before training": first["sample"]["before"]}
    shown |= {f"after {RULES[rule].title}": rules[rule]["sample"]["after"] for rule in [*rules][:RASTERS]}
    figure, axes = figures.panels(1, len(shown), (3.3, 5.4), (0.8, 0), sharey=True)
    for ax, (title, layers) in zip(axes[0], shown.items(), strict=True):
        plot_raster(ax, {_name(layer): _dense(of, n_steps) for layer, of in layers.items()})
        ax.set_title(title)
    return figure


def draw_membranes(rules: Rules) -> Figure:
    """Draw the membranes of some units of each hidden layer, before and after training under the first rule."""
    rule, result = next(iter(rules.items()))
    sample = result["sample"]
    hidden = [layer for layer in sample["before"] if layer != "0"]
    figure, axes = figures.panels(len(hidden), 2, (5.25, 2.9), (0, 0.5), sharex=True)
    titles = {"before": "before training", "after": f"after {RULES[rule].title}"}
    for ax, (layer, when) in zip(axes.flat, itertools.product(hidden, titles), strict=True):
        of, units = sample[when][layer], [*sample[when][layer]["membranes"]]
        membranes, threshold = (np.transpose([of[name][unit] for unit in units]) for name in ("membranes", "threshold"))
        spikes = _dense(of, len(membranes))[:, [int(unit) for unit in units]]
        plot_membranes(ax, membranes, threshold=threshold, spikes=spikes, units=[f"unit {unit}" for unit in units])
        ax.set(title=f"{_name(layer)}, {titles[when]}", xlabel="step" if layer == hidden[-1] else "")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


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
