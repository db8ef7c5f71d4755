"""Draw the accuracy of each rule and the agreement of its gradient with BPTT, and its costs in time and memory."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import figures, rate_curves, tables
from experiments.common.styles import STYLES
from slax_rules import RULES

BOUNDS = {"accuracy": tables.SHARE, "spikes": tables.SHARE, "cosine": tables.COSINE, "norm_ratio": tables.POSITIVE}
COLUMNS = ["task", "rule", "mode", "layer", "quantity", *tables.OF_SEEDS]
# Marks of tasks, which differ in shape and filling; the color belongs to the rule.
TASK_MARKS: tuple[dict[str, Any], ...] = (
    {"marker": "o"},
    {"marker": "D", "markerfacecolor": "white"},
    {"marker": "s", "fillstyle": "bottom"},
)


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


def quantities(result: dict[str, Any], mode: str) -> dict[tuple[str, str], list[float | None]]:
    """The numbers of all seeds by layer and quantity, None for a seed that lacks it (a gradient that is zero has no cosine)."""
    stages = [seed[mode] for seed in result["seeds"]]
    found = {("", "accuracy"): [stage["accuracy"] for stage in stages]}
    found |= {(layer, "spikes"): [stage["spikes"][layer] for stage in stages] for layer in stages[0]["spikes"]}
    for layer, quantity in itertools.product(stages[0]["layers"], ("cosine", "norm_ratio")):
        found[layer, quantity] = [stage["layers"][layer][quantity] for stage in stages]
    return found


def table_rows(data: Data) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(data.tasks):
        for mode in stages_of(result):
            for (layer, quantity), numbers in quantities(result, mode).items():
                yield [task, rule, mode, layer, quantity, *tables.of_seeds(numbers, BOUNDS[quantity])]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for cost in data.costs:
        for rule, numbers in cost["rules"].items():
            yield [cost["config"]["task"], rule, *tables.of_cost(numbers, cost["rules"]["bptt"])]


def draw(data: Data) -> Figure:
    """Draw the accuracies above and the cosines below, with a column for each task and a row for each rule."""
    names = tables.rules_of(data.tasks)
    figure, axes = figures.panels(2, len(data.tasks), (4.1, 0.27 * len(names) + 1.1), (1.2, 0.8))
    for column, rules in enumerate(data.tasks.values()):
        for ax, draw_one in zip(axes[:, column], (draw_accuracy, draw_cosine), strict=True):
            draw_one(ax, names, rules)
            ax.tick_params(labelleft=column == 0)
        axes[0, column].set_title(_name(tables.config_of(rules)))
    lines = [{"color": "0.4", "linestyle": line, "label": label} for line, label in (("--", "chance"), (":", "BPTT"))]
    figures.legend_of_modes(figure, 4 if len(data.tasks) > 1 else 2, *lines)
    seeds = tables.numbers_of_seeds(result["seeds"] for _, _, result in tables.each(data.tasks))
    text = "below: mean cosine, per layer from input (1) to read-out (out)"
    return figures.with_note(
        figure, f"above: mean of {seeds} seeds, each a small dot; bars: 95 % interval of the mean; {text}"
    )


def draw_accuracy(ax: Axes, names: list[str], rules: dict[str, Any]) -> None:
    ax.axvline(100 / tables.config_of(rules)["layers"][-1], color="0.4", linestyle="--", linewidth=1)
    if "bptt" in rules:
        ax.axvline(100 * np.mean(quantities(rules["bptt"], "offline")["", "accuracy"]), color="0.4", linestyle=":")
    modes = {rule: stages_of(result)[1:] for rule, result in rules.items()}
    reached = {rule: {mode: quantities(rules[rule], mode)["", "accuracy"] for mode in modes[rule]} for rule in rules}
    figures.plot_modes(ax, names, reached)
    for rule, of_rule in modes.items():
        if silent := [mode for mode in of_rule if _is_silent(rules[rule], mode)]:
            figures.write_in_row(ax, names.index(rule), f"silent {' and '.join(silent)}", 0.02, fontsize="x-small")
    ax.set(xlim=(0, 101), xlabel="test accuracy (%)")


def draw_cosine(ax: Axes, names: list[str], rules: dict[str, Any]) -> None:
    layers = list(next(iter(rules.values()))["seeds"][0]["initial"]["layers"])
    cells = np.full((len(names), 2 * len(layers)), np.nan)
    for row, name in enumerate(names):
        stages = ("initial", stages_of(rules[name])[1]) if name in rules else ()
        for column, (mode, layer) in enumerate(itertools.product(stages, layers)):
            cells[row, column] = tables.mean_or_nan(quantities(rules[name], mode)[layer, "cosine"])
    figures.draw_colors(ax, cells, (0, 1))
    figures.name_rows(ax, [RULES[name].title for name in names])
    ax.grid(visible=False)
    for (row, column), cosine in np.ndenumerate(cells):
        text = "" if np.isnan(cosine) else f"{cosine:.2f}"
        ax.text(column, row, text, va="center", fontsize="x-small", **figures.on_color(cosine, (0, 1)))
    ax.axvline(len(layers) - 0.5, color="white", linewidth=5)
    ax.set_xticks(range(2 * len(layers)), 2 * [*layers[:-1], "out"])
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("layer")
    for start, label in ((0, "at initialization"), (len(layers), "after training")):
        ax.text(start + (len(layers) - 1) / 2, -0.7, label, ha="center", va="bottom", fontsize="small")
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel("cosine to BPTT")


def draw_cost(data: Data) -> Figure:
    """Draw the time and memory of each rule, both on a logarithmic axis."""
    figures.check_given("rules_table_cost", "costs", data.costs)
    names = [name for name in RULES if any(name in cost["rules"] for cost in data.costs)]
    figure, axes = figures.panels(1, 2, (4.5, 0.3 * len(names)), (0, 1.9), sharey=True)
    (times, memory), looks = axes[0], []
    for number, cost in enumerate(data.costs):
        bptt = cost["rules"]["bptt"]["milliseconds"]
        shift = 0.3 * (number / max(1, len(data.costs) - 1) - 0.5) * (len(data.costs) > 1)
        mark = {"linestyle": "", "markersize": 6, **TASK_MARKS[number]}
        for name, entry in cost["rules"].items():
            place, height = {"color": STYLES[name].color, **mark}, names.index(name) + shift
            ratios = tables.ratios(entry["milliseconds"], bptt)
            figures.draw_interval(times, height, ratios, tables.POSITIVE, elinewidth=1, **place)
            memory.plot(entry["temporary_bytes"] / 1024, height, **place)
        label = f"{_name(cost['config']).replace(chr(10), ', ')}: BPTT takes {np.median(bptt):.2g} ms"
        looks.append({"color": figures.NO_RULE, "label": label, **mark})
    times.axvline(1, color="0.4", linestyle=":")
    times.set_xlabel("time of a gradient / that of BPTT")
    memory.set_xlabel("temporaries (KiB)")
    for ax in axes[0]:
        figures.log_axis(ax)
        figures.name_rows(ax, [RULES[name].title for name in names], striped=True)
    figures.legend_of(figure, looks, 1)
    return figure


def _is_silent(result: dict[str, Any], mode: str) -> bool:
    """True if a hidden layer of some seed never fires on the entire test set."""
    return any(spikes == 0 for seed in result["seeds"] for spikes in seed[mode]["spikes"].values())


def _name(config: dict[str, Any]) -> str:
    what = f"{config['dataset'].capitalize()}, {config['code']} code"
    return f"{what}\n{tables.network(config)}, T = {config['n_steps']}"


def curves_of(data: Data) -> Iterator[rate_curves.Curve]:
    return rate_curves.of_rules(data.tasks, lambda result: result["trials"])


FIGURES = {
    "rules_table": figures.Plot(COLUMNS, table_rows, draw),
    "rules_table_cost": figures.Plot(["task", "rule", *tables.OF_COST], cost_rows, draw_cost),
    "rules_table_rates": rate_curves.plot("rules_table_rates", ["task", "mode", "rule"], curves_of),
}
