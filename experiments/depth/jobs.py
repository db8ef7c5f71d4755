"""One job for each code and number of hidden layers, with all rules and seeds."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        for depth in config["depths"]:
            layers = [config["n_units"], *[config["width"]] * depth, config["n_classes"]]
            own = drop(config, "depths", "width") | {"depth": depth, "layers": layers, "rules": rules}
            yield Job(f"{task}/{depth}", own)
