"""Gradients and training with units split over eight virtual devices, beside one device, as JSON: `python units_on_devices.py`.

A process of its own, since the number of devices is fixed when JAX starts.
"""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from kinds_of_rules import of_each_kind
from slax_neurons import ALIF, LI, LIF, Edge, connect
from slax_rules import (
    RULES,
    Checkpoints,
    cross_entropy,
    evaluate,
    extend_stream,
    firing_rate,
    fit,
    gradients,
    split_batch,
    split_units,
    start_stream,
    train_online,
)

T, B, N_IN, N, C = 12, 4, 5, 16, 3
DTYPE = jnp.float64


def network(edges=()):
    rngs = nnx.Rngs(0)
    options = {"rngs": rngs, "param_dtype": DTYPE}
    neuron = {"param_dtype": DTYPE}
    modules = [nnx.Linear(N_IN, N, **options), LIF(**neuron), nnx.Linear(N, N, **options), LIF(**neuron)]
    return connect([*modules, nnx.Linear(N, C, **options), LI(**neuron)], edges, **({"rngs": rngs} if edges else {}))


def images():
    rngs = nnx.Rngs(0)
    options = {"rngs": rngs, "param_dtype": DTYPE}
    flat = lambda x: x.reshape(len(x), -1)  # noqa: E731
    convolution = nnx.Conv(1, 8, (3, 3), **options)
    modules = [convolution, ALIF(param_dtype=DTYPE), flat, nnx.Linear(8 * 16, C, **options), LI(param_dtype=DTYPE)]
    return connect(modules)


def batch(shape=(N_IN,)):
    inputs = jax.random.bernoulli(jax.random.key(0), 0.4, (T, B, *shape)).astype(DTYPE)
    return inputs, jnp.arange(B) % C


def deviation(one, other):
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert pairs
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / (np.abs(np.asarray(a)).max() + 1e-30)) for a, b in pairs
    )


def split_share(tree):
    """The largest share of an array that a device holds, over arrays that are split at all, and their number."""
    shares = [leaf.addressable_shards[0].data.size / leaf.size for leaf in jax.tree.leaves(tree) if leaf.ndim]
    split = [share for share in shares if share < 1]
    return [max(split, default=1.0), len(split)]


def beside(run, make=network):
    """The deviation of a result from one device, and how much of it is split."""
    one, other = make(), make()
    split_units(other, jax.devices())
    here, there = run(one), run(other)
    return [deviation(here, there), *split_share(there)]


def gradients_of(name, window, make=network, shape=(N_IN,), **options):
    def run(model):
        rule = RULES[name].make(rngs=nnx.Rngs(1), model=model)
        return gradients(model, cross_entropy, *batch(shape), rule=rule, window=window, **options)[1]

    return beside(run, make)


def trained(model, checkpoints=None, epochs=2):
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    history = fit(
        model,
        optimizer,
        cross_entropy,
        [batch()] * 3,
        epochs=epochs,
        rule=RULES["ostl"].make(),
        checkpoints=checkpoints,
    )
    return nnx.state(model), nnx.state(optimizer), history.losses


def trained_online(model):
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    train_online(model, optimizer, cross_entropy, *batch(), rule=RULES["otpe"].make(), window=3)
    return nnx.state(model)


def streamed(model):
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    stream = start_stream(model, optimizer, cross_entropy, (B, N_IN), rule=RULES["ottt"].make(), window=2)
    inputs, labels = batch()
    for _ in range(2):
        stream = extend_stream(stream, inputs, jnp.broadcast_to(labels, (T, B)))[0]
    return jax.tree.leaves(stream)


def resumed(folder):
    """Training that was saved by a run on one device, and goes on split over devices, beside training without a break."""
    trained(network(), Checkpoints(folder), epochs=1)
    other = network()
    split_units(other, jax.devices())
    return [deviation(trained(network())[0], trained(other, Checkpoints(folder))[0]), *split_share(nnx.state(other))]


def temporaries(name, *, split):
    """XLA's temporaries of a device in bytes, for a layer of 512 units."""
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(64, 512, rngs=rngs), LIF(), nnx.Linear(512, 512, rngs=rngs), LIF()])
    if split:
        split_units(model, jax.devices())
    rule = RULES[name].make(rngs=nnx.Rngs(1), model=model)
    graphdef, state = nnx.split(model)

    def gradient(state, inputs):
        model = nnx.merge(graphdef, state, copy=True)
        return gradients(model, cross_entropy, inputs, jnp.zeros(8, int), rule=rule, window=16)[1]

    compiled = jax.jit(gradient).lower(state, jnp.ones((64, 8, 64), jnp.float32)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def refusal(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return "nothing was refused"


def fit_on_devices():
    optimizer = nnx.Optimizer(network(), optax.sgd(0.1), wrt=nnx.Param)
    fit(split(), optimizer, cross_entropy, [batch()], devices=jax.devices()[:4])


def gradients_on_devices():
    gradients(split(), cross_entropy, *split_batch(batch(), jax.devices()[:4]))


def main(folder):
    # Whole windows, so that a program has one of them; below, the last one is shorter.
    found = {name: gradients_of(name, 4) for name in of_each_kind()}
    found["in one window"] = gradients_of("ostl", T)
    found["recurrent"] = gradients_of("ostl", 5, lambda: network([Edge(1, 0)]))
    found["convolution"] = gradients_of("otpe", 5, images, (4, 4, 1))
    found["penalty"] = gradients_of("ostl", 5, penalties=[firing_rate(0.1)])
    found["mask"] = gradients_of("e_prop", 5, mask=jnp.arange(T * B).reshape(T, B) % 3 > 0)
    found["fit"] = beside(lambda model: trained(model)[:2])
    found["online"] = beside(trained_online)
    found["stream"] = beside(streamed)
    found["resumed"] = resumed(folder)
    found["evaluate"] = [deviation(*map(evaluated, (network(), split()))), 0, 1]
    refused = {"fit": refusal(fit_on_devices), "gradients": refusal(gradients_on_devices)}
    memory = {name: temporaries(name, split=True) / temporaries(name, split=False) for name in ("bptt", "ostl", "ottt")}
    print(json.dumps({"found": found, "memory": memory, "refused": refused}))


def evaluated(model):
    return list(evaluate(model, cross_entropy, [batch()]).values())


def split():
    model = network()
    split_units(model, jax.devices())
    return model


if __name__ == "__main__":
    import tempfile

    jax.config.update("jax_enable_x64", True)
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
