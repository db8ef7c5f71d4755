"""One job for each neuron."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, drop


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for neuron, own in settings["neurons"].items():
        yield Job(neuron, drop(settings, "neurons") | {"neuron": neuron} | own)
