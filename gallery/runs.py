"""The runs that made the figures of an experiment, from its results and their records."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pipeline.results import record_of, require_intact


class Run(NamedTuple):
    """All results of one experiment taken together.

    One job can make several results, with one record.

    `settings` are the settings that all results have in common; `differing` has, by name, the values of the others. Names of
    nested settings are joined by dots. `versions` has, by name, all versions that occur, and `libraries` the same for each
    library that was timed.
    """

    results: int
    settings: dict[str, Any]
    differing: dict[str, list[Any]]
    versions: dict[str, list[str]]
    libraries: dict[str, dict[str, list[str]]]
    seeds: list[int]
    seeds_each: list[int]  # numbers of seeds in a result, counted from its own seed
    devices: dict[str, int]  # with their numbers of jobs, as for machines and commits
    machines: dict[str, int]
    commits: dict[str, int]
    first: str  # date and time
    last: str
    seconds: float
    older: dict[str, int]  # commits of jobs that are older than the sources


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
    return run_of(results, records, [any(path in older for path in of) for of in files.values()])


def run_of(results: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]], older: Sequence[bool]) -> Run:
    """The run of these results, from the records of their jobs, and whether each of these is older than the sources."""
    settings, differing = in_common([_flat(result["config"]) for result in results])
    of_libraries: dict[str, list[dict[str, str]]] = {}
    for timed in (record for result in results for record in result.get("records", ()) if record.get("versions")):
        of_libraries.setdefault(timed["name"].partition(":")[0], []).append(timed["versions"])
    dates = sorted(record["date"] for record in records)
    return Run(
        results=len(results),
        settings=settings,
        differing=differing,
        versions=_versions(result["versions"] for result in results),
        libraries={name: _versions(found) for name, found in of_libraries.items()},
        seeds=sorted({result["seed"] for result in results}),
        seeds_each=sorted({len(result["seeds"]) for result in results if isinstance(result.get("seeds"), list)}),
        **{f"{name}s": _counts(record[name] for record in records) for name in ("device", "machine", "commit")},
        first=dates[0],
        last=dates[-1],
        seconds=sum(record["wall_seconds"] for record in records),
        older=_counts(record["commit"] for record, is_older in zip(records, older, strict=True) if is_older),
    )


def in_common(configs: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The settings with the same value in all configurations, and all values of the others in order of appearance."""
    common, differing = {}, {}
    for name in sorted(set().union(*configs)):
        values = [config[name] for config in configs if name in config]
        distinct = [value for index, value in enumerate(values) if value not in values[:index]]
        if len(distinct) == 1 and len(values) == len(configs):
            common[name] = distinct[0]
        else:
            differing[name] = distinct
    return common, differing


def together(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of several counts, the greatest first, equal ones in the order of their names."""
    total = sum(map(Counter, counts), Counter())
    return dict(Counter(dict(sorted(total.items()))).most_common())


def _versions(found: Iterable[dict[str, str]]) -> dict[str, list[str]]:
    """By name, all versions that occur."""
    pairs = sorted({pair for versions in found for pair in versions.items()})
    return {name: [version for other, version in pairs if other == name] for name, _ in pairs}


def _counts(names: Iterable[str]) -> dict[str, int]:
    return together([Counter(names)])


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat
