"""Draw the accuracy of predictions after each change of a stream, and how fast it recovers, beside the memory of each rule."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables

COLUMNS = ["task", "rule", "quantity", *tables.OF_SEEDS]
NEAR = 0.05  # the accuracy has recovered when it is this close to the end of the segment
PARTS = 10  # of a segment, in which accuracies are means

prepare = tables.by_task_and_rule


def segments(result: dict[str, Any]) -> np.ndarray:
    """Whether each prediction was right, by seed, segment and place in the segment, without the first segment: the change
    before it is the beginning."""
    right = np.array([list(of_seed) for of_seed in result["right"]], float)
    return right.reshape(len(right), -1, result["config"]["segment"])[:, 1:]


def curve(result: dict[str, Any]) -> np.ndarray:
    """The accuracy by seed in each tenth of a segment."""
    return np.array([[part.mean() for part in np.array_split(of_seed, PARTS, axis=1)] for of_seed in segments(result)])


def recovery(result: dict[str, Any]) -> list[float]:
    """For each seed, the samples from a change until the accuracy is near the one at the end of the segment, in tenths."""
    curves = curve(result)
    first = (curves >= curves[:, -1:] - NEAR).argmax(axis=1)
    return (first * result["config"]["segment"] / PARTS).tolist()


def quantities(result: dict[str, Any]) -> dict[str, tuple[list[float], tuple[float, float]]]:
    """The numbers of each seed and their bounds: the accuracy of all predictions, of those at the beginning and at the end of a
    segment, the samples until it has recovered, and the memory as measured, of the inputs besides, and with recomputation."""
    right, config, memory = segments(result), result["config"], result["memory"]
    sizes = {"bytes": memory["measured"], "input_bytes": memory["inputs"], "recomputed_bytes": memory.get("recomputed")}
    return {
        "accuracy": (right.mean(axis=(1, 2)).tolist(), statistics.SHARE),
        "early": (right[:, :, : config["ends"]].mean(axis=(1, 2)).tolist(), statistics.SHARE),
        "late": (right[:, :, -config["ends"] :].mean(axis=(1, 2)).tolist(), statistics.SHARE),
        "recovery": (recovery(result), (0.0, float(config["segment"]))),
    } | {
        name: ([float(size)] * config["seeds"], statistics.POSITIVE) for name, size in sizes.items() if size is not None
    }


def rows(tasks: tables.Results) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(tasks):
        for quantity, (numbers, bounds) in quantities(result).items():
            yield [task, rule, quantity, *tables.of_seeds(numbers, bounds)]


def draw(tasks: tables.Results) -> Figure:
    """Draw a row for each task: the accuracy within a segment, and the accuracy against memory."""
    figure, axes = figures.panels(len(tasks), 2, 1.5, 0.3, width_ratios=[1.25, 1])
    titles: list[str] = []
    for (task, rules), (within, against_memory) in zip(tasks.items(), axes, strict=True):
        config = tables.config_of(rules)
        places = ((np.arange(PARTS) + 0.5) * config["segment"] / PARTS).tolist()
        curves = {rule: dict(zip(places, curve(result).T.tolist(), strict=True)) for rule, result in rules.items()}
        figures.draw_lines(within, curves, statistics.SHARE, scale=100)
        within.set(xlabel="samples since the change", xlim=(0, config["segment"]))
        for rule in figures.line_rules(rules):
            numbers, kilobytes = quantities(rules[rule])["accuracy"], rules[rule]["memory"]["measured"] / 1000
            figures.draw_interval(against_memory, kilobytes, *numbers, scale=100, upright=True, **figures.look_of(rule))
        against_memory.set(xlabel="memory for a stream (kB)", xlim=(0, None))
        for ax in (within, against_memory):
            figures.draw_levels(ax, chance=100 / config["layers"][-1])
            ax.set(ylim=(0, 100), ylabel="accuracy (%)")
        titles += [f"{names.task_name(task)}, every {config['segment']} samples", "all predictions, and memory"]
    figures.name_panels(axes.flat, titles)
    figures.label_lines(axes[:, 0])
    changes = names.listed(tables.config_of(rules)["segments"] - 1 for rules in tasks.values())
    some = {rule for rules in tasks.values() for rule in rules}
    return figures.with_note(
        figure,
        "Each sample is predicted and then learned, once; left: accuracy of predictions in each tenth of a segment, without "
        f"the first segment. Mean of {config['seeds']} seeds and of {changes} changes of data, with 95 % intervals over seeds; "
        f"dashed: chance. Memory: measured, besides inputs, parameters and optimizer.{figures.others_of(some)}",
    )


FIGURES = {"streaming": figures.Plot(COLUMNS, rows, draw)}
