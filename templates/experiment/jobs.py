"""One job for each rule, with all seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, drop


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for rule in settings["rules"]:
        yield Job(rule, drop(settings, "rules") | {"rule": rule})
