"""Draw the accuracy of predictions after each change of a stream, and how fast it recovers, beside the memory of each rule."""

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import rate_curves
from experiments.common.figures import (
    SUMMARY,
    Plot,
    Results,
    by_task_and_rule,
    draw_interval,
    interval,
    legend_of,
    log_axis,
    look_of,
    panels,
    summary,
    write_note,
)
from slax_rules import RULES

COLUMNS = ["task", "rule", "quantity", *SUMMARY, "seeds"]
NEAR = 0.05  # the accuracy has recovered when it is this close to the end of the segment
PARTS = 10  # of a segment, in which accuracies are means
SHARE = (0.0, 1.0)


def prepare(results: list[dict[str, Any]]) -> Results:
    """The results of each task by rule."""
    return by_task_and_rule(results)


def segments(result: dict[str, Any]) -> np.ndarray:
    """Whether each prediction was right, by seed, segment and place in the segment, without the first segment: the change
    before it is the beginning."""
    right = np.array([[one == "1" for one in of_seed] for of_seed in result["right"]], float)
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
        "accuracy": (right.mean(axis=(1, 2)).tolist(), SHARE),
        "early": (right[:, :, : config["ends"]].mean(axis=(1, 2)).tolist(), SHARE),
        "late": (right[:, :, -config["ends"] :].mean(axis=(1, 2)).tolist(), SHARE),
        "recovery": (recovery(result), (0.0, float(config["segment"]))),
        "bytes": ([float(result["bytes"])] * config["seeds"], (0.0, float("inf"))),
    }


def rows(tasks: Results) -> Iterator[list[Any]]:
    for task, rules in tasks.items():
        for rule, result in rules.items():
            for quantity, (numbers, bounds) in quantities(result).items():
                yield [task, rule, quantity, *summary(numbers, bounds), len(numbers)]


def draw(tasks: Results) -> Figure:
    """Draw a row for each task: the accuracy within a segment, and accuracy and recovery against memory."""
    figure, axes = panels(len(tasks), 3, (13 / 3, 3.1), (0, 1.2))
    for (task, rules), (within, accuracy, recovered) in zip(tasks.items(), axes, strict=True):
        draw_within(within, rules)
        within.set_title(title(task, next(iter(rules.values()))["config"]), fontsize="small")
        draw_against_memory(accuracy, rules, "accuracy", "accuracy of all predictions (%)")
        draw_against_memory(recovered, rules, "recovery", "samples until recovered")
    shown = [rule for rule in RULES if any(rule in rules for rules in tasks.values())]
    legend_of(figure, map(look_of, shown), 5)
    config = next(iter(next(iter(tasks.values())).values()))["config"]
    write_note(
        figure,
        f"means of {config['seeds']} seeds and their 95 % intervals, without the first segment; recovered: within "
        f"{100 * NEAR:.0f} % of the accuracy in the last tenth of the segment; memory: counted, in addition to parameters and "
        "optimizer",
    )
    return figure


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
        ends = np.array([interval(numbers, SHARE) for numbers in curves.T.tolist()], float)
        look = look_of(rule)
        ax.plot(places, 100 * ends[:, 0], markersize=3.5, linewidth=1.2, **look)
        if len(curves) > 1:
            ax.fill_between(places, 100 * ends[:, 1], 100 * ends[:, 2], color=look["color"], alpha=0.15, linewidth=0)
    ax.set_xlabel("samples since the change")
    ax.set_ylabel("accuracy (%)")


def draw_against_memory(ax: Axes, rules: dict[str, dict[str, Any]], quantity: str, label: str) -> None:
    for rule, result in rules.items():
        scale = 100 if quantity == "accuracy" else 1
        draw_interval(
            ax, result["bytes"] / 1000, *quantities(result)[quantity], scale=scale, upright=True, **look_of(rule)
        )
    log_axis(ax)
    ax.set_xlabel("memory for a stream (kB)")
    ax.set_ylabel(label)


def curves(tasks: Results) -> list[rate_curves.Curve]:
    """The trials of each task and rule."""
    return [
        rate_curves.Curve(task, "", rule, look_of(rule), result["trials"])
        for task, rules in tasks.items()
        for rule, result in rules.items()
    ]


FIGURES = {
    "streaming": Plot(COLUMNS, rows, draw),
    "streaming_rates": rate_curves.plot("streaming_rates", ["task", "rule"], curves),
}
