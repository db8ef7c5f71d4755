"""The figure of the experiment and the table behind it, from its results.

    python -m experiments.gradient_similarity.plot --results results/quick/gradient_similarity/*/*.json --output figure

writes figure.csv, figure.png and figure.svg.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from experiments.command_line import plot_parser
from experiments.results import check_scale, save
from slax_rules import RULES
from slax_viz import mean_interval, plot_cosine_similarity, style

COSINE, RATIO, SHARE = (-1.0, 1.0), (0.0, float("inf")), (0.0, 1.0)
COLUMNS = [
    *("task", "layers", "n_steps", "training_steps", "rule", "layer", "seeds"),
    *("cosine", "cosine_low", "cosine_high", "norm_ratio", "norm_ratio_low", "norm_ratio_high"),
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high"),
]


def main() -> None:
    arguments = plot_parser(__doc__).parse_args()
    tasks = by_task([json.loads(path.read_text()) for path in arguments.results])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_table(tasks, arguments.output.with_suffix(".csv"))
    draw(tasks, arguments.output)


def by_task(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The results of each task, in the order of their seeds."""
    check_scale(results)
    tasks = defaultdict(list)
    for result in sorted(results, key=lambda result: result["seed"]):
        tasks[result["config"]["task"]].append(result)
    return dict(tasks)


def numbers(results: list[dict[str, Any]], stage: int, rule: str, quantity: str) -> np.ndarray:
    """One number per seed and layer, [seeds, layers], without the seeds that lack one (see `measure` in run.py)."""
    rows = [[layer[quantity] for layer in result["stages"][stage]["rules"][rule].values()] for result in results]
    complete = [row for row in rows if None not in row]
    if not complete:
        raise SystemExit(
            f"No seed has a {quantity} of {rule} in every layer: a gradient is zero. Measure at a later step."
        )
    return np.array(complete)


def accuracies(results: list[dict[str, Any]], stage: int) -> list[float]:
    return [result["stages"][stage]["test_accuracy"] for result in results]


def write_table(tasks: dict[str, list[dict[str, Any]]], path: Path) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for task, results in tasks.items():
            config = results[0]["config"]
            for stage, step in enumerate(config["measure_at"]):
                accuracy = _interval(accuracies(results, stage), SHARE)
                for rule, layers in results[0]["stages"][stage]["rules"].items():
                    cosines = numbers(results, stage, rule, "cosine")
                    ratios = numbers(results, stage, rule, "norm_ratio")
                    net = "-".join(map(str, config["layers"]))
                    for index, layer in enumerate(layers):
                        row = [task, net, config["n_steps"], step, rule, layer, len(cosines)]
                        agreement = [*_interval(cosines[:, index], COSINE), *_interval(ratios[:, index], RATIO)]
                        table.writerow([*row, *agreement, *accuracy])


def draw(tasks: dict[str, list[dict[str, Any]]], output: Path) -> None:
    steps = next(iter(tasks.values()))[0]["config"]["measure_at"]
    with style():
        figure, axes = plt.subplots(
            len(steps),
            len(tasks),
            figsize=(3.6 * len(tasks), 2.6 * len(steps) + 0.6),
            sharex="col",
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for column, results in enumerate(tasks.values()):
            config = results[0]["config"]
            for stage, step in enumerate(steps):
                ax = axes[stage, column]
                rules = results[0]["stages"][stage]["rules"]
                layers = list(next(iter(rules.values())))
                table = {RULES[rule].title: numbers(results, stage, rule, "cosine") for rule in rules}
                names = [f"layer {layer}" for layer in layers[:-1]] + ["read-out"]
                when = f"after {step} steps" if step else "at initialisation"
                plot_cosine_similarity(ax, table, layers=names, ylabel=f"cosine to BPTT\n{when}", legend=False)
                ax.set_title(f"test accuracy {_percent(accuracies(results, stage))}")
                ax.label_outer()
            axes[0, column].set_title(f"{_name(config)}\n{axes[0, column].get_title()}")
        figure.supxlabel("bars: mean over seeds (dots); error bars: 95 % interval of the mean", fontsize="small")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        save(figure, output)


def _name(config: dict[str, Any]) -> str:
    net = "-".join(map(str, config["layers"]))
    return f"{config['dataset'].capitalize()}, {config['code']} code\n{net}, T = {config['n_steps']}"


def _percent(reached: list[float]) -> str:
    mean, *ends = _interval(reached, SHARE)
    return f"{100 * mean:.0f} %" + ("" if "" in ends else " ({:.0f} to {:.0f})".format(*(100 * end for end in ends)))


def _interval(numbers: Sequence[float], bounds: tuple[float, float]) -> tuple[float | str, float | str, float | str]:
    """Mean, low and high; a single number has no interval, and leaves its cells empty."""
    if len(numbers) == 1:
        return round(float(numbers[0]), 6), "", ""
    mean, low, high = (round(float(number), 6) for number in mean_interval(numbers, bounds=bounds))
    return mean, low, high


if __name__ == "__main__":
    main()
