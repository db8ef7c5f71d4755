"""Train one task under one rule with several seeds, and measure the accuracy on the test set."""

from typing import Any

from experiments.common.learning import choose
from experiments.common.samples import make_sampler


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The trials of learning rates, and the test accuracy of each seed at the best one."""
    trials, runs = choose(config, "offline", make_sampler(config, None), f"NAME: {config['rule']}")
    return {"trials": trials, "accuracy": [run.test[config["steps"]] for run in runs]}
