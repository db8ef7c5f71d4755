"""Draw the table of NeuroBench's metrics, with the tasks in the order of the results."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.common import figures, tables

COLUMNS = ["task", "quantity", *tables.OF_SEEDS, "steps"]
BOUNDS = {"smape": (0.0, 200.0)} | dict.fromkeys(
    ("accuracy", "connection_sparsity", "activation_sparsity"), tables.SHARE
)
# The quantity of each column, its title, and its factor and digits; for the score see `SCORES`.
SHOWN = (
    ("footprint", "footprint\n(bytes)", 1, 0),
    ("connection_sparsity", "connection\nsparsity (%)", 100, 1),
    ("activation_sparsity", "activation\nsparsity (%)", 100, 1),
    ("effective_macs", "effective\nMACs", 1, 0),
    ("effective_acs", "effective\nACs", 1, 0),
    ("dense", "dense\noperations", 1, 0),
    ("membrane_updates", "membrane\nupdates", 1, 0),
)
# The same for a score, with the name of its baseline.
SCORES = {"accuracy": ("accuracy (%)", 100, 1, "chance"), "smape": ("sMAPE", 1, 1, "last value")}


prepare = list[dict[str, Any]]


def of_seeds(result: dict[str, Any], quantity: str) -> list[Any]:
    """The mean over seeds, the low and high ends of its 95 % interval, None with one seed, and the numbers of all seeds."""
    numbers = [seed["score" if quantity == result["metric"] else quantity] for seed in result["seeds"]]
    return tables.summary(numbers, BOUNDS.get(quantity, tables.POSITIVE))


def rows(results: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for result in results:
        task, seeds = result["config"]["task"], result["seeds"]
        for quantity in (result["metric"], "baseline", *(name for name, *_ in SHOWN)):
            yield [task, quantity, *of_seeds(result, quantity), len(seeds), seeds[0]["n_steps"]]


def cell(result: dict[str, Any], quantity: str, factor: int, digits: int) -> str:
    """The mean, with the interval below it unless all seeds agree."""
    numbers = [number for number in of_seeds(result, quantity)[:3] if number is not None]
    mean, *ends = (f"{factor * number:,.{digits}f}" for number in numbers)
    return f"{mean}\n[{', '.join(ends)}]" if len({*ends}) > 1 else mean


def table_cells(results: list[dict[str, Any]]) -> list[list[str]]:
    """The row of titles, and a row for each task."""
    lines = [["task", "score", "baseline", *(title for _, title, _, _ in SHOWN)]]
    for result in results:
        title, factor, digits, guess = SCORES[result["metric"]]
        mean, *interval = cell(result, result["metric"], factor, digits).split("\n")
        baseline = f"{guess}\n{factor * of_seeds(result, 'baseline')[0]:.{digits}f}"
        name = result["config"]["task"].replace("_", "-").title()
        about = f"{name}\n{tables.network(result['config'])}, T = {result['seeds'][0]['n_steps']}"
        shown = [cell(result, name, factor, digits) for name, _, factor, digits in SHOWN]
        lines.append([about, "\n".join([f"{title} {mean}", *interval]), baseline, *shown])
    return lines


def draw(results: list[dict[str, Any]]) -> Figure:
    lines = table_cells(results)
    widths = [max(len(part) for text in column for part in text.split("\n")) + 3 for column in zip(*lines, strict=True)]
    edges = np.cumsum([0, *widths]) / sum(widths)
    figure, ax = plt.subplots(figsize=(0.093 * sum(widths), 0.52 * len(lines) + 0.35))
    for row, line in enumerate(lines):
        look = {"va": "center", "fontsize": "small", "fontweight": "normal" if row else "bold"}
        ax.text(0.005, row, line[0], ha="left", **look)
        for end, text in zip(edges[2:], line[1:], strict=True):
            ax.text(end - 0.01, row, text, ha="right", **look)
    for y in np.arange(len(lines) + 1) - 0.5:
        ax.axhline(y, color="0.2" if y in (-0.5, 0.5, len(lines) - 0.5) else "0.85", linewidth=1)
    ax.set(xlim=(0, 1), ylim=(len(lines) - 0.5, -0.5))
    ax.axis("off")
    seeds = tables.numbers_of_seeds(result["seeds"] for result in results)
    text = "seeds, [95 % interval of the mean] where they differ; operations and updates of a test sample of T steps"
    figure.supxlabel(f"mean of {seeds} {text}", fontsize="x-small")
    return figure


FIGURES = {"neurobench": figures.Plot(COLUMNS, rows, draw)}
