"""Train a deep network under one rule with several seeds, and evaluate each on the test split after its last batch.

The settings are the ones with the best validation accuracy (`experiments.common.trials`).
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.common.samples import make_sampler
from experiments.common.trainer import Trainer, make_trainer, spikes_of_layers
from experiments.common.training import Update, loss_at_the_end, make_rule
from experiments.common.trials import RATE, WINDOW, choose, train_seeds
from experiments.deep.networks import NETWORKS


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The trials of the settings, and the numbers of the seeds 0, 1, ...; no step is selected by accuracy."""
    sampler = make_sampler(config, spikes)
    update = update_of(config)

    def make(config: dict[str, Any]) -> Trainer:
        pieces = {"steps": config["online_window"]} if config["rule"] == "tbptt" else {}
        rule = partial(make_rule, config["rule"], **pieces)
        return make_trainer(config, update, NETWORKS[config["network"]], rule, score=summed_accuracy)

    where = f"deep, {config['task']}: under {config['rule']}"
    trials, trainer = choose(config, make, sampler, where, WINDOW if update == "online" else RATE)
    seeds = [
        {
            "seed": seed,
            "accuracy": float(trainer.score(trained, *samples.test)),
            "loss": float(loss_at_the_end(losses)),
            "spikes": jax.tree.map(float, spikes_of_layers(trainer, trained, samples.test[0])),
        }
        for seed, samples, _, trained, losses in train_seeds(config, trainer, sampler, trials.chosen[RATE], where)
    ]
    return {"trials": trials.as_json(), "seeds": seeds}


def update_of(config: dict[str, Any]) -> Update:
    """BPTT makes an update for each sequence, every other rule for each window."""
    return "offline" if config["rule"] == "bptt" else "online"


def summed_accuracy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of samples whose label is the most probable class, by the sum over time of the softmax of the outputs."""
    return jnp.mean(jax.nn.softmax(outputs).sum(axis=0).argmax(axis=-1) == labels)
