"""Reading of results and writing of tables and figures, common to all experiments."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from slax_rules import RULES
from slax_viz import PNG_METADATA, SVG_METADATA, mean_interval

# Update modes differ in marker shape and filling; the color belongs to the rule.
MARKS: dict[str, dict[str, Any]] = {
    "offline": {"marker": "o"},
    "online": {"marker": "D", "markerfacecolor": "white"},
}
MODE_LABELS = {"offline": "one update per sequence", "online": "updates within the sequence"}
NO_RULE = "0.3"  # color of a legend mark that does not belong to a rule

Results = dict[str, dict[str, dict[str, Any]]]


def check_scale(results: Iterable[dict[str, Any]]) -> None:
    """Stop unless all results have the same scale."""
    scales = {result["config"]["scale"] for result in results}
    if len(scales) > 1:
        raise SystemExit(f"Got results of the scales {', '.join(sorted(scales))}, expected one: they are never mixed.")


def by_task_and_rule(results: Iterable[dict[str, Any]]) -> Results:
    """The results of each task by rule, in the order of the table of rules."""
    order = list(RULES)
    tasks: Results = {}
    for result in sorted(results, key=lambda result: order.index(result["config"]["rule"])):
        task, rule = (result["config"][name] for name in ("task", "rule"))
        if rule in tasks.get(task, {}):
            raise SystemExit(f"Got two results of the task {task} and the rule {rule}, expected one of each.")
        tasks.setdefault(task, {})[rule] = result
    return {task: tasks[task] for task in sorted(tasks)}


def interval(numbers: Sequence[float], bounds: tuple[float, float]) -> tuple[float | None, float | None, float | None]:
    """The mean, and the low and high ends of its 95 % interval; None where there are too few numbers."""
    if len(numbers) < 2:
        return (numbers[0] if numbers else None), None, None
    mean, low, high = (float(number) for number in mean_interval(numbers, bounds=bounds))
    return mean, low, high


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with numbers to six decimal places and an empty cell for None."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        for row in rows:
            table.writerow([round(cell, 6) if isinstance(cell, float) else cell for cell in row])


def save(figure: Figure, output: Path) -> None:
    """Save a figure as output.png and output.svg, with the same bytes each time."""
    figure.savefig(output.with_suffix(".png"), metadata=PNG_METADATA)
    figure.savefig(output.with_suffix(".svg"), metadata=SVG_METADATA)
    plt.close(figure)
