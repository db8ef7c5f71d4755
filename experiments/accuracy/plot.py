"""Draw the test accuracy of each rule, next to the published one of the same task and rule, from published.csv."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.drawing import figures, length_curves, names, statistics, tables

COLUMNS = ["task", "layers", "n_steps", "rule", "mode", "quantity", *tables.OF_TESTS]
PUBLISHED = Path(__file__).with_name("published.csv")
PUBLISHED_MARK = {"color": "black", "marker": "*", "markersize": 5, "linestyle": ""}

Data = tuple[tables.Results, dict[tuple[str, str], float]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by task and rule, and the published accuracy of each task and rule for which there is a result."""
    tasks = tables.by_task_and_rule(results)
    known = {(row["task"], row["rule"]): float(row["accuracy"]) for row in tables.rows_of_csv(PUBLISHED)}
    return tasks, {(task, rule): known[task, rule] for task, rule in known if rule in tasks.get(task, {})}


def seeds_of(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The seeds of each way of updating."""
    return {mode: result["updates"][mode]["seeds"] for mode in figures.MARKS if mode in result["updates"]}


def rows(data: Data) -> Iterator[list[Any]]:
    tasks, published = data
    for task, rule, result in tables.each(tasks):
        for mode, seeds in seeds_of(result).items():
            quantities = {
                "accuracy": tables.tested(task, seeds),
                "validation_accuracy": [seed["validation_accuracy"] for seed in seeds],
                **tables.spikes_of(seeds),
            }
            for quantity, numbers in quantities.items():
                yield [*start(task, rule, result), mode, quantity, *tables.of_tests(numbers, statistics.SHARE)]
    for (task, rule), accuracy in published.items():
        numbers = accuracy, *[None] * 5
        yield [*start(task, rule, tasks[task][rule]), "offline", "published_accuracy", *numbers]


def start(task: str, rule: str, result: dict[str, Any]) -> list[Any]:
    """The first cells of the rows of a result."""
    return [task, names.network(result["config"]), result["config"]["n_steps"], rule]


def draw(data: Data) -> Figure:
    """Draw a panel for each task: for each rule every seed, the mean with its interval, and the published accuracy."""
    tasks, published = data
    rules = tables.in_order(*tasks.values())
    figure, axes = figures.panels(1, len(tasks), 0.24 * len(rules) + 0.6, 0.5, sharex=True, sharey=True)
    for ax, (task, results) in zip(axes[0], tasks.items(), strict=True):
        reached = {
            rule: {mode: tables.tested(task, seeds) for mode, seeds in seeds_of(result).items()}
            for rule, result in results.items()
        }
        figures.plot_modes(ax, rules, reached, 1 / tables.config_of(results)["layers"][-1])
        ax.set_xticks((0, 50, 100))
        for rule in (rule for name, rule in published if name == task):
            ax.plot(100 * published[task, rule], rules.index(rule) - 0.34, **PUBLISHED_MARK)
    titles = (names.title_of(tables.config_of(results)).replace(", new", ",\nnew") for results in tasks.values())
    figures.name_panels(axes[0], titles)
    looks = [{"label": "published", **PUBLISHED_MARK}] if published else []
    figures.legend_of_modes(figure, 5 if len(tasks) > 1 else 2, *figures.LEVELS, *looks)
    trained = names.means_of(result["config"] for _, _, result in tables.each(tasks))
    return figures.with_note(figure, f"{trained}, each rule at its best learning rate. Small dots: seeds.")


FIGURES = {
    "accuracy": figures.Plot(COLUMNS, rows, draw),
    "accuracy_lengths": length_curves.plot(
        ["task", "mode", "rule"], lambda data: length_curves.of_modes(data[0], seeds_of)
    ),
}
