"""Train one task under one rule with several seeds, and measure its accuracy on the test split.

For each way of updating, the settings are the ones with the best validation accuracy (`experiments.common.trials`).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from experiments.common.samples import SeedSamples, make_sampler
from experiments.common.trainer import Trainer, make_trainer, spikes_of_layers
from experiments.common.training import Update, loss_at_the_end, make_model, make_rule
from experiments.common.trials import RATE, choose, second_setting, train_seeds
from slax_rules import RULES


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The trials and the results of each way of updating, for the seeds 0, 1, ...."""
    sampler = make_sampler(config, spikes)
    return {"updates": {update: results_of_update(config, update, sampler) for update in RULES[config["rule"]].updates}}


def results_of_update(config: dict[str, Any], update: Update, sampler: Callable[[int], SeedSamples]) -> dict[str, Any]:
    """The trials of the settings, and for each seed the numbers of the network at the end of its training, with no step
    selected by accuracy."""

    def make(config: dict[str, Any]) -> Trainer:
        return make_trainer(config, update, make_model, partial(make_rule, config["rule"]))

    where = f"accuracy of {config['task']}: under {config['rule']} {update}"
    trials, trainer = choose(config, make, sampler, where, second_setting(config["rule"], update))
    seeds = [
        {
            "seed": seed,
            "accuracy": float(trainer.score(trained, *samples.test)),
            "validation_accuracy": float(trainer.score(trained, *samples.validation)),
            "loss": float(loss_at_the_end(losses)),
            "spikes": jax.tree.map(float, spikes_of_layers(trainer, trained, samples.test[0])),
        }
        for seed, samples, _, trained, losses in train_seeds(config, trainer, sampler, trials.chosen[RATE], where)
    ]
    return {"trials": trials.as_json(), "seeds": seeds}
