"""The runs that made the figures of an experiment, from its results and their records."""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pipeline.plan import Plan
from experiments.pipeline.results import record_of, require_intact


class Run(NamedTuple):
    """Results of an experiment, or of several, with the record of each job, which can make several results, and how many jobs
    are older than the sources."""

    results: list[dict[str, Any]]
    records: list[dict[str, Any]]
    older: int

    @property
    def seconds(self) -> float:
        return sum(record["wall_seconds"] for record in self.records)

    @property
    def seeds(self) -> list[int]:
        ranges = (range(one["seed"], one["seed"] + len(one.get("seeds") or [1])) for one in self.results)
        return sorted({seed for seeds in ranges for seed in seeds})

    @property
    def first_seeds(self) -> set[int]:
        """The first seeds of the results that have a number of seeds."""
        configs = [one["config"] for one in self.results]
        return {config.get("first_seed", 0) for config in configs if isinstance(config.get("seeds"), int)}

    @property
    def earliest(self) -> str:
        """When the first job ended."""
        return min(record["date"] for record in self.records)

    @property
    def versions(self) -> list[str]:
        """The names and versions of all packages, also of those of the libraries that were timed."""
        timed = [record for result in self.results for record in result.get("records", ())]
        found = [one["versions"] for one in self.results + timed if one.get("versions")]
        return sorted({f"{name} {version}" for versions in found for name, version in versions.items()})

    def counts(self, key: str) -> Counter[str]:
        """How many jobs have each value of an entry of the record, such as the commit."""
        return Counter(record[key] for record in self.records)


def results_of(plan: Plan) -> dict[str, list[Path]]:
    """The results of each experiment that are shown at a scale, without arrays."""
    results: dict[str, list[Path]] = {}
    for (experiment, _), product in plan.results.items():
        results.setdefault(experiment, []).extend(file for file in product.files if file in plan.shown)
    return results


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
    return Run(results, records, sum(any(path in older for path in of) for of in files.values()))


def together(runs: Collection[Run]) -> Run:
    """All results and jobs of several runs."""
    results = [one for run in runs for one in run.results]
    records = [one for run in runs for one in run.records]
    return Run(results, records, sum(run.older for run in runs))
