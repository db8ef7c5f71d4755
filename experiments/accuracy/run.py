"""Train one task under one rule with several seeds, and measure its accuracy on the test split.

For each way of updating, the settings are the ones with the best validation accuracy (`experiments.common.learning`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.common.learning import Update, choose, second_setting
from experiments.common.measures import at_the_end, spikes_of_layers
from experiments.common.samples import SeedSamples, make_sampler
from slax_rules import RULES


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The trials and the results of each way of updating, for all seeds."""
    sampler = make_sampler(config, spikes)
    return {"updates": {update: results_of_update(config, update, sampler) for update in RULES[config["rule"]].updates}}


def results_of_update(config: dict[str, Any], update: Update, sampler: Callable[[int], SeedSamples]) -> dict[str, Any]:
    """The trials of the settings, and for each seed the numbers of the network along its training and at its end, with no step
    selected by accuracy."""
    where = f"accuracy of {config['task']}: under {config['rule']} {update}"
    trials, runs = choose(config, update, sampler, where, second_setting(config["rule"], update))
    seeds = []
    for run in runs:
        spikes = spikes_of_layers(run.network()[0], sampler(run.seed).test[0])
        more = {"validation_accuracy": run.validation[config["steps"]], "spikes": spikes}
        seeds.append(at_the_end(run, sampler(run.seed)) | more)
    return {"trials": trials, "seeds": seeds}
