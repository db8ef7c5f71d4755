"""The gradient of a cell of the grid or of BPTT, compiled once for all codes and seeds, and the training with it.

`train_offline` gives the gradient with respect to the model and, for the route `Adaptive`, to the matrices of the rule: its
optimizer only keeps what it gets. All cells share the program that takes the step of Adamax.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.common.training import layer_of, make_model, model_accuracy
from experiments.credit_grid.data import Samples
from experiments.credit_grid.grid import make_cell
from slax_neurons import Connect
from slax_rules import cross_entropy, train_offline
from slax_viz import cosine_similarity

# A program takes about as long as with all optimizations of LLVM, and compiles in two thirds of the time.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 1}

Arrays = list[jax.Array]  # parameters or their gradient; first those of the model, then those of the rule


class Trainer(NamedTuple):
    """The training of a cell.

    start: `start(model, key)`, the parameters, and all other arrays; the key is for the random matrices of the rule.
    gradient: `gradient(params, others, spikes, labels)`, the loss and the gradient of a batch: a jitted function.
    """

    start: Callable[[Connect, jax.Array], tuple[Arrays, Arrays]]
    gradient: Any


def make_trainer(config: dict[str, Any], cell: str, window: int | None = None) -> Trainer:
    """The trainer of a cell or of a reference, for all models with the layers and decays of this configuration.

    The gradient does not depend on the window; its time and memory do.
    """
    model = make_model(config, nnx.Rngs(0))
    graphdef, *parts = nnx.split((model, make_cell(cell, model, jax.random.key(0))), nnx.Param, ...)
    structures = [jax.tree.structure(part) for part in parts]

    def start(model: Connect, key: jax.Array) -> tuple[Arrays, Arrays]:
        _, params, others = nnx.split((model, make_cell(cell, model, key)), nnx.Param, ...)
        return jax.tree.leaves(params), jax.tree.leaves(others)

    @partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def gradient(params: Arrays, others: Arrays, spikes: jax.Array, labels: jax.Array) -> tuple[jax.Array, Arrays]:
        parts = [jax.tree.unflatten(*pair) for pair in zip(structures, (params, others), strict=True)]
        model, rule = nnx.merge(graphdef, *parts)
        trained = (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model
        keeper = nnx.Optimizer(trained, optax.trace(decay=0.0), wrt=nnx.Param)
        loss = train_offline(model, keeper, cross_entropy, spikes.astype(jnp.float32), labels, rule=rule, window=window)
        return loss, jax.tree.leaves(keeper.opt_state)

    return Trainer(start, gradient)


def train(
    trainer: Trainer, start: tuple[Arrays, Arrays], rate: float, batches: list[Samples]
) -> tuple[Arrays, jax.Array]:
    """The parameters after a step of Adamax for each batch, and the losses of all steps."""
    params, others = start
    state, losses = optax.adamax(rate).init(params), []
    for batch in batches:
        loss, gradient = trainer.gradient(params, others, *batch)
        params, state = _step(params, state, gradient, rate)
        losses.append(loss)
    return params, jnp.stack(losses)


@jax.jit
def _step(params: Arrays, state: optax.OptState, gradient: Arrays, rate: jax.Array) -> tuple[Arrays, optax.OptState]:
    updates, state = optax.adamax(rate).update(gradient, state)
    return optax.apply_updates(params, updates), state


class Measures(NamedTuple):
    """What is measured at parameters of the model, compiled once for all cells.

    accuracy: `accuracy(params, spikes, labels)`.
    agreement: `agreement(gradient, exact)`, the cosine and the norm ratio of each layer.
    """

    accuracy: Callable[[Arrays, jax.Array, jax.Array], jax.Array]
    agreement: Callable[[Arrays, Arrays], dict[str, dict[str, jax.Array]]]


def make_measures(config: dict[str, Any]) -> Measures:
    """The measures for all models with the layers and decays of this configuration."""
    graphdef, params, others = nnx.split(make_model(config, nnx.Rngs(0)), nnx.Param, ...)
    structure = jax.tree.structure(params)

    def of_model(arrays: Arrays) -> nnx.State:
        return jax.tree.unflatten(structure, arrays[: structure.num_leaves])

    @jax.jit
    def accuracy(arrays: Arrays, spikes: jax.Array, labels: jax.Array) -> jax.Array:
        return model_accuracy(nnx.merge(graphdef, of_model(arrays), others), spikes, labels)

    @jax.jit
    def agreement(gradient: Arrays, exact: Arrays) -> dict[str, dict[str, jax.Array]]:
        layers = cosine_similarity(of_model(gradient), of_model(exact), group=layer_of)
        return {layer: cosine._asdict() | {"cosine": cosine.value} for layer, cosine in layers.items()}

    return Measures(accuracy, agreement)


def mean_gradient(trainer: Trainer, params: Arrays, others: Arrays, batches: list[Samples]) -> Arrays:
    """The mean of the gradients of batches."""
    gradients = [trainer.gradient(params, others, *batch)[1] for batch in batches]
    return [sum(parts) / len(parts) for parts in zip(*gradients, strict=True)]
