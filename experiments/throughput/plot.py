"""Draw times next to the published ones, times relative to this repository, and the times of learning rules.

Times are compared round by round. The tables also list contenders without a time, with the reason.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.drawing import figures, names, tables
from experiments.drawing.styles import STYLES
from experiments.throughput import plot_libraries, plot_order
from experiments.throughput.plot_libraries import BARS, DEVICES, LIBRARIES, published_library, rule_of
from experiments.throughput.plot_times import OF_RATIO, SIZE, Timed, library_of, main_line

OURS, BPTT = "slax:default", "slax:bptt"
OPEN = {"markerfacecolor": "none"}  # the mark of what was not run here
COLUMNS = [
    *("source", "device", "peer", "variant", *SIZE, "inputs", "starts", "load", "others"),
    *("seconds", "low_quartile", "high_quartile", "least", "repeats"),
    *("first_step_seconds", "process_growth_bytes", "temporary_bytes", "device_peak_bytes"),
    *("equation", "differs", "reason"),
]
RATIO_COLUMNS = ["peer", "variant", *SIZE, *tables.ratio_columns("ratio"), *OF_RATIO, "rank", "reason"]
RULE_COLUMNS = ["library", "rule", "variant", *SIZE, "seconds"]
RULE_COLUMNS += [*tables.ratio_columns("times_bptt"), *OF_RATIO, "reason"]


class Data(NamedTuple):
    """The results of both benchmarks; `spikes` are those of `bptt` whose inputs are spikes."""

    bptt: list[Timed]
    spikes: list[Timed]
    rules: list[Timed]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by benchmark."""
    bptt, rules = ([Timed(one) for one in results if one["config"]["benchmark"] == name] for name in ("bptt", "rules"))
    return Data(bptt, [one for one in bptt if one.inputs == "spikes"], rules)


def rows(data: Data) -> Iterator[list[Any]]:
    """A row for each time that was measured, and for each published one."""
    for timed in data.bptt:
        for name, record in timed.records.items():
            times, device = timed.times.get(name, []), record.get("device") or ""
            quartiles = np.quantile(times, (0.5, 0.25, 0.75)).tolist() if times else [None] * 3
            neuron = record["neuron"] or {"equation": "", "differs": ""}
            yield [
                *("measured", f"cpu: {timed.result['record']['machine']}" if device == "cpu" else device),
                *(*name.split(":"), *timed.size, timed.inputs, timed.starts, timed.result.get("load"), timed.others),
                *(*quartiles, min(times, default=None), len(times)),
                *(record.get(key) for key in ("first_call", "memory_growth", "temporaries", "peak_device_bytes")),
                *(neuron["equation"], neuron["differs"], timed.reasons[name]),
            ]
    for bar in BARS:
        seconds = float(bar["seconds_forward_backward"]) if bar["seconds_forward_backward"] else None
        start = ["published", bar["device"], published_library(bar["framework"], bar["device"]), "", bar["n_neurons"]]
        nothing = [None] * (COLUMNS.index("equation") - COLUMNS.index("low_quartile"))
        reason = "" if seconds else "failed or out of memory, as published"
        yield [*start, "", "", 256, "", "", "", "", seconds, *nothing, "", "", reason]


def ratio_rows(data: Data) -> Iterator[list[Any]]:
    for timed in data.spikes:
        for name, reason in timed.reasons.items():
            ratios = timed.ratios(name, OURS)
            cells = [*tables.ratio_summary(ratios), *timed.of_ratio(ratios), timed.ranks[name], reason]
            yield [*name.split(":"), *timed.size, *cells]


def rule_rows(data: Data) -> Iterator[list[Any]]:
    for timed in data.rules:
        for name, reason in timed.reasons.items():
            library, variant = name.split(":")
            ratios, times = timed.ratios(name, BPTT), timed.times.get(name)
            start = [library, rule_of(name), variant, *timed.size, float(np.median(times)) if times else None]
            yield [*start, *tables.ratio_summary(ratios), *timed.of_ratio(ratios), reason]


def draw(data: Data) -> Figure:
    """Draw times against the number of units, as measured here and as published for each device."""
    line, (_, batch, dtype, steps) = main_line(data.bptt), data.bptt[0].size
    kinds = sorted({one.inputs for one in line}, reverse=True)
    curves = {kind: [one for one in line if one.inputs == kind] for kind in kinds}
    curves = {kind: found for kind, found in curves.items() if len(found) > 1} or curves  # a single size is no curve
    figure, (axes,) = figures.panels(1, len(curves) + len(DEVICES), 2.6, 1.2, sharey=True)
    drawn, titles = list[str](), []
    for ax, (kind, of_kind) in zip(axes, curves.items(), strict=False):
        drawn += draw_measured(ax, of_kind)
        titles.append(f"measured: {kind}\nB = {batch}, {dtype}")
    for ax, device in zip(axes[len(curves) :], DEVICES, strict=True):
        drawn += draw_published(ax, [bar for bar in BARS if bar["device"] == device])
        titles.append(f"published: {device}\nbatch not stated")
    figures.name_panels(axes, titles)
    axes[0].set_ylabel(f"forward and backward pass, T = {steps} (s)")
    figures.legend_of(figure, [look for library, look in LIBRARIES.items() if library in drawn], 5)
    ours = [name.partition(":")[2] for one in line for name in one.times if library_of(name) == "slax" and name != OURS]
    forms = " or ".join(names.FORMS.get(form, form) for form in dict.fromkeys(ours))
    return figures.with_note(
        figure,
        f"Measured on {device_of(line)}: median of the rounds, bars from the first to the third quartile; other libraries in "
        f"their fastest form at each size{'; dashed: ours, ' if forms else ''}{forms}. An x at the top: failed, as published."
        + absent(not_timed(line)),
    )


def not_timed(line: list[Timed]) -> list[str]:
    """The libraries of which no form was timed, with the sizes if they were timed at others."""
    sizes: dict[str, dict[int, bool]] = {}
    for one in line:
        for name in one.records:
            at = sizes.setdefault(library_of(name), {})
            at[one.n] = at.get(one.n, False) or name in one.times
    missing = {library: [str(n) for n, is_timed in at.items() if not is_timed] for library, at in sizes.items()}
    ends = {library: f" at {', '.join(missing[library])}" if any(at.values()) else "" for library, at in sizes.items()}
    return [names.LIBRARIES[library] + ends[library] for library, found in missing.items() if found]


def absent(libraries: list[str]) -> str:
    return f" Not timed, for reasons in the table: {'; '.join(libraries)}." if libraries else ""


def draw_measured(ax: Axes, line: list[Timed]) -> list[str]:
    """Draw a curve for each of our forms, and one for the fastest form of each other library; return the libraries.

    Of several workloads of one size, the last one that has a library counts.
    """
    curves: dict[str, dict[int, list[float]]] = {}
    for one in line:
        for name, times in one.times.items():
            library = library_of(name)
            if library == "slax" or one.fastest[library] == name:
                curves.setdefault(name if library == "slax" else library, {})[one.n] = times
    drawn: list[str] = []
    for name, found in curves.items():
        library = library_of(name)
        low, middle, high = np.transpose([np.quantile(times, (0.25, 0.5, 0.75)) for times in found.values()])
        look = LIBRARIES[library] | {"linestyle": "--" if library in drawn else "-"}  # dashed: another form of ours
        ax.errorbar(list(found), middle, (middle - low, high - middle), linewidth=1.2, elinewidth=0.9, **look)
        drawn.append(library)
    size_axis(ax, {one.n for one in line})
    return drawn


def draw_published(ax: Axes, bars: list[dict[str, str]]) -> list[str]:
    drawn, failed = [], 0
    for name in dict.fromkeys(bar["framework"] for bar in bars):
        drawn.append(library := published_library(name, bars[0]["device"]))
        numbers = {int(bar["n_neurons"]): bar["seconds_forward_backward"] for bar in bars if bar["framework"] == name}
        timed = {n: float(seconds) for n, seconds in numbers.items() if seconds}
        ax.plot(list(timed), list(timed.values()), linewidth=1.2, **LIBRARIES[library])
        if sizes := [n for n in numbers if n not in timed]:
            look = {"color": LIBRARIES[library]["color"], "markersize": 6, "clip_on": False}
            ax.plot(sizes, [1.0 - 0.03 * (failed % 6)] * len(sizes), "x", transform=ax.get_xaxis_transform(), **look)
            failed += 1
    size_axis(ax, {int(bar["n_neurons"]) for bar in bars})
    return drawn


def size_axis(ax: Axes, sizes: set[int]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("units per layer")
    ax.set_xticks(sorted(sizes), [f"{n:,}" for n in sorted(sizes)], rotation=90)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", color="0.9")


def draw_speedup(data: Data) -> Figure:
    """Draw a row for each peer: its time over ours, with a mark for each workload; matrix products show a share of our time."""
    results, shown = data.spikes, shown_of(data.spikes)
    others = [name for name in shown if name != OURS]
    figure, ((ax,),) = figures.panels(1, 1, 0.21 * len(others) + 0.3, 0.8)
    shades, marks = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(results))), []
    for number, timed in enumerate(results):
        look = {"color": shades[number], "marker": "osD^vP*hX"[number % 9], "linestyle": "", "markersize": 3.5}
        marks.append({"label": "N = {}, B = {}, {}".format(*timed.size), **look})
        offset = 0.6 * ((number + 0.5) / len(results) - 0.5)
        draw_ratios(ax, timed, dict.fromkeys(others, look), OURS, OPEN, offset, elinewidth=1)
    rows = [plot_libraries.row_label(name, shown) for name in others]
    name_ratios(ax, rows, "time / time of slax, here, in the same round")
    figures.legend_of(figure, marks, 4)
    libraries = {library_of(name) for name in shown}
    without = dict.fromkeys(library_of(name) for one in results for name in one.records)
    missing = [names.LIBRARIES[library] for library in without if library not in libraries]
    are_shipped = any(one.is_shipped(name) for one in results for name in shown)
    return figures.with_note(
        figure,
        f"N: units per layer, B: batch size. Geometric mean over {samples_are(results)}; dotted: slax, here.{absent(missing)}"
        + (" Open marks: not run here, from the shipped results of the full scale." if are_shipped else ""),
    )


def draw_rules(data: Data) -> Figure:
    """Draw a panel for each workload: the time of each rule's gradient, here and elsewhere, relative to BPTT here."""
    shown = shown_of(data.rules)
    figure, (axes,) = figures.panels(1, len(data.rules), 0.19 * len(shown) + 0.5, 0.7, sharey=True)
    marks = {"this repository": {"marker": "o"}, "other libraries": {"marker": "D", "markerfacecolor": "white"}}
    mark_of = {name: marks["this repository" if library_of(name) == "slax" else "other libraries"] for name in shown}
    looks = {name: {"color": STYLES[rule_of(name)].color, "markersize": 4.5} | mark for name, mark in mark_of.items()}
    for ax, timed in zip(axes, data.rules, strict=True):
        draw_ratios(ax, timed, looks, BPTT, OPEN | {"marker": "s"})
        name_ratios(ax, [plot_libraries.rule_label(name) for name in shown], "time of a gradient / that of BPTT, here")
    figures.name_panels(axes, ("N = {}, B = {}, {}, T = {}".format(*one.size) for one in data.rules))
    if any(one.is_shipped(name) for one in data.rules for name in shown):
        marks["not run here, from the shipped results"] = OPEN | {"marker": "s"}
    legend = [{"linestyle": "", "color": figures.NO_RULE, "label": label, **mark} for label, mark in marks.items()]
    figures.legend_of(figure, legend, len(legend))
    return figures.with_note(
        figure,
        f"Three layers; N: units per layer, B: batch size. Geometric mean over {samples_are(data.rules)}; dotted: BPTT, "
        "here. What a library calls by a name is not always the same rule, see benchmarks/README.md.",
    )


def shown_of(results: list[Timed]) -> list[str]:
    """The contenders with a time or a shipped ratio, in the order of the results."""
    shown = {name for one in results for name in one.records if one.is_shown(name)}
    return [name for name in dict.fromkeys(name for one in results for name in one.records) if name in shown]


def draw_ratios(
    ax: Axes,
    timed: Timed,
    looks: dict[str, Any],
    reference: str,
    shipped: dict[str, str],
    offset: float = 0.0,
    **line: Any,
) -> None:
    """Draw the ratios of a workload to a reference, a row for each contender, with another mark if they are shipped."""
    for row, (name, look) in enumerate(looks.items()):
        figures.draw_interval(ax, row + offset, timed.ratios(name, reference), geometric=True, **line, **look)
        if timed.is_shipped(name):
            ax.plot(timed.records[name]["shipped"], row + offset, **look | shipped)


def name_ratios(ax: Axes, rows: list[str], quantity: str) -> None:
    """Draw 1 as a level, on a logarithmic axis, and name the rows and the axis."""
    figures.draw_levels(ax, ceiling=1, upright=True)
    figures.log_axis(ax)
    figures.name_rows(ax, rows, striped=True)
    ax.set_xlabel(quantity)


def samples_are(results: list[Timed]) -> str:
    """What the intervals of a figure are over, and how busy others kept the machine."""
    starts, busy = {one.starts for one in results}, [one.others for one in results if one.others]
    over = f"{names.listed(starts)} starts of the processes" if min(starts) > 1 else "rounds of a single start"
    return f"{over} with its 95 % interval" + (f"; other programs used up to {max(busy):.1f} cores" if busy else "")


def device_of(results: list[Timed]) -> str:
    """The device that the contenders name, or the processor of the machine."""
    named = {record["device"] for one in results for record in one.records.values() if record.get("device")}
    processor = results[0].result["record"]["machine"].split(maxsplit=2)[-1].replace("(R)", "").replace("(TM)", "")
    return ", ".join(sorted(named)) if named - {"cpu"} else f"CPU, {processor[:22]}"


FIGURES = {
    "throughput": figures.Plot(COLUMNS, rows, draw),
    "throughput_order": figures.Plot(
        plot_order.COLUMNS, lambda data: plot_order.rows(data.bptt), lambda data: plot_order.draw(data.bptt)
    ),
    "throughput_speedup": figures.Plot(RATIO_COLUMNS, ratio_rows, draw_speedup),
    "throughput_rules": figures.Plot(RULE_COLUMNS, rule_rows, draw_rules),
}
