"""Compute the results of an experiment: `results/SCALE/EXPERIMENT/JOB.json`, with a record next to each.

    python -m experiments.run accuracy --list                  # the jobs of the quick scale
    python -m experiments.run accuracy randman/otpe            # one of them
    python -m experiments.run accuracy --scale paper           # all jobs without a current result
    python -m experiments.run landscapes demo/rtrl --set seeds=2 --set tasks.demo.batch_size=16 --results trial

A script can compare a rule of its own with the others: docs/extending.md, "Beside others".

A result is current if its files match their record, and were made from the present settings, sources, inputs and
requirements.lock. The pipeline runs the same command for each job, several side by side.
"""

import argparse
import copy
import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.pipeline import results as records
from experiments.pipeline.command_line import parser_of
from experiments.pipeline.job import ARRAYS, Job, check_known, experiment_names, jobs_of, settings_of
from experiments.pipeline.plan import outdated_of
from experiments.pipeline.program_cache import keep_programs
from experiments.pipeline.results import Product, result_product


def main(arguments: list[str] | None = None) -> None:
    keep_programs()
    options = parser().parse_intermixed_args(arguments)
    if options.set and options.results is None:
        raise SystemExit("Give --results FOLDER with --set: results of other settings are kept apart.")
    jobs = jobs_with(options.experiment, options.scale, options.set, options.jobs)
    if options.list:
        print(*jobs, sep="\n")
        return
    results = options.results or Path("results")
    products = {name: result_product(options.experiment, options.scale, jobs, name, results=results) for name in jobs}
    outdated = outdated_of(options.scale, options.outdated)
    for name in options.jobs or jobs:
        due = options.jobs or not records.state_of(products[name]).is_used(outdated)
        if due and (options.jobs or not lacks_spikes(options.experiment, jobs[name])):
            if not options.jobs:
                print(f"{options.experiment}: {name}", flush=True)
            run(options.experiment, jobs[name], products, outdated, options.set)


def parser() -> argparse.ArgumentParser:
    made = parser_of("experiments.run", __doc__, "experiment", "--scale", "--set")
    made.add_argument("jobs", nargs="*", metavar="JOB", help="default: all without a current result")
    made.add_argument("--list", action="store_true", help="print the names of the jobs, and run none")
    kept = "which results are kept: current ones, or those of other sources, too; default at full: keep"
    made.add_argument("--outdated", choices=("remake", "keep"), help=kept)
    made.add_argument("--results", type=Path, help="folder of the results; default: results")
    return made


def lacks_spikes(experiment: str, job: Job) -> bool:
    """True if the spikes of a job are missing, which is printed."""
    missing = [file for file in (records.spikes_product(job.spikes).files if job.spikes else ()) if not file.exists()]
    for file in missing:
        print(f"{experiment}: {job.name} is left out, since {file} is missing: `snakemake data` makes it")
    return bool(missing)


def jobs_with(experiment: str, scale: str, changes: list[str], names: list[str]) -> dict[str, Job]:
    """The jobs of a scale with some settings replaced, each given as KEY=VALUE, or TASK's as tasks.TASK.KEY=VALUE, with a value
    in YAML.

    It stops if another value has no effect on the jobs of these names, or on any job if there are no names, and at a name
    without a job.
    """
    check_known("experiment", experiment, experiment_names())
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
    fresh = {"first_seed": 0} if isinstance(settings.get("seeds"), int) and not above else {}
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


def run(
    experiment: str, job: Job, products: Mapping[str, Product], outdated: str = "remake", changes: Sequence[str] = ()
) -> None:
    """Compute one job and write its files, and a record of what they were made from, and of the `changes` of its settings.

    The spikes that it reads have to be current, and the results of other jobs as `outdated` says.

    Args:
        experiment: the experiment.
        job: the job.
        products: the files of all jobs of the experiment, by name.
        outdated, changes: see the options of the command.
    """
    started, product = time.perf_counter(), products[job.name]
    scale = job.config["scale"]
    for name in job.reads:
        how = f"{product.label} reads it; `python -m experiments.run {experiment} {name} --scale {scale}` makes it."
        records.require(products[name], outdated, how)
    spikes = [records.spikes_product(job.spikes)] if job.spikes else []
    for read in spikes:
        records.require(read, "remake", f"{product.label} reads it; `snakemake data` makes it.")
    made = records.begin(product)
    inputs = [file for name in job.reads for file in products[name].files if file.name.endswith(ARRAYS)]
    inputs += [read.files[0] for read in spikes]
    values = importlib.import_module(f"experiments.{experiment}.{job.module}").compute(job.config, *inputs)
    for file, value in zip(product.files, values if len(job.outputs) > 1 else [values], strict=True):
        if file.suffix == ARRAYS:
            records.write_arrays(file, value)
        else:
            records.write_numbers(file, job.config, value)
    records.write_record(product, made, set=list(changes), **records.run_of(started, device=device()))


def device() -> str:
    """The kind of device that JAX computes on; a job that does not import JAX runs on the processor."""
    return str(sys.modules["jax"].devices()[0].device_kind) if "jax" in sys.modules else "cpu"


if __name__ == "__main__":
    main()
