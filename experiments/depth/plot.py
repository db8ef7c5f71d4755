"""Draw the agreement with BPTT of each rule by layer, and the test accuracy by the number of hidden layers."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.drawing import figures, length_curves, names, statistics, tables
from slax_rules import RULES

COLUMNS = ["task", "depth", "rule", "quantity", "layer", *tables.OF_SEEDS]
STAGES = ("initial", "trained")  # before training, and where BPTT ends
BOUNDS = {"accuracy": statistics.SHARE, "initial": statistics.COSINE, "trained": statistics.COSINE}

Tasks = dict[str, dict[int, dict[str, Any]]]
Key = tuple[str, str]  # a quantity, and a layer or ""


def prepare(results: list[dict[str, Any]]) -> Tasks:
    """The results by task and number of hidden layers."""
    tasks: Tasks = {}
    for result in sorted(results, key=lambda result: result["config"]["depth"]):
        tasks.setdefault(result["config"]["task"], {})[result["config"]["depth"]] = result
    return dict(sorted(tasks.items(), reverse=True))


def of_seeds(result: dict[str, Any], rule: str) -> dict[Key, list[float | None]]:
    """The numbers of the seeds by quantity and layer; None where a gradient is zero, which has no cosine."""
    seeds = result["rules"][rule]["seeds"]
    numbers = {("accuracy", ""): [seed["accuracy"] for seed in seeds]}
    for stage in STAGES:
        for layer in seeds[0].get(stage, {}):
            numbers[stage, layer] = [seed[stage][layer]["cosine"] for seed in seeds]
    return numbers


def rows(tasks: Tasks) -> Iterator[list[Any]]:
    for task, by_depth in tasks.items():
        for depth, result in by_depth.items():
            for rule in tables.in_order(result["rules"]):
                for key, numbers in of_seeds(result, rule).items():
                    yield [task, depth, rule, *key, *tables.of_seeds(numbers, BOUNDS[key[0]])]


def draw(tasks: Tasks) -> Figure:
    """Draw a row for each code: the cosines after training in the deepest network by layer, those of its first layer by the
    number of hidden layers, and the accuracy."""
    figure, axes = figures.panels(len(tasks), 3, 1.85, 0.4)
    titles: list[str] = []
    for by_depth, (layers, first, accuracy) in zip(tasks.values(), axes, strict=True):
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
        layers.set(xlim=(1, deepest + 1), xlabel="layer, from the input to the read-out")
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


def lengths_of(tasks: Tasks) -> Iterator[length_curves.Curve]:
    """The curve of each code, number of hidden layers and rule, with a panel for each depth that all codes have, the deepest
    one first."""
    common = set.intersection(*(set(by_depth) for by_depth in tasks.values()))
    for task, by_depth in tasks.items():
        for depth, result in sorted(by_depth.items(), reverse=True):
            config, column = result["config"], f"{depth} hidden layer{'s' * (depth > 1)}"
            for rule in tables.in_order(result["rules"]):
                is_shown = depth in common and figures.line_rules([rule])
                panel = (names.CODES[config["code"]], column) if is_shown else None
                seeds, title = result["rules"][rule]["seeds"], RULES[rule].title
                yield length_curves.Curve([task, depth, rule], seeds, config, panel, rule, title)


FIGURES = {
    "depth": figures.Plot(COLUMNS, rows, draw),
    "depth_lengths": length_curves.plot(["task", "depth", "rule"], lengths_of),
}
