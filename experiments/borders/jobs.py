"""One job for each task and rule, with all seeds."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.pipeline.job import Job, one_for_each_rule

SHARED = ("experiments/streaming/run.py", "experiments/streaming/sources.py")


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    yield from (replace(job, sources=SHARED) for job in one_for_each_rule(settings))
