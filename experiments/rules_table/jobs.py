"""One job for each task and rule, with all seeds, and for some tasks the time and memory of all rules."""

from collections.abc import Iterator
from typing import Any

from experiments.common.job import Job, each_task, without


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        own = without(config, "cost_tasks", "cost_repeats")
        for rule in rules:
            yield Job(f"{task}/{rule}", own | {"rule": rule})
        if task in settings["cost_tasks"]:
            costs = own | {"rules": rules, "repeats": settings["cost_repeats"]}
            yield Job(f"{task}.timing", costs, module="cost", alone=True)
