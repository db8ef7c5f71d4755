"""One job for each task, with all of its codes, cells and seeds, and one for the costs of all cells on some tasks."""

from collections.abc import Iterator
from typing import Any

from experiments.common.checks import check_known
from experiments.common.job import TIMES, Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task in settings["cost_tasks"]:
        check_known("task", task, settings["tasks"], " for cost_tasks")
    for task, _, config in each_task(settings):
        own = drop(config, "cost_tasks", "cost_repeats", "cost_window")
        spikes = config.get("spikes")
        yield Job(task, own, spikes=spikes)
        if task in settings["cost_tasks"]:
            training = (
                "seeds",
                "rate_seeds",
                "steps",
                "learning_rates",
                "eval_batches",
                "validation_size",
                "test_size",
            )
            costs = drop(own, *training)
            repeats = {"repeats": settings["cost_repeats"], "window": settings["cost_window"]}
            yield Job(f"{task}_cost", costs | repeats, module="cost", endings=(TIMES,), spikes=spikes)
