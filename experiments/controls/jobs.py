"""One job for each task, optimizer, rule and variant, with all seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, drop, each_task

SHARED = ("experiments/credit_grid/grid.py", "experiments/questions/sources.py")  # of other experiments


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, merged in each_task(settings):
        variants = merged["variants"]
        own = drop(merged, "optimizers", "variants")
        for optimizer in merged["optimizers"]:
            for rule in rules:
                yield job(task, own | {"optimizer": optimizer, "rule": rule, "variant": "itself"})
        for optimizer, of_rules in variants.items():
            for rule, asked in of_rules.items():
                for variant in asked:
                    yield job(task, own | {"optimizer": optimizer, "rule": rule, "variant": variant})


def job(task: str, config: dict[str, Any]) -> Job:
    name = config["rule"] if config["variant"] == "itself" else f"{config['rule']}_{config['variant']}"
    return Job(f"{task}/{config['optimizer']}/{name}", config, sources=SHARED)
