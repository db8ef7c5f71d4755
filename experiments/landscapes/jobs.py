"""One training for each task and rule, with all seeds, and for each task its surfaces, made from the trained networks."""

from collections.abc import Iterator
from typing import Any

from experiments.common.job import Job, each_task, without

# What the surfaces depend on, and the trainings do not.
OF_SURFACES = ("grid", "random", "line_points", "batch", "planes", "origin", "random_planes")


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        modes = settings["tasks"][task]["rules"]
        for rule in rules:
            own = without(config, *OF_SURFACES) | {"rule": rule, "mode": modes[rule]}
            yield Job(f"{task}/{rule}", own, module="train", arrays=True)
        trained = tuple(f"{task}/{rule}" for rule in rules)
        yield Job(task, config | {"rules": modes}, module="surfaces", after=trained, arrays=True)
