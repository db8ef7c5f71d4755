"""Draw the errors of all rules on Bach and on the laser beside those of baselines."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, names, tables
from experiments.drawing.statistics import POSITIVE
from experiments.drawing.styles import STYLES
from slax_rules import RULES

COLUMNS = ["task", "way", "mode", "quantity", *tables.OF_TESTS]
PUBLISHED = tables.rows_of_csv(Path(__file__).with_name("published.csv"))
OTHERS = {  # ways that are no rules of the library
    **{"frequencies": "key frequencies", "persistence": "persistence", "bigram": "bigram", "ridge": "ridge, 50 values"},
    **{"gru": "GRU, BPTT", "kf_rtrl": "KF-RTRL", "rflo": "RFLO"},
}
ERRORS = {"bach": "nats", "laser": "nmse"}
LABELS = {"bach": "error on test pieces (nats per step)", "laser": "normalized mean squared error, one pass"}
TITLES = {"bach": "Bach, the next keys", "laser": "laser, the next value"}
LIKE_OTHERS = "published, tanh network"

Errors = dict[tuple[str, str, str], Any]  # by way, mode and quantity
Data = dict[str, tuple[dict[str, Any], Errors]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The configuration of each task, and its errors by way, mode and quantity, by seed and, on Bach, by test piece."""
    data: Data = {}
    for result in results:
        config = result["config"]
        errors = data.setdefault(config["task"], (config, {}))[1]
        errors |= bach(result) if config["task"] == "bach" else laser(result)
    return dict(sorted(data.items()))


def bach(result: dict[str, Any]) -> Errors:
    """The errors in nats per step: their mean over pieces weights each piece by its steps."""
    way, steps = result["config"]["way"], np.array(result["steps"])
    weights = len(steps) / steps.sum()
    found = {(way, mode) if way != "counted" else (mode, "offline"): of for mode, of in result["nats"].items()}
    return {(*key, "nats"): repeated(np.array(of) * weights, result["config"]["seeds"]) for key, of in found.items()}


def laser(result: dict[str, Any]) -> Errors:
    """The NMSE of all predictions, and of the last ones."""
    way, seeds = result["config"]["way"], result["config"]["seeds"]
    of_ways = {name: result[name] if way == "counted" else {way: result[name]} for name in ("nmse", "late")}
    return {
        (one, "online", name): repeated(of, seeds).tolist() for name, ways in of_ways.items() for one, of in ways.items()
    }


def repeated(numbers: Any, seeds: int) -> np.ndarray:
    """The numbers of all seeds; of a baseline that no seed changes, the same number for each."""
    return np.asarray(numbers) if len(numbers) == seeds else np.repeat(numbers, seeds, axis=0)


def rows(data: Data) -> Iterator[list[Any]]:
    for task, (_, errors) in data.items():
        for (way, mode, quantity), numbers in errors.items():
            yield [task, way, mode, quantity, *tables.of_tests(numbers, POSITIVE)]
    for one in PUBLISHED:
        yield ["laser", one["way"], "published", "nmse", float(one["nmse"]), None, None, "", int(one["seeds"]), ""]


def title_of(way: str, config: Mapping[str, Any]) -> str:
    return f"TBPTT({config['online_window']})" if way == "tbptt" else OTHERS.get(way) or RULES[way].title


def draw(data: Data) -> Figure:
    """Draw a row for each rule: its error in each way of updating; baselines are lines."""
    figure, axes = figures.panels(1, len(data), 2.6, 0.5)
    for ax, (task, (config, errors)) in zip(axes[0], data.items(), strict=True):
        published = {one["way"]: float(one["nmse"]) for one in PUBLISHED} if task == "laser" else {}
        ways = [*(way for way in RULES if any(way == key[0] for key in errors) or way in published)]
        ways += [way for way in published if way not in ways]
        figures.name_rows(ax, [title_of(way, config) for way in ways], striped=True)
        for (way, mode, quantity), numbers in errors.items():
            if quantity != ERRORS[task]:
                continue
            if way in ways:
                look = {"color": STYLES[way].color, "markersize": 4.5, **figures.MARKS[mode]}
                figures.draw_interval(ax, ways.index(way), numbers, POSITIVE, **look)
            else:
                draw_baseline(ax, OTHERS[way], float(np.mean(numbers)))
        ax.plot(published.values(), [ways.index(way) for way in published], "s", color="0.45", mfc="none", markersize=5)
        figures.log_axis(ax)
        ax.set_xlabel(LABELS[task])
    figures.name_panels(axes[0], [TITLES[task] for task in data])
    looks = [{"linestyle": "", "color": figures.NO_RULE, "label": names.UPDATES[mode], **mark} for mode, mark in figures.MARKS.items()]
    square = {"linestyle": "", "marker": "s", "color": "0.45", "markerfacecolor": "none", "label": LIKE_OTHERS}
    figures.legend_of(figure, [*looks, square], 3)
    seeds = names.seeds_of(config for config, _ in data.values())
    return figures.with_note(
        figure,
        f"Mean of {seeds} with 95 % intervals, each rule at its best learning rate. Lines: baselines of the same run. Squares: as "
        "others report of rules in another network, with 15,000 steps over 1,000 points again and again.",
    )


def draw_baseline(ax: Axes, name: str, error: float) -> None:
    """Draw a line with its name along it."""
    ax.axvline(error, color="0.55", linewidth=0.9, zorder=0.6)
    look = {"rotation": 90, "fontsize": figures.SMALLEST, "color": "0.35", "ha": "right", "va": "top"}
    ax.text(error, 0.98, name, transform=ax.get_xaxis_transform(), **look)


FIGURES = {"prediction": figures.Plot(COLUMNS, rows, draw)}
