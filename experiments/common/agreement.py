"""The agreement of a rule's gradient with BPTT's, layer by layer, at the same parameters and on the same samples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.common.trainer import Samples, Trained, Trainer
from experiments.common.training import layer_of, plain_layers
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
    def compare(trained: Trained, state: nnx.State, spikes: jax.Array, labels: jax.Array) -> dict[str, dict[str, Any]]:
        model, rule = trainer.network(trained)
        nnx.update(model, state)
        count, steps, size, *units = spikes.shape
        inputs = spikes.swapaxes(0, 1).reshape(steps, count * size, *units).astype(jnp.float32)
        batch = inputs, labels.reshape(-1)
        _, reference = gradients(model, cross_entropy, *batch)
        _, gradient = gradients(model, cross_entropy, *batch, rule=rule_of(rule))
        layers = cosine_similarity(gradient, reference, group=layer_of)
        return {layer: cosine._asdict() | {"cosine": cosine.value} for layer, cosine in layers.items()}

    def agreement(trained: Trained, state: nnx.State, batches: Samples) -> Layers:
        return plain_layers(compare(trained, state, *batches))

    return agreement


def model_state(trainer: Trainer, trained: Trained) -> nnx.State:
    """The arrays of the network alone."""
    return nnx.state(trainer.network(trained)[0])
