"""What all rules of a task share: data, the network before training, and the samples of each loss."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax import random

from experiments.training import make_model
from slax_data import make_task, upstream_randman
from slax_neurons import LIF, Connect, connect, unroll
from slax_rules import cross_entropy

# Slax's demonstration: the key of its manifolds, and samples of each class in a draw, of which a batch is the first few.
UPSTREAM_MANIFOLDS, UPSTREAM_SAMPLES = 0, 100

Batch = tuple[jax.Array, jax.Array]


class Setting(NamedTuple):
    """Data and network of one seed.

    sample: maps a key to a batch to train on.
    model: the network before training.
    test_set: the samples of each loss, spikes [T, B, N] and labels [B].
    rule_key, train_key: for what rules draw, and for batches.
    """

    sample: Callable[[jax.Array], Batch]
    model: Connect
    test_set: Batch
    rule_key: jax.Array
    train_key: jax.Array


def make_setting(config: dict[str, Any], key: jax.Array) -> Setting:
    """The same for all rules of a task: the key draws all that is drawn, but for the manifolds of slax's demonstration."""
    task_key, model_key, rule_key, train_key, test_key = random.split(key, 5)
    layers = config["layers"]
    sizes = {"n_classes": layers[-1], "n_units": layers[0], "n_steps": config["n_steps"]}
    if config["draws"] == "upstream":
        manifolds = random.key(UPSTREAM_MANIFOLDS)
        sample = partial(upstream_randman, manifolds, samples_per_class=UPSTREAM_SAMPLES, **sizes)
    else:
        sample = make_task("randman", task_key, code="time", **sizes).sample
    rngs = nnx.Rngs(model_key)
    model = make_model(config, rngs) if config["read_out"] == "li" else upstream_model(layers, rngs)
    test_set = sample(test_key, batch_size=config["test_size"])
    return Setting(partial(sample, batch_size=config["batch_size"]), model, test_set, rule_key, train_key)


def upstream_model(layers: list[int], rngs: nnx.Rngs) -> Connect:
    """The network of slax's demonstration: LIF after each Linear, the last too, and Flax's default weights."""
    sizes = itertools.pairwise(layers)
    return connect([module for n_in, n_out in sizes for module in (nnx.Linear(n_in, n_out, rngs=rngs), LIF())])


def test_loss(model: Connect, test_set: Batch) -> Callable[[nnx.State], jax.Array]:
    """The loss on the test set, of the parameters: the mean over steps and samples of the cross entropy, in nats."""
    graphdef, _, rest = nnx.split(model, nnx.Param, ...)
    inputs, labels = test_set

    def loss(params: nnx.State) -> jax.Array:
        network = nnx.merge(graphdef, params, rest)
        _, outputs = unroll(network, network.initialize_carry(inputs.shape[1:]), inputs, chunk=len(inputs))
        return cross_entropy(outputs, labels).mean()

    return loss
