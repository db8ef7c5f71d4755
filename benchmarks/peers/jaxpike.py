# /// script
# requires-python = ">=3.11"
# dependencies = ["jaxpike==0.1.4", "jax==0.10.2"]
#
# [tool.benchmark]
# neuron = { equation = "subtract", differs = "one product more per step" }
#
# [tool.benchmark.variants.bptt]
# unroll_1_remat = {}
# checkpointed_32 = {}
#
# [tool.benchmark.variants.rules]
# e_prop = {}
# ///
"""jaxpike: a `Sequential` of `Dense` and `LIF`, under `unroll`, `unroll_checkpointed` and `eprop_grads`.

In `bptt` only the weights are differentiated, with one step per iteration of the loop, the fastest on a CPU: each step is
recomputed in the reverse pass, or chunks of 32 steps are. Its other forms were not the fastest at any size.

In `rules`, its e-prop for a feed-forward stack has the equations of OTTT: the filtered input times psi times the signal of the
step. Its trace and its weights include the factor 1 - alpha of its current, and the signal below is not divided by it again, so
a layer's gradient has the direction of OTTT and is greater by 1 / (1 - alpha) for each layer above.

Parity: v_t = alpha u_{t-1} + (1 - alpha) I_t, s_t = H(v_t - 1), H(0) = 0, u_t = v_t - s_t; the gradient of BPTT passes the
reset; fast sigmoid of slope 25. Weights are divided by 1 - alpha, so it differs from slax by one product per step and by H(0)
only.
"""

import itertools
import math

import equinox as eqx
import jax
import jaxpike
import optax

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload


def bptt(variant: str, workload: Workload) -> JaxStep:
    network, weights = network_of(workload), scaled_weights(workload)

    def loss(weights, xs):
        net = with_weights(network, weights)
        if variant == "checkpointed_32":
            return jaxpike.unroll_checkpointed(net, xs, chunk_size=32, scan_unroll=1)[0].sum()
        return jaxpike.unroll(net, xs, scan_unroll=1, remat_step=True)[0].sum()

    return JaxStep(jax.value_and_grad(loss), weights, workload.inputs())


def rules(variant: str, workload: Workload) -> JaxStep:
    network, steps = network_of(workload), workload.steps

    def step(weights, inputs, labels):
        def step_loss(spikes):
            return optax.losses.softmax_cross_entropy_with_integer_labels(spikes, labels).mean() / steps

        gradient, loss = jaxpike.eprop_grads(with_weights(network, weights), inputs, step_loss)
        return loss, weights_of(gradient)

    return JaxStep(step, scaled_weights(workload), workload.inputs(), workload.labels())


def network_of(workload: Workload) -> jaxpike.Sequential:
    layers = []
    for shape in itertools.pairwise(workload.widths):
        layers += [jaxpike.Dense(*shape, key=jax.random.key(0), use_bias=False), lif()]
    return jaxpike.Sequential(*layers)


def lif() -> jaxpike.LIF:
    return jaxpike.LIF(-1 / math.log(DECAY), threshold=THRESHOLD)


def scaled_weights(workload: Workload) -> list:
    """The weights [outputs, inputs] of each layer, divided by the factor that its neuron applies to its input."""
    return [weight.T.copy() / (1 - DECAY) for weight in workload.weights()]


def weights_of(network: jaxpike.Sequential) -> list:
    return [layer.weight for layer in network.layers[::2]]


def with_weights(network: jaxpike.Sequential, weights: list) -> jaxpike.Sequential:
    return eqx.tree_at(weights_of, network, weights)


def spikes_of(variant: str, currents):
    return jaxpike.unroll(jaxpike.Sequential(lif()), currents / (1 - DECAY))[0]
