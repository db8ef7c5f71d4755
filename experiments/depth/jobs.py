"""One job for each code and number of hidden layers, with all rules and seeds; and for one of them, one job for each training
with other lengths of gradients, and rule."""

import itertools
from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, check_known, drop, each_task

COMPARED = ("bptt", "otpe")  # the rules of which one is ahead of the other
SIZES = {"longer": "steps", "larger": "batch_size"}  # what the trainings of these names change


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    cause = settings["cause"]
    check_known("task", cause["task"], settings["tasks"], " for cause")
    for task, rules, config in each_task(settings):
        for depth in config["depths"]:
            yield Job(f"{task}/{depth}", of_depth(config, depth) | {"rules": rules})
        for training, rule in itertools.product(cause["trainings"] if task == cause["task"] else (), COMPARED):
            changed = {"training": training, "rule": rule, "clip": cause["clip"]}
            if training in SIZES:
                changed[SIZES[training]] = cause[training]
            yield Job(f"cause/{training}/{rule}", of_depth(config, cause["depth"]) | changed, module="cause")


def of_depth(config: dict[str, Any], depth: int) -> dict[str, Any]:
    """The settings of a task with so many hidden layers."""
    layers = [config["n_units"], *[config["width"]] * depth, config["n_classes"]]
    return drop(config, "depths", "width", "cause") | {"depth": depth, "layers": layers}
