"""Train the rules of the OTPE paper as its authors do: from the same weights, on the same batches, one network for each rule.

While BPTT trains, the gradients of the other rules are compared with its own, at its weights and on the batch that comes next.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.common.learning import fit_or_stop, transformation
from experiments.common.measures import by_parameter, cosines, loss_at_the_end
from experiments.common.samples import random_bits
from experiments.common.tasks import demo_model
from experiments.otpe_paper.sources import Batch, Sets, source_of
from slax_neurons import Connect, fast_sigmoid
from slax_rules import BPTT, OSTL, OTPE, OTTT, ApproximateOTPE, Every, cross_entropy, evaluate, gradients
from slax_rules.train.agreement import Agreement

REFERENCE = "bptt"
# A bias has no trace in the authors' code. In the last layer OTPE is OSTL, and its approximation is OTTT, here as there.
AUTHORS_RULES: dict[str, Any] = {
    "ottt": OTTT(bias_trace=False),
    "approximate_otpe": ApproximateOTPE(bias_trace=False),
    "ostl": OSTL(),
    "otpe": OTPE(),
    REFERENCE: BPTT(),
}

Compare = Callable[..., dict[str, dict[str, Agreement]]]  # of a model, inputs and labels


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """For the weights of each seed: by rule the loss at the end and the accuracies on each set after every `evaluate_every`
    batches, and by compared rule the cosines of each parameter before the first batch and after every `measure_every`."""
    with random_bits():
        batches, sets = source_of(config, spikes)
        compare = nnx.jit(partial(agreements, tuple(config["compared"])))
        found = [one_seed(config, seed, batches(seed), sets, compare) for seed in config["weights"]]
    return {"seeds": found}


def one_seed(config: dict[str, Any], seed: int, batch: Batch, sets: Sets, compare: Compare) -> dict[str, Any]:
    """The numbers of all rules from the same weights and on the same batches."""
    measured: list[dict[str, dict[str, float | None]]] = []

    def measure(model: Any, step: int) -> None:
        if step < config["batches"]:
            measured.append({rule: cosines(found) for rule, found in compare(model, *batch(step)).items()})

    def trained(rule: str) -> dict[str, Any]:
        model, scores = network(config, nnx.Rngs(seed)), []
        callbacks = [Every(config["evaluate_every"], lambda info: scores.append(accuracies(info.model, sets)))]
        if rule == REFERENCE and config["compared"]:
            measure(model, 0)
            callbacks.append(Every(config["measure_every"], lambda info: measure(info.model, info.step)))
        where = f"otpe_paper: {config['task']} under {rule}, weights {seed}"
        made, batches = transformation(config, config["learning_rate"]), map(batch, range(config["batches"]))
        how = {"update": config["update"], "callbacks": callbacks}
        losses = fit_or_stop(where, model, AUTHORS_RULES[rule], made, batches, **how)
        return {"loss": loss_at_the_end(losses), "accuracy": joined(scores)}

    rules = {rule: trained(rule) for rule in config["rules"]}
    found = {rule: joined([of[rule] for of in measured]) for rule in config["compared"]}
    return {"weights": seed, "rules": rules, "cosines": found}


def network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """The authors' network: LIF after each Linear, including the last, with Flax's default weights."""
    decay, spike_fn = 1 / (1 + math.exp(-config["tau"])), fast_sigmoid(float(config["slope"]))
    return demo_model(config["layers"], rngs, decay=decay, spike_fn=spike_fn)


def count_accuracy(spikes: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of samples whose label has the most output spikes, or is the first class of those that have: the authors'
    accuracy. A sample without an output spike is wrong."""
    counts = spikes.sum(axis=0)
    return jnp.mean((counts.argmax(axis=-1) == labels) & (counts.sum(axis=-1) > 0))


def accuracies(model: nnx.RNNCellBase, sets: Sets) -> dict[str, float]:
    """The accuracy on each set."""
    metrics = {"accuracy": count_accuracy}
    return {name: evaluate(model, cross_entropy, parts, metrics=metrics)["accuracy"] for name, parts in sets.items()}


def agreements(rules: tuple[str, ...], model: Connect, inputs: jax.Array, labels: jax.Array) -> dict[str, Any]:
    """The agreement of each rule's gradient with BPTT's, by parameter, and of the whole gradient."""
    inputs = inputs.astype(jnp.float32)
    exact = gradients(model, cross_entropy, inputs, labels)[1]
    found = {rule: gradients(model, cross_entropy, inputs, labels, rule=AUTHORS_RULES[rule])[1] for rule in rules}
    return {rule: by_parameter(model, gradient, exact) for rule, gradient in found.items()}


def joined(numbers: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The numbers of several steps by name."""
    return {name: [of[name] for of in numbers] for name in numbers[0]} if numbers else {}
