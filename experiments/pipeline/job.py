"""What there is to compute: experiments, their settings, and the jobs of each scale.

An experiment is a folder of four files. `config.yaml` has the settings of each scale, `jobs.py` a function `jobs` that maps
the settings of one scale to jobs, `run.py` a function `compute` that maps the settings of a job to its numbers, and `plot.py`
the figures, `FIGURES`, and perhaps tables without a picture, `TABLES`. `claims.yaml` and `config.schema.yaml` may be added.
`python -m experiments.new NAME` writes all four.

`jobs.py` imports nothing that takes time, since each call of Snakemake reads it.
"""

import ast
import dataclasses
import importlib
import json
from collections.abc import Collection, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from experiments.pipeline.config import read_yaml

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
FILES = ("config.yaml", "jobs.py", "run.py", "plot.py")
SCALES = ("tiny", "quick", "full", "paper")
KEPT = ("full",)  # scales whose results come with the repository: they are used although the sources have changed since
NUMBERS, ARRAYS, TIMES = ".json", ".npz", ".timing.json"
TABLE, PICTURES = ".csv", (".png", ".svg")  # the files of a figure

# The settings of training and of its evaluation, on which the cost of a gradient does not depend.
TRAINING_KEYS = (
    *("first_seed", "seeds", "rate_seeds", "steps", "evaluate_at", "clip", "learning_rates", "second_trials"),
    *("optimizer", "anneal", "eval_batches", "validation_size", "test_size"),
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
        sources: further files of the repository that it depends on.
        needs: files that the pipeline has to make first.
    """

    name: str
    config: dict[str, Any]
    module: str = "run"
    endings: tuple[str, ...] = (NUMBERS,)
    spikes: str | None = None
    reads: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

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
    """The names of all experiments that have their four files."""
    return sorted(path.parent.name for path in EXPERIMENTS.glob("*/config.yaml") if not missing_files(path.parent.name))


def unfinished() -> Iterator[str]:
    """A sentence on each folder that has some of the four files and lacks others."""
    for folder in sorted({path.parent for file in FILES[:2] for path in EXPERIMENTS.glob(f"*/{file}")}):
        if missing := missing_files(folder.name):
            yield f"experiments/{folder.name} is left out, since it has no {' and no '.join(missing)}."


def missing_files(experiment: str) -> list[str]:
    """Which of the four files of an experiment are not there. Jobs may name other modules than run.py."""
    there = {path.name for path in (EXPERIMENTS / experiment).glob("*.*")}
    computes = [name for name in there if name.endswith(".py") and name != "jobs.py" and not name.startswith("plot")]
    return [file for file in FILES if file not in there and not (file == "run.py" and computes)]


def scales_of(experiment: str) -> dict[str, dict[str, Any]]:
    """The settings of all scales from the experiment's config.yaml."""
    scales: dict[str, dict[str, Any]] = read_yaml(EXPERIMENTS / experiment / "config.yaml")["scales"]
    return scales


def settings_of(experiment: str, scale: str) -> dict[str, Any]:
    """The settings of a scale from the experiment's config.yaml."""
    scales = scales_of(experiment)
    check_known("scale", scale, scales, f" of {experiment}")
    return scales[scale]


def jobs_of(experiment: str, scale: str, settings: dict[str, Any]) -> dict[str, Job]:
    """The jobs of an experiment by name, for the settings of a scale, each after those that it reads.

    Raises:
        ValueError: two jobs that make the same file.
    """
    module = importlib.import_module(f"experiments.{experiment}.jobs")
    found = [dataclasses.replace(job, config=job.config | {"scale": scale}) for job in module.jobs(settings)]
    files = [file for job in found for file in (*job.outputs, job.name)]
    if twice := sorted({file for file in files if files.count(file) > 1}):
        raise ValueError(f"experiments/{experiment}/jobs.py makes {', '.join(twice)} twice.")
    jobs = {job.name: job for job in found}
    return {name: jobs[name] for name in TopologicalSorter({job.name: job.reads for job in found}).static_order()}


def figures_of(experiment: str) -> dict[str, tuple[str, ...]]:
    """The stems of the experiment's figures, the keys of `FIGURES` in its plot.py, and of its tables without a picture, the
    keys of `TABLES`, each with the endings of its files. They are read without running plot.py."""
    found: dict[str, tuple[str, ...]] = {}
    endings = {"FIGURES": (TABLE, *PICTURES), "TABLES": (TABLE,)}
    for node in ast.parse((EXPERIMENTS / experiment / "plot.py").read_bytes()).body:
        name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
        if name in endings and isinstance(node.value, ast.Dict):
            found |= {ast.literal_eval(key): endings[name] for key in node.value.keys if key is not None}
    if not found:
        raise SystemExit(
            f'experiments/{experiment}/plot.py has no FIGURES, expected a dict: FIGURES = {{"stem": Plot(...)}}.'
        )
    return found


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


def drop(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The settings except for some."""
    return {name: value for name, value in settings.items() if name not in names}


def check_known(kind: str, name: str | None, known: Collection[str], where: str = "") -> None:
    """Stop with a list of the known names of a kind, such as "task", if `name` is not one of them."""
    if name not in known:
        if kind == "experiment" and (left_out := [one for one in unfinished() if f"experiments/{name} " in one]):
            raise SystemExit(left_out[0])
        raise SystemExit(f"There is no {kind} {name!r}{where}, expected one of: {', '.join(known)}.")
