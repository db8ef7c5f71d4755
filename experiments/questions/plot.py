"""Draw what a task needs, what rules and truncation reach over long gaps, and what rules reach under each optimizer."""

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from experiments.questions import plot_long, plot_memory
from experiments.questions.plot_data import Data, Ways, draw_rows, in_order, prepare, rate_of, title_of_way

__all__ = ["FIGURES", "prepare"]

PILED = 65  # percent; where all accuracies are above, so is the axis
LEGS = {"bptt": "BPTT", "sltt": "without temporal credit (SLTT)"} | names.WITH_LESS

TIME_COLUMNS = ["task", "way", "chance", "learning_rate", *tables.OF_TESTS]
OPTIMIZER_COLUMNS = ["task", "optimizer", "way", "quantity", "learning_rate", *tables.OF_SEEDS]


def probed(data: Data) -> dict[str, Ways]:
    """The results with all and with ever less of time, of the tasks of which is asked whether they need time."""
    asked = {task: of["adam"] for task, of in data.tasks.items() if "counts" in of.get("adam", {})}
    return {task: {way: ways[way] for way in LEGS if way in ways} for task, ways in asked.items()}


def time_rows(data: Data) -> Iterator[list[Any]]:
    for task, ways in probed(data).items():
        for way, result in ways.items():
            cells = tables.of_tests(tables.tested(task, result["seeds"]), statistics.SHARE)
            yield [task, way, 1 / result["config"]["layers"][-1], rate_of(result), *cells]


def draw_time(data: Data) -> Figure:
    """Draw a panel for each task: the accuracy with all of BPTT, and with ever less of time."""
    shown = probed(data)
    figure, axes = figures.grid(len(shown), 3, 1.6, sharey=True)
    for ax, (task, ways) in zip(axes, shown.items(), strict=True):
        reached = [(way, LEGS[way], 100 * tables.tested(task, of["seeds"])) for way, of in ways.items()]
        draw_rows(ax, reached, ways)
    configs = [tables.config_of(ways) for ways in shown.values()]
    figures.name_panels(axes, map(names.title_of, configs))
    return figures.with_note(figure, f"{names.means_of(configs)}; dots: seeds; dashed: chance.")


def compared(data: Data) -> dict[str, dict[str, Ways]]:
    """The results of the tasks with several optimizers."""
    return {task: of for task, of in data.tasks.items() if len(of) > 1}


def optimizer_rows(data: Data) -> Iterator[list[Any]]:
    for task, of in compared(data).items():
        for optimizer, ways in of.items():
            for way in in_order(ways):
                reached, rate = tables.accuracies(ways[way]), rate_of(ways[way])
                gap = [one - other for one, other in zip(reached, tables.accuracies(ways["bptt"]), strict=True)]
                for quantity, numbers, bounds in (
                    ("accuracy", reached, statistics.SHARE),
                    ("minus_bptt", gap, statistics.DIFFERENCE),
                ):
                    yield [task, optimizer, way, quantity, rate, *tables.of_seeds(numbers, bounds)]


def draw_optimizers(data: Data) -> Figure:
    """Draw a row of panels for each task, with a panel for each optimizer and a row for each rule."""
    shown = compared(data)
    columns = [name for name in names.OPTIMIZERS if any(name in of for of in shown.values())]
    figure, axes = figures.panels(len(shown), len(columns), 1.75, 0.4)
    titles, configs = [], []
    for of, line in zip(shown.values(), axes, strict=True):
        every = in_order({way for ways in of.values() for way in ways})
        for name, ax in zip(columns, line, strict=True):
            ways, config = of[name], tables.config_of(of[name])
            reached = {way: tables.accuracies(ways[way], 100) if way in ways else [] for way in every}
            draw_rows(ax, [(way, title_of_way(way) if ax is line[0] else "", reached[way]) for way in every], ways)
            figures.draw_levels(ax, ceiling=sum(reached["bptt"]) / len(reached["bptt"]), upright=True)
            if min(number for of_way in reached.values() for number in of_way) > PILED:
                ax.set_xlim(PILED, 101)
            titles.append(f"{names.OPTIMIZERS[name]}\n{names.network(config)}")
            configs.append(config)
    figures.name_panels(axes.flat, titles)
    return figures.with_note(
        figure,
        f"Randman, {names.CODES[configs[0]['code']]}. {names.means_of(configs)}; dots: seeds; dashed: chance; dotted: BPTT. "
        "Shortened: the gradient of hidden layers is a hundredth as long. Lengths of 1: that of each array of parameters. "
        "A rule with the lengths of another one is trained by momentum alone.",
    )


FIGURES = {
    "questions_time": figures.Plot(TIME_COLUMNS, time_rows, draw_time),
    "questions_long": figures.Plot(plot_long.COLUMNS, plot_long.rows, plot_long.draw),
    "questions_optimizer": figures.Plot(OPTIMIZER_COLUMNS, optimizer_rows, draw_optimizers),
}
TABLES = {
    "questions_memory": figures.Plot(plot_memory.COLUMNS, plot_memory.rows),
    "questions_growth": figures.Plot(plot_memory.GROWTH_COLUMNS, plot_memory.growth_rows),
}
