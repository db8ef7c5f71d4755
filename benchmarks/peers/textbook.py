# /// script
# requires-python = ">=3.11"
# dependencies = ["jax==0.10.2"]
#
# [tool.benchmark.variants.rules]
# bptt = {}
# sltt = {}
# ottt = {}
# ostl = {}
#
# [tool.benchmark.limits.rules]
# ostl = { width = 256, steps = 256 }
# ///
"""The rules written by hand from their equations on lists of arrays: one scan over time, every layer at every step.

    ottt    a_t = decay a_{t-1} + x_t                                     gradient  sum_t (psi_t delta_t) a_t
    ostl    V_t = decay E_{t-1} + x_t,  E_t = (1 - threshold psi_t) V_t   gradient  sum_t (psi_t delta_t) V_t

with one trace per sample and input (a), or per sample and weight (V, E), and the signal below psi_t delta_t W^T. `sltt` has
x_t in place of a_t; `bptt` differentiates the scan. OSTL adds up its gradient sample by sample, which is 2 to 6 times
as fast as the more obvious sum or einsum: XLA's reduction is slow on a CPU.

Parity: the equations of slax.
"""

import jax
import jax.numpy as jnp

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

SLOPE = 25.0


def rules(variant: str, workload: Workload) -> JaxStep:
    step = {"bptt": bptt_step, "sltt": sltt_step, "ottt": ottt_step, "ostl": ostl_step}[variant]
    return JaxStep(step, workload.weights(), workload.spikes(), workload.labels())


def bptt_step(weights, inputs, labels):
    def loss(weights):
        def step(carry, x):
            after = []
            for weight, u in zip(weights, carry, strict=True):
                v = DECAY * u + x @ weight
                x = spike(v - THRESHOLD)
                after.append(v - THRESHOLD * x)
            return after, cross_entropy(x, labels)

        return jax.lax.scan(step, rest(weights, inputs), inputs)[1].mean()

    return jax.value_and_grad(loss)(weights)


def sltt_step(weights, inputs, labels):
    return online(weights, inputs, labels, [()] * len(weights), lambda trace, x, psi: ((), x), outer)


def ottt_step(weights, inputs, labels):
    def advance(a, x, psi):
        a = DECAY * a + x
        return a, a

    traces = [jnp.zeros((inputs.shape[1], weight.shape[0])) for weight in weights]
    return online(weights, inputs, labels, traces, advance, outer)


def ostl_step(weights, inputs, labels):
    def advance(trace, x, psi):
        v = DECAY * trace + x[:, :, None]
        return (1 - THRESHOLD * psi)[:, None, :] * v, v

    def contract(v, current):
        def add(gradient, sample):
            v, current = sample
            return gradient + current * v, None

        return jax.lax.scan(add, jnp.zeros(v.shape[1:]), (v, current))[0]

    traces = [jnp.zeros((inputs.shape[1], *weight.shape)) for weight in weights]
    return online(weights, inputs, labels, traces, advance, contract)


def outer(a, current):
    return a.T @ current


def online(weights, inputs, labels, traces, advance, contract):
    """The loss and gradient; `advance` makes the trace and the eligibility of a step, and `contract` the step's gradient."""

    def step(carry, x):
        membranes, traces, gradient, total = carry
        after, new_traces, eligibilities, slopes = [], [], [], []
        for weight, u, trace in zip(weights, membranes, traces, strict=True):
            v = DECAY * u + x @ weight
            psi = surrogate(v - THRESHOLD)
            trace, eligibility = advance(trace, x, psi)
            x = heaviside(v - THRESHOLD)
            after.append(v - THRESHOLD * x)
            new_traces.append(trace)
            eligibilities.append(eligibility)
            slopes.append(psi)
        loss, signal = jax.value_and_grad(cross_entropy)(x, labels)
        added = [jnp.zeros_like(g) for g in gradient]
        for layer in reversed(range(len(weights))):
            current = slopes[layer] * signal
            added[layer] = gradient[layer] + contract(eligibilities[layer], current)
            signal = current @ weights[layer].T
        return (after, new_traces, added, total + loss), None

    zero = [jnp.zeros_like(weight) for weight in weights]
    start = (rest(weights, inputs), traces, zero, 0.0)
    (_, _, gradient, total), _ = jax.lax.scan(step, start, inputs)
    return total / len(inputs), [g / len(inputs) for g in gradient]


def rest(weights, inputs):
    return [jnp.zeros((inputs.shape[1], weight.shape[1])) for weight in weights]


def cross_entropy(spikes, labels):
    of_label = jnp.take_along_axis(spikes, labels[:, None], axis=-1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(spikes, axis=-1) - of_label)


def heaviside(x):
    return (x >= 0).astype(x.dtype)


def surrogate(x):
    return 1 / jnp.square(SLOPE * jnp.abs(x) + 1)


spike = jax.custom_jvp(heaviside)
spike.defjvps(lambda dx, _, x: surrogate(x) * dx)
