"""Draw how far the test accuracy of each rule is from BPTT's."""

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from experiments.drawing import figures, length_curves, names, statistics, tables

COLUMNS = ["task", "layers", "n_steps", "rule", "mode", "quantity", *tables.OF_TESTS]

prepare = tables.by_task_and_rule


def seeds_of(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The seeds of each way of updating."""
    return {mode: result["updates"][mode]["seeds"] for mode in figures.MARKS if mode in result["updates"]}


def rows(tasks: tables.Results) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(tasks):
        start = [task, names.network(result["config"]), result["config"]["n_steps"], rule]
        for mode, seeds in seeds_of(result).items():
            quantities = {
                "accuracy": tables.tested(task, seeds),
                "validation_accuracy": [seed["validation_accuracy"] for seed in seeds],
                **tables.spikes_of(seeds),
            }
            for quantity, numbers in quantities.items():
                yield [*start, mode, quantity, *tables.of_tests(numbers, statistics.SHARE)]


def draw(tasks: tables.Results) -> Figure:
    """Draw a panel for each task: for each rule how far it is from BPTT, seed by seed, and the mean with its interval."""
    rules = tables.in_order(*tasks.values())
    figure, axes = figures.panels(1, len(tasks), 0.24 * len(rules) + 0.6, 0.5, sharex=True, sharey=True)
    titles = []
    for ax, (task, results) in zip(axes[0], tasks.items(), strict=True):
        reached = {
            rule: {mode: tables.tested(task, seeds) for mode, seeds in seeds_of(result).items()}
            for rule, result in results.items()
        }
        level = figures.plot_gaps(ax, rules, reached)
        titles.append(f"{names.task_name(task)}\n{level}".replace(", new", ",\nnew"))
    figures.name_panels(axes[0], titles)
    figures.legend_of_modes(figure)
    trained = names.means_of(result["config"] for _, _, result in tables.each(tasks))
    how = "each rule at its best learning rate. Small dots: seeds. Numbers: means beyond an end of the axis."
    return figures.with_note(figure, f"{trained}, {how}")


FIGURES = {"accuracy": figures.Plot(COLUMNS, rows, draw)}
TABLES = {
    "accuracy_lengths": length_curves.table(
        ["task", "mode", "rule"], lambda tasks: length_curves.of_modes(tasks, seeds_of)
    )
}
