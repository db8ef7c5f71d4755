"""One job for each task and rule, with all seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.common.checks import check_known
from experiments.common.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        own = drop(config, "learning_rates", "rates_to_try")
        for rule in rules:
            check_known("rule", rule, config["learning_rates"], f" in the learning_rates of {task}")
            rate = config["learning_rates"][rule]
            yield Job(f"{task}/{rule}", own | {"rule": rule, "learning_rate": rate}, spikes=config.get("spikes"))
