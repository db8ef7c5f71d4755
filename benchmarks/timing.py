"""Times of compiled programs that take turns, and tables of what was measured."""

import csv
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import jax

from experiments.pipeline.results import run_of

LEAST = 3  # rounds, also if they take longer than asked for


def times_of(calls: dict[Any, Callable[[], Any]], repeats: int, seconds: float = math.inf) -> dict[Any, list[float]]:
    """The seconds of each call, in rounds in which all take turns, until these have taken so many seconds."""
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for repeat in range(repeats + 1):
        if repeat == 1:  # the round before compiles
            end = time.perf_counter() + seconds
        elif repeat > LEAST and time.perf_counter() > end:
            break
        for key, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if repeat:
                times[key].append(time.perf_counter() - start)
    return times


def write_about(command: str) -> None:
    """Write what a table begins with: the command that measured it, the machine with its load, and the date."""
    about, load = run_of(time.perf_counter()), os.getloadavg()[0]
    print(f"# python -m benchmarks.{command}")
    print(
        f"# {about['machine']}, load {load:.1f} before; jax {jax.__version__}; {about['date'][:10]}; commit {about['commit']}"
    )


def write_rows(
    rows: Iterable[dict[str, Any]], columns: Sequence[str], file: TextIO = sys.stdout, *, header: bool = True
) -> None:
    """Write each row as soon as it is there, as CSV."""
    table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    if header:
        table.writeheader()
    for row in rows:
        table.writerow(row)
        file.flush()
