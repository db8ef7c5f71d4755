"""What jobs need, measured: `workflow/resources.yaml`, from the records of results.

    python -m experiments.resources                    # of the results in results/
    python -m experiments.resources trial              # of those in another folder

For each experiment and scale, it is the longest time of a job in seconds, and the largest memory in units of 10^6 bytes, of the
results that a processor made. What is found replaces what the table says; the rest of the table stays. On a cluster, the
pipeline asks for somewhat more than that: `workflow/figure.smk`.
"""

import copy
from collections.abc import Iterable, Iterator
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

Table = dict[str, dict[str, dict[str, int]]]


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("experiments.resources", __doc__)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS, help="folder of results; default: results")
    parser.add_argument("--table", type=Path, default=TABLE, help=f"default: {TABLE}")
    options = parser.parse_args(arguments)
    found = largest(records(options.results))
    if not found:
        raise SystemExit(f"{options.results} has no records of results of a processor.")
    known = read_yaml(options.table) if options.table.exists() else {}
    with atomic_write(options.table) as aside:
        aside.write_text(HEAD + yaml.safe_dump(merged(known, found), default_flow_style=None), encoding="utf-8")
    print(yaml.safe_dump(found, default_flow_style=None), end="")


def records(results: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The experiment, the scale and the content of each whole record of a result."""
    for experiment in experiment_names():
        for scale in SCALES:
            for path in sorted((results / scale / experiment).rglob(f"*{RECORD}")):
                if content := read_record(path):
                    yield experiment, scale, content


def largest(found: Iterable[tuple[str, str, dict[str, Any]]]) -> Table:
    """The largest value of each fact by experiment and scale. A record that lacks a fact, an older one, is left out."""
    table: Table = {}
    for experiment, scale, content in found:
        for fact, name in FACTS.items():
            counts = name == "seconds" or experiment not in SIDE_BY_SIDE
            if content.get("device") == "cpu" and fact in content and counts:
                facts = table.setdefault(experiment, {}).setdefault(scale, {})
                facts[name] = max(round(content[fact]), facts.get(name, 1))
    return table


def merged(known: Table, found: Table) -> Table:
    """A table in which each value that was found replaces the one that was known."""
    table = copy.deepcopy(known)
    for experiment, scales in found.items():
        for scale, facts in scales.items():
            table.setdefault(experiment, {}).setdefault(scale, {}).update(facts)
    return table


if __name__ == "__main__":
    main()
