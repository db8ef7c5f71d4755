"""One job for each task, with all of its codes, cells and seeds, and one for the costs of all cells on some tasks."""

from collections.abc import Iterator
from typing import Any

from experiments.common.checks import check_known
from experiments.common.job import TIMES, Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task in settings["cost_tasks"]:
        check_known("task", task, settings["tasks"], " for cost_tasks")
    for task, _, config in each_task(settings):
        own = drop(config, "cost_tasks", "cost_repeats")
        yield Job(task, own, spikes=config.get("spikes"))
        if task in settings["cost_tasks"]:
            read = ("task", "layers", "n_steps", "codes", "initial_rate", "decay", "read_out_decay", "batch_size")
            costs = {name: own[name] for name in (*read, "temporal", "spatial") if name in own}
            yield Job(f"{task}_cost", costs | {"repeats": settings["cost_repeats"]}, module="cost", endings=(TIMES,))
