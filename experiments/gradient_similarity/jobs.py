"""One job for each task, with all rules and seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        yield Job(task, config | {"rules": rules}, spikes=config.get("spikes"))
