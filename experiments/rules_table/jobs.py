"""One job for each task and rule, with all seeds, and for some tasks the time and memory of all rules."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import TIMES, TRAINING_KEYS, Job, check_known, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task in settings["cost_tasks"]:
        check_known("task", task, settings["tasks"], " for cost_tasks")
    for task, rules, config in each_task(settings):
        own = drop(config, "cost_tasks", "cost_repeats")
        for rule in rules:
            yield Job(f"{task}/{rule}", own | {"rule": rule})
        if task in settings["cost_tasks"]:
            costs = drop(own, *TRAINING_KEYS) | {"rules": rules, "repeats": settings["cost_repeats"]}
            yield Job(task, costs, module="cost", endings=(TIMES,))
