"""What the tests of experiments share: the configuration of a job, and figures drawn from numbers."""

import csv
import dataclasses
import json

from experiments import plot
from experiments.common.job import figures_of, jobs_of


def config_of(experiment, job, settings, scale="quick"):
    """The configuration of a job, for the settings of a scale."""
    return jobs_of(experiment, scale, settings)[job].config


def as_written(config, numbers, arrays=None):
    """A result as `experiments.plot` reads it: numbers that went through JSON, and arrays."""
    return json.loads(json.dumps({"config": config, **numbers}, sort_keys=True)) | {"arrays": arrays or {}}


def draw(experiment, results, folder):
    """Draws all figures of an experiment, looks at their pictures, and returns the rows of each table by stem."""
    mistakes = plot.draw(experiment, figures_of(experiment), results, folder)
    assert not any(mistakes.values()), mistakes
    tables = {}
    for stem in figures_of(experiment):
        assert (folder / f"{stem}.png").stat().st_size > 10_000
        assert "</svg>" in (folder / f"{stem}.svg").read_text()
        tables[stem] = list(csv.DictReader((folder / f"{stem}.csv").read_text().splitlines()))
    return tables


def watch(monkeypatch, module, config):
    """The list of what `compute` of an experiment does: "chosen" when the settings are, and the split of each score.

    The splits are told apart by their sizes, `validation_size` and `test_size`.
    """
    done = []
    splits = {config["validation_size"]: "validation", config["test_size"]: "test"}
    make, choose_settings = module.make_trainer, module.choose

    def make_trainer(*arguments, **options):
        trainer = make(*arguments, **options)

        def score(trained, spikes, labels):
            done.append(splits[len(labels)])
            return trainer.score(trained, spikes, labels)

        return dataclasses.replace(trainer, score=score)

    def choose(*arguments):
        found = choose_settings(*arguments)
        done.append("chosen")
        return found

    monkeypatch.setattr(module, "make_trainer", make_trainer)
    monkeypatch.setattr(module, "choose", choose)
    return done
