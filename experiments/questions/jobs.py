"""One job for each task, optimizer and way to learn, with all seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.common.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, ways, config in each_task(settings):
        for optimizer in config["optimizers"]:
            own = drop(config, "optimizers") | {"optimizer": optimizer}
            own["learning_rates"] = config["learning_rates"][optimizer]
            for way in ways:
                yield Job(f"{task}/{optimizer}/{way}", own | {"way": way})
