"""What each way to learn reaches over long gaps, with the memory and the time that it needs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES
from experiments.questions.jobs import IN_TIME
from experiments.questions.plot_data import Data, Ways, chance_of, rate_of, title_of_way

BUDGET = "otpe"  # the rule whose memory and time truncation gets
SAME = {"recomputed": "bptt", "otpe_10": "otpe"}  # ways with the gradient of another one, and so with its training
IN_MEMORY, AS_LONG = "in_memory", "in_time"  # the most accurate truncation in this memory, and in at most this time
ROWS = ("bptt", "recomputed", "otpe", "otpe_10", "approximate_otpe", "ottt", IN_MEMORY, AS_LONG)
COLUMNS = [
    *("task", "n_steps", "way", "piece", "window", "batches", "learning_rate"),
    *tables.OF_SEEDS,
    *("measured_bytes", "input_bytes"),
    *tables.summary_columns("milliseconds"),
    *("rounds", "median_milliseconds", "seconds"),
]


class Line(NamedTuple):
    """A way to learn: its training, if there is one, and the costs of its gradient; of truncation, the steps of a `piece`."""

    trained: dict[str, Any] | None
    cost: dict[str, Any]
    piece: int | None = None

    @property
    def kibibytes(self) -> float:
        return float(self.cost["bytes"]["measured"]) / 1024

    @property
    def median(self) -> float:
        """The milliseconds of a gradient."""
        return float(np.median(self.cost["milliseconds"]))

    @property
    def seconds(self) -> float | None:
        """The time of all gradients of the training."""
        return self.trained and self.trained["config"]["steps"] * self.median / 1000


def timed(data: Data) -> Iterator[tuple[str, Ways, dict[str, Line]]]:
    """The tasks whose gradients are timed, their trainings, and the lines of the table by way."""
    for task, costs in data.costs.items():
        trained = data.tasks.get(task, {}).get("adam", {})
        if {"bptt", BUDGET} <= trained.keys():
            yield task, trained, lines_of(trained, costs)


def lines_of(trained: Ways, costs: Mapping[str, dict[str, Any]]) -> dict[str, Line]:
    """All ways that are timed or trained, and the best truncations."""
    found = {way: Line(trained.get(SAME.get(way, way)), cost) for way, cost in costs.items()}
    found |= {way: Line(of, costs[way.removesuffix(IN_TIME)]) for way, of in trained.items() if way.endswith(IN_TIME)}
    pieces = {way: line._replace(piece=line.cost["window"]) for way, line in found.items() if way.startswith("tbptt")}
    budget, tried = found[BUDGET], {way: line for way, line in pieces.items() if line.trained}
    fit = [line for way, line in tried.items() if way in costs and line.kibibytes <= budget.kibibytes]
    as_fast = [line for line in tried.values() if (line.seconds or 0) <= (budget.seconds or 0)]
    best = {name: max(of, key=reached) for name, of in ((IN_MEMORY, fit), (AS_LONG, as_fast)) if of}
    return found | pieces | best


def reached(line: Line) -> float:
    """The accuracy of a line, summed over the seeds."""
    return sum(tables.accuracies(line.trained)) if line.trained else 0.0


def rows(data: Data) -> Iterator[list[Any]]:
    for task, trained, lines in timed(data):
        for way, (of, cost, piece) in lines.items():
            batches, rate = (of["config"]["steps"], rate_of(of)) if of else (None, None)
            start = [task, tables.config_of(trained)["n_steps"], way, piece, cost["window"], batches, rate]
            learned = tables.of_seeds(tables.accuracies(of), statistics.SHARE) if of else [None] * len(tables.OF_SEEDS)
            times = tables.summary(cost["milliseconds"], statistics.POSITIVE)
            size = [cost["bytes"][kind] for kind in ("measured", "inputs")]
            end = [len(cost["milliseconds"]), lines[way].median, lines[way].seconds]
            yield [*start, *learned, *size, *times, *end]


def draw(data: Data) -> Figure:
    """Draw a row of panels for each task: the accuracy, the memory and the seconds of each way."""
    shown = list(timed(data))
    figure, axes = figures.panels(len(shown), 3, 1.55, 0.5, sharey="row")
    titles = []
    for panels, (_, trained, lines) in zip(axes, shown, strict=True):
        drawn = {way: lines[way] for way in ROWS if way in lines and lines[way].trained}
        looks = ["tbptt" if line.piece else SAME.get(way, way) for way, line in drawn.items()]
        told = [title_of_way(way) + (f", K = {line.piece}" if line.piece else "") for way, line in drawn.items()]
        learned = [tables.accuracies(line.trained or {}, 100) for line in drawn.values()]
        figures.plot_seed_intervals(panels[0], list(zip(looks, told, learned, strict=True)), (0.0, 100.0))
        figures.draw_levels(panels[0], chance=100 * chance_of(trained), upright=True)
        panels[0].set(xlim=(0, 104))
        draw_numbers(panels[1], told, looks, [line.kibibytes for line in drawn.values()])
        draw_numbers(panels[2], told, looks, [line.seconds or 0.0 for line in drawn.values()])
        titles += [f"T = {tables.config_of(trained)['n_steps']:,}: {names.TEST_ACCURACY}"]
        titles += ["memory (KiB per sample)", "time of all gradients (s)"]
    figures.name_panels(axes.flat, titles)
    configs = [line["config"] for _, trained, _ in shown for line in trained.values()]
    note = (
        f"Delayed recall, {names.network(configs[0])}. {names.means_of(configs)}; dots: seeds; dashed: chance. Memory: of a "
        "gradient, measured, besides the inputs. Time: the median of a gradient, times the batches. BPTT, recomputed, has the "
        "gradient of BPTT, and so its accuracy. Rules with traces take one step at a time. TBPTT: the most accurate piece, "
        "of K steps, in at most OTPE's memory or time."
    )
    return figures.with_note(figure, note)


def draw_numbers(ax: Axes, rows: Sequence[str], looks: Sequence[str], numbers: Sequence[float]) -> None:
    """Draw a number in each row, as the mark of a rule and in words, on a logarithmic axis."""
    figures.name_rows(ax, rows)
    for row, (look, number) in enumerate(zip(looks, numbers, strict=True)):
        ax.plot(number, row, color=STYLES[look].color, marker=STYLES[look].marker, markeredgecolor="black")
        figures.write_beside(ax, f"{number:,.3g}" if number < 100 else f"{number:,.0f}", (number, row), (5, -3))
    ax.set_xlim(min(numbers) / 2, 8 * max(numbers))
    figures.log_axis(ax)
    ax.xaxis.set_major_locator(LogLocator())  # powers of ten alone, since the numbers are written
