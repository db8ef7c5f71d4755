"""The jobs of an experiment: every result that it consists of, and the settings that the result depends on.

`experiments/<name>/jobs.py` has a function `jobs`, which maps the settings of one scale to jobs. The pipeline and
`python -m experiments.run` both read it. It imports nothing that takes time, since each call of Snakemake reads it.
"""

import dataclasses
import importlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

EXPERIMENTS = Path(__file__).parents[1]
SCALES = ("tiny", "quick", "paper")


@dataclasses.dataclass(frozen=True)
class Job:
    """One result of an experiment: `compute(config)` of a module of its folder.

    Attributes:
        name: the path of the result below results/SCALE/EXPERIMENT, without its ending.
        config: all values that the numbers depend on, so that a change of any makes them again; `Experiment` adds the scale.
        module: the module that has `compute`.
        spikes: the set of data/config.yaml that it reads, given to `compute` as a path after the config.
        after: names of the jobs whose arrays it reads, given to `compute` as paths after the config.
        needs: other files that have to exist, of which Python files count with all that they import.
        arrays: whether `compute` returns the numbers and a dict of arrays, which go to an .npz file.
        alone: whether it measures time, for which it has the whole machine.
    """

    name: str
    config: dict[str, Any]
    module: str = "run"
    spikes: str | None = None
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    arrays: bool = False
    alone: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of its files."""
        return (".json", ".npz") if self.arrays else (".json",)


def experiments() -> list[str]:
    """The names of all experiments, which are the folders with a jobs.py."""
    return sorted(path.parent.name for path in EXPERIMENTS.glob("*/jobs.py"))


def settings_of(experiment: str, scale: str) -> dict[str, Any]:
    """The settings of a scale from the experiment's config.yaml."""
    return yaml.safe_load((EXPERIMENTS / experiment / "config.yaml").read_text())["scales"][scale]


def jobs_of(experiment: str, scale: str, settings: dict[str, Any]) -> dict[str, Job]:
    """The jobs of an experiment by name, for the settings of a scale."""
    module = importlib.import_module(f"experiments.{experiment}.jobs")
    found = [dataclasses.replace(job, config=job.config | {"scale": scale}) for job in module.jobs(settings)]
    return {job.name: job for job in found}


def figures_of(experiment: str) -> list[str]:
    """The stems of the experiment's figures, from its claims.yaml."""
    claims = yaml.safe_load((EXPERIMENTS / experiment / "claims.yaml").read_text())
    return [figure["stem"] for figure in claims["figures"]]


def each_task(settings: dict[str, Any]) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """Each task, its rules, and its settings: those of the scale, overridden by the task's own values.

    A task's rules are its own or else those of the scale, except for the ones that its `without` names.
    """
    for task, own in settings["tasks"].items():
        merged = settings | {"task": task} | own
        rules = [rule for rule in merged.get("rules", ()) if rule not in merged.get("without", ())]
        yield task, rules, without(merged, "tasks", "rules", "without")


def without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    """The settings without some."""
    return {name: value for name, value in settings.items() if name not in names}


def check_known(kind: str, name: str | None, known: Collection[str], where: str = "") -> None:
    """Stop with a list of the known names of a kind, such as "task", if `name` is not one of them."""
    if name not in known:
        raise SystemExit(f"There is no {kind} {name!r}{where}, expected one of: {', '.join(known)}.")
