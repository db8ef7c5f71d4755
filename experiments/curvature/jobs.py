"""One job for each rule of the parts `solutions` and `online`, with all seeds, and one for all rules of `windows`."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import NUMBERS, TIMES, Job, drop

PARTS = ("solutions", "online", "windows")
OF_TRIALS = ("rate_seeds", "learning_rates", "validation_size")


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for part in PARTS:
        config = drop(settings, *PARTS, *(["learning_rate"] if part == "online" else OF_TRIALS))
        config |= {"part": part, "task": "randman", "dataset": "randman"} | settings[part]
        if part == "windows":
            yield Job(part, config, module=part, endings=(NUMBERS, TIMES))
            continue
        for rule in settings[part]["rules"]:
            yield Job(f"{part}/{rule}", drop(config, "rules") | {"rule": rule}, module=part)
