"""Markdown tables of a file of run.py: `python -m benchmarks.side_by_side.tables results/benchmarks/bptt_speed.json`."""

import argparse
import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

FIRST_STEP = {  # columns reported: title, key of the record, format, factor
    "XLA's temporaries, MB": ("temporaries", ".3g", 1e-6),
    "Growth of the process by its first step, compiler included, MB": ("memory_growth", ".0f", 1e-6),
    "First step, compiler included, s": ("first_call", ".2g", 1.0),
    "Loss": ("loss", ".4g", 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    results = json.loads(parser.parse_args().results.read_text(encoding="utf-8"))
    workloads = results["workloads"]
    parts = ["{date}, {processor}, {cores} cores, {system}, load {load} at the start.".format(**results["machine"])]
    if any(record["rounds"] for workload in workloads for record in workload["records"]):
        parts.append(f"Time per step, ms: median (least)\n\n{contender_table(workloads, time_cell)}")
    for title, told in FIRST_STEP.items():
        parts.append(f"{title}\n\n{contender_table(workloads, partial(first_step_cell, *told))}")
    parts.append(f"Versions\n\n{version_table(workloads)}")
    errors = {(r["name"], r["error"]): None for workload in workloads for r in workload["records"] if r["error"]}
    parts += [f"{name} failed: `{error}`" for name, error in errors]
    print("\n\n".join(parts))


def contender_table(workloads: list[dict], cell: Callable[[dict], str]) -> str:
    """A table with a row per contender, the fastest on the last workload first, and a column per workload."""

    def shown(record: dict) -> str:
        if record["left_out"]:
            return "left out"
        return "failed" if record["error"] else cell(record)

    contenders = zip(*(workload["records"] for workload in workloads), strict=True)
    rows = [
        [records[0]["name"], *map(shown, records)]
        for records in sorted(contenders, key=lambda records: [median_time(record) for record in reversed(records)])
    ]
    return markdown(["", *map(column_name, workloads)], rows)


def time_cell(record: dict) -> str:
    return f"{1e3 * median_time(record):.3g} ({1e3 * min(itertools.chain(*record['rounds'])):.3g})"


def first_step_cell(key: str, form: str, factor: float, record: dict) -> str:
    value = record.get(key)
    return "" if value is None else format(value * factor, form)


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
    """The median time in seconds; infinite for a contender that was not timed."""
    times = list(itertools.chain(*record["rounds"]))
    return median(times) if times and not record["error"] else math.inf


def markdown(header: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


if __name__ == "__main__":
    main()
