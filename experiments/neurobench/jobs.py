"""One job for each task, with all seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, _, config in each_task(settings):
        yield Job(task, config)
