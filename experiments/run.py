"""Compute the results of an experiment: `results/SCALE/EXPERIMENT/JOB.json`, with a record of the run beside each.

    python -m experiments.run accuracy --list                                 # the jobs of the scale quick
    python -m experiments.run accuracy randman/otpe                           # one of them
    python -m experiments.run accuracy --scale paper                          # all that have no result of these settings yet
    python -m experiments.run landscapes demo/rtrl --scale paper --set seeds=2

It needs only JAX, Flax, Optax, matplotlib and numpy; the tasks on digits also need scikit-learn. The pipeline runs the same
command for each job, several side by side.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments.common.job import SCALES, Job, check_known, experiments, jobs_of, settings_of
from experiments.common.record import atomic_write, recorded


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    settings = with_changes(settings_of(options.experiment, options.scale), options.set)
    known = jobs_of(options.experiment, options.scale, settings)
    folder = options.results / options.scale / options.experiment
    if options.list:
        print(*known, sep="\n")
        return
    for name in options.jobs:
        check_known("job", name, known, f" of {options.experiment} at the scale {options.scale}")
    for job in [known[name] for name in options.jobs] or waiting(known, folder):
        if not options.jobs:
            print(f"{options.experiment}: {job.name}", flush=True)
        run(job, options.experiment, folder, options.data)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "experiments.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("experiment", choices=experiments())
    made.add_argument("jobs", nargs="*", metavar="JOB", help="default: all that have no result of these settings yet")
    made.add_argument("--scale", choices=SCALES, default="quick", help="default: quick")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another value than in config.yaml"
    )
    made.add_argument("--list", action="store_true", help="print the names of the jobs, and run none")
    made.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    made.add_argument("--data", type=Path, default=Path("data/processed"), help="spikes; default: data/processed")
    return made


def with_changes(settings: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """The settings of a scale with some values replaced, each given as KEY=VALUE with a value in YAML."""
    for change in changes:
        key, _, value = change.partition("=")
        check_known("setting", key, settings)
        settings = settings | {key: yaml.safe_load(value)}
    return settings


def waiting(jobs: dict[str, Job], folder: Path) -> list[Job]:
    """The jobs that have no result, or one of other settings."""

    def is_done(job: Job) -> bool:
        result = folder / f"{job.name}.json"
        return result.exists() and json.loads(result.read_text())["config"] == json.loads(json.dumps(job.config))

    return [job for job in jobs.values() if not is_done(job)]


def run(job: Job, experiment: str, folder: Path, data: Path) -> None:
    """Compute one job and write its files."""
    inputs = [folder / f"{name}.npz" for name in job.after] + ([data / f"{job.spikes}.npz"] if job.spikes else [])
    for file in inputs:
        if not file.exists():
            made_by = "`snakemake data`" if job.spikes else f"the job {file.relative_to(folder).with_suffix('')}"
            raise SystemExit(f"{experiment}: {job.name} reads {file}, which is missing: {made_by} makes it.")
    compute = importlib.import_module(f"experiments.{experiment}.{job.module}").compute
    output = folder / f"{job.name}.json"
    with recorded(output, config=job.config, seed=job.config.get("seed", 0)) as result:
        found = compute(job.config, *inputs)
        numbers, arrays = found if job.arrays else (found, None)
        result |= numbers
        if arrays is not None:
            with atomic_write(output.with_suffix(".npz")) as aside, aside.open("wb") as file:
                np.savez(file, **arrays)


if __name__ == "__main__":
    main()
