"""Train a network of some depth under each rule, at the learning rate with the best validation accuracy for that rule, and
compare the rule's gradient with BPTT's, layer by layer: before training, and at the parameters that BPTT reaches.

All rules start from the same weights and see the same batches, and the cosines of all rules are at the same parameters.
"""

from typing import Any

from flax import nnx

from experiments.common.learning import choose
from experiments.common.measures import agreements, at_the_end
from experiments.common.samples import make_sampler

REFERENCE = "bptt"


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """By rule: "trials", the trials of the learning rate, and "seeds", for each seed the test accuracy, its course, and the
    cosines by layer, "initial" and "trained"; BPTT has no cosines."""
    sampler = make_sampler(config, None)
    order = [REFERENCE, *(rule for rule in config["rules"] if rule != REFERENCE)]
    found: dict[str, Any] = {}
    reached: dict[int, nnx.State] = {}
    for name in order:
        where = f"depth of {config['task']}: {config['depth']} hidden layers under {name}"
        trials, runs = choose(config | {"rule": name}, "offline", sampler, where, evaluate_at=(0,))
        seeds = []
        for run in runs:
            numbers = at_the_end(run, sampler(run.seed))
            if name == REFERENCE:
                reached[run.seed] = nnx.state(run.network()[0])
            else:
                numbers |= agreements(run, reached[run.seed], sampler(run.seed).others(config["eval_batches"]))
            seeds.append(numbers)
        found[name] = {"trials": trials, "seeds": seeds}
    return {"rules": found}
