# /// script
# requires-python = ">=3.11"
# dependencies = ["slax-neurons", "slax-rules", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark]
# dtypes.bptt = ["float32", "bfloat16"]
# editable = ["packages/slax-neurons", "packages/slax-rules"]
#
# [tool.benchmark.variants.bptt]
# default = {}
# scan = {}
# plain = {}
# remat = {}
# read_out = {}
# chunk_16 = {}
# chunk_64 = {}
# heap = { MALLOC_TOP_PAD_ = "1000000000" }
# devices = { XLA_FLAGS = "--xla_force_host_platform_device_count=2" }
#
# [tool.benchmark.variants.rules]
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
# otpe_window_32 = {}
# approximate_otpe = {}
# e_prop = {}
# pp_prop = {}
# rtrl = {}
# rtrl_window_1 = {}
#
# [tool.benchmark.limits.rules]
# ostl_window_1 = { width = 256, steps = 1024 }
# rtrl = { width = 64 }
# rtrl_window_1 = { width = 64 }
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "the reference" }
# ///
"""This repository's `connect`, `unroll` and `gradients`, with the network split once and jitted over its state.

In `bptt`, `devices` splits the CPU into two devices, each with half of the batch; `read_out` has the sum over the units as its
last module, as a network with a small read-out would; `chunk_K` processes K steps together; `scan` and `plain` have our own
reverse pass of neurons and that of JAX; `heap` is the default with a malloc (glibc's) that keeps the memory of the previous
step, whereas it otherwise returns arrays above 32 MiB and obtains them again page by page.

In `rules`, a variant is the rule that `RULES` makes. `RULE_window_K` processes K steps together, which changes no gradient.
`bptt_chunk_K` is BPTT by `unroll(chunk=K)`, an option that `gradients` does not have, since the default is meant to suffice.

Parity, the reference: v_t = decay u_{t-1} + I_t, s_t = H(v_t - 1), H(0) = 1, u_t = v_t - s_t; the gradient passes the
reset; fast sigmoid of slope 25. The loss of `rules` is the mean over steps and samples of the cross entropy of the spikes.
"""

from collections.abc import Callable
from functools import partial

import jax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload
from slax_neurons import LIF, connect, unroll
from slax_neurons.building_blocks import reverse_pass_of_jax
from slax_rules import RULES, cross_entropy, gradients
from slax_rules.devices import check_divisible


def bptt(variant: str, workload: Workload) -> JaxStep:
    modules = layers_of(workload)
    if variant == "read_out":
        modules.append(lambda spikes: spikes.sum(-1, keepdims=True))
    graph, state = nnx.split(connect(modules))
    options = {"remat": variant == "remat"}
    if variant.startswith("chunk_"):
        options["chunk"] = int(variant.removeprefix("chunk_"))

    def loss(state, inputs):
        with reverse_pass_of_jax({"scan": False, "plain": True}.get(variant)):
            return output(nnx.merge(graph, state), inputs, **options).sum()

    step = jax.value_and_grad(loss)
    if variant == "devices":
        return over_devices(step, state, workload)
    return JaxStep(step, state, workload.inputs(), dtype=workload.dtype)


def rules(variant: str, workload: Workload) -> JaxStep:
    graph, state = nnx.split(connect(layers_of(workload)))
    name, _, steps = variant.partition("_chunk_")
    if steps:
        step = jax.value_and_grad(chunked_loss(graph, int(steps)))
    else:
        name, _, steps = variant.partition("_window_")
        rule = RULES[name].make()
        window = int(steps) if steps else None

        def step(state, inputs, labels):
            return gradients(nnx.merge(graph, state), cross_entropy, inputs, labels, rule=rule, window=window)

    return JaxStep(step, state, workload.inputs(), workload.labels())


def layers_of(workload: Workload) -> list:
    """Linear and LIF of each layer, in order."""
    modules = []
    for weight in workload.weights():
        linear = nnx.Linear(*weight.shape, use_bias=False, rngs=nnx.Rngs(0))
        linear.kernel[...] = weight
        modules += [linear, LIF(decay=DECAY, threshold=THRESHOLD, param_dtype=workload.dtype)]
    return modules


def output(cell: nnx.RNNCellBase, inputs: jax.Array, **options) -> jax.Array:
    """The spikes of the last layer, [T, B, N], by `unroll` from rest."""
    return unroll(cell, cell.initialize_carry(inputs.shape[1:]), inputs, **options)[1]


def chunked_loss(graph: nnx.GraphDef, chunk: int) -> Callable[..., jax.Array]:
    """The loss of `rules` as a function of the state, the inputs and the labels."""

    def loss(state, inputs, labels):
        return cross_entropy(output(nnx.merge(graph, state), inputs, chunk=chunk), labels).mean()

    return loss


def over_devices(step: Callable, state: nnx.State, workload: Workload) -> JaxStep:
    check_divisible(workload.batch, jax.device_count())
    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    whole, split = P(), P(None, "batch")

    @partial(jax.shard_map, mesh=mesh, in_specs=(whole, split), out_specs=whole, check_vma=False)
    def summed(state, inputs):
        return jax.lax.psum(step(state, inputs), "batch")

    arguments = (state, whole), (workload.inputs(), split)
    return JaxStep(
        summed, *(jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in arguments), dtype=workload.dtype
    )


def spikes_of(variant: str, currents):
    return output(LIF(decay=DECAY, threshold=THRESHOLD), currents)
