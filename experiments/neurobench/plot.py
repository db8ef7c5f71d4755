"""Draw the table of NeuroBench's metrics, with the tasks in the order of the results."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.common import figures, tables

COLUMNS = ["task", "quantity", *tables.OF_SEEDS, "steps"]
SHARE = (0.0, 1.0)
BOUNDS = {"accuracy": SHARE, "smape": (0.0, 200.0), "connection_sparsity": SHARE, "activation_sparsity": SHARE}
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


def prepare(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results, unchanged."""
    return results


def of_seeds(result: dict[str, Any], quantity: str) -> list[Any]:
    """The mean over seeds, the low and high ends of its 95 % interval, None with one seed, and the numbers of all seeds."""
    numbers = [seed["score" if quantity == result["metric"] else quantity] for seed in result["seeds"]]
    return tables.summary(numbers, BOUNDS.get(quantity, (0.0, np.inf)))


def quantities(result: dict[str, Any]) -> list[str]:
    return [result["metric"], "baseline", *(name for name, *_ in SHOWN)]


def rows(results: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for result in results:
        for quantity in quantities(result):
            seeds = result["seeds"]
            yield [result["config"]["task"], quantity, *of_seeds(result, quantity), len(seeds), seeds[0]["n_steps"]]


def cell(result: dict[str, Any], quantity: str, factor: int, digits: int) -> str:
    """The mean, with the interval below it unless all seeds agree."""
    mean, low, high = (
        None if number is None else f"{factor * number:,.{digits}f}" for number in of_seeds(result, quantity)[:3]
    )
    return mean if low is None or low == high else f"{mean}\n[{low}, {high}]"


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
        for column, text in enumerate(line):
            left = column == 0
            x = edges[0] + 0.005 if left else edges[column + 1] - 0.01
            weight = {"fontweight": "bold"} if row == 0 else {}
            ax.text(x, row, text, ha="left" if left else "right", va="center", fontsize="small", **weight)
    for y in np.arange(len(lines) + 1) - 0.5:
        ax.axhline(y, color="0.2" if y in (-0.5, 0.5, len(lines) - 0.5) else "0.85", linewidth=1)
    ax.set(xlim=(0, 1), ylim=(len(lines) - 0.5, -0.5))
    ax.axis("off")
    text = "operations and updates of a test sample of T steps"
    seeds = f"mean of {tables.numbers_of_seeds(results)} seeds, [95 % interval of the mean] where they differ"
    figure.supxlabel(f"{seeds}; {text}", fontsize="x-small")
    return figure


FIGURES = {"neurobench": figures.Plot(COLUMNS, rows, draw)}
