"""One job for each rule of the part `online`, with all seeds, and one for all rules of `windows`."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import NUMBERS, TIMES, Job, drop

PARTS = ("online", "windows")
OF_TRIALS = ("rate_seeds", "learning_rates", "validation_size")


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    shared = drop(settings, *PARTS) | {"task": "randman", "dataset": "randman"}
    online = drop(shared, "learning_rate") | {"part": "online"} | drop(settings["online"], "rules")
    for rule in settings["online"]["rules"]:
        yield Job(f"online/{rule}", online | {"rule": rule}, module="online")
    windows = drop(shared, *OF_TRIALS) | {"part": "windows"} | settings["windows"]
    yield Job("windows", windows, module="windows", endings=(NUMBERS, TIMES))
