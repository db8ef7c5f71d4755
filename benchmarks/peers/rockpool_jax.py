# /// script
# requires-python = ">=3.11"
# dependencies = ["rockpool==3.1.0", "jax==0.10.2"]
#
# [tool.benchmark]
# neuron = { equation = "synapse_subtract", differs = "a synapse, which decays before it acts" }
#
# [tool.benchmark.variants.bptt]
# default = {}
# ///
"""Rockpool on JAX: its `LIFJax` on [B, T, N], a scan vectorized over the batch, after a product on all steps together.

Its synapse cannot be omitted; weights are scaled so that a spike brings as much total current as ours. It has at most one spike
per step, whereas by default the number is unlimited, and its default surrogate, which is piecewise linear.
"""

import math

import jax
import jax.numpy as jnp
from rockpool.nn.modules import LIFJax

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

SYNAPSE_DECAY = 0.8
SCALE = (1 - SYNAPSE_DECAY) / SYNAPSE_DECAY
DT = 1e-3


def bptt(variant: str, workload: Workload) -> JaxStep:
    neurons = [lif(width) for width in workload.widths[1:]]

    def loss(weights, x):
        for weight, neuron in zip(weights, neurons, strict=True):
            x = neuron(x @ weight)[0]
        return x.sum()

    weights = [weight * SCALE for weight in workload.weights()]
    return JaxStep(jax.value_and_grad(loss), weights, workload.inputs().swapaxes(0, 1))


def lif(size: int) -> LIFJax:
    times = {"tau_mem": -DT / math.log(DECAY), "tau_syn": -DT / math.log(SYNAPSE_DECAY)}
    return LIFJax(size, **times, threshold=THRESHOLD, bias=0.0, max_spikes_per_dt=1.0, dt=DT)


def spikes_of(variant: str, currents):
    return lif(currents.shape[2])(jnp.asarray(currents * SCALE).swapaxes(0, 1))[0].swapaxes(0, 1)
