"""Draw the accuracy of predictions on streams that change against the memory of each rule."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables

COLUMNS = ["task", "rule", "quantity", *tables.OF_SEEDS]
NEAR = 0.05  # the accuracy has recovered when it is this close to the end of the segment
PARTS = 10  # of a segment, in which accuracies are means
HOLLOW = {"markerfacecolor": "white", "label": names.LESS_MEMORY["recomputed"]}

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
    """Draw the accuracy of all predictions against memory: a mark for each task and rule, and a line from BPTT to OTPE."""
    figure, ((ax,),) = figures.panels(1, 1, 3.2, 0.6)
    known = figures.line_rules({rule for rules in tasks.values() for rule in rules})
    for task, rules in tasks.items():
        at = {}
        for rule in (rule for rule in known if rule in rules):
            numbers, kilobytes = quantities(rules[rule])["accuracy"], rules[rule]["memory"]["measured"] / 1000
            look = {"scale": 100, "upright": True, **figures.look_of(rule)}
            at[rule] = kilobytes, figures.draw_interval(ax, kilobytes, *numbers, **look)
            if recomputed := rules[rule]["memory"].get("recomputed"):
                figures.draw_interval(ax, recomputed / 1000, *numbers, **look | HOLLOW)
        if ends := [at[rule] for rule in ("bptt", "otpe") if rule in at]:
            ax.plot(*zip(*ends, strict=True), color="0.7", linewidth=0.8, zorder=0)
            figures.write_beside(ax, names.task_name(task), ends[-1], (7, -1), va="center")
    ax.set_xlim(None, 4 * ax.get_xlim()[1])  # with place for the names
    figures.log_axis(ax)
    ax.set(xlabel="memory for a stream (kB)", ylabel="predictions that are right (%)")
    marks = [figures.look_of(rule) | {"linestyle": ""} for rule in known]
    if "bptt" in known:
        marks.append(figures.look_of("bptt") | HOLLOW | {"linestyle": ""})
    figures.legend_of(figure, marks, -(-len(marks) // 2))
    configs = [tables.config_of(rules) for rules in tasks.values()]
    return figures.with_note(
        figure,
        f"Each sample is predicted and then learned, once. Mean of {names.seeds_of(configs)} and of "
        f"{names.listed(config['segments'] - 1 for config in configs)} changes of data, with 95 % intervals over seeds; gray: "
        "from BPTT to OTPE on the same stream. Memory: measured, besides inputs, parameters and "
        f"optimizer.{figures.others_of({rule for rules in tasks.values() for rule in rules})}",
    )


FIGURES = {"streaming": figures.Plot(COLUMNS, rows, draw)}
