# /// script
# requires-python = ">=3.11"
# dependencies = ["jax==0.10.2"]
#
# [tool.benchmark]
# dtypes.bptt = ["float32", "bfloat16"]
#
# [tool.benchmark.variants.bptt]
# default = {}
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "nothing" }
# ///
"""The computation of `slax_neurons.unroll(loop="scan")` by hand on lists of arrays: the cost of Flax and of general cells.

It works layer by layer on chunks of nearly the same length, and has its own reverse pass, which keeps only each membrane before
its reset. By default, `unroll` leaves the reverse pass of a short sequence to JAX.

Parity: the equations of slax.
"""

import jax
import jax.numpy as jnp

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

CHUNK_BYTES, SHORTEST_CHUNK = 3 * 2**19, 32  # as in slax_neurons/unrolling.py
SLOPE = 25.0


def bptt(variant: str, workload: Workload) -> JaxStep:
    steps, batch, widths, dtype, _ = workload
    pieces = max(1, round(steps / max(SHORTEST_CHUNK, CHUNK_BYTES // (4 * batch * max(widths)))))
    size = -(-steps // pieces)
    whole = steps // size * size

    def loss(weights, inputs):
        rest = [jnp.zeros((batch, width), dtype) for width in widths[1:]]
        pieces = inputs[:whole].reshape(-1, size, *inputs.shape[1:])
        carry, spikes = jax.lax.scan(lambda carry, piece: chunk(weights, carry, piece), rest, pieces)
        remainder = chunk(weights, carry, inputs[whole:])[1].sum() if whole < steps else 0.0
        return spikes.sum() + remainder

    return JaxStep(jax.value_and_grad(loss), workload.weights(), workload.inputs(), dtype=dtype)


@jax.custom_vjp
def chunk(weights, carry, inputs):
    """The carries after K steps, and the spikes of the last layer in them, [K, B, N]."""
    return forward(weights, carry, inputs)[0]


def forward(weights, carry, inputs):
    spikes, after, membranes = inputs, [], []
    for weight, u in zip(weights, carry, strict=True):
        u, v = jax.lax.scan(neuron, u, jnp.matmul(spikes, weight))
        spikes = fire(v)
        after.append(u)
        membranes.append(v)
    return (after, spikes), (weights, inputs, membranes)


def backward(kept, signals):
    weights, inputs, membranes = kept
    after, signal = signals
    below = [inputs, *map(fire, membranes[:-1])]
    d_weights, d_carry = [], []
    for weight, spikes, v, d_u in reversed(list(zip(weights, below, membranes, after, strict=True))):
        d_u, d_current = jax.lax.scan(adjoint, d_u, (v, signal), reverse=True)
        d_weights.insert(0, jnp.einsum("kbi,kbo->io", spikes, d_current))
        d_carry.insert(0, d_u)
        signal = jnp.matmul(d_current, weight.T)
    return d_weights, d_carry, None


chunk.defvjp(forward, backward)


def neuron(u, current):
    v = DECAY * u + current
    return v - THRESHOLD * fire(v), v


def adjoint(d_u, at):
    v, d_spikes = at
    slope = 1 / jnp.square(SLOPE * jnp.abs(v - THRESHOLD) + 1)
    d_v = d_u + slope * (d_spikes - THRESHOLD * d_u)
    return DECAY * d_v, d_v


def fire(v):
    return (v >= THRESHOLD).astype(v.dtype)


def spikes_of(variant: str, currents):
    return fire(jax.lax.scan(neuron, jnp.zeros(currents.shape[1:]), currents)[1])
