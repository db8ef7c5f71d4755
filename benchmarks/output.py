"""Tables of what benchmarks measured."""

import csv
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import jax

from experiments.pipeline.results import run_of


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
