"""The third notebook: compare the gradients of other rules with BPTT's at the initial weights, kernels and biases apart."""

from typing import Any

from flax import nnx
from jax import random

from experiments.common.measures import layer_of
from experiments.demo.notebooks import first_network, random_bits, sampler
from slax_rules import RULES, agreement, cross_entropy, gradients


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """By rule and parameter, such as "1/kernel", the cosine to the BPTT gradient; None where a gradient is zero."""
    with random_bits():
        model = first_network(config["layers"], random.key(0))
        batch = sampler(config["layers"], config["n_steps"])(random.key(0), batch_size=config["batch_size"])
        _, reference = gradients(model, cross_entropy, *batch)
        layer, initial = layer_of(model), {}
        for name in config["rules"]:
            _, gradient = gradients(model, cross_entropy, *batch, rule=RULES[name].make(rngs=nnx.Rngs(0), model=model))
            found = agreement(gradient, reference)
            initial[name] = {
                f"{layer(path)}/{path.rpartition('/')[2]}": float(of.cosine) if of.defined else None
                for path, of in found.items()
                if path != "all"
            }
    return {"initial": initial}
