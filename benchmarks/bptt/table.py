"""Makes markdown tables of a file that run.py wrote: `python benchmarks/bptt/table.py results/benchmarks/speed.json`."""

import argparse
import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

OURS, FLOOR, BY_HAND = "slax", "matmul", "plain"

FIRST_STEP = {  # what is told of it: title, key of the record, format, factor
    "XLA's temporaries, MB": ("temporaries", ".3g", 1e-6),
    "Growth of the process by its first step, compiler included, MB": ("memory_growth", ".0f", 1e-6),
    "First step, compiler included, s": ("first_call", ".2g", 1.0),
    "Loss: spikes of the last layer": ("loss", ".0f", 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    print(tables(json.loads(parser.parse_args().results.read_text())))


def tables(results: dict[str, Any]) -> str:
    machine, workloads = results["machine"], results["workloads"]
    about = "{date}, {processor}, {cores} cores, {system}, load {load} at the start.".format(**machine)
    parts = [about]
    if any(record["rounds"] for workload in workloads for record in workload["records"]):
        parts.append(f"Time per step, ms: median (least)\n\n{contender_table(workloads, time_cell)}")
        parts.append(f"Ratios of medians\n\n{ratio_table(workloads)}")
    for title, measure in FIRST_STEP.items():
        parts.append(f"{title}\n\n{contender_table(workloads, partial(first_step_cell, *measure))}")
    parts.append(f"Versions\n\n{version_table(workloads)}")
    errors = {(r["name"], r["error"]): None for workload in workloads for r in workload["records"] if r["error"]}
    parts += [f"{name} failed: `{error}`" for name, error in errors]
    return "\n\n".join(parts)


def contender_table(workloads: list[dict], cell: Callable[[dict], str]) -> str:
    """A row per contender, the fastest on the last workload first, and a column per workload."""
    contenders = zip(*(workload["records"] for workload in workloads), strict=True)
    rows = [
        [records[0]["name"], *("failed" if record["error"] else cell(record) for record in records)]
        for records in sorted(contenders, key=lambda records: median_time(records[-1]))
    ]
    return markdown(["", *map(column_name, workloads)], rows)


def time_cell(record: dict) -> str:
    return f"{1e3 * median_time(record):.3g} ({1e3 * min(itertools.chain(*record['rounds'])):.3g})"


def first_step_cell(key: str, form: str, factor: float, record: dict) -> str:
    value = record.get(key)
    return "" if value is None else format(value * factor, form)


def ratio_table(workloads: list[dict]) -> str:
    """A row per workload: this repository's default against its best, the fastest peer, hand-written code and the floor."""
    rows = []
    for workload in workloads:
        medians = {record["name"]: median_time(record) for record in workload["records"]}
        ours, floor, by_hand = (medians.get(f"{name}:default", math.nan) for name in (OURS, FLOOR, BY_HAND))
        best = fastest(medians, lambda peer: peer == OURS)
        peer = fastest(medians, lambda peer: peer not in (OURS, FLOOR, BY_HAND))
        ratios = [f"{ratio(ours, medians.get(name, math.nan))} {name}" for name in (best, peer)]
        rows.append([column_name(workload), *ratios, ratio(ours, by_hand), ratio(floor, ours)])
    return markdown(["", "ours / our best", "ours / fastest peer", "ours / by hand", "matrix products / ours"], rows)


def ratio(time: float, other: float) -> str:
    """Empty where one of them was not timed."""
    return f"{time / other:.2f}" if math.isfinite(time / other) else ""


def fastest(medians: dict[str, float], among: Callable[[str], bool]) -> str:
    names = [name for name, time in medians.items() if among(name.split(":")[0]) and math.isfinite(time)]
    return min(names, key=medians.get, default="")


def version_table(workloads: list[dict]) -> str:
    rows = {}
    for record in itertools.chain(*(workload["records"] for workload in workloads)):
        if "versions" in record:
            versions = {"python": record["python"], **record["versions"]}
            rows[record["name"].split(":")[0]] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return markdown(["", "versions"], [list(row) for row in rows.items()])


def column_name(workload: dict) -> str:
    widths = workload["widths"]
    net = f"N = {widths[0]}" if len(set(widths)) == 1 else "-".join(map(str, widths))
    return f"{net}, T = {workload['steps']}"


def median_time(record: dict) -> float:
    """In seconds; infinite for a contender that was not timed."""
    times = list(itertools.chain(*record["rounds"]))
    return median(times) if times and not record["error"] else math.inf


def markdown(header: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


if __name__ == "__main__":
    main()
