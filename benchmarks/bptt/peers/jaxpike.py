# /// script
# requires-python = ">=3.11"
# dependencies = ["jaxpike==0.1.4", "jax==0.10.2"]
#
# [tool.benchmark.variants]
# defaults = {}
# unroll_1 = {}
# unroll_1_remat = {}
# checkpointed_16 = {}
# checkpointed_32 = {}
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "one product more per step" }
# ///
"""jaxpike: `unroll` and `unroll_checkpointed` over a `Sequential` of `Dense` and `LIF`.

`defaults` differentiates the whole network, the time constants included, as its training does, with eight steps per
iteration of the loop; all others differentiate only the weights, with `scan_unroll=1`, the fastest on a CPU. The number is the
chunk length.

Parity: v_t = alpha u_{t-1} + (1 - alpha) I_t, s_t = H(v_t - 1), H(0) = 0, u_t = v_t - s_t; the gradient passes the reset;
fast sigmoid. Weights are divided by 1 - alpha, so it differs from slax by one product per step and by H(0) only.
"""

import math

import equinox as eqx
import jax
import jaxpike
from jax_step import JaxStep
from workload import DECAY, THRESHOLD, Workload


def build(variant: str, workload: Workload) -> JaxStep:
    layers = []
    for shape in zip(workload.widths, workload.widths[1:], strict=False):
        layers.append(jaxpike.Dense(*shape, key=jax.random.key(0), use_bias=False))
        layers.append(jaxpike.LIF(-1 / math.log(DECAY), threshold=THRESHOLD))
    network = jaxpike.Sequential(*layers)
    weights = [weight.T.copy() / (1 - DECAY) for weight in workload.weights()]

    def with_weights(weights):
        return eqx.tree_at(lambda net: [layer.weight for layer in net.layers[::2]], network, weights)

    if variant == "defaults":
        trained, static = eqx.partition(with_weights(weights), eqx.is_inexact_array)
        return JaxStep(
            jax.value_and_grad(lambda trained, xs: jaxpike.unroll(eqx.combine(trained, static), xs)[0].sum()),
            trained,
            workload.spikes(),
        )

    def loss(weights, xs):
        net = with_weights(weights)
        if variant.startswith("checkpointed"):
            chunk = int(variant.removeprefix("checkpointed_"))
            return jaxpike.unroll_checkpointed(net, xs, chunk_size=chunk, scan_unroll=1)[0].sum()
        return jaxpike.unroll(net, xs, scan_unroll=1, remat_step=variant == "unroll_1_remat")[0].sum()

    return JaxStep(jax.value_and_grad(loss), weights, workload.spikes())


def spikes_of(variant: str, currents):
    neuron = jaxpike.Sequential(jaxpike.LIF(-1 / math.log(DECAY), threshold=THRESHOLD))
    return jaxpike.unroll(neuron, currents / (1 - DECAY))[0]
