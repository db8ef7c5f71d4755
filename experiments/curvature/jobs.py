"""One job for each rule of the parts `solutions` and `online`, with all seeds, and one for all rules of `windows`."""

from collections.abc import Iterator
from typing import Any

from experiments.common.job import Job, without

PARTS = ("solutions", "online", "windows")


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for part in PARTS:
        config = without(settings, *PARTS) | {"part": part} | settings[part]
        if part == "windows":
            yield Job("windows.timing", config, module=part, alone=True)
            continue
        for rule in settings[part]["rules"]:
            yield Job(f"{part}/{rule}", without(config, "rules") | {"rule": rule}, module=part)
