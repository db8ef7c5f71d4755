"""Ratios between the libraries of the paper, here and as published, size by size: does their order hold?"""

import itertools
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, tables
from experiments.throughput.plot_libraries import BARS, DEVICES, LIBRARIES, published_library
from experiments.throughput.plot_times import SIZE, Timed, library_of, main_line

MARKERS = dict(zip(DEVICES, "^sDv", strict=True))
REFERENCES = ("slax_original", "slax")  # of the figure: the second where the first was not timed
OF_DEVICES = [f"published_{device.lower().replace(' ', '_')}" for device in DEVICES]
COLUMNS = [
    *("library", "other", "inputs", *SIZE, "starts", "rounds", *tables.ratio_columns("ratio"), "unit"),
    *(*OF_DEVICES, "same_side", "devices", "reason"),
]
PUBLISHED = {  # seconds by library, units and device
    (published_library(row["framework"], row["device"]), int(row["n_neurons"]), row["device"]): float(seconds)
    for row in BARS
    if (seconds := row["seconds_forward_backward"])
}
IN_PAPER = {library for library, *_ in PUBLISHED}
COMPARED = [library for library in LIBRARIES if library in IN_PAPER or library == "slax"]


def workloads(results: list[Timed]) -> list[Timed]:
    """The workloads of the main line, by inputs and size; of several with the same, the one with the most starts."""
    found = {(one.inputs, one.n): one for one in main_line(results)}
    return [found[key] for key in sorted(found)]


def published_ratios(library: str, other: str, n: int) -> list[float | None]:
    """The published time of a library over that of another one on each device; None where one of them is not there."""
    pairs = [[PUBLISHED.get((name, n, device)) for name in (library, other)] for device in DEVICES]
    return [mine / theirs if mine and theirs else None for mine, theirs in pairs]


def rows(results: list[Timed]) -> Iterator[list[Any]]:
    """A row for each pair of libraries in each workload, each in its fastest form, with the reason if one has no time."""
    for timed in workloads(results):
        reasons = {library_of(name): reason for name, reason in timed.reasons.items()}
        for library, other in itertools.combinations([name for name in COMPARED if name in reasons], 2):
            ratios = timed.ratios(timed.fastest.get(library), timed.fastest.get(other))
            cells, bars = tables.ratio_summary(ratios), published_ratios(library, other, timed.n)
            agree = [(bar > 1) == (cells[0] > 1) for bar in bars if cells[0] and bar and bar != 1]
            missing = "; ".join(reasons[name] for name in (library, other) if name not in timed.fastest)
            *about, unit = timed.of_ratio(ratios)
            start = [library, other, timed.inputs, *timed.size, *about]
            yield [*start, *cells, unit, *bars, sum(agree), len(agree), missing]


def draw(results: list[Timed]) -> Figure:
    """Draw a panel for each size and kind of input: the time of each library over that of slax 0.0.1, here and as published."""
    shown = workloads(results)
    in_paper = {n for _, n, _ in PUBLISHED}
    shown = [one for one in shown if one.n in in_paper] or shown
    figure, axes = figures.grid(len(shown), 2, 1.7, 0.6, sharex=True)
    for ax, timed in zip(axes, shown, strict=True):
        draw_one(ax, timed)
    figures.name_panels(axes, [f"N = {one.n:,}, {one.inputs}\n{agreement(one)}" for one in shown])
    looks = {f"published: {device}": {"marker": marker, "color": "0.35"} for device, marker in MARKERS.items()}
    marks = {"measured here": {"marker": "o", "color": "black", "fillstyle": "full"}, **looks}
    every = [{"linestyle": "", "fillstyle": "none", "label": label, **look} for label, look in marks.items()]
    figures.legend_of(figure, every, 5)
    return figures.with_note(
        figure,
        "Lines: 95 % interval over starts of the processes, or over rounds of a single start. N: units per layer; after the "
        "device, how many pairs of libraries are in the same order here as published there.",
    )


def draw_one(ax: Axes, timed: Timed) -> None:
    """Draw the ratios of one workload."""
    reference = next((name for name in REFERENCES if name in timed.fastest), None)
    names = [name for name in COMPARED if reference and name in timed.fastest and name != reference]
    for row, library in enumerate(names):
        for bar, marker in zip(published_ratios(library, reference, timed.n), MARKERS.values(), strict=True):
            if bar:
                ax.plot(bar, row, marker, color="0.35", fillstyle="none", markersize=4.5)
        ratios = timed.ratios(timed.fastest[library], timed.fastest[reference])
        figures.draw_interval(ax, row, ratios, geometric=True, elinewidth=1.2, **LIBRARIES[library] | {"marker": "o"})
    figures.name_rows(ax, [LIBRARIES[name]["label"] for name in names])
    ax.axvline(1, color="0.4", linestyle=":")
    figures.log_axis(ax)
    ax.set_xlabel(f"time / time of {LIBRARIES[reference or REFERENCES[0]]['label']}")


def agreement(timed: Timed) -> str:
    """How many pairs of libraries are in the same order here and on each device, as "T4 5/6"; equal bars have no order."""
    pairs, told = [dict(zip(COLUMNS, row, strict=True)) for row in rows([timed])], []
    for device, column in zip(DEVICES, OF_DEVICES, strict=True):
        both = [
            (pair[column] > 1, pair["ratio"] > 1) for pair in pairs if pair["ratio"] and pair[column] not in (None, 1)
        ]
        told += [f"{device} {sum(bar == ours for bar, ours in both)}/{len(both)}"] if both else []
    return ", ".join(told)
