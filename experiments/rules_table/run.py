"""Train one task under one rule with several seeds, and compare its gradient with BPTT's before and after training.

The rule trains the network twice from the same start, offline (one optimizer step for a sequence) and online (one for
each window), each with the settings of the best validation accuracy (`experiments.common.learning`). Before and after
training, it measures the test accuracy, the firing rates of the hidden layers, and layer by layer the cosine between the
gradients of the rule and of BPTT at the same parameters and on the same batch.
"""

from typing import Any

from experiments.common import measures
from experiments.common.learning import choose, gradient_rule, second_setting
from experiments.common.measures import agreement, loss_at_the_end, spikes_of_layers
from experiments.common.samples import make_sampler, seeds_of
from slax_rules import RULES


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The trials of each way of updating, and for all seeds the numbers of each stage of training."""
    sampler = make_sampler(config, None)
    trials: dict[str, Any] = {}
    seeds: list[dict[str, Any]] = [{"seed": seed} for seed in seeds_of(config)]
    for update in RULES[config["rule"]].updates:
        where = f"rules_table of {config['task']}: under {config['rule']} {update}"
        second = second_setting(config["rule"], update)
        trials[update], runs = choose(config, update, sampler, where, second, evaluate_at=(0,))
        for run, numbers in zip(runs, seeds, strict=True):
            samples = sampler(run.seed)
            stages = {update: config["steps"]} if "initial" in numbers else {"initial": 0, update: config["steps"]}
            for name, step in stages.items():
                model, rule = run.network(step)
                numbers[name] = {
                    "accuracy": run.test[step],
                    "spikes": spikes_of_layers(model, samples.test[0]),
                    "layers": agreement(
                        model, gradient_rule(config["rule"], rule), samples.others(config["eval_batches"])
                    ),
                }
            numbers[update] |= {"loss": loss_at_the_end(run.losses), **measures.along(run, samples)}
    return {"trials": trials, "seeds": seeds}
