"""The deep networks: convolutions with normalization, and recurrent layers of adaptive neurons."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import LI, LIF, AdLIF, Connect, Edge, RunningNorm, Standardized, Surrogate, Trainable, connect
from slax_neurons.parameter import time_constant

NORMS = {"running": RunningNorm, "standardized": Standardized}


def convolutional(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """Conv - norm - LIF for each number of channels, with stride 2 after the first, and a Linear with LI on the last spikes.

    The configuration provides `layers`, the sizes of input and output, `image`, `channels`, `norm`, `decay` and
    `read_out_decay`.
    """
    height, width, features = config["image"]
    normalized = NORMS[config["norm"]]
    modules: list[Any] = [partial(jnp.reshape, shape=(-1, height, width, features))]
    for index, channels in enumerate(config["channels"]):
        strides = 1 if index == 0 else 2
        convolution = nnx.Conv(features, channels, (3, 3), strides=strides, rngs=rngs)
        modules += [normalized(convolution), LIF(decay=config["decay"])]
        height, width, features = -(-height // strides), -(-width // strides), channels
    read_out = nnx.Linear(height * width * features, config["layers"][-1], rngs=rngs)
    return connect([*modules, lambda x: x.reshape(x.shape[0], -1), read_out, LI(decay=config["read_out_decay"])])


def recurrent(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """Recurrent layers of AdLIF with parameters of each unit, all trained, and a read-out of LI.

    The configuration provides `layers`, the sizes of input and output, `hidden`, `tau_u`, `tau_w`, `q`, `slope` and
    `read_out_decay`. Initial time constants and adaptations are uniform in the ranges of Baronig et al. 2025, arXiv 2408.07517.
    """
    modules: list[Any] = []
    edges: list[Edge] = []
    n_in = config["layers"][0]
    surrogate = Surrogate(_exponential, (float(config["slope"]),))
    draw = np.random.default_rng(int(jax.random.bits(rngs.params()))).uniform
    for size in config["hidden"]:
        neuron = AdLIF(
            form="symplectic",
            decay=Trainable(time_constant(draw(*config["tau_u"], size), dt=1.0)),
            adaptation_decay=Trainable(time_constant(draw(*config["tau_w"], size), dt=1.0)),
            a=Trainable(draw(0.0, 1.0, size)),
            b=Trainable(draw(0.0, 2.0, size)),
            q=config["q"],
            reset="zero",
            stop_reset_gradient=True,
            spike_fn=surrogate,
        )
        linear = nnx.Linear(n_in, size, kernel_init=_uniform(n_in), rngs=rngs)
        recurrence = nnx.Linear(size, size, use_bias=False, kernel_init=nnx.initializers.orthogonal(), rngs=rngs)
        edges.append(Edge(len(modules) + 1, len(modules), synapse=recurrence))
        modules += [linear, neuron]
        n_in = size
    read_out = nnx.Linear(n_in, config["layers"][-1], kernel_init=_uniform(n_in), rngs=rngs)
    return connect([*modules, read_out, LI(decay=config["read_out_decay"])], edges, rngs=rngs)


NETWORKS = {"convolutional": convolutional, "recurrent": recurrent}


def _uniform(n_in: int) -> nnx.initializers.Initializer:
    """Weights that are uniform between plus and minus one over the root of the number of inputs."""
    return nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _exponential(x: jax.Array, slope: float) -> jax.Array:
    """The surrogate derivative of the authors, exp(-slope |x|)."""
    return jnp.exp(-slope * jnp.abs(x))
