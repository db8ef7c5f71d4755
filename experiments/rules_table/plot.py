"""Draw the accuracy of each rule and the agreement of its gradient with BPTT, and its costs in time and memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.common import rate_curves
from experiments.common.figures import (
    MARKS,
    MODE_LABELS,
    NO_RULE,
    SUMMARY,
    TIMES,
    Plot,
    Results,
    by_task_and_rule,
    check_given,
    count,
    interval,
    ratios,
    summary,
    summary_columns,
    write_note,
)
from experiments.common.rate_curves import Curve, look_of
from experiments.common.styles import STYLES
from slax_rules import RULES

BOUNDS = {"accuracy": (0.0, 1.0), "spikes": (0.0, 1.0), "cosine": (-1.0, 1.0), "norm_ratio": (0.0, np.inf)}
COLUMNS = ["task", "rule", "mode", "layer", "quantity", *SUMMARY, "seeds"]
COST_COLUMNS = [
    *("task", "rule", *summary_columns("milliseconds", "times_bptt"), "rounds"),
    *("temporary_bytes", "bytes_times_bptt"),
]
# Marks of tasks, which differ in shape and filling; the color belongs to the rule.
TASK_MARKS: tuple[dict[str, Any], ...] = (
    {"marker": "o"},
    {"marker": "D", "markerfacecolor": "white"},
    {"marker": "s", "fillstyle": "bottom"},
)


class Data(NamedTuple):
    """The results by task and rule, and the costs of the tasks that have some."""

    tasks: Results
    costs: list[dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results without the costs, and the costs."""
    costs = [result for result in results if "rules" in result]
    if len(costs) > len(TASK_MARKS):
        raise SystemExit(f"Got the costs of {len(costs)} tasks, the figure has marks for {len(TASK_MARKS)}.")
    return Data(by_task_and_rule(result for result in results if "rules" not in result), costs)


def stages_of(result: dict[str, Any]) -> list[str]:
    return [mode for mode in ("initial", "offline", "online") if mode in result["seeds"][0]]


def of_seeds(result: dict[str, Any], mode: str, quantity: str, layer: str = "") -> list[float | None]:
    """A quantity for all seeds, None for a seed that lacks it (a gradient that is zero has no cosine)."""
    stages = [seed[mode] for seed in result["seeds"]]
    if quantity == "accuracy":
        return [stage["accuracy"] for stage in stages]
    if quantity == "spikes":
        return [stage["spikes"][layer] for stage in stages]
    return [stage["layers"][layer][quantity] for stage in stages]


def table_rows(data: Data) -> Iterator[list[Any]]:
    for task, rules in data.tasks.items():
        for rule, result in rules.items():
            for mode in stages_of(result):
                stage = result["seeds"][0][mode]
                kinds = [("accuracy", "")] + [("spikes", layer) for layer in stage["spikes"]]
                kinds += [(quantity, layer) for layer in stage["layers"] for quantity in ("cosine", "norm_ratio")]
                for quantity, layer in kinds:
                    numbers = of_seeds(result, mode, quantity, layer)
                    yield [task, rule, mode, layer, quantity, *summary(numbers, BOUNDS[quantity]), count(numbers)]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for cost in data.costs:
        bptt = cost["rules"]["bptt"]
        for rule, numbers in cost["rules"].items():
            times, size = numbers["milliseconds"], numbers["temporary_bytes"]
            cells = [*summary(times, TIMES), *summary(ratios(times, bptt["milliseconds"]), TIMES), len(times)]
            yield [cost["config"]["task"], rule, *cells, size, size / bptt["temporary_bytes"]]


def draw(data: Data) -> Figure:
    """Draw the accuracies above and the cosines below, with a column for each task and a row for each rule."""
    tasks = data.tasks
    names = [name for name in RULES if any(name in rules for rules in tasks.values())]
    height = 0.27 * len(names) + 1.1
    figure, axes = plt.subplots(2, len(tasks), figsize=(4.1 * len(tasks) + 1.2, 2 * height + 0.8), squeeze=False)
    for column, rules in enumerate(tasks.values()):
        upper, lower = axes[:, column]
        draw_accuracy(upper, names, rules)
        draw_cosine(lower, names, rules)
        upper.set_title(_name(next(iter(rules.values()))["config"]))
        for ax in (upper, lower):
            ax.set_yticks(range(len(names)), [RULES[name].title for name in names] if column == 0 else [])
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
    seeds = {len(result["seeds"]) for rules in tasks.values() for result in rules.values()}
    handles = [
        plt.Line2D([], [], linestyle="", color=NO_RULE, label=MODE_LABELS[mode], **mark) for mode, mark in MARKS.items()
    ]
    handles += [plt.Line2D([], [], color="0.4", linestyle="--", label="chance")]
    handles += [plt.Line2D([], [], color="0.4", linestyle=":", label="BPTT")]
    figure.legend(handles=handles, loc="outside upper center", ncols=4 if len(tasks) > 1 else 2)
    write_note(
        figure,
        f"above: mean of {', '.join(map(str, sorted(seeds)))} seeds, bars: 95 % interval of the mean; "
        "below: mean cosine, per layer from input (1) to read-out (out)",
    )
    return figure


def draw_accuracy(ax: Axes, names: list[str], rules: dict[str, Any]) -> None:
    layers = next(iter(rules.values()))["config"]["layers"]
    ax.axvline(100 / layers[-1], color="0.4", linestyle="--", linewidth=1)
    if "bptt" in rules:
        ax.axvline(100 * np.mean(of_seeds(rules["bptt"], "offline", "accuracy")), color="0.4", linestyle=":")
    for row, name in enumerate(names):
        if name not in rules:
            ax.text(50, row, "not run here", ha="center", va="center", color="0.4", fontsize="small")
            continue
        for mode, offset in (("offline", -0.17), ("online", 0.17)):
            if mode not in stages_of(rules[name]):
                continue
            mean, low, high = interval(of_seeds(rules[name], mode, "accuracy"), BOUNDS["accuracy"])
            ends = [[100 * (mean - low)], [100 * (high - mean)]] if low is not None else None
            mark = {"markersize": 5.5, "color": STYLES[name].color, **MARKS[mode]}
            ax.errorbar(100 * mean, row + offset, xerr=ends, elinewidth=1.3, capsize=2, **mark)
            if _is_silent(rules[name], mode):
                ax.text(100 * mean + 3, row + offset, "silent", va="center", fontsize="x-small")
    ax.set_xlim(0, 101)
    ax.set_xlabel("test accuracy (%)")
    ax.grid(axis="x", color="0.9", zorder=0)
    ax.set_axisbelow(True)


def draw_cosine(ax: Axes, names: list[str], rules: dict[str, Any]) -> None:
    layers = list(next(iter(rules.values()))["seeds"][0]["initial"]["layers"])
    cells = np.full((len(names), 2 * len(layers)), np.nan)
    for row, name in enumerate(names):
        if name not in rules:
            continue
        after = stages_of(rules[name])[1]
        for column, (mode, layer) in enumerate((mode, layer) for mode in ("initial", after) for layer in layers):
            cosine, _, _ = interval(of_seeds(rules[name], mode, "cosine", layer), BOUNDS["cosine"])
            cells[row, column] = np.nan if cosine is None else cosine
    ax.imshow(np.clip(cells, 0, 1), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), cosine in np.ndenumerate(cells):
        text = "" if np.isnan(cosine) else f"{cosine:.2f}"
        ax.text(
            column, row, text, ha="center", va="center", fontsize="x-small", color="white" if cosine < 0.5 else "black"
        )
    ax.axvline(len(layers) - 0.5, color="white", linewidth=5)
    labels = [*layers[:-1], "out"]
    ax.set_xticks(range(2 * len(layers)), labels + labels)
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("layer")
    for start, label in ((0, "at initialization"), (len(layers), "after training")):
        middle = start + (len(layers) - 1) / 2
        ax.text(middle, -0.7, label, ha="center", va="bottom", fontsize="small")
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel("cosine to BPTT")


def draw_cost(data: Data) -> Figure:
    """Draw the time and memory of each rule, both on a logarithmic axis."""
    check_given("rules_table_cost", "costs", data.costs)
    costs = data.costs
    names = [name for name in RULES if any(name in cost["rules"] for cost in costs)]
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 0.3 * len(names) + 1.9), sharey=True)
    handles = []
    for number, cost in enumerate(costs):
        rows = [row for row, name in enumerate(names) if name in cost["rules"]]
        numbers = [cost["rules"][names[row]] for row in rows]
        bptt = cost["rules"]["bptt"]["milliseconds"]
        heights = np.array(rows) + 0.3 * (number / max(1, len(costs) - 1) - 0.5) * (len(costs) > 1)
        mark = {"linestyle": "", "markersize": 6, **TASK_MARKS[number]}
        for row, height, entry in zip(rows, heights, numbers, strict=True):
            color = STYLES[names[row]].color
            mean, low, high = interval(ratios(entry["milliseconds"], bptt), TIMES)
            assert mean is not None
            ends = [[mean - low], [high - mean]] if low is not None and high is not None else None
            axes[0].errorbar(mean, height, xerr=ends, elinewidth=1, color=color, **mark)
            axes[1].plot(entry["temporary_bytes"] / 1024, height, color=color, **mark)
        label = f"{_name(cost['config']).replace(chr(10), ', ')}: BPTT takes {np.median(bptt):.2g} ms"
        handles.append(plt.Line2D([], [], color=NO_RULE, label=label, **mark))
    axes[0].axvline(1, color="0.4", linestyle=":")
    axes[0].set_xlabel("time of a gradient / that of BPTT")
    axes[1].set_xlabel("temporaries (KiB)")
    for ax in axes:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        for row in range(0, len(names), 2):
            ax.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)
    axes[0].set_yticks(range(len(names)), [RULES[name].title for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.legend(handles=handles, loc="outside upper center", ncols=1)
    return figure


def _is_silent(result: dict[str, Any], mode: str) -> bool:
    """True if a hidden layer of some seed never fires on the entire test set."""
    return any(spikes == 0 for seed in result["seeds"] for spikes in seed[mode]["spikes"].values())


def _name(config: dict[str, Any]) -> str:
    net = "-".join(map(str, config["layers"]))
    return f"{config['dataset'].capitalize()}, {config['code']} code\n{net}, T = {config['n_steps']}"


def curves_of(data: Data) -> list[Curve]:
    """The trials of each task, way of updating and rule."""
    return [
        Curve(task, mode, rule, look_of(rule), trials)
        for task, rules in data.tasks.items()
        for rule, result in rules.items()
        for mode, trials in result["trials"].items()
    ]


def rate_rows(data: Data) -> Iterator[list[Any]]:
    return rate_curves.rows(curves_of(data))


def draw_rates(data: Data) -> Figure:
    """Draw the validation accuracy against the learning rate."""
    return rate_curves.draw("rules_table_rates", curves_of(data))


FIGURES = {
    "rules_table": Plot(COLUMNS, table_rows, draw),
    "rules_table_cost": Plot(COST_COLUMNS, cost_rows, draw_cost),
    "rules_table_rates": Plot(["task", "mode", "rule", *rate_curves.COLUMNS], rate_rows, draw_rates),
}
