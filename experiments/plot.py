"""Draw the figures of an experiment from its results: `figures/SCALE/STEM.csv`, `.png` and `.svg`.

    python -m experiments.plot accuracy                       # all figures of the experiment
    python -m experiments.plot landscapes landscapes_3d       # one of them
    python -m experiments.plot accuracy --jobs digits/bptt    # from some of the results

Nothing is computed here but means over seeds and their intervals.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np

from experiments.common.figures import Plot, save, write_table
from experiments.common.job import SCALES, Job, check_known, experiments, figures_of, jobs_of, settings_of
from slax_viz import style


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    known = jobs_of(options.experiment, options.scale, settings_of(options.experiment, options.scale))
    for name in options.jobs or ():
        check_known("job", name, known, f" of {options.experiment} at the scale {options.scale}")
    for stem in options.figures:
        check_known("figure", stem, figures_of(options.experiment), f" of {options.experiment}")
    folder = options.results / options.scale / options.experiment
    results = read(folder, [known[name] for name in options.jobs or known], options.experiment)
    draw(options.experiment, options.figures or figures_of(options.experiment), results, options.output / options.scale)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "experiments.plot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("experiment", choices=experiments())
    made.add_argument("figures", nargs="*", metavar="FIGURE", help="default: all figures of the experiment")
    made.add_argument("--scale", choices=SCALES, default="quick", help="default: quick")
    made.add_argument("--jobs", nargs="+", metavar="JOB", help="whose results are drawn; default: all of the scale")
    made.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    made.add_argument("--output", type=Path, default=Path("figures"), help="default: figures")
    return made


def read(folder: Path, jobs: list[Job], experiment: str) -> list[dict[str, Any]]:
    """The results of jobs, in their order, each with its "record" and its "arrays"."""
    missing = [job.name for job in jobs if not (folder / f"{job.name}.json").exists()]
    if missing:
        raise SystemExit(
            f"There is no result of {', '.join(missing)} in {folder}: `python -m experiments.run {experiment}` makes it; "
            "or name the jobs to draw after --jobs."
        )
    results = []
    for job in jobs:
        path = folder / f"{job.name}.json"
        result = json.loads(path.read_text())
        if result["config"]["scale"] != folder.parent.name:
            raise SystemExit(
                f"{path} is a result of the scale {result['config']['scale']}, expected {folder.parent.name}: scales are never "
                "mixed."
            )
        result["record"] = json.loads(path.with_suffix(".record.json").read_text())
        result["arrays"] = dict(np.load(path.with_suffix(".npz"))) if job.arrays else {}
        results.append(result)
    return results


def draw(experiment: str, stems: list[str], results: list[dict[str, Any]], folder: Path) -> None:
    """Write the table and the two pictures of each figure."""
    module = importlib.import_module(f"experiments.{experiment}.plot")
    data = module.arrange(results)
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        plot: Plot = module.FIGURES[stem]
        write_table(folder / f"{stem}.csv", plot.columns, plot.rows(data))
        with style():
            save(plot.draw(data), folder / stem)


if __name__ == "__main__":
    main()
