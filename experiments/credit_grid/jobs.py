"""For each task and code, one job for the two references and one for each temporal credit, with all routes and seeds; and one
for the costs of all cells on some tasks."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import ARRAYS, NUMBERS, TIMES, TRAINING_KEYS, Job, check_known, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task in settings["cost_tasks"]:
        check_known("task", task, settings["tasks"], " for cost_tasks")
    for task, _, config in each_task(settings):
        own = drop(config, "codes", "cost_tasks", "cost_repeats", "cost_window")
        codes = [own | {"code": code, "input_rate": rate} for code, rate in config["codes"].items()]
        spikes = config.get("spikes")
        for of_code in codes:
            name = f"{task}/{of_code['code']}"
            references = f"{name}/references"
            alone = drop(of_code, "temporal", "spatial")
            yield Job(references, alone, module="references", endings=(NUMBERS, ARRAYS), spikes=spikes)
            for temporal in config["temporal"]:
                row = of_code | {"temporal": [temporal]}
                yield Job(f"{name}/{temporal}", row, spikes=spikes, reads=(references,))
        if task in settings["cost_tasks"]:
            repeats = {"repeats": settings["cost_repeats"], "window": settings["cost_window"]}
            costs = drop(codes[0], *TRAINING_KEYS) | repeats
            yield Job(f"{task}_cost", costs, module="cost", endings=(TIMES,), spikes=spikes)
