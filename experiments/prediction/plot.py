"""Draw the errors of all rules on Bach and on the laser beside those of baselines."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.drawing import figures, names, tables
from experiments.drawing.statistics import POSITIVE
from experiments.drawing.styles import STYLES
from slax_rules import RULES

COLUMNS = ["task", "way", "mode", "quantity", *tables.OF_TESTS]
PUBLISHED = tables.rows_of_csv(Path(__file__).with_name("published.csv"))
ERRORS = {"bach": "nats", "laser": "nmse"}
LABELS = {"bach": "error on test pieces (nats per step)", "laser": "normalized mean squared error, one pass"}

Errors = dict[tuple[str, str, str], Any]  # by way, mode and quantity
Data = dict[str, tuple[dict[str, Any], Errors]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The configuration of each task, and its errors by way, mode and quantity, by seed and, on Bach, by test piece."""
    data: Data = {}
    for result in sorted(results, key=lambda result: result["config"]["task"]):
        errors = data.setdefault(result["config"]["task"], (result["config"], {}))[1]
        errors.update({tuple(key): numbers for *key, numbers in result["errors"]})
    return data


def rows(data: Data) -> Iterator[list[Any]]:
    for task, (_, errors) in data.items():
        for (way, mode, quantity), numbers in errors.items():
            yield [task, way, mode, quantity, *tables.of_tests(numbers, POSITIVE)]
    for one in PUBLISHED if "laser" in data else ():
        yield ["laser", one["way"], "published", "nmse", float(one["nmse"]), None, None, "", int(one["seeds"]), ""]


def title_of(way: str, config: Mapping[str, Any]) -> str:
    return f"TBPTT({config['online_window']})" if way == "tbptt" else names.PREDICTORS.get(way) or RULES[way].title


def draw(data: Data) -> Figure:
    """Draw a row for each baseline, with a line through all rows, and below them one for each rule, with its error in each way
    of updating."""
    figure, axes = figures.panels(1, len(data), 2.9, 0.5)
    for ax, (task, (config, errors)) in zip(axes[0], data.items(), strict=True):
        found = {key[:2]: numbers for key, numbers in errors.items() if key[2] == ERRORS[task]}
        published = {one["way"]: float(one["nmse"]) for one in PUBLISHED} if task == "laser" else {}
        known, done = [*names.PREDICTORS, *RULES], {way for way, _ in found}
        ways = sorted({*done, *published}, key=lambda way: (way not in {*done, *RULES}, known.index(way)))
        figures.name_rows(ax, [title_of(way, config) for way in ways], striped=True)
        for (way, mode), numbers in found.items():
            of_seeds = np.mean(numbers, axis=1) if np.ndim(numbers) > 1 else numbers
            look = figures.MARKS[mode] if way not in names.BASELINES else {"marker": "|"}
            mean = figures.draw_interval(ax, ways.index(way), of_seeds, POSITIVE, color=STYLES[way].color, **look)
            if way in names.BASELINES:
                ax.axvline(mean, color="0.55", linewidth=0.7, linestyle=":", zorder=0.6)
        ax.plot(published.values(), [ways.index(way) for way in published], "s", color="0.45", mfc="none", markersize=5)
        means = [*(float(np.mean(numbers)) for numbers in found.values()), *published.values()]
        ax.set_xlim(min(means) / 1.1, max(means) * 1.1)
        figures.log_axis(ax)
        if task == "bach":
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlabel(LABELS[task])
    figures.name_panels(axes[0], map(names.task_name, data))
    looks = [{"color": figures.NO_RULE, "label": names.UPDATES[mode], **mark} for mode, mark in figures.MARKS.items()]
    square = {"marker": "s", "color": "0.45", "markerfacecolor": "none", "label": "published, tanh network"}
    figures.legend_of(figure, [{"linestyle": "", **look} for look in (*looks, square)], 3)
    return figures.with_note(
        figure,
        f"Mean of {names.seeds_of(config for config, _ in data.values())} with 95 % intervals over seeds, each at its best "
        "learning rate. Dotted lines: baselines of the same run. Squares: another network and protocol, see the caption.",
    )


FIGURES = {"prediction": figures.Plot(COLUMNS, rows, draw)}
