"""Draw the figures of an experiment from its results: `figures/SCALE/STEM.csv`, `.png` and `.svg`.

    python -m experiments.plot accuracy                                       # all figures of the experiment
    python -m experiments.plot landscapes landscapes_3d                       # one of them
    python -m experiments.plot accuracy --jobs digits/bptt --output trial     # from some of the results

It computes nothing but means over seeds and their intervals.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np

from experiments.common.checks import check_known
from experiments.common.figures import Plot, save, write_table
from experiments.common.job import ARRAYS, SCALES, TIMES, Job, experiment_names, figures_of, jobs_of, settings_of
from experiments.run import has_config, with_changes
from slax_viz import style


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
    draw(experiment, stems, read(folder, chosen, experiment), (options.output or Path("figures")) / options.scale)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "experiments.plot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("experiment", choices=experiment_names())
    made.add_argument("figures", nargs="*", metavar="FIGURE", help="default: all figures of the experiment")
    made.add_argument("--scale", choices=SCALES, default="quick", help="default: quick")
    made.add_argument("--jobs", action="extend", nargs="+", metavar="JOB", help="whose results are drawn; default: all")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in experiments.run")
    made.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    made.add_argument("--data", type=Path, default=Path("data/processed"), help="spikes; default: data/processed")
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


def read(folder: Path, jobs: list[Job], experiment: str) -> list[dict[str, Any]]:
    """The results of jobs, in their order, each with its "record", and its "arrays" and "times" if there are any."""
    missing = [output for job in jobs for output in job.outputs if not (folder / output).exists()]
    if missing:
        command = f"python -m experiments.run {experiment} --scale {folder.parent.name} --results {folder.parents[1]}"
        raise SystemExit(
            f"There is no {', '.join(missing)} in {folder}: `{command}` makes it; or name the jobs after --jobs."
        )
    results = []
    for job in jobs:
        result: dict[str, Any] = {}
        for output in job.outputs:
            if output.endswith(ARRAYS):
                result["arrays"] = dict(np.load(folder / output))
                continue
            content = read_with_record(folder / output, job)
            result |= {"times": content} if output.endswith(TIMES) and result else content
        results.append(result)
    return results


def read_with_record(path: Path, job: Job) -> dict[str, Any]:
    """A result and its record; it stops at a result of other settings."""
    content, record = json.loads(path.read_text()), path.with_suffix(".record.json")
    if not has_config(content, job):
        raise SystemExit(
            f"{path} was made with other settings than the current ones. Make it again, or give the same --set as then."
        )
    if not record.exists():
        raise SystemExit(f"There is no {record}, which is written next to {path.name}: copy both.")
    return content | {"record": json.loads(record.read_text())}


def draw(experiment: str, stems: list[str], results: list[dict[str, Any]], folder: Path) -> None:
    """Write the table and the two pictures of each figure."""
    module = importlib.import_module(f"experiments.{experiment}.plot")
    data = module.prepare(results)
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        plot: Plot = module.FIGURES[stem]
        with style():
            figure = plot.draw(data)
            save(figure, folder / stem)
        write_table(folder / f"{stem}.csv", plot.columns, plot.rows(data))


if __name__ == "__main__":
    main()
