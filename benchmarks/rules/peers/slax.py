# /// script
# requires-python = ">=3.11"
# dependencies = ["slax-neurons", "slax-rules", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark]
# editable = ["packages/slax-neurons", "packages/slax-rules"]
#
# [tool.benchmark.variants]
# bptt = {}
# bptt_chunk_16 = {}
# bptt_chunk_32 = {}
# bptt_chunk_64 = {}
# sltt = {}
# ottt = {}
# ottt_window_1 = {}
# ottt_window_32 = {}
# ottt_window_128 = {}
# ostl = {}
# ostl_window_1 = {}
# ostl_window_32 = {}
# ostl_window_128 = {}
# otpe = {}
# approximate_otpe = {}
# e_prop = {}
# pp_prop = {}
# rtrl = {}
# rtrl_window_1 = {}
#
# [tool.benchmark.limits]
# ostl_window_1 = { width = 256, steps = 1024 }
# rtrl = { width = 64 }
# rtrl_window_1 = { width = 64 }
# ///
"""This repository's `gradients`, under the rule that `RULES` makes, split once and jitted over the state.

`RULE_window_K` processes K steps together, which changes no gradient. `bptt_chunk_K` is BPTT by `unroll(chunk=K)`, an option
that `gradients` does not have, since the default is meant to suffice.

Parity, the reference: v_t = decay u_{t-1} + I_t, s_t = H(v_t - 1), H(0) = 1, u_t = v_t - s_t; the gradient passes the
reset; fast sigmoid of slope 25. The loss is the mean over steps and samples of the cross entropy of the spikes.
"""

import jax
from flax import nnx
from jax_step import JaxStep
from workload import DECAY, THRESHOLD, Workload

from slax_neurons import LIF, connect, unroll
from slax_rules import RULES, cross_entropy, gradients


def build(variant: str, workload: Workload) -> JaxStep:
    modules = []
    for weight in workload.weights():
        linear = nnx.Linear(*weight.shape, use_bias=False, rngs=nnx.Rngs(0))
        linear.kernel[...] = weight
        modules += [linear, LIF(decay=DECAY, threshold=THRESHOLD)]
    model = connect(modules)

    name, _, steps = variant.partition("_chunk_")
    if steps:
        return _bptt(model, int(steps), workload)
    name, _, steps = variant.partition("_window_")
    rule = RULES[name].make()
    window = int(steps) if steps else None
    graph, state = nnx.split(model)

    def step(state, inputs, labels):
        return gradients(nnx.merge(graph, state), cross_entropy, inputs, labels, rule=rule, window=window)

    return JaxStep(step, state, workload.spikes(), workload.labels())


def _bptt(model: nnx.RNNCellBase, chunk: int, workload: Workload) -> JaxStep:
    graph, state = nnx.split(model)

    def loss(state, inputs, labels):
        cell = nnx.merge(graph, state)
        _, spikes = unroll(cell, cell.initialize_carry(inputs.shape[1:]), inputs, chunk=chunk)
        return cross_entropy(spikes, labels).mean()

    return JaxStep(jax.value_and_grad(loss), state, workload.spikes(), workload.labels())
