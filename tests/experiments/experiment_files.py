"""What the tests of experiments share: the configuration of a job, and tables of numbers."""

import csv
import importlib
import json

from experiments.drawing.tables import write_table
from experiments.pipeline.job import jobs_of
from experiments.plot import plots_of


def config_of(experiment, job, settings, scale="quick"):
    """The configuration of a job, for the settings of a scale."""
    return jobs_of(experiment, scale, settings)[job].config


def as_written(config, numbers):
    """A result as `experiments.plot` reads it: numbers that went through JSON."""
    return json.loads(json.dumps({"config": config, **numbers}, sort_keys=True))


def tables(experiment, results, folder):
    """The rows of each table of an experiment by stem, as they are in its file."""
    data, found = importlib.import_module(f"experiments.{experiment}.plot").prepare(results), {}
    for stem, plot in plots_of(experiment).items():
        write_table(folder / f"{stem}.csv", plot.columns, plot.rows(data))
        found[stem] = list(csv.DictReader((folder / f"{stem}.csv").read_text().splitlines()))
    return found
