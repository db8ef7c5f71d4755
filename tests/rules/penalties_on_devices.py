"""Penalties on several devices, as JSON: `python penalties_on_devices.py`, with four virtual devices of a CPU.

A process of its own, since the number of devices is fixed when JAX starts.
"""

import json
import os

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import BPTT, OSTL, Penalty, cross_entropy, firing_rate, gradients, split_batch, train_online

T, B, N, C = 6, 8, 3, 3


def waves(values):
    return jnp.sin(2 * values - 1).sum(axis=-1)


PENALTIES = [firing_rate(0.1, 3.0), Penalty(waves, 0.5, of="membranes", layers=(0, 1))]


def make():
    rngs, options = nnx.Rngs(0), {"param_dtype": jnp.float64}
    hidden = [nnx.Linear(N, 5, rngs=rngs, **options), LIF(threshold=0.4, **options)]
    return connect([*hidden, nnx.Linear(5, C, rngs=rngs, **options), LI(**options)])


def batch(devices):
    """A batch whose samples count unequally often from device to device."""
    inputs = jax.random.bernoulli(jax.random.key(0), 0.4, (T, B, N)).astype(jnp.float64)
    mask = jax.random.bernoulli(jax.random.key(1), jnp.linspace(0.2, 0.9, B), (T, B))
    whole = inputs, jnp.arange(B) % C, mask
    return whole if devices == 1 else split_batch(whole, jax.devices()[:devices])


def of_gradients(rule, devices):
    inputs, labels, mask = batch(devices)
    options = {"rule": rule, "window": 2, "mask": mask, "penalties": PENALTIES}
    return gradients(make(), cross_entropy, inputs, labels, **options)


def of_online_training(devices):
    inputs, labels, mask = batch(devices)
    model = make()
    optimizer = nnx.Optimizer(model, optax.sgd(0.3), wrt=nnx.Param)
    options = {"rule": OSTL(), "window": 2, "mask": mask, "penalties": PENALTIES}
    loss = train_online(model, optimizer, cross_entropy, inputs, labels, **options)
    return loss, nnx.state(model, nnx.Param)


def deviation(one, other):
    pairs = zip(jax.tree.leaves(jax.device_get(one)), jax.tree.leaves(jax.device_get(other)), strict=True)
    return max(float(abs(a - b).max()) for a, b in pairs)


if __name__ == "__main__":
    with jax.enable_x64(True):
        found = {
            type(rule).__name__: deviation(of_gradients(rule, 1), of_gradients(rule, 4)) for rule in (BPTT(), OSTL())
        }
        found["online"] = deviation(of_online_training(1), of_online_training(4))
    print(json.dumps(found))
