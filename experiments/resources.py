"""What jobs need, measured: `workflow/resources.yaml`, from the records of results.

    python -m experiments.resources                    # of the results in results/
    python -m experiments.resources trial              # of those in another folder

For each experiment and scale, it is the longest time of a job in seconds, and the largest memory in units of 10^6 bytes, of the
results that a processor made. What is found replaces what the table says; the rest of the table stays. On a cluster, the
pipeline asks for somewhat more than that: `workflow/figure.smk`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from experiments.common.command_line import parser_of
from experiments.common.job import SCALES, experiment_names
from experiments.common.products import RESULTS
from experiments.common.records import RECORD, read_record
from experiments.common.result_files import atomic_write
from experiments.common.yaml_files import read_yaml

TABLE = Path("workflow/resources.yaml")
HEAD = "# What the costliest job of each experiment and scale needed: `python -m experiments.resources` writes this.\n"
# Its jobs run a process for each library at the same time; a record has the memory of the largest of them alone.
SIDE_BY_SIDE = ("throughput",)
FACTS = {"wall_seconds": "seconds", "peak_megabytes": "megabytes"}


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("experiments.resources", __doc__)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS, help="folder of results; default: results")
    parser.add_argument("--table", type=Path, default=TABLE, help=f"default: {TABLE}")
    options = parser.parse_args(arguments)
    found = largest(options.results)
    if not found:
        raise SystemExit(f"{options.results} has no records of results of a processor.")
    table: dict[str, Any] = read_yaml(options.table) if options.table.exists() else {}
    for (experiment, scale, name), value in found.items():
        table.setdefault(experiment, {}).setdefault(scale, {})[name] = value
    with atomic_write(options.table) as aside:
        aside.write_text(HEAD + yaml.safe_dump(table, default_flow_style=None), encoding="utf-8")


def largest(results: Path) -> dict[tuple[str, str, str], int]:
    """The largest value of each fact by experiment, scale and its name in the table."""
    found: dict[tuple[str, str, str], int] = {}
    for experiment, scale, record in records(results):
        for fact, name in FACTS.items():
            counts = name == "seconds" or experiment not in SIDE_BY_SIDE
            if record.get("device") == "cpu" and fact in record and counts:
                key = experiment, scale, name
                found[key] = max(round(record[fact]), found.get(key, 1))
    return found


def records(results: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The experiment, the scale and the content of each whole record of a result."""
    for experiment in experiment_names():
        for scale in SCALES:
            for path in sorted((results / scale / experiment).rglob(f"*{RECORD}")):
                if content := read_record(path):
                    yield experiment, scale, content


if __name__ == "__main__":
    main()
