"""Why is OTPE ahead of BPTT in deep networks? The lengths of gradients by layer, how alike they are from batch to batch, and
what trainings with other lengths reach."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.depth.jobs import COMPARED
from experiments.drawing import figures, names, statistics, tables

COLUMNS = ["training", "rule", "batches", "quantity", "gradient", "layer", *tables.OF_SEEDS]
QUANTITIES = {"log10_length": statistics.ANY, "alike": statistics.COSINE}  # of a layer
LABELS = ("log10 of the length", "mean cosine of two batches")
PLAIN = "clipped"  # the training whose networks have their gradients drawn, under the first of the compared rules

Tasks = dict[str, dict[int, dict[str, Any]]]
Trainings = dict[str, dict[str, dict[str, Any]]]
Key = tuple[int, str, str, str]  # batches, quantity, rule of the gradient, and layer


class Data(NamedTuple):
    """The results of all rules by task and number of hidden layers, and of two rules by training."""

    tasks: Tasks
    trainings: Trainings


def trainings_of(results: list[dict[str, Any]]) -> Trainings:
    """The results of the two rules by training, in the order of their names."""
    found: Trainings = {training: {} for training in names.TRAININGS_IN_DEPTH}
    for result in (result for result in results if "training" in result["config"]):
        found[result["config"]["training"]][result["config"]["rule"]] = result
    return {training: of for training, of in found.items() if of}


def of_seeds(result: dict[str, Any]) -> dict[Key, list[float | None]]:
    """The numbers of the seeds, by what they are of."""
    seeds = result["seeds"]
    found: dict[Key, list[float | None]] = {
        (entry["batches"], "accuracy", "", ""): [seed["lengths"][place]["accuracy"] for seed in seeds]
        for place, entry in enumerate(seeds[0]["lengths"])
    }
    for step, of_rules in seeds[0]["gradients"].items():
        for rule, of_rule in of_rules.items():
            every = [seed["gradients"][step][rule] for seed in seeds]
            found[int(step), "clipped", rule, ""] = [of["clipped"] for of in every]
            for layer in of_rule["layers"]:
                for name in QUANTITIES:
                    found[int(step), name, rule, layer] = [of["layers"][layer][name] for of in every]
    return found


def rows(data: Data) -> Iterator[list[Any]]:
    for training, results in data.trainings.items():
        numbers = {rule: of_seeds(result) for rule, result in results.items()}
        for rule, of_rule in numbers.items():
            for key, found in of_rule.items():
                yield [training, rule, *key, *tables.of_seeds(found, QUANTITIES.get(key[1], statistics.SHARE))]
                if key[1] == "accuracy" and rule != COMPARED[0]:
                    gaps = [one - other for one, other in zip(found, numbers[COMPARED[0]][key], strict=True)]
                    place = [key[0], "minus_bptt", *key[2:]]
                    yield [training, rule, *place, *tables.of_seeds(gaps, statistics.DIFFERENCE)]


def draw(data: Data) -> Figure:
    """Draw the length of gradients and how alike they are by layer, half way along the training with BPTT, and a row for each
    training with the accuracies of both rules."""
    result = data.trainings[PLAIN][COMPARED[0]]
    found, layers = of_seeds(result), result["config"]["depth"] + 1
    steps = sorted({key[0] for key in found if key[1] == "alike"})
    step = steps[len(steps) // 2]
    figure, axes = figures.panels(1, 3, 2.1, 0.45, width_ratios=[1, 1, 1.25])
    for ax, (name, bounds), label in zip(axes[0], QUANTITIES.items(), LABELS, strict=False):
        lines = {
            rule: {layer: found[step, name, rule, str(layer)] for layer in range(1, layers + 1)} for rule in COMPARED
        }
        figures.draw_lines(ax, lines, bounds)
        ax.set(xlim=(1, layers), xlabel="layer, from input to read-out", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    draw_trainings(axes[0, 2], data.trainings)
    titles = ["how long gradients are", "how alike gradients are", "what trainings reach"]
    figures.name_panels(axes[0], titles)
    figures.label_lines(axes[0, :2])
    return figures.with_note(
        figure,
        f"{names.randman(result['config'])}. a, b: gradients of single batches at the weights after {step:,} batches under "
        f"BPTT. c: mean of {names.seeds_of([result['config']])}, with 95 % intervals, after "
        f"{names.updates_of(of['config'] for results in data.trainings.values() for of in results.values())}; dots: seeds.",
    )


def draw_trainings(ax: Axes, trainings: Trainings) -> None:
    """Draw a row for each training, with the accuracy of each rule at its end."""
    lowest = 100.0
    for row, results in enumerate(trainings.values()):
        for rule, below in zip(COMPARED, (-0.2, 0.2), strict=True):
            reached = tables.accuracies(results[rule])
            look = {name: figures.look_of(rule)[name] for name in ("color", "marker")}
            figures.draw_seeds(ax, row + below, reached, statistics.SHARE, 0.12, 1.5, scale=100, **look)
            lowest = min(lowest, 100 * min(reached))
    figures.name_rows(ax, [names.TRAININGS_IN_DEPTH[training] for training in trainings], striped=True)
    ax.set(xlim=(10 * int(lowest / 10), 100), xlabel=names.TEST_ACCURACY)
