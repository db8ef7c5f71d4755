"""Draw the table of NeuroBench's metrics, with the tasks in the order of the results."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables

COLUMNS = ["task", "quantity", *tables.OF_TESTS, "steps"]
BOUNDS = {"smape": (0.0, 200.0)} | dict.fromkeys(
    ("accuracy", "connection_sparsity", "activation_sparsity"), statistics.SHARE
)
SHOWN = (
    *("footprint", "connection_sparsity", "activation_sparsity"),
    *("effective_macs", "effective_acs", "dense", "membrane_updates"),
)
# The title of a score, its factor, and the name and the title of its baseline.
SCORES = {"accuracy": ("accuracy (%)", 100, "chance"), "smape": ("error, sMAPE (%)", 1, "the last value")}
OPERATIONS: dict[str, dict[str, Any]] = {
    "dense": {"label": "dense", "marker": "s", "color": "0.6"},
    "effective_acs": {"label": "effective accumulates", "marker": "D", "color": "#009E73"},
    "effective_macs": {"label": "effective multiply-accumulates", "marker": "o", "color": "#0072B2"},
    "membrane_updates": {"label": "membrane updates", "marker": "^", "color": "#E69F00"},
}


prepare = list[dict[str, Any]]


def of_seeds(result: dict[str, Any], quantity: str) -> np.ndarray:
    """The numbers of the seeds [S, 1], or of a score on a common test set, by seed and test sample."""
    if quantity == result["metric"] and "lengths" in result["seeds"][0]:
        return tables.tested(result["config"]["task"], result["seeds"])
    return np.array([[seed["score" if quantity == result["metric"] else quantity]] for seed in result["seeds"]])


def rows(results: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for result in results:
        task, seeds = result["config"]["task"], result["seeds"]
        for quantity in (result["metric"], "baseline", *SHOWN):
            cells = tables.of_tests(of_seeds(result, quantity), BOUNDS.get(quantity, statistics.POSITIVE))
            yield [task, quantity, *cells, seeds[0]["n_steps"]]


def draw(results: list[dict[str, Any]]) -> Figure:
    """Draw a row for each task: its score beside its baseline, the share of silent activations, and operations."""
    metrics = list(dict.fromkeys(result["metric"] for result in results))
    figure, axes = figures.panels(1, len(metrics) + 2, 0.3 * len(results) + 0.5, 0.7, sharey=True)
    *scores, silent, operations = axes[0]
    look = {"color": "#0072B2", "marker": "o"}
    for row, result in enumerate(results):
        metric, numbers = result["metric"], partial(of_seeds, result)
        ax, factor = scores[metrics.index(metric)], SCORES[metric][1]
        figures.draw_interval(ax, row, numbers(metric), BOUNDS[metric], scale=factor, **look)
        ax.plot(factor * numbers("baseline").mean(), row, "|", color="0.4", markersize=9, markeredgewidth=1.5)
        figures.draw_interval(silent, row, numbers("activation_sparsity"), statistics.SHARE, scale=100, **look)
        for name, mark in OPERATIONS.items():
            if numbers(name).any():
                figures.draw_interval(operations, row, numbers(name), statistics.POSITIVE, **mark)
    titles = [names.title_of(result["config"] | {"n_steps": result["seeds"][0]["n_steps"]}) for result in results]
    for ax in axes[0]:
        figures.name_rows(ax, titles)
    for ax, metric in zip(scores, metrics, strict=True):
        title, _, _ = SCORES[metric]
        ax.set(xlabel=title, xlim=(0, 101) if metric == "accuracy" else (0, None))
    silent.set(xlabel="activations that are zero (%)", xlim=(0, 101))
    operations.set_xlabel("operations for a sample")
    operations.set_xscale("log")
    figures.name_panels(axes[0], [*("score" for _ in metrics), "sparsity", "operations"])
    figures.legend_of(figure, [{"linestyle": "", **mark} for mark in OPERATIONS.values()], len(OPERATIONS))
    guesses = " or ".join(SCORES[metric][2] for metric in metrics)
    return figures.with_note(
        figure,
        f"Mean of {names.seeds_of(result['config'] for result in results)}, with 95 % intervals; bar in the panels of scores: "
        f"{guesses}. Operations of a test sample of T steps; a task without multiply-accumulates has no mark for them.",
    )


FIGURES = {"neurobench": figures.Plot(COLUMNS, rows, draw)}
