"""Draw the accuracy of each rule against the time of its training, with its memory beside its name."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.common.costs import RECOMPUTED
from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES
from slax_rules import RULES

COLUMNS = ["task", "network", "n_steps", "rule", "mode", "quantity", *tables.OF_TESTS]
CURVES = ["task", "rule", "mode", "batches", "seconds", *tables.OF_SEEDS]
COSTS = ["task", "rule", *tables.OF_COST, "bytes_per_sample"]
ORDERS = {True: "pixels permuted", False: "pixels row by row"}


class Data(NamedTuple):
    """The results of training by task and rule, and the costs of a batch by task and rule."""

    tasks: tables.Results
    costs: dict[str, dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Data:
    trained = tables.by_task_and_rule(result for result in results if "updates" in result)
    return Data(trained, {result["config"]["task"]: result for result in results if "costs" in result})


def each_way(data: Data) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Each task, rule and way of updating with its configuration, trials and seeds."""
    for task, rule, result in tables.each(data.tasks):
        for mode, of in result["updates"].items():
            yield task, rule, mode, {"config": result["config"], **of}


def rows(data: Data) -> Iterator[list[Any]]:
    for task, rule, mode, of in each_way(data):
        start = [task, of["config"]["network"], of["config"]["n_steps"], rule, mode]
        yield [*start, "accuracy", *tables.of_tests(tables.tested(task, of["seeds"]), statistics.SHARE)]
        yield [*start, "learning_rate", of["trials"]["chosen"]["learning_rate"], *[None] * (len(tables.OF_TESTS) - 1)]


def curve(of: dict[str, Any]) -> dict[int, list[float]]:
    """The validation accuracies of all seeds by the number of batches."""
    return {
        points[0]["batches"]: [point["validation_accuracy"] for point in points]
        for points in zip(*(seed["curve"] for seed in of["seeds"]), strict=True)
    }


def seconds(data: Data, task: str, rule: str) -> float:
    """The median time of a gradient of a batch, on one machine, without the step of the optimizer."""
    return float(np.median(data.costs[task]["costs"][rule]["milliseconds"])) / 1e3


def curve_rows(data: Data) -> Iterator[list[Any]]:
    for task, rule, mode, of in each_way(data):
        for batches, numbers in curve(of).items():
            took = batches * seconds(data, task, rule) if task in data.costs else None
            yield [task, rule, mode, batches, took, *tables.of_seeds(numbers, statistics.SHARE)]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for task, result in data.costs.items():
        for rule, of in result["costs"].items():
            size = of["temporary_bytes"] / result["config"]["batch_size"]
            yield [task, rule, *tables.of_cost(of, result["costs"]["bptt"]), size]


def title_of(data: Data, task: str, rule: str) -> str:
    """The name of a rule with the memory of a sample: "e-prop, 550 kB"."""
    config = data.costs[task]["config"]
    name = f"TBPTT({config['piece']})" if rule == "tbptt" else RULES[rule].title
    return f"{name}, {kilobytes(data, task, rule)} kB"


def kilobytes(data: Data, task: str, rule: str) -> str:
    size = data.costs[task]["costs"][rule]["temporary_bytes"] / data.costs[task]["config"]["batch_size"]
    return f"{size / 1e3:,.0f}"


def draw(data: Data) -> Figure:
    """Draw a panel for each task: accuracy on validation images against time, BPTT offline and all other rules online."""
    shown = [task for task in data.tasks if task in data.costs]
    figure, axes = figures.grid(len(shown), 2, 2.2, 0.6)
    titles, configs = [], []
    for ax, task in zip(axes, shown, strict=True):
        config = tables.config_of(data.tasks[task])
        for rule, result in data.tasks[task].items():
            of = result["updates"].get("online") or result["updates"]["offline"]
            points = {batches * seconds(data, task, rule): numbers for batches, numbers in curve(of).items()}
            figures.draw_lines(
                ax, {rule: points}, statistics.SHARE, 100, {rule: title_of(data, task, rule)}, rules=[rule]
            )
        remade = data.costs[task]["costs"][RECOMPUTED]
        slower = np.median(remade["milliseconds"]) / np.median(data.costs[task]["costs"]["bptt"]["milliseconds"])
        figures.write_beside(
            ax, f"BPTT that recomputes: {kilobytes(data, task, RECOMPUTED)} kB in {slower:.1f} times BPTT's time",
            (0, 92), (3, 0), color=STYLES["bptt"].color,
        )  # fmt: skip
        figures.draw_levels(ax, chance=10)
        ax.set(xlim=(0, None), ylim=(0, 100), xlabel="seconds of computing gradients", ylabel="accuracy (%)")
        titles.append(f"{names.OF_PIXELS[config['network']]} ({config['units']}), {ORDERS[config['permuted']]}")
        configs.append(config)
    figures.name_panels(axes, titles)
    figures.label_lines(axes)
    steps, windows = (names.listed(config[name] for config in configs) for name in ("n_steps", "online_window"))
    return figures.with_note(
        figure,
        f"{names.means_of(configs)}; {steps} steps of a pixel. BPTT: one update per sequence; all others: one per window of "
        f"{windows} steps, or per piece. kB: memory of a sample. Validation images; the table has the "
        "test. Dashed: chance.",
    )


FIGURES = {"sequential": figures.Plot(COLUMNS, rows, draw)}
TABLES = {
    "sequential_curves": figures.Plot(CURVES, curve_rows),
    "sequential_costs": figures.Plot(COSTS, cost_rows),
}
