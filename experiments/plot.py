"""Draw the figures of an experiment from its results: `figures/SCALE/STEM.csv`, `.png` and `.svg`.

    python -m experiments.plot accuracy                                       # all figures of the experiment
    python -m experiments.plot landscapes landscapes_3d                       # one of them
    python -m experiments.plot accuracy --jobs digits/bptt --output trial     # from some of the results

It computes nothing but means over seeds and their intervals. A result is refused if it differs from its record, or was made
with other settings or from other sources; the last ones are drawn with --outdated keep.
"""

import argparse
import importlib
import io
import json
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np

from experiments.common.checks import check_known
from experiments.common.command_line import parser_of
from experiments.common.figures import Plot, save
from experiments.common.job import ARRAYS, TIMES, Job, experiment_names, figures_of, jobs_of, settings_of
from experiments.common.labels import hidden_labels
from experiments.common.policy import is_kept
from experiments.common.products import figure_product, result_product
from experiments.common.records import begin, require_used, run_of, write_record
from experiments.common.tables import write_table
from experiments.run import with_changes
from slax_viz import style

FACTS = ("commit", "date", "device", "machine", "wall_seconds")


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    experiment, settings = options.experiment, settings_of(options.experiment, options.scale)
    known = jobs_of(experiment, options.scale, settings)
    for stem in options.figures:
        check_known("figure", stem, figures_of(experiment), f" of {experiment}")
    if (options.jobs or options.set) and options.output is None:
        raise SystemExit(
            "Give --output FOLDER with --jobs and --set: figures of some results or other settings are kept apart."
        )
    if options.set:
        known = with_changes(experiment, options.scale, settings, options.set, options.jobs or [])
    for name in options.jobs or ():
        check_known("job", name, known, f" of {experiment} at the scale {options.scale}")
    folder = options.results / options.scale / experiment
    chosen = [known[name] for name in options.jobs or known]
    if not options.jobs:
        chosen = [job for job in chosen if not lacks_spikes(job, folder, options.data)]
    stems = options.figures or figures_of(experiment)
    started, output = time.perf_counter(), options.output or Path("figures")
    products = [
        figure_product(experiment, stem, options.scale, chosen, results=options.results, figures=output)
        for stem in stems
    ]
    results = read(folder, chosen, experiment, options.data, is_kept(options.scale, options.outdated))
    made_from = [begin(product) for product in products]
    for stem, mistakes in draw(experiment, stems, results, output / options.scale).items():
        for mistake in mistakes:
            print(f"{stem}: {mistake}")
    for product, digest in zip(products, made_from, strict=True):
        write_record(product, digest, **run_of(started))


def parser() -> argparse.ArgumentParser:
    made = parser_of("experiments.plot", __doc__, "--scale", "--set", "--outdated", "--data")
    made.add_argument("experiment", choices=experiment_names())
    made.add_argument("figures", nargs="*", metavar="FIGURE", help="default: all figures of the experiment")
    made.add_argument("--jobs", action="extend", nargs="+", metavar="JOB", help="whose results are drawn; default: all")
    made.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    made.add_argument("--output", type=Path, help="folder of the figures; default: figures")
    return made


def lacks_spikes(job: Job, folder: Path, data: Path) -> bool:
    """True if a job has no result since its spikes are missing, which is printed."""
    lacks = (
        bool(job.spikes) and not (data / f"{job.spikes}.npz").exists() and not (folder / f"{job.name}.json").exists()
    )
    if lacks:
        print(f"{job.name} is left out: its spikes, {job.spikes}, are missing")
    return lacks


def read(folder: Path, jobs: list[Job], experiment: str, data: Path, keep: bool) -> list[dict[str, Any]]:
    """The results of jobs, in their order, each with the "record" of its run, and its "arrays" and "times" if there are any."""
    missing = [output for job in jobs for output in job.outputs if not (folder / output).exists()]
    if missing:
        command = f"python -m experiments.run {experiment} --scale {folder.parent.name} --results {folder.parents[1]}"
        raise SystemExit(
            f"There is no {', '.join(missing)} in {folder}: `{command}` makes it; or name the jobs after --jobs."
        )
    return [read_result(folder, job, experiment, data, keep) for job in jobs]


def read_result(folder: Path, job: Job, experiment: str, data: Path, keep: bool) -> dict[str, Any]:
    """The result of a job; it stops at one that is damaged, of other settings or, without `keep`, of other sources."""
    scale, results = folder.parent.name, folder.parents[1]
    again = (
        f"To make it again: `python -m experiments.run {experiment} {job.name} --scale {scale} --results {results}`."
    )
    product = result_product(experiment, scale, job, results=results, data=data)
    record = require_used(
        product, keep, f"{again} To draw one of other settings or sources: --set, or --outdated keep."
    )
    result: dict[str, Any] = {"record": {name: record[name] for name in FACTS}}
    for output in job.outputs:
        content = (folder / output).read_bytes()
        if output.endswith(ARRAYS):
            result["arrays"] = dict(np.load(io.BytesIO(content)))
        elif output.endswith(TIMES) and len(job.outputs) > 1:
            result["times"] = json.loads(content)
        else:
            result |= json.loads(content)
    return result


def draw(experiment: str, stems: list[str], results: list[dict[str, Any]], folder: Path) -> dict[str, list[str]]:
    """Write the table and the two pictures of each figure, and return what is wrong with its texts, by figure."""
    mistakes = {}
    module = importlib.import_module(f"experiments.{experiment}.plot")
    data = module.prepare(results)
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        plot: Plot = module.FIGURES[stem]
        with style():
            figure = plot.draw(data)
            mistakes[stem] = hidden_labels(figure)
            save(figure, folder / stem)
        write_table(folder / f"{stem}.csv", plot.columns, plot.rows(data))
    return mistakes


if __name__ == "__main__":
    main()
