"""Draw the agreement with BPTT of each rule by layer, and the test accuracy by the number of hidden layers."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.depth import plot_cause
from experiments.depth.plot_cause import Data, Tasks
from experiments.drawing import figures, length_curves, names, statistics, tables

COLUMNS = ["task", "depth", "rule", "quantity", "layer", *tables.OF_SEEDS]
STAGES = ("initial", "trained")  # before training, and where BPTT ends
BOUNDS = {"accuracy": statistics.SHARE, "initial": statistics.COSINE, "trained": statistics.COSINE}

Key = tuple[str, str]  # a quantity, and a layer or ""


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by task and number of hidden layers, and those of the trainings that ask for the cause."""
    tasks: Tasks = {}
    for result in sorted(results, key=lambda result: result["config"]["depth"]):
        if "rules" in result:
            tasks.setdefault(result["config"]["task"], {})[result["config"]["depth"]] = result
    return Data(dict(sorted(tasks.items(), reverse=True)), plot_cause.trainings_of(results))


def of_seeds(result: dict[str, Any], rule: str) -> dict[Key, list[float | None]]:
    """The numbers of the seeds by quantity and layer; None where a gradient is zero, which has no cosine."""
    seeds = result["rules"][rule]["seeds"]
    numbers = {("accuracy", ""): [seed["accuracy"] for seed in seeds]}
    for stage in STAGES:
        for layer in seeds[0].get(stage, {}):
            numbers[stage, layer] = [seed[stage][layer]["cosine"] for seed in seeds]
    return numbers


def rows(data: Data) -> Iterator[list[Any]]:
    for task, by_depth in data.tasks.items():
        for depth, result in by_depth.items():
            for rule in tables.in_order(result["rules"]):
                for key, numbers in of_seeds(result, rule).items():
                    yield [task, depth, rule, *key, *tables.of_seeds(numbers, BOUNDS[key[0]])]


def draw(data: Data) -> Figure:
    """Draw a row for each code: the cosines after training in the deepest network by layer, those of its first layer by the
    number of hidden layers, and the accuracy."""
    figure, axes = figures.panels(len(data.tasks), 3, 1.85, 0.4)
    titles: list[str] = []
    for by_depth, (layers, first, accuracy) in zip(data.tasks.values(), axes, strict=True):
        deepest, config = max(by_depth), tables.config_of(by_depth)
        cosines = {
            rule: {
                int(layer): found
                for (stage, layer), found in of_seeds(by_depth[deepest], rule).items()
                if stage == "trained"
            }
            for rule in tables.in_order(by_depth[deepest]["rules"])
        }
        figures.draw_lines(layers, cosines, statistics.COSINE)
        layers.set(xlim=(1, deepest + 1), xlabel="layer, from input to read-out")
        draw_depths(first, by_depth, ("trained", "1"))
        draw_depths(accuracy, by_depth, ("accuracy", ""))
        for ax in (layers, first):
            ax.set(ylabel=names.COSINE, ylim=(min(0, ax.get_ylim()[0]), 1.03))
        figures.draw_levels(accuracy, chance=100 / config["n_classes"])
        accuracy.set(ylabel=names.TEST_ACCURACY, ylim=(0, 100))
        code = names.CODES[config["code"]]
        titles += [f"{code}: each of {deepest + 1} layers", f"{code}: the first layer", f"{code}: accuracy"]
    for ax in axes.flat:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figures.name_panels(axes.flat, titles)
    figures.label_lines(axes.flat)
    return figures.with_note(
        figure,
        f"Randman, {config['n_units']} inputs, {config['layers'][1]} units in each hidden layer, T = {config['n_steps']}. "
        f"{names.means_of([config])}; dashed: chance. Cosines: where training with BPTT "
        f"ends.{figures.others_of(by_depth[deepest]['rules'])}",
    )


def draw_depths(ax: Axes, by_depth: dict[int, dict[str, Any]], key: Key) -> None:
    numbers: dict[str, dict[float, Any]] = {}
    for depth, result in by_depth.items():
        for rule in result["rules"]:
            numbers.setdefault(rule, {})[depth] = of_seeds(result, rule).get(key, [])
    figures.draw_lines(ax, numbers, BOUNDS[key[0]], scale=100 if key[0] == "accuracy" else 1)
    ax.set(xlim=(min(by_depth), max(max(by_depth), min(by_depth) + 1)), xlabel="number of hidden layers")


def lengths_of(data: Data) -> Iterator[length_curves.Curve]:
    """The curve of each code, number of hidden layers and rule, the deepest networks first."""
    for task, by_depth in data.tasks.items():
        for depth, result in sorted(by_depth.items(), reverse=True):
            for rule in tables.in_order(result["rules"]):
                yield length_curves.Curve([task, depth, rule], result["rules"][rule]["seeds"], result["config"])


def draw_lengths(data: Data) -> Figure:
    """Draw a panel for each code and each depth that all codes have: the test accuracy of each rule against the batches, with a
    line from which OTPE is ahead of BPTT."""
    depths = sorted(set.intersection(*map(set, data.tasks.values())), reverse=True)
    shown = [curve for curve in lengths_of(data) if curve.cells[1] in depths]
    figure, axes = figures.panels(len(data.tasks), len(depths), 1.95, 0.3, sharey=True)
    ahead: list[tuple[Axes, float | None]] = []
    for (task, by_depth), line in zip(data.tasks.items(), axes, strict=True):
        for depth, ax in zip(depths, line, strict=True):
            tested = {curve.cells[2]: curve.tested() for curve in shown if curve.cells[:2] == [task, depth]}
            figures.draw_lines(ax, tested, statistics.SHARE, 100)
            figures.draw_levels(ax, chance=100 / by_depth[depth]["config"]["n_classes"])
            figures.log_axis(ax)
            every = sorted({batches for of_rule in tested.values() for batches in of_rule})
            ax.set(xticks=every, xlim=(every[0], every[-1]) if len(every) > 1 else None, ylim=(0, 100))
            ahead.append((ax, ahead_from(tested["otpe"], tested["bptt"])))
        line[0].set_ylabel(f"{names.CODES[by_depth[depths[0]]['config']['code']]}\n{names.TEST_ACCURACY}")
    for ax in axes[-1]:
        ax.set_xlabel("batches")
    figures.name_panels(axes.flat, len(axes) * [f"{depth} hidden layer{'s' * (depth > 1)}" for depth in depths])
    figures.label_lines(axes.flat)
    for ax, start in ((ax, start) for ax, start in ahead if start is not None):
        color = figures.look_of("otpe")["color"]
        ax.axvline(start, color=color, linestyle=":", linewidth=1)
        text = f"OTPE > BPTT\nfrom {start:,.0f} on"
        ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=figures.SMALLEST, color=color)
    seeds = names.seeds_of(curve.config for curve in shown)
    return figures.with_note(
        figure,
        f"Accuracy along one training of each seed, at the learning rate that is best at its end. Mean of {seeds}; bands: 95 % "
        "intervals, which contain the draws of seeds and, where these share a test set, of its samples; dashed: chance.",
    )


def ahead_from(otpe: dict[float, Any], bptt: dict[float, Any]) -> float | None:
    """The first number of batches from which OTPE is ahead of BPTT until the end, seed by seed, by 95 % intervals; or None."""
    start = None
    for batches, accuracies in otpe.items():
        _, low, _ = statistics.interval(accuracies - bptt[batches], statistics.DIFFERENCE)
        start = None if low is None or low <= 0 else batches if start is None else start
    return start


FIGURES = {
    "depth": figures.Plot(COLUMNS, rows, draw),
    "depth_lengths": length_curves.table(["task", "depth", "rule"], lengths_of)._replace(draw=draw_lengths),
}
TABLES = {"depth_cause": figures.Plot(plot_cause.COLUMNS, plot_cause.rows)}
