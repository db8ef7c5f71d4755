"""Ratios between the libraries of the paper, here and as published, size by size: does their order hold?"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, tables
from experiments.throughput.libraries import LIBRARIES, published_library
from experiments.throughput.times import (
    SIZE,
    Results,
    fastest_of,
    inputs_of,
    main_line,
    names_of,
    ratios_of,
    reason_of,
    samples_of,
    size_of,
    starts_of,
)

PUBLISHED = Path(__file__).with_name("published.csv")
BARS = tables.rows_of_csv(PUBLISHED)
DEVICES = list(dict.fromkeys(row["device"] for row in BARS))
MARKERS = dict(zip(DEVICES, "^sDv", strict=True))
REFERENCES = ("slax_original", "slax")  # of the figure: the second where the first was not timed
OF_DEVICES = [f"published_{device.lower().replace(' ', '_')}" for device in DEVICES]
COLUMNS = [
    *("library", "other", "inputs", *SIZE, "starts", "rounds", *tables.ratio_columns("ratio"), "unit"),
    *OF_DEVICES,
    *("same_side", "devices", "reason"),
]

Published = dict[tuple[str, int, str], float]  # seconds by library, size and device


def published() -> Published:
    """The published times."""
    return {
        (published_library(row["framework"], row["device"]), int(row["n_neurons"]), row["device"]): float(seconds)
        for row in BARS
        if (seconds := row["seconds_forward_backward"])
    }


def compared() -> list[str]:
    """The libraries of the paper and ours, in the order of the figures."""
    of_paper = {library for library, *_ in published()}
    return [library for library in LIBRARIES if library in of_paper or library == "slax"]


def workloads(results: Results) -> Results:
    """The workloads of the main line, by inputs and size; of several with the same, the one with the most starts."""
    found = {(inputs_of(result["config"]), result["config"]["size"]): result for result in main_line(results)}
    return [found[key] for key in sorted(found)]


def published_ratios(library: str, other: str, size: int) -> list[float | None]:
    """The published time of a library over that of another one on each device; None where one of them is not there."""
    times = published()
    pairs = [(times.get((library, size, device)), times.get((other, size, device))) for device in DEVICES]
    return [mine / theirs if mine and theirs else None for mine, theirs in pairs]


def rows(results: Results) -> Iterator[list[Any]]:
    """A row for each pair of libraries in each workload, with the reason if one of them has no time."""
    for result in workloads(results) if results else []:
        config, fastest = result["config"], fastest_of(result)
        about = [inputs_of(config), *size_of(config), starts_of(config), config["rounds"]]
        reasons = {names_of(record)[0]: reason_of(record) for record in result["records"]}
        for library, other in itertools.combinations([name for name in compared() if name in reasons], 2):
            ratios, unit = ratios_between(result, library, other)
            cells, bars = tables.ratio_summary(ratios), published_ratios(library, other, config["size"])
            agree = [found for bar in bars if (found := in_same_order(cells[0], bar)) is not None]
            missing = [reasons[name] for name in (library, other) if name not in fastest]
            yield [library, other, *about, *cells, unit, *bars, sum(agree), len(agree), "; ".join(missing)]


def in_same_order(ratio: float | None, bar: float | None) -> bool | None:
    """Whether our ratio and a published one are on the same side of 1; None without one of them, and for equal times there."""
    return (bar > 1) == (ratio > 1) if ratio and bar and bar != 1 else None


def ratios_between(result: dict[str, Any], library: str, other: str) -> tuple[list[float], str]:
    """The ratios of two libraries, each in its fastest form, and what each ratio is of; none if one was not timed."""
    fastest = fastest_of(result)
    if library not in fastest or other not in fastest:
        return [], ""
    return samples_of(ratios_of(fastest[library], fastest[other]), starts_of(result["config"]))


def draw(results: Results) -> Figure:
    """Draw a panel for each size and kind of input: the time of each library over that of slax 0.0.1, here and as published."""
    figures.check_given("throughput_order", "the benchmark bptt", results)
    shown = workloads(results)
    in_paper = {size for _, size, _ in published()}
    shown = [result for result in shown if result["config"]["size"] in in_paper] or shown
    figure, axes = figures.grid(len(shown), 2, 1.7, 0.6, sharex=True)
    titles = []
    for ax, result in zip(axes, shown, strict=True):
        draw_one(ax, result)
        titles.append(f"N = {result['config']['size']:,}, {inputs_of(result['config'])}\n{agreement(result)}")
    figures.name_panels(axes, titles)
    looks = {f"published: {device}": {"marker": marker, "color": "0.35"} for device, marker in MARKERS.items()}
    marks = {"measured here": {"marker": "o", "color": "black", "fillstyle": "full"}, **looks}
    every = [{"linestyle": "", "fillstyle": "none", "label": label, **look} for label, look in marks.items()]
    figures.legend_of(figure, every, 5)
    text = "Lines: 95 % interval over starts of the processes, or over rounds of a single start. N: units per layer; after the "
    return figures.with_note(
        figure, f"{text}device, how many pairs of libraries are in the same order here as published there."
    )


def draw_one(ax: Axes, result: dict[str, Any]) -> None:
    """Draw the ratios of one workload."""
    config, fastest = result["config"], fastest_of(result)
    reference = next((name for name in REFERENCES if name in fastest), None)
    names = [name for name in compared() if name in fastest and name != reference]
    for row, library in enumerate(names if reference else []):
        for bar, marker in zip(published_ratios(library, reference, config["size"]), MARKERS.values(), strict=True):
            if bar:
                ax.plot(bar, row, marker, color="0.35", fillstyle="none", markersize=4.5)
        ratios, _ = ratios_between(result, library, reference)
        figures.draw_interval(ax, row, ratios, geometric=True, elinewidth=1.2, **LIBRARIES[library] | {"marker": "o"})
    figures.name_rows(ax, [LIBRARIES[name]["label"] for name in names])
    ax.axvline(1, color="0.4", linestyle=":")
    figures.log_axis(ax)
    ax.set_xlabel(f"time / time of {LIBRARIES[reference]['label'] if reference else 'slax 0.0.1'}")


def agreement(result: dict[str, Any]) -> str:
    """How many pairs of libraries are in the same order here and on each device, as "T4 5/6"."""
    cells = [dict(zip(COLUMNS, row, strict=True)) for row in rows([result])]
    told = []
    for device, column in zip(DEVICES, OF_DEVICES, strict=True):
        agree = [found for pair in cells if (found := in_same_order(pair["ratio"], pair[column])) is not None]
        told += [f"{device} {sum(agree)}/{len(agree)}"] if agree else []
    return ", ".join(told)
