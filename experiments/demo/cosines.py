"""The second notebook: train with BPTT, and before each training step compare the gradients of other rules with BPTT's, on the
batch of that step. As in the notebook, a layer is its weights without its bias."""

from functools import partial
from typing import Any

import jax
from flax import nnx
from tqdm import tqdm

from experiments.common.learning import transformation
from experiments.common.measures import layer_of, plain_layers
from experiments.demo.notebooks import Batch, random_bits, sampler, second_keys, second_network
from slax_neurons import Connect
from slax_rules import RULES, agreement, cross_entropy, gradients
from slax_rules.train.agreement import by_path


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """By rule, the cosine of each layer before the training step 1, 2, ... and after the last one; None where a gradient is
    zero."""
    cosines: dict[str, list[dict[str, float | None]]] = {rule: [] for rule in config["rules"]}
    with random_bits():
        model = second_network(config["layers"])
        sample = sampler(config["layers"], config["n_steps"])
        optimizer = nnx.Optimizer(model, transformation(config, config["learning_rate"]), wrt=nnx.Param)
        step = nnx.jit(partial(measure_and_train, config["rules"]))
        for key in tqdm(second_keys(config["training_steps"] + 1), desc="cosines", unit="step", disable=None):
            for rule, layers in step(model, optimizer, sample(key, batch_size=config["batch_size"])).items():
                cosines[rule].append({layer: of["cosine"] for layer, of in plain_layers(layers).items()})
    return {"cosines": cosines}


def measure_and_train(rules: list[str], model: Connect, optimizer: nnx.Optimizer, batch: Batch) -> dict[str, Any]:
    """The agreement of each rule with BPTT by layer; then one training step with the BPTT gradient, in place."""
    _, reference = gradients(model, cross_entropy, *batch)
    found = {}
    for name in rules:
        _, gradient = gradients(model, cross_entropy, *batch, rule=RULES[name].make(rngs=nnx.Rngs(0), model=model))
        layers = agreement(weights_of(gradient), weights_of(reference), group=layer_of(model))
        found[name] = {layer: measured._asdict() for layer, measured in layers.items()}
    optimizer.update(model, reference)
    return found


def weights_of(gradient: Any) -> dict[str, jax.Array]:
    """The gradients of the weights by path, without the biases."""
    return {path: leaf for path, leaf in by_path(gradient).items() if path.endswith("kernel")}
