# /// script
# requires-python = ">=3.12"
# dependencies = ["braintrace==0.2.8", "jax==0.12.0.1"]
#
# [tool.benchmark]
# neuron = { equation = "subtract", differs = "nothing" }
#
# [tool.benchmark.variants.bptt]
# default = {}
#
# [tool.benchmark.variants.rules]
# d_rtrl_chunk_32 = {}
# pp_prop = {}
# ///
"""braintrace and its foundation, brainstate, with the neuron of slax, since they have none of their own.

`bptt` is brainstate's loop over time and its gradient.

`rules` is a learner made by `compile`, driven by its `etrace_grad` over the sequence, step by step or in chunks of K. Its
compiler takes any neuron; the hidden state is the membrane before the reset, and the layers are `braintrace.nn.Linear`.
`d_rtrl` is D-RTRL, whose gradient equals OSTL's; `pp_prop` is its rule with one trace per input and one per unit, and the
smoothing of 0.9 from its examples, which is also our default.

`RULE_chunk_K` is the same with `vjp_method="multi-step"` and `chunk_size=K`. In a chunk the signal goes back through time and
layers: with K = T the gradient equals BPTT's; with smaller K it depends on K and lies between the rule's and BPTT's, whereas
ours is the rule's for every K. Step by step, D-RTRL takes seconds where the chunks take tenths of a second, so it is left out.

Parity: the equations of slax; fast sigmoid of slope 25 (`InvSquareGrad`).
"""

import brainstate
import braintools
import braintrace
import jax.numpy as jnp
import optax

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

spike = braintools.surrogate.InvSquareGrad(alpha=25.0)


class LIF(brainstate.nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def init_state(self, batch_size: int):
        self.v = brainstate.HiddenState(jnp.zeros((batch_size, self.size)))

    def update(self, current):
        last = self.v.value
        v = DECAY * (last - THRESHOLD * spike(last - THRESHOLD)) + current
        self.v.value = v
        return spike(v - THRESHOLD)


def network_of(workload: Workload) -> brainstate.nn.Sequential:
    layers = []
    for weight in workload.weights():
        linear = braintrace.nn.Linear(*weight.shape, w_init=jnp.asarray(weight), b_init=None)
        layers += [linear, LIF(weight.shape[1])]
    return brainstate.nn.Sequential(*layers)


def bptt(variant: str, workload: Workload) -> JaxStep:
    model = network_of(workload)
    weights = model.states(brainstate.ParamState)

    def step(inputs):
        brainstate.nn.init_all_states(model, workload.batch)

        def loss():
            return brainstate.transform.for_loop(model.update, inputs).sum()

        gradient, total = brainstate.transform.grad(loss, weights, return_value=True)()
        return total, gradient

    return JaxStep(step, workload.inputs(), jit=brainstate.transform.jit)


def rules(variant: str, workload: Workload) -> JaxStep:
    chunk = 32 if variant == "d_rtrl_chunk_32" else None
    rule = braintrace.D_RTRL if chunk else braintrace.pp_prop
    options = {"vjp_method": "multi-step"} if chunk else {"decay_or_rank": 0.9}
    inputs = jnp.asarray(workload.inputs())
    learner = braintrace.compile(network_of(workload), rule, inputs[0], batch_size=workload.batch, **options)
    states = brainstate.graph.states(learner)
    at_rest = {key: state.value for key, state in states.items()}

    def step(values, inputs, labels):
        for key, state in states.items():
            state.value = values[key]

        def losses(inputs):
            outputs = learner(braintrace.MultiStepData(inputs) if chunk else inputs)
            labels_of_steps = jnp.broadcast_to(labels, outputs.shape[:-1])
            return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, labels_of_steps).mean(-1)

        gradient, loss = learner.etrace_grad(
            inputs, step_fn=losses, chunk_size=chunk, return_value=True, loss_output="scalar"
        )
        return loss, gradient

    return JaxStep(step, at_rest, inputs, workload.labels(), jit=brainstate.transform.jit)


def spikes_of(variant: str, currents):
    neuron = LIF(currents.shape[2])
    brainstate.nn.init_all_states(neuron, currents.shape[1])
    return brainstate.transform.for_loop(neuron.update, jnp.asarray(currents))
