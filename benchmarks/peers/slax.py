# /// script
# requires-python = ">=3.11"
# dependencies = ["slax-neurons", "slax-rules", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark]
# neuron = { equation = "subtract", differs = "the reference" }
# dtypes.bptt = ["float32", "bfloat16"]
# editable = ["packages/slax-neurons", "packages/slax-rules"]
#
# [tool.benchmark.variants.bptt]
# default = {}
# devices = { XLA_FLAGS = "--xla_force_host_platform_device_count=2" }
#
# [tool.benchmark.variants.rules]
# bptt = {}
# sltt = {}
# ottt = {}
# ottt_window_32 = {}
# ostl = {}
# ostl_window_32 = {}
# otpe = {}
# otpe_window_32 = {}
# approximate_otpe = {}
# approximate_otpe_window_32 = {}
# e_prop = {}
# pp_prop = {}
# ///
"""This repository's `connect`, `unroll` and `gradients`, with the network split once and jitted over its state.

In `bptt`, `devices` splits the CPU into two devices, each with half of the batch. In `rules`, a variant is the rule that
`RULES` makes; `RULE_window_K` processes K steps together, which changes no gradient.

Parity, the reference: v_t = decay u_{t-1} + I_t, s_t = H(v_t - 1), H(0) = 1, u_t = v_t - s_t; the gradient passes the
reset; fast sigmoid of slope 25. The loss of `rules` is the mean over steps and samples of the cross entropy of the spikes.
"""

from functools import partial

import jax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload
from slax_neurons import LIF, connect, unroll
from slax_rules import RULES, cross_entropy, gradients


def bptt(variant: str, workload: Workload) -> JaxStep:
    graph, state = nnx.split(network_of(workload))

    def step(state, inputs):
        return jax.value_and_grad(lambda state: output(nnx.merge(graph, state), inputs).sum())(state)

    if variant == "default":
        return JaxStep(step, state, workload.inputs(), dtype=workload.dtype)
    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    whole, split = P(), P(None, "batch")

    @partial(jax.shard_map, mesh=mesh, in_specs=(whole, split), out_specs=whole, check_vma=False)
    def summed(state, inputs):
        return jax.lax.psum(step(state, inputs), "batch")

    arguments = (state, whole), (workload.inputs(), split)
    placed = (jax.device_put(of, NamedSharding(mesh, spec)) for of, spec in arguments)
    return JaxStep(summed, *placed, dtype=workload.dtype)


def rules(variant: str, workload: Workload) -> JaxStep:
    name, _, steps = variant.partition("_window_")
    graph, state = nnx.split(network_of(workload))
    options = {"rule": RULES[name].make(), "window": int(steps) if steps else None}

    def step(state, inputs, labels):
        return gradients(nnx.merge(graph, state), cross_entropy, inputs, labels, **options)

    return JaxStep(step, state, workload.inputs(), workload.labels())


def network_of(workload: Workload) -> nnx.RNNCellBase:
    """Linear and LIF of each layer, in order."""
    modules = []
    for weight in workload.weights():
        linear = nnx.Linear(*weight.shape, use_bias=False, rngs=nnx.Rngs(0))
        linear.kernel[...] = weight
        modules += [linear, LIF(decay=DECAY, threshold=THRESHOLD, param_dtype=workload.dtype)]
    return connect(modules)


def output(cell: nnx.RNNCellBase, inputs: jax.Array) -> jax.Array:
    """The spikes of the last layer, [T, B, N], by `unroll` from rest."""
    return unroll(cell, cell.initialize_carry(inputs.shape[1:]), inputs)[1]


def spikes_of(variant: str, currents):
    return output(LIF(decay=DECAY, threshold=THRESHOLD), currents)
