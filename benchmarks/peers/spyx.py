# /// script
# requires-python = ">=3.11"
# dependencies = ["spyx==1.0.0", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark]
# neuron = { equation = "late_spike", differs = "the spike comes a step later" }
#
# [tool.benchmark.variants.bptt]
# whole = {}
# layers = {}
# ///
"""spyx: `whole` is `spyx.nn.run` on a `Sequential`, as in its documentation; `layers` runs each Linear on all steps together
and `spyx.nn.run` on each neuron.

Parity: s_t = H(u_{t-1} - 1), H(0) = 0, u_t = beta u_{t-1} + I_t - s_t: the spike comes a step later than in slax. The
gradient passes the reset, and the surrogate is its default. beta is a parameter whose gradient is not requested.
"""

import jax
import spyx.nn
from flax import nnx

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload


def bptt(variant: str, workload: Workload) -> JaxStep:
    layers = []
    for weight in workload.weights():
        linear = nnx.Linear(*weight.shape, use_bias=False, rngs=nnx.Rngs(0))
        linear.kernel[...] = weight
        layers += [linear, spyx.nn.LIF(weight.shape[1:], DECAY, THRESHOLD, rngs=nnx.Rngs(0))]
    graph, weights, rest = nnx.split(spyx.nn.Sequential(*layers), nnx.PathContains("kernel"), ...)

    def loss(weights, inputs):
        model = nnx.merge(graph, weights, rest)
        if variant == "whole":
            return spyx.nn.run(model, inputs)[0].sum()
        for layer in model.layers:
            inputs = layer(inputs) if isinstance(layer, nnx.Linear) else spyx.nn.run(layer, inputs)[0]
        return inputs.sum()

    return JaxStep(jax.value_and_grad(loss), weights, workload.inputs())


def spikes_of(variant: str, currents):
    return spyx.nn.run(spyx.nn.LIF(currents.shape[2:], DECAY, THRESHOLD, rngs=nnx.Rngs(0)), currents)[0]
