# /// script
# requires-python = ">=3.12"
# dependencies = ["braintrace==0.2.8", "jax==0.12.0.1"]
#
# [tool.benchmark.variants]
# default = {}
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "nothing" }
# ///
"""braintrace: the loop over time and the gradient of brainstate, its foundation, with our neuron, as it has none of its own.

Its rules are in benchmarks/rules. Parity: the equations of slax; fast sigmoid of slope 25 (`InvSquareGrad`).
"""

import brainstate
import braintools
import braintrace
import jax.numpy as jnp
from jax_step import JaxStep
from workload import DECAY, THRESHOLD, Workload

spike = braintools.surrogate.InvSquareGrad(alpha=25.0)


class LIF(brainstate.nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def init_state(self, batch_size: int):
        self.v = brainstate.HiddenState(jnp.zeros((batch_size, self.size)))

    def update(self, current):
        last = self.v.value
        self.v.value = DECAY * (last - THRESHOLD * spike(last - THRESHOLD)) + current
        return spike(self.v.value - THRESHOLD)


def build(variant: str, workload: Workload) -> JaxStep:
    layers = []
    for weight in workload.weights():
        linear = braintrace.nn.Linear(*weight.shape, w_init=jnp.asarray(weight), b_init=None)
        layers += [linear, LIF(weight.shape[1])]
    model = brainstate.nn.Sequential(*layers)
    weights = model.states(brainstate.ParamState)

    def step(inputs):
        brainstate.nn.init_all_states(model, workload.batch)

        def loss():
            return brainstate.transform.for_loop(model.update, inputs).sum()

        gradient, total = brainstate.transform.grad(loss, weights, return_value=True)()
        return total, gradient

    return JaxStep(step, workload.spikes(), jit=brainstate.transform.jit)


def spikes_of(variant: str, currents):
    neuron = LIF(currents.shape[2])
    brainstate.nn.init_all_states(neuron, currents.shape[1])
    return brainstate.transform.for_loop(neuron.update, jnp.asarray(currents))
