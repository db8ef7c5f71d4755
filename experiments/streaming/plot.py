"""Draw the accuracy of predictions after each change of a stream, and how fast it recovers, beside the memory of each rule."""

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import figures, rate_curves, tables

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
    segment, the samples until it has recovered, and the memory."""
    right, config = segments(result), result["config"]
    return {
        "accuracy": (right.mean(axis=(1, 2)).tolist(), tables.SHARE),
        "early": (right[:, :, : config["ends"]].mean(axis=(1, 2)).tolist(), tables.SHARE),
        "late": (right[:, :, -config["ends"] :].mean(axis=(1, 2)).tolist(), tables.SHARE),
        "recovery": (recovery(result), (0.0, float(config["segment"]))),
        "bytes": ([float(result["bytes"])] * config["seeds"], tables.POSITIVE),
    }


def rows(tasks: tables.Results) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(tasks):
        for quantity, (numbers, bounds) in quantities(result).items():
            yield [task, rule, quantity, *tables.of_seeds(numbers, bounds)]


def draw(tasks: tables.Results) -> Figure:
    """Draw a row for each task: the accuracy within a segment, and accuracy and recovery against memory."""
    figure, axes = figures.panels(len(tasks), 3, (13 / 3, 3.1), (0, 1.2))
    for (task, rules), (within, accuracy, recovered) in zip(tasks.items(), axes, strict=True):
        draw_within(within, rules)
        within.set_title(title(task, tables.config_of(rules)), fontsize="small")
        draw_against_memory(accuracy, rules, "accuracy", "accuracy of all predictions (%)")
        draw_against_memory(recovered, rules, "recovery", "samples until recovered")
    figures.legend_of(figure, map(figures.look_of, tables.rules_of(tasks)), 5)
    return figures.with_note(
        figure,
        f"means of {tables.config_of(rules)['seeds']} seeds and their 95 % intervals, without the first segment; recovered: "
        f"within {100 * NEAR:.0f} % of the accuracy in the last tenth of the segment; memory: counted, in addition to "
        "parameters and optimizer",
    )


def title(task: str, config: dict[str, Any]) -> str:
    what = {
        "speakers": "spoken digits, another speaker",
        "switch": "Randman, other manifolds",
        "drift": "Randman, manifolds that drift to others",
    }[config["source"]]
    late = f", labels {config['delay']} samples late" if config["delay"] else ""
    return textwrap.fill(f"{task.replace('_', ' ')}: {what} every {config['segment']} samples{late}", 48)


def draw_within(ax: Axes, rules: dict[str, dict[str, Any]]) -> None:
    for rule, result in rules.items():
        curves, config = curve(result), result["config"]
        places = (np.arange(PARTS) + 0.5) * config["segment"] / PARTS
        percent = dict(zip(places.tolist(), (100 * curves.T).tolist(), strict=True))
        figures.draw_means(ax, percent, (0.0, 100.0), markersize=3.5, linewidth=1.2, **figures.look_of(rule))
    ax.set(xlabel="samples since the change", ylabel="accuracy (%)")


def draw_against_memory(ax: Axes, rules: dict[str, dict[str, Any]], quantity: str, label: str) -> None:
    for rule, result in rules.items():
        look = figures.look_of(rule) | {"scale": 100 if quantity == "accuracy" else 1, "upright": True}
        figures.draw_interval(ax, result["bytes"] / 1000, *quantities(result)[quantity], **look)
    figures.log_axis(ax)
    ax.set(xlabel="memory for a stream (kB)", ylabel=label)


FIGURES = {
    "streaming": figures.Plot(COLUMNS, rows, draw),
    "streaming_rates": rate_curves.plot("streaming_rates", ["task", "rule"], rate_curves.of_rules),
}
