"""Draw times relative to this repository, and their order beside the published one. The times of learning rules are in a table.

Times are compared round by round. The tables also list contenders without a time, with the reason.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import figures, names, tables
from experiments.throughput import plot_order
from experiments.throughput.plot_libraries import BARS, LIBRARIES, published_library, rule_of
from experiments.throughput.plot_times import OF_RATIO, SIZE, Timed, main_line

OURS, BPTT = "slax:default", "slax:bptt"
COLUMNS = [
    *("source", "device", "peer", "variant", *SIZE, "inputs", "starts", "load"),
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
                *(*name.split(":"), *timed.size, timed.inputs, timed.starts, timed.result.get("load")),
                *(*quartiles, min(times, default=None), len(times)),
                *(record.get(key) for key in ("first_call", "memory_growth", "temporaries", "peak_device_bytes")),
                *(neuron["equation"], neuron["differs"], timed.reasons[name]),
            ]
    for bar in BARS:
        seconds = float(bar["seconds_forward_backward"]) if bar["seconds_forward_backward"] else None
        start = ["published", bar["device"], published_library(bar["framework"], bar["device"]), "", bar["n_neurons"]]
        nothing = [None] * (COLUMNS.index("equation") - COLUMNS.index("low_quartile"))
        reason = "" if seconds else "failed or out of memory, as published"
        yield [*start, "", "", 256, "", "", "", seconds, *nothing, "", "", reason]


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


def draw_speedup(data: Data) -> Figure:
    """Draw the time of each library in its fastest form over ours, against the number of units."""
    line, (_, batch, dtype, steps) = main_line(data.spikes), data.spikes[0].size
    figure, ((ax,),) = figures.panels(1, 1, 3.0, 0.4)
    if missing := {library for one in line for library in one.fastest} - {*LIBRARIES}:
        raise ValueError(f"Got times of {', '.join(sorted(missing))}, expected a row for each in libraries.csv.")
    for library, look in LIBRARIES.items():
        ratios = {one.n: one.ratios(one.fastest.get(library), OURS) for one in line}
        known = {n: of for n, of in ratios.items() if of}
        if library == "slax" or not known:
            continue
        means = [figures.draw_interval(ax, n, of, geometric=True, upright=True, **look) for n, of in known.items()]
        ax.plot([*known], means, **look)
    figures.draw_levels(ax, ceiling=1)
    sizes = sorted({one.n for one in line})
    ax.set(xlabel="units per layer", ylabel="time / time of slax, here, in the same round", xmargin=0)
    for axis in ("x", "y"):
        figures.log_axis(ax, axis)
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    figures.label_lines([ax])
    return figures.with_note(
        figure,
        f"A forward and backward pass of {steps} steps on {device_of(line)}, B = {batch}, {dtype}; other libraries in their "
        f"fastest form at each size. Geometric mean over {samples_are(line)}; dotted: slax, here. The table has other "
        "workloads, and why a library has no time.",
    )


def samples_are(results: list[Timed]) -> str:
    """What the intervals of a figure are over."""
    starts = {one.starts for one in results}
    over = f"{names.listed(starts)} starts of the processes" if min(starts) > 1 else "rounds of a single start"
    return f"{over} with its 95 % interval"


def device_of(results: list[Timed]) -> str:
    """The device that the contenders name, or the processor of the machine."""
    named = {record["device"] for one in results for record in one.records.values() if record.get("device")}
    processor = results[0].result["record"]["machine"].split(maxsplit=2)[-1].replace("(R)", "").replace("(TM)", "")
    return ", ".join(sorted(named)) if named - {"cpu"} else f"CPU, {processor[:22]}"


FIGURES = {
    "throughput_speedup": figures.Plot(RATIO_COLUMNS, ratio_rows, draw_speedup),
    "throughput_order": figures.Plot(
        plot_order.COLUMNS, lambda data: plot_order.rows(data.bptt), lambda data: plot_order.draw(data.bptt)
    ),
}
TABLES = {"throughput": figures.Plot(COLUMNS, rows), "throughput_rules": figures.Plot(RULE_COLUMNS, rule_rows)}
