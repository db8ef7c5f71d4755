"""Draw the figures of an experiment from its results: `figures/SCALE/STEM.csv`, `.png` and `.svg`.

    python -m experiments.plot accuracy                                       # all figures of the experiment
    python -m experiments.plot demo demo_seeds                                # one of them
    python -m experiments.plot accuracy --jobs digits/bptt --output trial     # from some of the results

It computes nothing but means over seeds and their intervals. A result is refused if it differs from its record, or was made
with other settings or from other sources; the last ones are drawn with --outdated keep.
"""

import argparse
import importlib
import io
import json
import shlex
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np

from experiments.drawing.figures import Plot, print_style, save, without_results
from experiments.drawing.tables import write_table
from experiments.pipeline import results as records
from experiments.pipeline.command_line import parser_of
from experiments.pipeline.job import ARRAYS, TIMES, Job, check_known, figures_of
from experiments.pipeline.plan import outdated_of
from experiments.pipeline.results import RECORD, Product, result_product, state_of
from experiments.run import jobs_with, lacks_spikes


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    experiment, scale, folder = options.experiment, options.scale, options.results / options.scale / options.experiment
    changes = options.set or last_changes(folder)
    if (options.jobs or changes) and options.output is None:
        raise SystemExit("Give --output FOLDER with --jobs and --set: such figures are kept apart from the others.")
    known = jobs_with(experiment, scale, changes, options.jobs)
    stems = options.figures or list(figures_of(experiment))
    for stem in stems:
        check_known("figure", stem, figures_of(experiment), f" of {experiment}")
    names = options.jobs or [
        name for name, job in known.items() if (folder / job.outputs[0]).exists() or not lacks_spikes(experiment, job)
    ]
    chosen = {name: known[name] for name in names}
    products = {name: result_product(experiment, scale, known, name, results=options.results) for name in chosen}
    command = f"python -m experiments.run {experiment} --scale {scale}{words_of(changes)} --results {options.results}"
    started, output = time.perf_counter(), options.output or Path("figures")
    known_figures = records.figure_products(experiment, scale, chosen, results=options.results, figures=output)
    drawn = [known_figures[stem] for stem in stems]
    results = read(products, chosen, outdated_of(scale, options.outdated), command)
    made = [records.begin(figure) for figure in drawn]
    try:
        draw(experiment, stems, results, output / scale, may_lack=outdated_of(scale, options.outdated) == "draw")
    except KeyError as error:  # a result of older sources may lack what a figure reads now
        if all(state_of(product).kind == "current" for product in products.values()):
            raise
        raise SystemExit(
            f"Some results of {experiment} have no {error}: older sources made them. To remake: `{command}`."
        ) from None
    for figure, made_from in zip(drawn, made, strict=True):
        records.write_record(figure, made_from, **records.run_of(started))


def parser() -> argparse.ArgumentParser:
    made = parser_of("experiments.plot", __doc__, "experiment", "--scale", "--set", "--outdated")
    made.add_argument("figures", nargs="*", metavar="FIGURE", help="default: all figures of the experiment")
    made.add_argument("--jobs", action="extend", nargs="+", default=[], metavar="JOB", help="default: all of the scale")
    made.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    made.add_argument("--output", type=Path, help="folder of the figures; default: figures")
    return made


def last_changes(folder: Path) -> list[str]:
    """The words after --set in the last run whose results are in a folder, which are printed."""
    found = [record for path in folder.rglob(f"*{RECORD}") if (record := records.read_record(path))]
    changes: list[str] = max(found, key=lambda record: record.get("date", ""), default={}).get("set", [])
    if changes:
        print(f"As in the last run in {folder}:{words_of(changes)}")
    return changes


def words_of(changes: Iterable[str]) -> str:
    """What to type for changes of settings."""
    return "".join(f" --set {shlex.quote(change)}" for change in changes)


def read(products: Mapping[str, Product], jobs: Mapping[str, Job], outdated: str, command: str) -> list[dict[str, Any]]:
    """The results of jobs, in their order, each with the "record" of its run, and its "arrays" and "times" if there are any.

    It stops at one that is missing or damaged, or whose state is not used under `outdated`.
    """
    found = []
    for name, job in jobs.items():
        how = f"To make it: `{command} {name}`. To draw others or older ones: --jobs, --set, --outdated keep."
        result = {"record": records.require(products[name], outdated, how)}
        for path in products[name].files:
            content = path.read_bytes()
            if path.name.endswith(ARRAYS):
                result["arrays"] = dict(np.load(io.BytesIO(content)))
            elif path.name.endswith(TIMES) and len(job.outputs) > 1:
                result["times"] = json.loads(content)
            else:
                result |= json.loads(content)
        found.append(result)
    return found


def draw(
    experiment: str, stems: list[str], results: list[dict[str, Any]], folder: Path, *, may_lack: bool = False
) -> None:
    """Write the table and the two pictures of each figure, and each table without a picture.

    A figure without results is refused, or, if figures may lack them, is an empty table and a picture that says so.
    """
    data, plots = importlib.import_module(f"experiments.{experiment}.plot").prepare(results), plots_of(experiment)
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        plot = plots[stem]
        rows = list(plot.rows(data))
        if not rows and not may_lack:
            raise SystemExit(f"The figure {stem} is of other results, and got none: name more jobs after --jobs.")
        if plot.draw:
            with print_style():
                save(plot.draw(data) if rows else without_results(stem), folder / stem)
        write_table(folder / f"{stem}.csv", plot.columns, rows)


def plots_of(experiment: str) -> dict[str, Plot]:
    """The figures and the tables of an experiment by stem, from its plot.py."""
    module = importlib.import_module(f"experiments.{experiment}.plot")
    found: dict[str, Plot] = module.FIGURES | getattr(module, "TABLES", {})
    return found


if __name__ == "__main__":
    main()
