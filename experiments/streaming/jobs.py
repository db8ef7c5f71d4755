"""One job for each task and rule, with all seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.common.job import Job, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        for rule in rules:
            yield Job(f"{task}/{rule}", config | {"rule": rule}, spikes=config.get("spikes"))
