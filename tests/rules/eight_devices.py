"""What the tests of several devices need measured, as JSON: `python eight_devices.py`, with eight virtual devices of a CPU.

A process of its own, since the number of devices is fixed when JAX starts.
"""

import json
import os
import re
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from slax_neurons import LI, LIF, Dropout, connect
from slax_rules import accuracy, cross_entropy, gradients, ostl
from slax_rules.devices import as_mesh, place_batch, split_batch
from slax_rules.evaluation import evaluate
from slax_rules.fit import fit
from slax_rules.sampling import Sampler

T, B, N, H, C = 6, 16, 5, 8, 3
SGD = optax.sgd(0.1, momentum=0.9)


def made(dtype, *, batch_norm=False, dropout=None):
    rngs = nnx.Rngs(0)
    synapse = nnx.Linear(N, H, rngs=rngs, param_dtype=dtype)
    norms = [nnx.BatchNorm(H, rngs=rngs, dtype=dtype, param_dtype=dtype)] if batch_norm else []
    drops = [Dropout(0.3, mask=dropout, rngs=rngs)] if dropout else []
    edges = None if batch_norm or dropout else {0: [1]}
    readout = [nnx.Linear(H, C, rngs=rngs, param_dtype=dtype), LI(param_dtype=dtype)]
    return connect([synapse, *norms, *drops, LIF(threshold=0.5, param_dtype=dtype), *readout], edges, rngs=rngs)


def batch(dtype):
    inputs = jax.random.bernoulli(jax.random.key(0), 0.4, (T, B, N)).astype(dtype)
    # Most devices have samples that do not count, and one has nothing but such.
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, (T, B)).at[:, :2].set(False)
    return inputs, jnp.arange(B) % C, mask


def deviation(ours, theirs):
    """The largest difference of two trees, relative to the largest number in the second."""
    leaves = [
        (np.asarray(a), np.asarray(b)) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    ]
    scale = max(np.abs(b).max() for _, b in leaves)
    return float(max(np.abs(a - b).max() for a, b in leaves) / scale)


def of_gradients(make, dtype, window, *, jit=True):
    """Loss and gradient on eight devices beside those on one."""
    inputs, labels, mask = batch(dtype)
    jitted = nnx.jit(gradients, static_argnames=("loss_fn", "window"))
    one = jitted(make(dtype), cross_entropy, inputs, labels, window=window, mask=mask)
    split = split_batch(make(dtype), jax.devices())
    return deviation(
        (jitted if jit else gradients)(split, cross_entropy, inputs, labels, window=window, mask=mask), one
    )


def of_training(devices):
    """What `fit` makes of a model, and the numbers of a held-out set whose last batch the devices do not divide."""
    model = made(jnp.float64, batch_norm=True, dropout="sequence")
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    inputs, labels, mask = batch(jnp.float64)
    batches = [(inputs, labels, mask), (inputs[::-1], labels, mask)]
    history = fit(model, optimizer, cross_entropy, lambda epoch: batches, epochs=2, devices=devices)
    held_out = [(inputs, labels), (inputs[:, :5], labels[:5])]
    numbers = evaluate(model, cross_entropy, held_out, metrics={"accuracy": accuracy}, devices=devices)
    floats = [leaf for leaf in jax.tree.leaves(nnx.state((model, optimizer))) if leaf.dtype == jnp.float64]
    return floats, history.losses, numbers


def of_online_training(devices):
    """The same of batches by key, with targets per step and an optimiser step for each window."""

    def sample(key):
        inputs = jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float64)
        return inputs, jnp.tile(jnp.arange(B) % C, (T, 1)), inputs[..., 0] > 0

    model = made(jnp.float64)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    sampler = Sampler(sample, jax.random.key(3), 3)
    history = fit(ostl(model), optimizer, cross_entropy, sampler, update="online", window=3, devices=devices)
    return nnx.state(model, nnx.Param), history.losses


def of_program(make):
    """Rows of the matrix products of inputs or spikes with weights, and collective operations, in the compiled program."""
    inputs, labels, _ = place_batch(batch(jnp.float32), as_mesh(jax.devices()))
    graphdef, state = nnx.split(split_batch(make(jnp.float32), jax.devices()))
    program = jax.jit(lambda *arguments: gradients(nnx.merge(graphdef, arguments[0]), cross_entropy, *arguments[1:]))
    text = program.lower(state, inputs, labels).compile().as_text()
    return {
        "rows": sorted({int(rows) for rows in re.findall(r"= f32\[(\d+),\d+\]\S* dot\(", text)}),
        "collectives": sorted(set(re.findall(r" (all-[a-z]+|collective-permute|reduce-scatter)\(", text))),
    }


def refusals():
    """What is said to a batch that cannot be split, and to models that would not be the same on all devices."""
    inputs, labels, _ = batch(jnp.float32)
    model = made(jnp.float32)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    seven = [(inputs[:, :7], labels[:7])]
    stepwise = split_batch(made(jnp.float32, dropout="step"), jax.devices())
    drawing = connect([nnx.Linear(N, C, rngs=nnx.Rngs(0)), nnx.Dropout(0.1, rngs=nnx.Rngs(0)), LI()])
    attempts = {
        "batch": lambda: fit(model, optimizer, cross_entropy, lambda epoch: seven, devices=jax.devices()),
        "gradients": lambda: gradients(split_batch(model, jax.devices()), cross_entropy, *seven[0]),
        "key": lambda: gradients(stepwise, cross_entropy, inputs, labels),
        "stream": lambda: split_batch(drawing, jax.devices()),
        "twice": lambda: split_batch(split_batch(model, jax.devices()), jax.devices()),
    }
    return {name: _message(attempt) for name, attempt in attempts.items()}


def _message(attempt):
    try:
        attempt()
    except (TypeError, ValueError) as error:
        return str(error)
    return "nothing"


def main():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))
    results = {
        "programs": {"plain": of_program(made), "ostl": of_program(ruled)},
        "refusals": refusals(),
        "float32": {"plain": of_gradients(made, jnp.float32, None)},
    }
    with jax.enable_x64(True):
        results["float64"] = {
            "plain": of_gradients(made, jnp.float64, None),
            "plain, not under jit": of_gradients(made, jnp.float64, None, jit=False),
            "ostl": of_gradients(ruled, jnp.float64, 4),
            "batch norm": of_gradients(lambda dtype: made(dtype, batch_norm=True), jnp.float64, None),
            "training": deviation(of_training(mesh), of_training(None)),
            "online training": deviation(of_online_training(mesh), of_online_training(None)),
        }
    json.dump(results, sys.stdout)


def ruled(dtype):
    return ostl(made(dtype))


if __name__ == "__main__":
    main()
