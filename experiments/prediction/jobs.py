"""One job for each task and way to predict, with all seeds; `counted` are the baselines without training."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, _, config in each_task(settings):
        for way in config["ways"]:
            yield Job(f"{task}/{way}", drop(config, "ways") | {"way": way}, module=task, spikes=task)
