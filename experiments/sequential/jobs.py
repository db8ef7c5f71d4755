"""One job for each task and rule, with all seeds, and one for each task that measures time and memory of its rules."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import TIMES, TRAINING_KEYS, Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        own = drop(config, "cost_repeats", "offline")
        for rule in rules:
            updates = ["offline", "online"] if rule in config["offline"] else ["online"]
            yield Job(f"{task}/{rule}", own | {"rule": rule, "updates": updates}, spikes=config.get("spikes"))
        costs = drop(own, *TRAINING_KEYS, "trial_steps") | {"rules": rules, "repeats": config["cost_repeats"]}
        yield Job(f"{task}/costs", costs, module="cost", endings=(TIMES,), spikes=config.get("spikes"))
