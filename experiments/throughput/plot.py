"""Draw times next to the published ones, times relative to this repository, and the times of learning rules.

Times are compared round by round. The tables also list contenders without a time, with the reason.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.common import figures, tables
from experiments.common.styles import STYLES
from experiments.throughput.libraries import LIBRARIES, published_library, row_label, rule_label, rule_of

OURS, BPTT = "slax:default", "slax:bptt"
SIZE = ["n", "batch", "dtype", "steps"]
COLUMNS = [
    *("source", "device", "peer", "variant", *SIZE, "seconds", "low_quartile", "high_quartile", "least", "repeats"),
    *("first_step_seconds", "process_growth_bytes", "temporary_bytes", "device_peak_bytes"),
    *("equation", "differs", "reason"),
]
RATIO_COLUMNS = ["peer", "variant", *SIZE, *tables.ratio_columns("ratio"), "rounds", "rank", "reason"]
RULE_COLUMNS = ["library", "rule", "variant", *SIZE, "seconds", *tables.ratio_columns("times_bptt"), "rounds", "reason"]
PUBLISHED = Path(__file__).with_name("published.csv")

Results = list[dict[str, Any]]


class Data(NamedTuple):
    """The results of the two benchmarks, and the published times."""

    bptt: Results
    rules: Results
    published: list[dict[str, str]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results by benchmark, with the published times."""
    bptt, rules = ([r for r in results if r["config"]["benchmark"] == name] for name in ("bptt", "rules"))
    return Data(bptt, rules, tables.rows_of_csv(PUBLISHED))


def size_of(config: dict[str, Any]) -> list[Any]:
    return [config[name] for name in ("size", "batch", "dtype", "steps")]


def records_of(results: Results) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each result with each of its records."""
    return ((result, record) for result in results for record in result["records"])


def contenders(results: Results) -> list[str]:
    """The names of all contenders, in the order of the results."""
    return list(dict.fromkeys(record["name"] for _, record in records_of(results)))


def names_of(record: dict[str, Any]) -> tuple[str, str]:
    peer, _, variant = record["name"].partition(":")
    return peer, variant


def reason_of(record: dict[str, Any]) -> str:
    """The reason why there is no time; empty if there is one."""
    return record["error"] or record["left_out"] or ""


def times_of(record: dict[str, Any]) -> list[float]:
    return [] if reason_of(record) else [time for turn in record["rounds"] for time in turn]


def ratios_of(record: dict[str, Any], other: dict[str, Any] | None) -> list[float]:
    """The ratio of medians between a record and another contender in each round."""
    if other is None or not times_of(record) or not times_of(other):
        return []
    pairs = zip(record["rounds"], other["rounds"], strict=True)
    return [float(np.median(mine) / np.median(theirs)) for mine, theirs in pairs]


def rows(data: Data) -> Iterator[list[Any]]:
    """A row for each time that was measured, and for each published one."""
    for result, record in records_of(data.bptt):
        times = times_of(record)
        quartiles = [float(np.quantile(times, share)) for share in (0.5, 0.25, 0.75)] if times else [None] * 3
        neuron, device = record["neuron"] or {"equation": "", "differs": ""}, record.get("device") or ""
        device = f"{device}: {result['record']['machine']}" if device == "cpu" else device
        yield [
            *("measured", device, *names_of(record), *size_of(result["config"])),
            *(*quartiles, min(times, default=None), len(times)),
            *(record.get(name) for name in ("first_call", "memory_growth", "temporaries", "peak_device_bytes")),
            *(neuron["equation"], neuron["differs"], reason_of(record)),
        ]
    for row in data.published:
        seconds = float(row["seconds_forward_backward"]) if row["seconds_forward_backward"] else None
        reason = "" if seconds else "failed or out of memory, as published"
        nothing = [None] * (COLUMNS.index("equation") - COLUMNS.index("low_quartile"))
        peer = published_library(row["framework"], row["device"])
        yield ["published", row["device"], peer, "", row["n_neurons"], "", "", 256, seconds, *nothing, "", "", reason]


def ratio_rows(data: Data) -> Iterator[list[Any]]:
    for result, record in records_of(data.bptt):
        ratios = ratios_of(record, by_name(result).get(OURS))
        cells = [*tables.ratio_summary(ratios), len(ratios), ranks_of(result)[record["name"]]]
        yield [*names_of(record), *size_of(result["config"]), *cells, reason_of(record)]


def rule_rows(data: Data) -> Iterator[list[Any]]:
    for result, record in records_of(data.rules):
        (library, variant), ratios = names_of(record), ratios_of(record, by_name(result).get(BPTT))
        start = [library, rule_of(record["name"]), variant, *size_of(result["config"])]
        median = float(np.median(times)) if (times := times_of(record)) else None
        yield [*start, median, *tables.ratio_summary(ratios), len(ratios), reason_of(record)]


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {record["name"]: record for record in result["records"]}


def ranks_of(result: dict[str, Any]) -> dict[str, int]:
    """The place of each contender among the forms of its library, by the geometric mean of its medians of rounds, as in ratios:
    1 is the fastest, and those without a time come last."""

    def time(record: dict[str, Any]) -> float:
        return float(np.log([*map(np.median, record["rounds"])]).mean()) if times_of(record) else np.inf

    ranks: dict[str, int] = {}
    for record in sorted(result["records"], key=time):
        library = names_of(record)[0]
        ranks[record["name"]] = 1 + sum(other.partition(":")[0] == library for other in ranks)
    return ranks


def main_line(results: Results) -> Results:
    """The workloads that share batch, type and steps with the first and differ only in the number of units, by size."""
    first = results[0]["config"]
    alike = [r for r in results if all(r["config"][name] == first[name] for name in ("batch", "dtype", "steps"))]
    return sorted(alike, key=lambda result: result["config"]["size"])


def draw(data: Data) -> Figure:
    """Draw times against the number of units, as measured here and as published for each device."""
    figures.check_given("throughput", "the benchmark bptt", data.bptt)
    line, published = main_line(data.bptt), data.published
    devices = list(dict.fromkeys(row["device"] for row in published))
    figure, axes = figures.panels(1, len(devices) + 1, (3.1, 6.4), (0.6, 0), sharey=True)
    (measured, *others), config = axes[0], line[0]["config"]
    drawn = [*draw_measured(measured, line)]
    measured.set_title(f"measured: {_device(line)}\nB = {config['batch']}, {config['dtype']}")
    for ax, device in zip(others, devices, strict=True):
        drawn += draw_published(ax, [row for row in published if row["device"] == device])
        ax.set_title(f"published: {device}\nbatch not stated")
    sizes = [result["config"]["size"] for result in line], sorted({int(row["n_neurons"]) for row in published})
    for ax in axes[0]:
        shown = sizes[ax is not measured]
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlabel("units per layer")
        ax.set_xticks(shown, list(map(str, shown)), rotation=45)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="y", color="0.9")
    measured.set_ylabel(f"forward and backward pass, T = {config['steps']} (s)")
    figures.legend_of(figure, [look for library, look in LIBRARIES.items() if library in drawn], 5)
    text = "measured: median, bars from the first to the third quartile; other libraries in their fastest form at each size; "
    text += "an x at the top: failed, as published"
    missing = not_timed(line)
    return figures.with_note(figure, f"{text}\nnot timed, for reasons in the table: {missing}" if missing else text)


def not_timed(line: Results) -> str:
    """The libraries that were not timed at all sizes, with the sizes if they were timed at others."""
    sizes: dict[str, list[int]] = {}
    for result, record in records_of(line):
        if reason_of(record):
            sizes.setdefault(record["name"], []).append(result["config"]["size"])
    told = []
    for name, missing in sizes.items():
        everywhere = len(missing) == sum(name in by_name(result) for result in line)
        title = row_label(name, contenders(line[:1]))
        told.append(title if everywhere else f"{title} at {', '.join(map(str, missing))}")
    return "; ".join(dict.fromkeys(told))


def draw_measured(ax: Axes, line: Results) -> list[str]:
    """Draw a curve for each of our forms, and one for the fastest form of each other library; return the libraries."""
    curves: dict[str, list[tuple[int, list[float]]]] = {}
    for result in line:
        ranks = ranks_of(result)
        for record in result["records"]:
            library, times = names_of(record)[0], times_of(record)
            name = record["name"] if library == "slax" else library
            if times and (library == "slax" or ranks[record["name"]] == 1):
                curves.setdefault(name, []).append((result["config"]["size"], times))
    drawn: list[str] = []
    for name, found in curves.items():
        library = name.partition(":")[0]
        sizes = [size for size, _ in found]
        low, middle, high = np.transpose([np.quantile(times, (0.25, 0.5, 0.75)) for _, times in found])
        ends = (middle - low, high - middle)
        dashes = "--" if library in drawn else "-"  # another form of ours
        ax.errorbar(sizes, middle, ends, linewidth=1.2, linestyle=dashes, elinewidth=0.9, **LIBRARIES[library])
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
    figures.check_given("throughput_speedup", "the benchmark bptt", data.bptt)
    results = data.bptt
    names = contenders(results)
    names.remove(OURS)
    figure, ((ax,),) = figures.panels(1, 1, (9.6, 0.42 * len(names)), (0, 2.2))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(results)))
    marks = []
    for number, (result, shade) in enumerate(zip(results, shades, strict=True)):
        mark = {"color": shade, "marker": "osD^vP*hX"[number % 9], "linestyle": "", "markersize": 5.5}
        marks.append({"label": "N = {}, B = {}, {}".format(*size_of(result["config"])[:3]), **mark})
        records = by_name(result)
        for row, name in enumerate(names):
            ratios = ratios_of(records[name], records.get(OURS)) if name in records else []
            height = row + 0.6 * ((number + 0.5) / len(results) - 0.5)
            figures.draw_interval(ax, height, ratios, geometric=True, elinewidth=1, **mark)
            if name in records and is_shipped(records[name]):
                ax.plot(records[name]["shipped"], height, fillstyle="none", **mark)
    every = [record for _, record in records_of(results)]
    drawn = {record["name"] for record in every if times_of(record) or is_shipped(record)}
    reasons = {record["name"]: reason_of(record) for record in reversed(every)}  # in the first workload
    look = {"color": "0.35", "fontsize": "x-small", "bbox": {"facecolor": "white", "linewidth": 0}}
    for row, name in enumerate(names):
        if name not in drawn:
            figures.write_in_row(ax, row, _why(reasons[name]), 0.02, **look)
    ax.axvline(1, color="0.4", linestyle=":")
    figures.log_axis(ax)
    figures.name_rows(ax, [row_label(name, names) for name in names], striped=True)
    ax.set_xlabel("time / time of slax, here, in the same round: geometric mean, 95 % interval over rounds")
    figures.legend_of(figure, marks, 3)
    if any(map(is_shipped, every)):
        figures.with_note(figure, "open marks: not run here, from the shipped results of the full scale")
    return figure


def is_shipped(record: dict[str, Any]) -> bool:
    """True if it was not timed here, and its ratio to ours is that of the shipped results."""
    return bool(record.get("shipped")) and not times_of(record)


def draw_rules(data: Data) -> Figure:
    """Draw a panel for each workload: the time of each rule's gradient, here and elsewhere, relative to BPTT here."""
    figures.check_given("throughput_rules", "the benchmark rules", data.rules)
    names = contenders(data.rules)
    figure, axes = figures.panels(1, len(data.rules), (5.2, 0.36 * len(names)), (3.2, 1.6), sharey=True)
    for ax, result in zip(axes[0], data.rules, strict=True):
        records = by_name(result)
        for row, name in enumerate(names):
            record, color = records[name], STYLES[rule_of(name)].color
            mean, low, high = tables.ratio_interval(ratios_of(record, records.get(BPTT)))
            look = {"hatch": "" if name.startswith("slax:") else "///", "linewidth": 0.7, "zorder": 2}
            if is_shipped(record):
                ax.barh(row, record["shipped"], color="white", edgecolor=color, **look | {"hatch": "///"})
            elif mean is None:
                ax.text(1.05, row, _why(reason_of(record)), va="center", color="0.35", fontsize="x-small")
            else:
                ends = None if low is None else [[mean - low], [high - mean]]
                ax.barh(row, mean, color=color, edgecolor="black", xerr=ends, **look)
        ax.axvline(1, color="0.4", linestyle=":", zorder=3)
        figures.log_axis(ax)
        figures.name_rows(ax, [rule_label(name) for name in names])
        ax.set_title("N = {}, B = {}, {}, T = {}".format(*size_of(result["config"])))
        ax.set_xlabel("time of a gradient / BPTT, here")
    text = "hatched: other libraries; white: not run here, from the shipped results; lines: 95 % interval over rounds"
    return figures.with_note(figure, f"{text}\na name is not always one rule, see benchmarks/README.md")


def _device(results: Results) -> str:
    """The device that the contenders name, or the processor of the machine."""
    named = {record["device"] for _, record in records_of(results) if record.get("device")}
    if named - {"cpu"}:
        return ", ".join(sorted(named))
    processor = results[0]["record"]["machine"].split(maxsplit=2)[-1]
    return f"CPU, {processor.replace('(R)', '').replace('(TM)', '')[:22]}"


def _why(reason: str) -> str:
    """Why there is no time, in a figure; a contender that was not asked for says by itself that it was not run."""
    text = reason if len(reason) < 90 else reason[:87] + "..."
    return text if text.startswith("not run") else f"not timed: {text}"


FIGURES = {
    "throughput": figures.Plot(COLUMNS, rows, draw),
    "throughput_speedup": figures.Plot(RATIO_COLUMNS, ratio_rows, draw_speedup),
    "throughput_rules": figures.Plot(RULE_COLUMNS, rule_rows, draw_rules),
}
