# /// script
# requires-python = ">=3.11"
# dependencies = ["slax==0.0.1", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark.variants]
# whole = {}
# layers = {}
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "nothing" }
# ///
"""slax 0.0.1, the package from which this repository started, on a current JAX.

`whole` is `RNN` around the whole net, `layers` runs each Dense on all steps together and an `RNN` around each LIF, both with
`unroll=1`. Without that argument every step is written out in the program, which for T = 256 and N = 128 took minutes and
gigabytes to compile and more than ten times as long to run, so it is not included.

Parity: the equations of slax.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import slax
from jax_step import JaxStep
from workload import THRESHOLD, Workload


def build(variant: str, workload: Workload) -> JaxStep:
    layers = []
    for width in workload.widths[1:]:
        layers += [nn.Dense(width, use_bias=False), slax.LIF(v_threshold=THRESHOLD)]
    if variant == "whole":
        model = slax.RNN(slax.connect(layers, return_carry=False), unroll=1)
    else:
        model = nn.Sequential([slax.RNN(x, unroll=1) if isinstance(x, slax.LIF) else x for x in layers])

    inputs = workload.spikes()
    variables = model.init(jax.random.key(0), inputs[:1])
    rest = jax.tree.map(jnp.zeros_like, variables["carry"])  # init returns the state after its first step
    params = jax.tree.unflatten(jax.tree.structure(variables["params"]), workload.weights())

    def loss(params, inputs):
        spikes, _ = model.apply({"params": params, "carry": rest}, inputs, mutable="carry")
        return spikes.sum()

    return JaxStep(jax.value_and_grad(loss), params, inputs)


def spikes_of(variant: str, currents):
    model = slax.RNN(slax.LIF(v_threshold=THRESHOLD), unroll=1)
    currents = jnp.asarray(currents)
    variables = model.init(jax.random.key(0), currents[:1])
    at_rest = {**variables, "carry": jax.tree.map(jnp.zeros_like, variables["carry"])}
    return model.apply(at_rest, currents, mutable="carry")[0]
