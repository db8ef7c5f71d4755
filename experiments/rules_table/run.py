"""Train one task under one rule with several seeds, and compare its gradient with BPTT's before and after training.

The rule trains the network twice from the same start, offline (one optimizer step for a sequence) and online (one for
each window), each with the settings of the best validation accuracy (`experiments.common.trials`). Before and after
training, it measures the test accuracy, the firing rates of the hidden layers, and layer by layer the cosine between the
gradients of the rule and of BPTT at the same parameters and on the same batch.
"""

from functools import partial
from typing import Any

import jax

from experiments.common.agreement import make_agreement, model_state
from experiments.common.samples import make_sampler
from experiments.common.trainer import Trainer, make_trainer, spikes_of_layers
from experiments.common.training import Update, gradient_rule, loss_at_the_end, make_model, make_rule
from experiments.common.trials import RATE, choose, second_setting, train_seeds
from slax_rules import RULES


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The trials of each way of updating, and for the seeds 0, 1, ... the numbers of each stage of training."""
    sampler = make_sampler(config, None)
    trials: dict[str, Any] = {}
    seeds: list[dict[str, Any]] = [{"seed": seed} for seed in range(config["seeds"])]
    for update in RULES[config["rule"]].updates:

        def make(config: dict[str, Any], update: Update = update) -> Trainer:
            return make_trainer(config, update, make_model, partial(make_rule, config["rule"]))

        where = f"rules_table of {config['task']}: under {config['rule']} {update}"
        found, trainer = choose(config, make, sampler, where, second_setting(config["rule"], update))
        agreement = make_agreement(trainer, partial(gradient_rule, config["rule"]))
        trials[update] = found.as_json()
        for seed, samples, start, trained, losses in train_seeds(config, trainer, sampler, found.chosen[RATE], where):
            stages = {update: trained} if "initial" in seeds[seed] else {"initial": start, update: trained}
            for name, at in stages.items():
                seeds[seed][name] = {
                    "accuracy": float(trainer.score(at, *samples.test)),
                    "spikes": jax.tree.map(float, spikes_of_layers(trainer, at, samples.test[0])),
                    "layers": agreement(at, model_state(trainer, at), samples.others(config["eval_batches"])),
                }
            seeds[seed][update]["loss"] = float(loss_at_the_end(losses))
    return {"trials": trials, "seeds": seeds}
