"""Training of a network under a rule, by programs that are compiled once for all seeds, data and learning rates."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import random

from experiments.common.training import (
    Update,
    activity,
    make_optimizer,
    online_window,
    training_step,
    updates_of_batch,
)
from slax_neurons import Connect, unroll
from slax_rules import accuracy, cross_entropy, train_offline, train_online

# A program takes about as long as with all optimizations of LLVM, and compiles in two thirds of the time.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 1}

Samples = tuple[jax.Array, jax.Array]  # spikes [T, B, N], labels [B]; of several batches [M, T, B, N] and [M, B]
Score = Callable[[jax.Array, jax.Array], jax.Array]  # maps outputs [T, B, classes] and labels to a number


class Trained(NamedTuple):
    """The arrays of a training: those of the network and its rule, and those of the optimizer."""

    network: nnx.State
    optimizer: nnx.State


@dataclass(frozen=True)
class Trainer:
    """The training of a network under one rule and way of updating.

    start: `start(key)`, the arrays before training; the key is for the weights and for the random draws of the rule.
    network: `network(trained)`, the network and its rule.
    train_part: `train_part(trained, rate, spikes, labels)`, the arrays after an update for each of the batches, and their
        losses: a jitted function.
    score: `score(trained, spikes, labels)`, the score of the network on some samples.
    """

    start: Callable[[jax.Array], Trained]
    network: Callable[[Trained], tuple[Connect, Any]]
    train_part: Callable[[Trained, float, jax.Array, jax.Array], tuple[Trained, jax.Array]]
    score: Callable[[Trained, jax.Array, jax.Array], jax.Array]

    def train(self, start: Trained, rate: float, parts: Iterable[Samples]) -> tuple[Trained, jax.Array]:
        """The arrays after training on all parts, of several batches each, and the losses of all batches."""
        trained, losses = start, []
        for spikes, labels in parts:
            trained, of_part = self.train_part(trained, rate, spikes, labels)
            losses.append(of_part)
        return trained, jnp.concatenate(losses)

    def train_in_parts(
        self, start: Trained, rate: float, parts: Iterable[Samples]
    ) -> Iterator[tuple[Trained, jax.Array]]:
        """Train like `train`, and yield the arrays and the losses after each part."""
        trained = start
        for spikes, labels in parts:
            trained, losses = self.train_part(trained, rate, spikes, labels)
            yield trained, losses


def make_trainer(
    config: dict[str, Any],
    update: Update,
    make_network: Callable[[dict[str, Any], nnx.Rngs], Connect],
    make_rule: Callable[[Connect, jax.Array], Any],
    score: Score = accuracy,
) -> Trainer:
    """The trainer of a network under a rule.

    Args:
        config: provides `steps`, the number of batches of a training, `n_steps`, `online_window`, `optimizer`, `anneal` and
            `optimizer_options`, and what `make_network` needs.
        update: whether there is an update for each sequence or for each window.
        make_network: `make_network(config, rngs)`.
        make_rule: `make_rule(model, key)`.
        score: what to measure of the outputs.
    """

    def objects(key: jax.Array) -> tuple[Connect, Any]:
        network_key, rule_key = random.split(key)
        model = make_network(config, nnx.Rngs(network_key))
        return model, make_rule(model, rule_key)

    graphdef = nnx.split(objects(random.key(0)))[0]

    def optimizer_of(model: Connect, rule: Any, rate: Any) -> nnx.Optimizer:
        if config["anneal"]:
            rate = optax.cosine_decay_schedule(rate, config["steps"] * updates_of_batch(config, update, rule))
        return make_optimizer(config, model, rule, rate)

    def start(key: jax.Array) -> Trained:
        model, rule = objects(key)
        return Trained(nnx.state((model, rule)), nnx.state(optimizer_of(model, rule, 0.0)))

    def network(trained: Trained) -> tuple[Connect, Any]:
        return nnx.merge(graphdef, trained.network, copy=True)

    def train_on(model: Connect, rule: Any, optimizer: nnx.Optimizer, batch: Samples) -> jax.Array:
        spikes, labels = batch
        spikes = spikes.astype(jnp.float32)
        if update == "offline":
            return train_offline(model, optimizer, cross_entropy, spikes, labels, rule=rule)
        window = online_window(config, rule)
        return train_online(model, optimizer, cross_entropy, spikes, labels, rule=rule, window=window)

    @jax.jit(compiler_options=COMPILER_OPTIONS)
    def train_part(
        trained: Trained, rate: jax.Array, spikes: jax.Array, labels: jax.Array
    ) -> tuple[Trained, jax.Array]:
        model, rule = network(trained)
        optimizer = optimizer_of(model, rule, rate)
        nnx.update(optimizer, trained.optimizer)
        objects = (model, rule, optimizer)
        step, state = training_step(objects, train_on)
        state, losses = jax.lax.scan(step, state, (spikes, labels))
        nnx.update(objects, state)
        return Trained(nnx.state((model, rule)), nnx.state(optimizer)), losses

    def score_of(trained: Trained, spikes: jax.Array, labels: jax.Array) -> jax.Array:
        model, _ = network(trained)
        model.eval()
        return score_model(model, spikes, labels, score=score)

    return Trainer(start, network, train_part, score_of)


@partial(nnx.jit, static_argnames="score")
def score_model(model: Connect, spikes: jax.Array, labels: jax.Array, *, score: Score) -> jax.Array:
    """The score of a network, by a program that all rules share."""
    spikes = spikes.astype(jnp.float32)
    _, outputs = unroll(model, model.initialize_carry(spikes.shape[1:]), spikes)
    return score(outputs, labels)


def spikes_of_layers(trainer: Trainer, trained: Trained, inputs: jax.Array) -> dict[str, jax.Array]:
    """The spikes per step and unit of each hidden layer of a trained network, by a program that all rules share."""
    model, _ = trainer.network(trained)
    model.eval()
    return activity_of_model(model, inputs)


@nnx.jit
def activity_of_model(model: Connect, inputs: jax.Array) -> dict[str, jax.Array]:
    return activity(model, inputs.astype(jnp.float32))
