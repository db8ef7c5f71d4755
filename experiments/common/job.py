"""The jobs of an experiment: every result that it consists of, and the settings that the result depends on.

`experiments/<name>/jobs.py` has a function `jobs`, which maps the settings of one scale to jobs. The pipeline and
`python -m experiments.run` both read it. It imports nothing that takes time, since each call of Snakemake reads it.
"""

import dataclasses
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from experiments.common.checks import check_known
from experiments.common.records import RECORD
from experiments.common.seeds import FIRST_SEED
from experiments.common.yaml_files import read_yaml

EXPERIMENTS = Path(__file__).parents[1]
SCALES = ("tiny", "quick", "full", "paper")
NUMBERS, ARRAYS, TIMES = ".json", ".npz", ".timing.json"

# The settings of training and of its evaluation, on which the cost of a gradient does not depend.
TRAINING_KEYS = (
    FIRST_SEED,
    "seeds",
    "rate_seeds",
    "steps",
    "evaluate_at",
    "clip",
    "learning_rates",
    "second_trials",
    "optimizer",
    "anneal",
    "eval_batches",
    "validation_size",
    "test_size",
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One computation of an experiment: `compute(config, *inputs)` of a module of its folder.

    Attributes:
        name: the path of the result below results/SCALE/EXPERIMENT, without its ending.
        config: the settings that the result depends on; `jobs_of` adds the scale. A change of any makes the result again.
        module: the module that has `compute`.
        endings: the endings of the files that it makes, each from one value that `compute` returns: NUMBERS, a dict that JSON
            can hold; ARRAYS, a dict of arrays; TIMES, a dict of measured times, which differ from run to run.
        spikes: the set of data/config.yaml that it reads, given to `compute` as the path of a file.
        reads: names of other jobs whose arrays it reads, given to `compute` as paths.
        files: further files that the pipeline has to make first, or that its numbers depend on. A Python file stands for
            itself and for all that it imports.
    """

    name: str
    config: dict[str, Any]
    module: str = "run"
    endings: tuple[str, ...] = (NUMBERS,)
    spikes: str | None = None
    reads: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def is_exclusive(self) -> bool:
        """True if it measures times: no other job may run next to it."""
        return TIMES in self.endings

    @property
    def outputs(self) -> list[str]:
        """The names of its files, except for its record."""
        return [f"{self.name}{ending}" for ending in self.endings]

    @property
    def settings(self) -> dict[str, Any]:
        """Its `config` as JSON reads it back, with lists for tuples."""
        read: dict[str, Any] = json.loads(json.dumps(self.config))
        return read


def experiment_names() -> list[str]:
    """The names of all experiments, which are the folders with a jobs.py."""
    return sorted(path.parent.name for path in EXPERIMENTS.glob("*/jobs.py"))


def scales_of(experiment: str) -> dict[str, dict[str, Any]]:
    """The settings of all scales from the experiment's config.yaml."""
    scales: dict[str, dict[str, Any]] = _read(experiment, "config.yaml")["scales"]
    return scales


def settings_of(experiment: str, scale: str) -> dict[str, Any]:
    """The settings of a scale from the experiment's config.yaml."""
    scales = scales_of(experiment)
    check_known("scale", scale, scales, f" of {experiment}")
    return scales[scale]


def jobs_of(experiment: str, scale: str, settings: dict[str, Any]) -> dict[str, Job]:
    """The jobs of an experiment by name, for the settings of a scale.

    Raises:
        ValueError: two jobs that make the same file.
    """
    module = importlib.import_module(f"experiments.{experiment}.jobs")
    found = [dataclasses.replace(job, config=job.config | {"scale": scale}) for job in module.jobs(settings)]
    files = [file for job in found for file in [*job.outputs, f"{job.name}{RECORD}"]]
    twice = sorted({file for file in files if files.count(file) > 1})
    if twice:
        raise ValueError(f"experiments/{experiment}/jobs.py makes {', '.join(twice)} twice.")
    return {job.name: job for job in found}


def figures_of(experiment: str) -> list[str]:
    """The stems of the experiment's figures, from its claims.yaml."""
    return [figure["stem"] for figure in _read(experiment, "claims.yaml")["figures"]]


def _read(experiment: str, name: str) -> Any:
    try:
        return read_yaml(EXPERIMENTS / experiment / name)
    except yaml.YAMLError as error:
        raise SystemExit(str(error)) from None


def each_task(settings: dict[str, Any]) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """Each task, its rules, and its settings: those of the scale, overridden by the task's own values.

    A task's rules are its own or else the rules of the scale, except for the ones that its `without` names.
    """
    for task, own in settings["tasks"].items():
        merged = settings | {"task": task} | own
        rules = [rule for rule in merged.get("rules", ()) if rule not in merged.get("without", ())]
        yield task, rules, drop(merged, "tasks", "rules", "without")


def one_for_each_rule(settings: dict[str, Any]) -> Iterator[Job]:
    """One job for each task and rule, with all seeds: the `jobs` of an experiment that has no others."""
    for task, rules, config in each_task(settings):
        for rule in rules:
            yield Job(f"{task}/{rule}", config | {"rule": rule}, spikes=config.get("spikes"))


def drop(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    """The settings except for some."""
    return {name: value for name, value in settings.items() if name not in names}
