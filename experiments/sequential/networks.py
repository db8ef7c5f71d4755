"""The networks: one recurrent layer of ALIF or BRF, or a stack of LIF whose decays are learned, all read out by LI; or LRU.

A further network is one more function in `NETWORKS`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import ALIF, BRF, LI, LIF, LRU, Connect, Edge, Neuron, Trainable, connect

N_CLASSES = 10


def recurrent(neuron: Neuron, config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """One layer of neurons that also get their own spikes of the step before."""
    units = config["units"]
    recurrence = nnx.Linear(units, units, use_bias=False, rngs=rngs)
    recurrence.kernel[...] *= config["recurrent_scale"]
    return connect(
        [*layer(1, neuron, config, rngs), *read_out(config, rngs)], [Edge(1, 0, synapse=recurrence)], rngs=rngs
    )


def alif(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """The configuration provides `units`, `decay`, `adaptation_decay`, `beta` and the scales of weights."""
    options = {name: config[name] for name in ("decay", "adaptation_decay", "beta")}
    return recurrent(ALIF(**options), config, rngs)


def brf(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """Frequencies and dampings of each unit are uniform in the ranges `omega` and `b_offset`, and trained."""
    draw = np.random.default_rng(int(jax.random.bits(rngs.params()))).uniform
    drawn = {name: Trainable(draw(*config[name], config["units"])) for name in ("omega", "b_offset")}
    return recurrent(BRF(**drawn), config, rngs)


def stack(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """Two feed-forward layers, each with one decay, which is trained from `decays` on."""
    first, second = (LIF(decay=Trainable(decay)) for decay in config["decays"])
    above = [nnx.Linear(config["units"], config["units"], rngs=rngs), second]
    return connect([*layer(1, first, config, rngs), *above, *read_out(config, rngs)])


def lru(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """One layer whose sizes of lambda are from the range `radii`, tanh, and a read-out without memory."""
    units, (r_min, r_max) = config["units"], config["radii"]
    memory = LRU.on_ring(units, r_min=r_min, r_max=r_max, max_phase=np.pi / 10, rngs=rngs)
    synapse = layer(1, memory, config | {"units": 2 * units}, rngs)
    return connect([*synapse, jnp.tanh, nnx.Linear(2 * units, N_CLASSES, rngs=rngs)])


def layer(n_in: int, neuron: Neuron, config: dict[str, Any], rngs: nnx.Rngs) -> list[Any]:
    normal = nnx.initializers.normal(config["input_scale"])
    return [nnx.Linear(n_in, config["units"], kernel_init=normal, rngs=rngs), neuron]


def read_out(config: dict[str, Any], rngs: nnx.Rngs) -> list[Any]:
    return [nnx.Linear(config["units"], N_CLASSES, rngs=rngs), LI(decay=config["read_out_decay"])]


NETWORKS = {"alif": alif, "brf": brf, "stack": stack, "lru": lru}
