"""One training run for each task and rule, with all seeds, and for each task its surfaces, made from the trained networks."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import ARRAYS, NUMBERS, Job, drop, each_task

# The settings that affect the surfaces but not the training runs.
SURFACE_SETTINGS = ("grid", "batch", "planes", "origin")


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        modes = settings["tasks"][task]["rules"]
        for rule in rules:
            own = drop(config, *SURFACE_SETTINGS) | {"rule": rule, "mode": modes[rule]}
            yield Job(f"{task}/{rule}", own, module="train", endings=(NUMBERS, ARRAYS))
        trained = tuple(f"{task}/{rule}" for rule in rules)
        yield Job(task, config | {"rules": modes}, module="surfaces", endings=(NUMBERS, ARRAYS), reads=trained)
