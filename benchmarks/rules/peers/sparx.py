# /// script
# requires-python = ">=3.12"
# dependencies = ["sparxml==0.1.1", "jax==0.11.2", "flax==0.12.12"]
#
# [tool.benchmark.variants]
# ottt = {}
# e_prop = {}
# e_prop_full_reset = {}
#
# [tool.benchmark.limits]
# e_prop_full_reset = { width = 256 }
# ///
"""sparx (published as sparxml): `ottt` and `eprop` of `sparx.learn`, with `LIFCell`.

Neither has our three layers of neurons. `ottt` ends in a linear layer that is read out directly, so the last of our three
layers has no neuron; its first layer learns from the input itself, not from a trace of it. `e_prop` has one recurrent layer and
a leaky read-out: its three matrices belong to the input, the recurrence and the read-out. Both detach the reset, so that
`eprop` filters the inputs once for all units; `e_prop_full_reset` differentiates it, as our rules do.

It requires exactly JAX 0.11.2; `slax_jax11` is ours on that version.

Parity: the equations of slax, except for the differences above; fast sigmoid of slope 25.
"""

import math

import jax.numpy as jnp
import optax
from jax_step import JaxStep
from sparx.dynamics import LIFCell
from sparx.learn import EPropParams, OTTTLayer, eprop, ottt
from sparx.surrogate import FastSigmoid
from workload import DECAY, THRESHOLD, Workload

TAU = -1 / math.log(DECAY)


def build(variant: str, workload: Workload) -> JaxStep:
    detach = variant != "e_prop_full_reset"
    cell = LIFCell(DECAY, THRESHOLD, surrogate=FastSigmoid(25.0), detach_reset=detach)
    steps = workload.steps

    def loss(outputs, labels):
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, labels).mean() / steps

    def ottt_step(weights, inputs, labels):
        layers = [OTTTLayer(weight, jnp.zeros(weight.shape[1])) for weight in weights]
        total, gradient = ottt([cell] * (len(weights) - 1), layers, inputs, _per_step(labels, inputs), loss, tau=TAU)
        return total, [layer.weight for layer in gradient]

    def e_prop_step(weights, inputs, labels):
        params = EPropParams(*weights, jnp.zeros(weights[-1].shape[1]))
        total, gradient = eprop(cell, params, inputs, _per_step(labels, inputs), loss, tau=TAU)
        return total, list(gradient[:3])

    step = ottt_step if variant == "ottt" else e_prop_step
    return JaxStep(step, workload.weights(), workload.spikes(), workload.labels())


def _per_step(labels, inputs):
    return jnp.broadcast_to(labels, inputs.shape[:2])
