"""The other notebooks: compare the gradients of other rules with BPTT's.

The second one does so before each step of training with BPTT, on the batch of that step; a layer is its weights without its
bias. The third one does so at the initial weights, kernels and biases apart.
"""

from functools import partial
from typing import Any

from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.learning import transformation
from experiments.common.measures import by_parameter, cosines
from experiments.common.samples import random_bits
from experiments.demo.notebooks import Batch, first_network, sampler, second_keys, second_network
from slax_neurons import Connect
from slax_rules import RULES, cross_entropy, gradients


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """By rule, "cosines", of each layer before the training step 1, 2, ... and after the last one; or "initial", of each
    parameter, such as "1/kernel". None where a gradient is zero."""
    sample = partial(sampler(config["layers"], config["n_steps"]), batch_size=config["batch_size"])
    with random_bits():
        if "training_steps" not in config:
            found, _ = compare(config["rules"], first_network(config["layers"], random.key(0)), sample(random.key(0)))
            return {"initial": {rule: cosines(of) for rule, of in found.items()}}
        model = second_network(config["layers"])
        optimizer = nnx.Optimizer(model, transformation(config, config["learning_rate"]), wrt=nnx.Param)
        step, steps = nnx.jit(partial(compare_and_train, config["rules"])), []
        for key in tqdm(second_keys(config["training_steps"] + 1), desc="cosines", unit="step", disable=None):
            steps.append(step(model, optimizer, sample(key)))
    return {"cosines": {rule: [cosines(found[rule]) for found in steps] for rule in config["rules"]}}


def compare(rules: list[str], model: Connect, batch: Batch) -> tuple[dict[str, Any], Any]:
    """The agreement of each rule with BPTT by parameter, and the gradient of BPTT."""
    found, reference = {}, gradients(model, cross_entropy, *batch)[1]
    for name in rules:
        _, gradient = gradients(model, cross_entropy, *batch, rule=RULES[name].make(rngs=nnx.Rngs(0), model=model))
        found[name] = by_parameter(model, gradient, reference)
        del found[name]["all"]
    return found, reference


def compare_and_train(rules: list[str], model: Connect, optimizer: nnx.Optimizer, batch: Batch) -> dict[str, Any]:
    """The agreement of the weights of each layer; then one training step with the gradient of BPTT, in place."""
    found, reference = compare(rules, model, batch)
    optimizer.update(model, reference)
    return {
        rule: {name.removesuffix("/kernel"): of for name, of in by_name.items() if name.endswith("/kernel")}
        for rule, by_name in found.items()
    }
