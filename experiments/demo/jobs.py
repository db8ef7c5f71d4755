"""For the first notebook, one training run for each rule and the plane of their checkpoints; for the others, the cosines."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import ARRAYS, NUMBERS, Job, drop


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    first = settings["first"]
    for rule, update in first["rules"].items():
        config = drop(first, "rules", "grid") | {"rule": rule, "update": update}
        yield Job(f"first/{rule}", config, module="train", endings=(NUMBERS, ARRAYS))
    trained = tuple(f"first/{rule}" for rule in first["rules"])
    yield Job("first", first, module="plane", endings=(NUMBERS, ARRAYS), reads=trained)
    yield Job("second", settings["second"], module="cosines")
    yield Job("third", settings["third"], module="cosines")
