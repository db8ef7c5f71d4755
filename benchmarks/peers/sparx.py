# /// script
# requires-python = ">=3.12"
# dependencies = ["sparxml==0.1.1", "jax==0.11.2", "flax==0.12.12"]
#
# [tool.benchmark]
# neuron = { equation = "subtract", differs = "nothing but the surrogate" }
#
# [tool.benchmark.variants.bptt]
# default = {}
#
# [tool.benchmark.variants.rules]
# ottt = {}
# e_prop = {}
# ///
"""sparx (published as sparxml): Flax's Dense with its neuron, and its rules.

It requires exactly JAX 0.11.2, so its compiler differs from most others.

`bptt` is Flax's Dense on all steps together and `sparx.nn.LIF`.

`rules` is `ottt` and `eprop` of `sparx.learn`, with `LIFCell`. Neither has our three layers of neurons. `ottt` ends in a linear
layer that is read out directly, so the last of our three layers has no neuron; its first layer learns from the input itself,
not from a trace of it. `e_prop` has one recurrent layer and a leaky read-out: its three matrices belong to the input, the
recurrence and the read-out. Both detach the reset, so that `eprop` filters the inputs once for all units.

Parity: the equations of slax, except for the differences above. The surrogate is arctan, its default, in `bptt`, and the fast
sigmoid of slope 25 in `rules`.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import sparx
from sparx.dynamics import LIFCell
from sparx.learn import EPropParams, OTTTLayer, eprop, ottt
from sparx.surrogate import FastSigmoid

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

TAU = -1 / math.log(DECAY)


def bptt(variant: str, workload: Workload) -> JaxStep:
    layers = []
    for width in workload.widths[1:]:
        layers += [nn.Dense(width, use_bias=False), lif()]
    model = nn.Sequential(layers)
    inputs = workload.inputs()
    structure = jax.tree.structure(model.init(jax.random.key(0), inputs[:1]))
    variables = jax.tree.unflatten(structure, workload.weights())
    return JaxStep(jax.value_and_grad(lambda variables, xs: model.apply(variables, xs).sum()), variables, inputs)


def rules(variant: str, workload: Workload) -> JaxStep:
    cell = LIFCell(DECAY, THRESHOLD, surrogate=FastSigmoid(25.0), detach_reset=True)
    steps = workload.steps

    def loss(outputs, labels):
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, labels).mean() / steps

    def ottt_step(weights, inputs, labels):
        layers = [OTTTLayer(weight, jnp.zeros(weight.shape[1])) for weight in weights]
        total, gradient = ottt([cell] * (len(weights) - 1), layers, inputs, per_step(labels, inputs), loss, tau=TAU)
        return total, [layer.weight for layer in gradient]

    def e_prop_step(weights, inputs, labels):
        params = EPropParams(*weights, jnp.zeros(weights[-1].shape[1]))
        total, gradient = eprop(cell, params, inputs, per_step(labels, inputs), loss, tau=TAU)
        return total, list(gradient[:3])

    step = ottt_step if variant == "ottt" else e_prop_step
    return JaxStep(step, workload.weights(), workload.inputs(), workload.labels())


def per_step(labels, inputs):
    return jnp.broadcast_to(labels, inputs.shape[:2])


def lif() -> sparx.nn.LIF:
    return sparx.nn.LIF(tau=TAU, threshold=THRESHOLD)


def spikes_of(variant: str, currents):
    return lif().apply(lif().init(jax.random.key(0), currents[:1]), currents)
