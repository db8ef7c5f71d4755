"""The names that readers see in the figures, in place of those of configurations and code: names.yaml."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

NAMES: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
TASKS, CODES, TEMPORAL, SPATIAL = (NAMES[of] for of in ("tasks", "codes", "temporal", "spatial"))
COMPARISONS, SETS, OPTIMIZERS, UPDATES = (NAMES[of] for of in ("comparisons", "sets", "optimizers", "updates"))
LIBRARIES, FORMS, TRAININGS_IN_DEPTH = (NAMES[of] for of in ("libraries", "forms", "trainings_in_depth"))
WITH_LESS, LESS_MEMORY, OF_PIXELS = (NAMES[of] for of in ("with_less", "less_memory", "of_pixels"))
BASELINES, OTHER_UNITS = NAMES["baselines"], NAMES["other_units"]
PREDICTORS = BASELINES | OTHER_UNITS
WAYS = {"short_bptt": "BPTT, shortened"} | NAMES["exchanged"] | WITH_LESS | LESS_MEMORY | NAMES["of_otpe"] | PREDICTORS
CHAINS = {f"chain_{length}" for length in (4, 8, 16, 32, 64)}
WITHOUT_TRANSPORT = ("direct", "target", "local")
COSINE = "cosine to BPTT's gradient"
TEST_ACCURACY = "test accuracy (%)"
LOSS = "cross entropy (nats)"


def task_name(task: str) -> str:
    """The name of a task; of one without an entry, its words."""
    return TASKS.get(task, task.replace("_", " "))


def with_code(task: str, code: str) -> str:
    """The name of a task with its code, if it could have another."""
    return ", ".join(filter(None, [task_name(task), CODES.get(code, code)]))


def network(config: dict[str, Any]) -> str:
    """The sizes of the layers: "64-128-10"."""
    return "-".join(map(str, config["layers"]))


def title_of(config: dict[str, Any]) -> str:
    """The task, and below it its network and the length of its sequences."""
    return f"{task_name(config['task'])}\n{network(config)}, T = {config['n_steps']}"


def randman(config: dict[str, Any]) -> str:
    """The same of an experiment on Randman, in one line, with its code."""
    return f"Randman, {config['code']} code, {network(config)}, T = {config['n_steps']}"


def updates_of(configs: Iterable[dict[str, Any]]) -> str:
    """The numbers of updates, or of sequences where a rule updates within them, of trainings: "400 or 500 batches of 32"."""
    steps, sizes = zip(*((config["steps"], config["batch_size"]) for config in configs), strict=True)
    return f"{listed(steps)} batches of {listed(sizes)}"


def means_of(configs: Iterable[dict[str, Any]]) -> str:
    """What is drawn of trainings: "Mean of 3 seeds after 400 batches of 32, with 95 % intervals"."""
    configs = list(configs)
    return f"Mean of {seeds_of(configs)} after {updates_of(configs)}, with 95 % intervals"


def seeds_of(configs: Iterable[dict[str, Any]]) -> str:
    """The numbers of seeds of trainings: "3 or 20 seeds"."""
    return f"{listed(config['seeds'] for config in configs)} seeds"


def listed(numbers: Iterable[int]) -> str:
    """Numbers without repetitions: "100, 400 or 500"."""
    *first, last = (f"{number:,}" for number in sorted(set(numbers)))
    return f"{', '.join(first)} or {last}" if first else last
