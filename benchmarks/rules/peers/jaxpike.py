# /// script
# requires-python = ">=3.11"
# dependencies = ["jaxpike==0.1.4", "jax==0.10.2"]
#
# [tool.benchmark.variants]
# e_prop = {}
# ///
"""jaxpike: `eprop_grads` of a `Sequential` of `Dense` and `LIF`.

Its e-prop for a feed-forward stack has the equations of OTTT: the filtered input times psi times the signal of the
step. Its trace and its weights include the factor 1 - alpha of its current, and the signal below is not divided by it again, so
a layer's gradient has the direction of OTTT and is greater by 1 / (1 - alpha) for each layer above.

Parity: v_t = alpha u_{t-1} + (1 - alpha) I_t, s_t = H(v_t - 1), H(0) = 0, u_t = v_t - s_t; fast sigmoid of slope 25.
"""

import math

import equinox as eqx
import jax
import jaxpike
import optax
from jax_step import JaxStep
from workload import DECAY, THRESHOLD, Workload


def build(variant: str, workload: Workload) -> JaxStep:
    layers = []
    for shape in zip(workload.widths, workload.widths[1:], strict=False):
        layers.append(jaxpike.Dense(*shape, key=jax.random.key(0), use_bias=False))
        layers.append(jaxpike.LIF(-1 / math.log(DECAY), threshold=THRESHOLD))
    network = jaxpike.Sequential(*layers)
    weights = [weight.T.copy() / (1 - DECAY) for weight in workload.weights()]
    steps = workload.steps

    def of(net):
        return [layer.weight for layer in net.layers[::2]]

    def step(weights, inputs, labels):
        def step_loss(spikes):
            return optax.losses.softmax_cross_entropy_with_integer_labels(spikes, labels).mean() / steps

        gradient, loss = jaxpike.eprop_grads(eqx.tree_at(of, network, weights), inputs, step_loss)
        return loss, of(gradient)

    return JaxStep(
        step,
        weights,
        workload.spikes(),
        workload.labels(),
        layers=lambda gradient: [layer.T for layer in gradient],
    )
