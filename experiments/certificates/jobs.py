"""One job for the gradients and certificates of all seeds, and one for the costs."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import TIMES, TRAINING_KEYS, Job, drop


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    yield Job("gradients", drop(settings, "cost_repeats", "cost_window"))
    cost = drop(settings, *TRAINING_KEYS, "measure_at", "learning_rate", "cost_repeats", "cost_window")
    window = {"repeats": settings["cost_repeats"], "window": settings["cost_window"]}
    yield Job("cost", cost | window, module="cost", endings=(TIMES,))
