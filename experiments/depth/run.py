"""Train a network of some depth under each rule, at the learning rate with the best validation accuracy for that rule, and
compare the rule's gradient with BPTT's, layer by layer: before training, and at the parameters that BPTT reaches.

All rules start from the same weights and see the same batches, and the cosines of all rules are at the same parameters.
"""

from functools import partial
from typing import Any

from experiments.common.agreement import make_agreement, model_state
from experiments.common.samples import make_sampler
from experiments.common.trainer import Trainer, make_trainer
from experiments.common.training import make_model, make_rule
from experiments.common.trials import RATE, choose, train_seeds

REFERENCE = "bptt"


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """By rule: "trials", the trials of the learning rate, and "seeds", for each seed the test accuracy and the cosines by
    layer, "initial" and "trained"; BPTT has no cosines."""
    sampler = make_sampler(config, None)
    order = [REFERENCE, *(rule for rule in config["rules"] if rule != REFERENCE)]
    found, reached = {}, {}
    for rule in order:
        own = config | {"rule": rule}

        def make(config: dict[str, Any], rule: str = rule) -> Trainer:
            return make_trainer(config, "offline", make_model, partial(make_rule, rule))

        where = f"depth of {config['task']}: {config['depth']} hidden layers under {rule}"
        trials, trainer = choose(own, make, sampler, where)
        agreement = make_agreement(trainer)
        seeds = []
        for seed, samples, start, trained, _ in train_seeds(own, trainer, sampler, trials.chosen[RATE], where):
            numbers: dict[str, Any] = {"seed": seed, "accuracy": float(trainer.score(trained, *samples.test))}
            if rule == REFERENCE:
                reached[seed] = model_state(trainer, trained)
            else:
                batches = samples.others(config["eval_batches"])
                numbers["initial"] = agreement(start, model_state(trainer, start), batches)
                numbers["trained"] = agreement(start, reached[seed], batches)
            seeds.append(numbers)
        found[rule] = {"trials": trials.as_json(), "seeds": seeds}
    return {"rules": found}
