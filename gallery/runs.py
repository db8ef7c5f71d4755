"""The runs that made the figures of an experiment, from its results and their records."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """All results of one experiment taken together.

    `settings` are the settings that all results have in common; `differing` has, by name, the values of the others. Names of
    nested settings are joined by dots. `versions` has, by name, all versions that occur.
    """

    results: int
    settings: dict[str, Any]
    differing: dict[str, list[Any]]
    versions: dict[str, list[str]]
    seeds: list[int]
    seeds_each: list[int]  # numbers of seeds in a result, counted from its own seed
    devices: dict[str, int]  # with their numbers of results, as for machines and commits
    machines: dict[str, int]
    commits: dict[str, int]
    first: str  # date and time
    last: str
    seconds: float
    without_record: int


def read_run(paths: Iterable[Path]) -> Run:
    """The run that made these results; results without a record are counted."""
    paths = list(paths)
    records = [path.with_suffix(".record.json") for path in paths]
    return run_of(
        [json.loads(path.read_text(encoding="utf-8")) for path in paths],
        [json.loads(record.read_text(encoding="utf-8")) for record in records if record.exists()],
    )


def run_of(results: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]) -> Run:
    if not results:
        raise ValueError("Got no results, expected the results of an experiment.")
    settings, differing = in_common([_flat(result["config"]) for result in results])
    versions = [result["versions"] for result in results]
    dates = sorted(record["date"] for record in records)
    return Run(
        results=len(results),
        settings=settings,
        differing=differing,
        versions={name: sorted({of[name] for of in versions if name in of}) for name in sorted(set().union(*versions))},
        seeds=sorted({result["seed"] for result in results}),
        seeds_each=sorted({len(result["seeds"]) for result in results if isinstance(result.get("seeds"), list)}),
        **{f"{name}s": _counts(record[name] for record in records) for name in ("device", "machine", "commit")},
        first=dates[0] if dates else "",
        last=dates[-1] if dates else "",
        seconds=sum(record["wall_seconds"] for record in records),
        without_record=len(results) - len(records),
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
    """The sum of several counts, the greatest first."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _counts(names: Iterable[str]) -> dict[str, int]:
    return together([Counter(names)])


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
