# /// script
# requires-python = ">=3.12"
# dependencies = ["sparxml==0.1.1", "jax==0.11.2", "flax==0.12.12"]
#
# [tool.benchmark.variants]
# default = {}
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "nothing but the surrogate" }
# ///
"""sparx (published as sparxml): Flax's Dense on all steps together and `sparx.nn.LIF`.

It requires exactly JAX 0.11.2, so its compiler differs from most others.

Parity: the equations of slax; arctan as surrogate, its default.
"""

import math

import flax.linen as nn
import jax
import sparx
from jax_step import JaxStep
from workload import DECAY, THRESHOLD, Workload


def build(variant: str, workload: Workload) -> JaxStep:
    layers = []
    for width in workload.widths[1:]:
        layers += [nn.Dense(width, use_bias=False), lif()]
    model = nn.Sequential(layers)
    inputs = workload.spikes()
    structure = jax.tree.structure(model.init(jax.random.key(0), inputs[:1]))
    variables = jax.tree.unflatten(structure, workload.weights())
    return JaxStep(jax.value_and_grad(lambda variables, xs: model.apply(variables, xs).sum()), variables, inputs)


def lif() -> sparx.nn.LIF:
    return sparx.nn.LIF(tau=-1 / math.log(DECAY), threshold=THRESHOLD)


def spikes_of(variant: str, currents):
    return lif().apply(lif().init(jax.random.key(0), currents[:1]), currents)
