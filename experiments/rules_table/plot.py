"""Draw the accuracy of each rule and the agreement of its gradient with BPTT, and its costs in time and memory."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, length_curves, names, statistics, tables
from experiments.drawing.styles import STYLES
from slax_rules import RULES

BOUNDS = {
    "accuracy": statistics.SHARE,
    "spikes": statistics.SHARE,
    "cosine": statistics.COSINE,
    "norm_ratio": statistics.POSITIVE,
}
COLUMNS = ["task", "rule", "mode", "layer", "quantity", *tables.OF_TESTS]
# Marks of tasks, which differ in shape and filling; the color belongs to the rule.
TASK_MARKS: tuple[dict[str, Any], ...] = (*figures.MARKS.values(), {"marker": "s", "fillstyle": "bottom"})


class Data(NamedTuple):
    """The results by task and rule, and the costs of the tasks that have some."""

    tasks: tables.Results
    costs: list[dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results without the costs, and the costs."""
    costs = [result for result in results if "rules" in result]
    if len(costs) > len(TASK_MARKS):
        raise SystemExit(f"Got the costs of {len(costs)} tasks, the figure has marks for {len(TASK_MARKS)}.")
    return Data(tables.by_task_and_rule(result for result in results if "rules" not in result), costs)


def stages_of(result: dict[str, Any]) -> list[str]:
    return [mode for mode in ("initial", "offline", "online") if mode in result["seeds"][0]]


def seeds_of(result: dict[str, Any], mode: str) -> list[dict[str, Any]]:
    return [seed[mode] for seed in result["seeds"]]


def tested(result: dict[str, Any], mode: str) -> np.ndarray:
    """The test accuracy by seed and test sample, see `tables.tested`."""
    return tables.tested(result["config"]["task"], seeds_of(result, mode))


def quantities(result: dict[str, Any], mode: str) -> dict[tuple[str, str], Any]:
    """The numbers of all seeds by layer and quantity, None for a seed that lacks it (a gradient that is zero has no cosine)."""
    stages = seeds_of(result, mode)
    found: dict[tuple[str, str], Any] = {("", "accuracy"): tested(result, mode)}
    found |= {(layer, "spikes"): [stage["spikes"][layer] for stage in stages] for layer in stages[0]["spikes"]}
    for layer, quantity in itertools.product(stages[0]["layers"], ("cosine", "norm_ratio")):
        found[layer, quantity] = [stage["layers"][layer][quantity] for stage in stages]
    return found


def table_rows(data: Data) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(data.tasks):
        for mode in stages_of(result):
            for (layer, quantity), numbers in quantities(result, mode).items():
                yield [task, rule, mode, layer, quantity, *tables.of_tests(numbers, BOUNDS[quantity])]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for cost in data.costs:
        for rule, numbers in cost["rules"].items():
            yield [cost["config"]["task"], rule, *tables.of_cost(numbers, cost["rules"]["bptt"])]


def draw(data: Data) -> Figure:
    """Draw the accuracies above and the cosines below, with a column for each task and a row for each rule."""
    rules = tables.in_order(*data.tasks.values())
    figure, axes = figures.panels(2, len(data.tasks), 0.17 * len(rules) + 0.6, 0.6, sharey="row")
    for (above, below), results in zip(axes.T, data.tasks.values(), strict=True):
        draw_accuracy(above, rules, results)
        draw_cosine(below, rules, results)
    titles = [names.title_of(tables.config_of(results)) for results in data.tasks.values()]
    figures.name_panels(axes.flat, 2 * titles)
    figures.legend_of_modes(figure, 4 if len(data.tasks) > 1 else 2, *figures.LEVELS)
    trained = names.means_of(result["config"] for _, _, result in tables.each(data.tasks))
    return figures.with_note(
        figure,
        f"{trained}. Top: small dots are seeds. Bottom: in the first layer, filled: after training, open: at initialization; "
        "the other layers are in the table.",
    )


def draw_accuracy(ax: Axes, rules: list[str], results: dict[str, Any]) -> None:
    reached = {rule: {mode: tested(of, mode) for mode in stages_of(of)[1:]} for rule, of in results.items()}
    figures.plot_modes(ax, rules, reached, 1 / tables.config_of(results)["layers"][-1])
    for rule, modes in reached.items():
        if silent := [mode for mode in modes if is_silent(results[rule], mode)]:
            figures.write_in_row(ax, rules.index(rule), f"silent {' and '.join(silent)}", 0.02, fontsize="small")


def is_silent(result: dict[str, Any], mode: str) -> bool:
    """True if a hidden layer of some seed never fires on the entire test set."""
    return any(spikes == 0 for seed in seeds_of(result, mode) for spikes in seed["spikes"].values())


def draw_cosine(ax: Axes, rules: list[str], results: dict[str, Any]) -> None:
    figures.name_rows(ax, [RULES[rule].title for rule in rules], striped=True)
    for row, rule in ((row, rule) for row, rule in enumerate(rules) if rule in results):
        stages = ("initial", stages_of(results[rule])[1])
        marks = {"marker": "s", "markerfacecolor": "white"}, {"marker": "o"}
        for stage, height, mark in zip(stages, (-0.16, 0.16), marks, strict=True):
            cosines = quantities(results[rule], stage)["1", "cosine"]
            look = {"color": STYLES[rule].color, "markersize": 3.3, "markeredgewidth": 0.8, "elinewidth": 1, **mark}
            figures.draw_interval(ax, row + height, cosines, statistics.COSINE, **look)
    ax.axvline(0, color="0.45", linewidth=0.6, zorder=0)
    figures.draw_levels(ax, ceiling=1, upright=True)
    ax.set(xlim=(-0.2, 1.03), xlabel=names.COSINE)


def draw_cost(data: Data) -> Figure:
    """Draw the time and memory of each rule, both on a logarithmic axis."""
    rules = tables.in_order(*(cost["rules"] for cost in data.costs))
    figure, axes = figures.panels(1, 2, 0.19 * len(rules) + 0.3, 0.8, sharey=True)
    (times, memory), looks = axes[0], []
    for number, cost in enumerate(data.costs):
        bptt = cost["rules"]["bptt"]["milliseconds"]
        shift = 0.3 * (number / max(1, len(data.costs) - 1) - 0.5) * (len(data.costs) > 1)
        mark = {"linestyle": "", "markersize": 4, **TASK_MARKS[number]}
        for name, entry in ((name, cost["rules"][name]) for name in rules if name in cost["rules"]):
            place, height = {"color": STYLES[name].color, **mark}, rules.index(name) + shift
            ratios = statistics.ratios(entry["milliseconds"], bptt)
            figures.draw_interval(times, height, ratios, statistics.POSITIVE, elinewidth=1, **place)
            memory.plot(entry["temporary_bytes"] / 1000, height, **place)
        label = f"{names.title_of(cost['config']).replace(chr(10), ', ')}: BPTT takes {np.median(bptt):.2g} ms"
        looks.append({"color": figures.NO_RULE, "label": label, **mark})
    figures.draw_levels(times, ceiling=1, upright=True)
    times.set_xlabel("time of a gradient / that of BPTT")
    memory.set_xlabel("temporaries (kB)")
    for ax in axes[0]:
        figures.log_axis(ax)
        figures.name_rows(ax, [RULES[name].title for name in rules], striped=True)
    figures.name_panels(axes[0], ("time", "memory"))
    figures.legend_of(figure, looks, 1)
    config = data.costs[0]["config"]
    return figures.with_note(
        figure,
        f"A gradient of a batch of {config['batch_size']} in one window of all steps, in which no rule carries its traces on. "
        f"Mean of the ratios of {config['repeats']} rounds with its 95 % interval; dotted: BPTT.",
    )


def lengths_of(data: Data) -> Iterator[length_curves.Curve]:
    """The curve of each task, way of updating and rule."""
    return length_curves.of_modes(data.tasks, lambda of: {mode: seeds_of(of, mode) for mode in stages_of(of)[1:]})


FIGURES = {
    "rules_table": figures.Plot(COLUMNS, table_rows, draw),
    "rules_table_cost": figures.Plot(["task", "rule", *tables.OF_COST], cost_rows, draw_cost),
    "rules_table_lengths": length_curves.plot(["task", "mode", "rule"], lengths_of),
}
