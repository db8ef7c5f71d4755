"""The agreement of a rule's gradient with BPTT's, layer by layer, at the same parameters and on the same samples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.common.trainer import Samples, Trained, Trainer
from experiments.common.training import layer_of, plain_layers
from slax_neurons import Connect
from slax_rules import cross_entropy, gradients
from slax_viz import cosine_similarity

Layers = dict[str, dict[str, float | None]]


def make_agreement(
    trainer: Trainer, rule_of: Callable[[Any], Any] = lambda rule: rule
) -> Callable[[Trained, nnx.State, Samples], Layers]:
    """A function `agreement(trained, model_state, batches)`, compiled once, that gives the cosine and the norm ratio of each
    layer.

    Args:
        trainer: the trainer of the rule, whose arrays are in `trained`.
        rule_of: maps the rule of the trainer to the rule whose gradient is compared.

    `model_state` holds the parameters at which the gradients are compared. `batches` [M, T, B, N] are taken as one batch.
    """

    @jax.jit
    def gradient_of_rule(trained: Trained, state: nnx.State, *batches: jax.Array) -> nnx.State:
        model, rule = trainer.network(trained)
        nnx.update(model, state)
        return gradients(model, cross_entropy, *as_one_batch(*batches), rule=rule_of(rule))[1]

    def agreement(trained: Trained, state: nnx.State, batches: Samples) -> Layers:
        model, _ = trainer.network(trained)
        nnx.update(model, state)
        return plain_layers(compare(gradient_of_rule(trained, state, *batches), bptt_gradient(model, *batches)))

    return agreement


@nnx.jit
def bptt_gradient(model: Connect, spikes: jax.Array, labels: jax.Array) -> nnx.State:
    """The gradient of BPTT, by a program that all rules share."""
    return gradients(model, cross_entropy, *as_one_batch(spikes, labels))[1]


@jax.jit
def compare(gradient: nnx.State, reference: nnx.State) -> dict[str, dict[str, jax.Array]]:
    layers = cosine_similarity(gradient, reference, group=layer_of)
    return {layer: cosine._asdict() | {"cosine": cosine.value} for layer, cosine in layers.items()}


def as_one_batch(spikes: jax.Array, labels: jax.Array) -> Samples:
    """Several batches [M, T, B, N] as one [T, M B, N]."""
    count, steps, size, *units = spikes.shape
    return spikes.swapaxes(0, 1).reshape(steps, count * size, *units).astype(jnp.float32), labels.reshape(-1)


def model_state(trainer: Trainer, trained: Trained) -> nnx.State:
    """The arrays of the network alone."""
    return nnx.state(trainer.network(trained)[0])
