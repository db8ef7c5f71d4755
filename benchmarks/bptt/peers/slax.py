# /// script
# requires-python = ">=3.11"
# dependencies = ["slax-neurons", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark]
# dtypes = ["float32", "bfloat16"]
# editable = ["packages/slax-neurons"]
#
# [tool.benchmark.variants]
# default = {}
# remat = {}
# read_out = {}
# chunk_16 = {}
# chunk_64 = {}
# heap = { MALLOC_TOP_PAD_ = "1000000000" }
# devices = { XLA_FLAGS = "--xla_force_host_platform_device_count=2" }
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "the reference" }
# ///
"""This repository's `connect` and `unroll`, split once and jitted over the state.

`devices` makes two devices of the CPU and gives each half of the batch; `read_out` has the sum over the units as its last
module, as a network with a small read-out would; `chunk_K` processes K steps together; `heap` is the default with a malloc
(glibc's) that keeps the memory of the previous step, whereas it otherwise returns arrays above 32 MiB and obtains them again
page by page.

Parity, the reference: v_t = decay u_{t-1} + I_t, s_t = H(v_t - 1), H(0) = 1, u_t = v_t - s_t; the gradient passes the
reset; fast sigmoid.
"""

from functools import partial

import jax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax_step import JaxStep
from workload import DECAY, THRESHOLD, Workload

from slax_neurons import LIF, connect, unroll


def build(variant: str, workload: Workload) -> JaxStep:
    graph, state = nnx.split(model(workload, read_out=variant == "read_out"))
    options = {"remat": variant == "remat"}
    if variant.startswith("chunk_"):
        options["chunk"] = int(variant.removeprefix("chunk_"))

    def loss(state, inputs):
        cell = nnx.merge(graph, state)
        _, spikes = unroll(cell, cell.initialize_carry(inputs.shape[1:]), inputs, **options)
        return spikes.sum()

    step = jax.value_and_grad(loss)
    if variant == "devices":
        return over_devices(step, state, workload.spikes())
    return JaxStep(step, state, workload.spikes(), dtype=workload.dtype)


def model(workload: Workload, *, read_out: bool) -> nnx.RNNCellBase:
    modules = []
    for weight in workload.weights():
        linear = nnx.Linear(*weight.shape, use_bias=False, rngs=nnx.Rngs(0))
        linear.kernel[...] = weight
        modules += [linear, LIF(decay=DECAY, threshold=THRESHOLD, param_dtype=workload.dtype)]
    if read_out:
        modules.append(lambda spikes: spikes.sum(-1, keepdims=True))
    return connect(modules)


def over_devices(step, state, inputs) -> JaxStep:
    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    whole, split = P(), P(None, "batch")

    @partial(jax.shard_map, mesh=mesh, in_specs=(whole, split), out_specs=whole, check_vma=False)
    def summed(state, inputs):
        return jax.lax.psum(step(state, inputs), "batch")

    placed = [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in ((state, whole), (inputs, split))]
    return JaxStep(summed, *placed)


def spikes_of(variant: str, currents):
    neuron = LIF(decay=DECAY, threshold=THRESHOLD)
    return unroll(neuron, neuron.initialize_carry(currents.shape[1:]), currents)[1]
