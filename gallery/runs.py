"""The runs that made the figures of an experiment, from its results and their records."""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pipeline.results import record_of, require_intact


class Run(NamedTuple):
    """All results of one experiment taken together. One job can make several results, with one record.

    `versions` has, by name, all versions that occur, and `libraries` the same for each library that was timed.
    """

    results: int
    seeds: list[int]
    versions: dict[str, str]
    libraries: dict[str, dict[str, str]]
    devices: Counter[str]  # with their numbers of jobs, as for machines and commits
    machines: Counter[str]
    commits: Counter[str]
    first: str  # date and time
    last: str
    seconds: float
    older: Counter[str]  # commits of jobs that are older than the sources


def read_run(paths: Iterable[Path], older: Collection[Path] = ()) -> Run:
    """The run that made these results, of which some are older than the sources.

    Raises:
        SystemExit: a result differs from its record, or has none.
    """
    files: dict[Path, list[Path]] = {}
    for path in paths:
        files.setdefault(record_of(path), []).append(path)
    records = [require_intact(of, "Make it again: `snakemake results`.") for of in files.values()]
    results = [json.loads(path.read_text(encoding="utf-8")) for of in files.values() for path in of]
    timed: dict[str, list[dict[str, str]]] = {}
    for one in (one for result in results for one in result.get("records", ()) if one.get("versions")):
        timed.setdefault(one["name"].partition(":")[0], []).append(one["versions"])
    first_seeds = (range(result["seed"], result["seed"] + len(result.get("seeds") or [1])) for result in results)
    dates = sorted(record["date"] for record in records)
    return Run(
        results=len(results),
        seeds=sorted({seed for seeds in first_seeds for seed in seeds}),
        versions=_versions(result["versions"] for result in results),
        libraries={name: _versions(found) for name, found in timed.items()},
        devices=Counter(record["device"] for record in records),
        machines=Counter(record["machine"] for record in records),
        commits=Counter(record["commit"] for record in records),
        first=dates[0],
        last=dates[-1],
        seconds=sum(record["wall_seconds"] for record in records),
        older=Counter(
            record["commit"]
            for record, of in zip(records, files.values(), strict=True)
            if any(path in older for path in of)
        ),
    )


def _versions(found: Iterable[dict[str, Any]]) -> dict[str, str]:
    """By name, all versions that occur."""
    pairs = sorted({pair for versions in found for pair in versions.items()})
    return {name: " and ".join(version for other, version in pairs if other == name) for name, _ in pairs}
