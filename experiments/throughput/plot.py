"""Draw times next to the published ones, times relative to this repository, and the times of learning rules.

Times are compared round by round. The tables also list contenders without a time, with the reason.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.drawing import figures, names, tables
from experiments.drawing.styles import STYLES
from experiments.throughput import order
from experiments.throughput.libraries import LIBRARIES, published_library, row_label, rule_label, rule_of
from experiments.throughput.times import (
    SIZE,
    Results,
    by_name,
    contenders,
    fastest_of,
    inputs_of,
    main_line,
    names_of,
    others_of,
    ranks_of,
    ratios_of,
    reason_of,
    records_of,
    samples_of,
    size_of,
    starts_of,
    times_of,
)

OURS, BPTT = "slax:default", "slax:bptt"
COLUMNS = [
    *("source", "device", "peer", "variant", *SIZE, "inputs", "starts", "load", "others"),
    *("seconds", "low_quartile", "high_quartile", "least", "repeats"),
    *("first_step_seconds", "process_growth_bytes", "temporary_bytes", "device_peak_bytes"),
    *("equation", "differs", "reason"),
]
OF_RATIO = ["starts", "rounds", "unit"]  # of the samples
RATIO_COLUMNS = ["peer", "variant", *SIZE, *tables.ratio_columns("ratio"), *OF_RATIO, "rank", "reason"]
RULE_COLUMNS = [
    "library",
    "rule",
    "variant",
    *SIZE,
    "seconds",
    *tables.ratio_columns("times_bptt"),
    *OF_RATIO,
    "reason",
]


class Data(NamedTuple):
    """The results of both benchmarks; `spikes` are those of `bptt` whose inputs are spikes."""

    bptt: Results
    spikes: Results
    rules: Results


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by benchmark."""
    bptt, rules = ([r for r in results if r["config"]["benchmark"] == name] for name in ("bptt", "rules"))
    return Data(bptt, [r for r in bptt if inputs_of(r["config"]) == "spikes"], rules)


def rows(data: Data) -> Iterator[list[Any]]:
    """A row for each time that was measured, and for each published one."""
    for result, record in records_of(data.bptt):
        times = times_of(record)
        quartiles = [float(np.quantile(times, share)) for share in (0.5, 0.25, 0.75)] if times else [None] * 3
        neuron, device = record["neuron"] or {"equation": "", "differs": ""}, record.get("device") or ""
        device = f"{device}: {result['record']['machine']}" if device == "cpu" else device
        yield [
            *("measured", device, *names_of(record), *size_of(result["config"])),
            *(inputs_of(result["config"]), starts_of(result["config"]), result.get("load"), others_of(result)),
            *(*quartiles, min(times, default=None), len(times)),
            *(record.get(name) for name in ("first_call", "memory_growth", "temporaries", "peak_device_bytes")),
            *(neuron["equation"], neuron["differs"], reason_of(record)),
        ]
    for row in order.BARS:
        seconds = float(row["seconds_forward_backward"]) if row["seconds_forward_backward"] else None
        reason = "" if seconds else "failed or out of memory, as published"
        nothing = [None] * (COLUMNS.index("equation") - COLUMNS.index("low_quartile"))
        peer = published_library(row["framework"], row["device"])
        size = [row["n_neurons"], "", "", 256, "", "", "", ""]
        yield ["published", row["device"], peer, "", *size, seconds, *nothing, "", "", reason]


def ratio_rows(data: Data) -> Iterator[list[Any]]:
    for result, record in records_of(data.spikes):
        cells = [*ratio_cells(result, record, OURS), ranks_of(result)[record["name"]]]
        yield [*names_of(record), *size_of(result["config"]), *cells, reason_of(record)]


def ratio_cells(result: dict[str, Any], record: dict[str, Any], reference: str) -> list[Any]:
    """The cells of the ratio of a record to our reference: its summary and `OF_RATIO`."""
    ratios, unit = ratios_to(result, record, reference)
    starts = starts_of(result["config"])
    return [*tables.ratio_summary(ratios), starts, result["config"]["rounds"], unit if ratios else ""]


def ratios_to(result: dict[str, Any], record: dict[str, Any], reference: str) -> tuple[list[float], str]:
    """The samples of the ratio of a record to our reference, and what each is of."""
    return samples_of(ratios_of(record, by_name(result).get(reference)), starts_of(result["config"]))


def rule_rows(data: Data) -> Iterator[list[Any]]:
    for result, record in records_of(data.rules):
        library, variant = names_of(record)
        start = [library, rule_of(record["name"]), variant, *size_of(result["config"])]
        median = float(np.median(times)) if (times := times_of(record)) else None
        yield [*start, median, *ratio_cells(result, record, BPTT), reason_of(record)]


def draw(data: Data) -> Figure:
    """Draw times against the number of units, as measured here and as published for each device."""
    figures.check_given("throughput", "the benchmark bptt", data.bptt)
    line, config = main_line(data.bptt), data.bptt[0]["config"]
    kinds = sorted({inputs_of(result["config"]) for result in line}, reverse=True)
    curves = {kind: [result for result in line if inputs_of(result["config"]) == kind] for kind in kinds}
    curves = {kind: found for kind, found in curves.items() if len(found) > 1} or curves  # a single size is no curve
    figure, axes = figures.panels(1, len(curves) + len(order.DEVICES), 2.6, 1.2, sharey=True)
    measured, others, drawn = axes[0][: len(curves)], axes[0][len(curves) :], list[str]()
    sizes, titles = [], []
    for ax, (kind, of_kind) in zip(measured, curves.items(), strict=True):
        drawn += draw_measured(ax, of_kind)
        titles.append(f"measured: {kind}\nB = {config['batch']}, {config['dtype']}")
        sizes.append(sorted({result["config"]["size"] for result in of_kind}))
    for ax, device in zip(others, order.DEVICES, strict=True):
        published = [row for row in order.BARS if row["device"] == device]
        drawn += draw_published(ax, published)
        titles.append(f"published: {device}\nbatch not stated")
        sizes.append(sorted({int(row["n_neurons"]) for row in published}))
    figures.name_panels(axes[0], titles)
    for ax, shown in zip(axes[0], sizes, strict=True):
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlabel("units per layer")
        ax.set_xticks(shown, [f"{size:,}" for size in shown], rotation=90)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="y", color="0.9")
    axes[0][0].set_ylabel(f"forward and backward pass, T = {config['steps']} (s)")
    figures.legend_of(figure, [look for library, look in LIBRARIES.items() if library in drawn], 5)
    missing = not_timed(line)
    return figures.with_note(
        figure,
        f"Measured on {_device(line)}: median of the rounds, bars from the first to the third quartile; other libraries in "
        f"their fastest form at each size{dashed(line)}. An x at the top: failed, as published."
        + (f" Not timed, for reasons in the table: {missing}." if missing else ""),
    )


def dashed(line: Results) -> str:
    """Our other forms, which have dashed lines."""
    ours = [names_of(record)[1] for _, record in records_of(line) if names_of(record)[0] == "slax" and times_of(record)]
    forms = [names.FORMS.get(form, form) for form in dict.fromkeys(ours) if form != "default"]
    return f"; dashed: ours, {' or '.join(forms)}" if forms else ""


def not_timed(line: Results) -> str:
    """The libraries of which no form was timed, with the sizes if they were timed at others."""
    sizes: dict[str, dict[int, bool]] = {}
    for result, record in records_of(line):
        at, size = sizes.setdefault(names_of(record)[0], {}), result["config"]["size"]
        at[size] = at.get(size, False) or bool(times_of(record))
    told = []
    for library, at in sizes.items():
        missing, title = [size for size, is_timed in at.items() if not is_timed], LIBRARIES[library]["label"]
        if missing:
            told.append(f"{title} at {', '.join(map(str, missing))}" if any(at.values()) else title)
    return "; ".join(told)


def draw_measured(ax: Axes, line: Results) -> list[str]:
    """Draw a curve for each of our forms, and one for the fastest form of each other library; return the libraries.

    Of several workloads of one size, the last one that has a library counts.
    """
    curves: dict[str, dict[int, list[float]]] = {}
    for result in line:
        fastest = fastest_of(result)
        for record in result["records"]:
            library, times = names_of(record)[0], times_of(record)
            if times and (library == "slax" or fastest[library] is record):
                name = record["name"] if library == "slax" else library
                curves.setdefault(name, {})[result["config"]["size"]] = times
    drawn: list[str] = []
    for name, found in curves.items():
        library = name.partition(":")[0]
        low, middle, high = np.transpose([np.quantile(times, (0.25, 0.5, 0.75)) for times in found.values()])
        ends = (middle - low, high - middle)
        dashes = "--" if library in drawn else "-"  # another form of ours
        ax.errorbar(list(found), middle, ends, linewidth=1.2, linestyle=dashes, elinewidth=0.9, **LIBRARIES[library])
        drawn.append(library)
    return drawn


def draw_published(ax: Axes, published: list[dict[str, str]]) -> list[str]:
    drawn, failed = [], 0
    for name in dict.fromkeys(row["framework"] for row in published):
        library = published_library(name, published[0]["device"])
        mark, of_name = LIBRARIES[library], [row for row in published if row["framework"] == name]
        numbers = {int(row["n_neurons"]): row["seconds_forward_backward"] for row in of_name}
        timed = {size: float(seconds) for size, seconds in numbers.items() if seconds}
        ax.plot(list(timed), list(timed.values()), linewidth=1.2, **mark)
        if sizes := [size for size in numbers if size not in timed]:
            look = {"color": mark["color"], "markersize": 6, "transform": ax.get_xaxis_transform(), "clip_on": False}
            ax.plot(sizes, [1.0 - 0.03 * (failed % 6)] * len(sizes), "x", **look)
            failed += 1
        drawn.append(library)
    return drawn


def draw_speedup(data: Data) -> Figure:
    """Draw a row for each peer: its time over ours, with a mark for each workload; matrix products show a share of our time."""
    figures.check_given("throughput_speedup", "the benchmark bptt, with spikes", data.spikes)
    results = data.spikes
    every = [record for _, record in records_of(results)]
    timed = {record["name"] for record in every if times_of(record) or is_shipped(record)}
    rows = [name for name in contenders(results) if name in timed and name != OURS]
    figure, ((ax,),) = figures.panels(1, 1, 0.21 * len(rows) + 0.3, 0.8)
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(results)))
    marks = []
    for number, (result, shade) in enumerate(zip(results, shades, strict=True)):
        mark = {"color": shade, "marker": "osD^vP*hX"[number % 9], "linestyle": "", "markersize": 3.5}
        marks.append({"label": "N = {}, B = {}, {}".format(*size_of(result["config"])[:3]), **mark})
        records = by_name(result)
        for row, name in enumerate(rows):
            ratios = ratios_to(result, records[name], OURS)[0] if name in records else []
            height = row + 0.6 * ((number + 0.5) / len(results) - 0.5)
            figures.draw_interval(ax, height, ratios, geometric=True, elinewidth=1, **mark)
            if name in records and is_shipped(records[name]):
                ax.plot(records[name]["shipped"], height, fillstyle="none", **mark)
    figures.draw_levels(ax, ceiling=1, upright=True)
    figures.log_axis(ax)
    figures.name_rows(ax, [row_label(name, [*rows, OURS]) for name in rows], striped=True)
    ax.set_xlabel("time / time of slax, here, in the same round")
    figures.legend_of(figure, marks, 4)
    absent = without_times(every, timed)
    return figures.with_note(
        figure,
        f"N: units per layer, B: batch size. Geometric mean over {samples_are(results)}; dotted: slax, here."
        + (f" Not timed, for reasons in the table: {absent}." if absent else "")
        + (
            " Open marks: not run here, from the shipped results of the full scale."
            if any(map(is_shipped, every))
            else ""
        ),
    )


def without_times(records: list[dict[str, Any]], timed: Collection[str]) -> str:
    """The libraries of which no form was timed."""
    libraries = {name.partition(":")[0] for name in timed}
    absent = dict.fromkeys(names_of(record)[0] for record in records if names_of(record)[0] not in libraries)
    return "; ".join(LIBRARIES[library]["label"] for library in absent if library in LIBRARIES)


def is_shipped(record: dict[str, Any]) -> bool:
    """True if it was not timed here, and its ratio to ours is that of the shipped results."""
    return bool(record.get("shipped")) and not times_of(record)


def draw_rules(data: Data) -> Figure:
    """Draw a panel for each workload: the time of each rule's gradient, here and elsewhere, relative to BPTT here."""
    figures.check_given("throughput_rules", "the benchmark rules", data.rules)
    every = [record for _, record in records_of(data.rules)]
    timed = {record["name"] for record in every if times_of(record) or is_shipped(record)}
    rows = [name for name in contenders(data.rules) if name in timed]
    figure, axes = figures.panels(1, len(data.rules), 0.19 * len(rows) + 0.5, 0.7, sharey=True)
    for ax, result in zip(axes[0], data.rules, strict=True):
        records = by_name(result)
        for row, name in enumerate(rows):
            look = {"color": STYLES[rule_of(name)].color, "markersize": 4.5}
            look |= {"marker": "o"} if name.startswith("slax:") else {"marker": "D", "markerfacecolor": "white"}
            ratios, _ = ratios_to(result, records[name], BPTT)
            figures.draw_interval(ax, row, ratios, geometric=True, **look)
            if is_shipped(records[name]):
                ax.plot(records[name]["shipped"], row, **look | {"marker": "s", "markerfacecolor": "none"})
        figures.draw_levels(ax, ceiling=1, upright=True)
        figures.log_axis(ax)
        figures.name_rows(ax, [rule_label(name) for name in rows], striped=True)
        ax.set_xlabel("time of a gradient / that of BPTT, here")
    workloads = (size_of(result["config"]) for result in data.rules)
    figures.name_panels(axes[0], ("N = {}, B = {}, {}, T = {}".format(*size) for size in workloads))
    marks = {"this repository": {"marker": "o"}, "other libraries": {"marker": "D", "markerfacecolor": "white"}}
    if any(map(is_shipped, every)):
        marks["not run here, from the shipped results"] = {"marker": "s", "markerfacecolor": "none"}
    looks = [{"linestyle": "", "color": figures.NO_RULE, "label": label, **mark} for label, mark in marks.items()]
    figures.legend_of(figure, looks, len(looks))
    return figures.with_note(
        figure,
        f"Three layers; N: units per layer, B: batch size. Geometric mean over {samples_are(data.rules)}; dotted: BPTT, "
        "here. What a library calls by a name is not always the same rule, see benchmarks/README.md.",
    )


def samples_are(results: Results) -> str:
    """What the intervals of a figure are over, and how busy others kept the machine."""
    starts, busy = {starts_of(result["config"]) for result in results}, list(filter(None, map(others_of, results)))
    over = f"{names.listed(starts)} starts of the processes" if min(starts) > 1 else "rounds of a single start"
    return f"{over} with its 95 % interval" + (f"; other programs used up to {max(busy):.1f} cores" if busy else "")


def _device(results: Results) -> str:
    """The device that the contenders name, or the processor of the machine."""
    named = {record["device"] for _, record in records_of(results) if record.get("device")}
    if named - {"cpu"}:
        return ", ".join(sorted(named))
    processor = results[0]["record"]["machine"].split(maxsplit=2)[-1]
    return f"CPU, {processor.replace('(R)', '').replace('(TM)', '')[:22]}"


FIGURES = {
    "throughput": figures.Plot(COLUMNS, rows, draw),
    "throughput_order": figures.Plot(
        order.COLUMNS, lambda data: order.rows(data.bptt), lambda data: order.draw(data.bptt)
    ),
    "throughput_speedup": figures.Plot(RATIO_COLUMNS, ratio_rows, draw_speedup),
    "throughput_rules": figures.Plot(RULE_COLUMNS, rule_rows, draw_rules),
}
