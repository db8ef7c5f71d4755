"""OSTL whose eligibilities are forgotten faster: the rule of slax's tutorial "Write your own learning rule"."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from slax_neurons import Neuron
from slax_rules import RULES, LayerRule, RuleEntry, eligibility_gradient, zero_eligibility
from slax_rules.registry import Exactness


def partly_detached(array, share):
    """The array itself, through which only a share of the gradient passes; a random key or a count has none."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return share * array + (1 - share) * jax.lax.stop_gradient(array)


class Forgetting(Neuron):
    """A neuron that computes the same, but lets only a share of the derivative pass through its memory."""

    def __init__(self, neuron, memory):
        super().__init__(param_dtype=neuron.param_dtype)
        self.neuron, self.memory = neuron, memory

    def __call__(self, carry, inputs):
        return self.neuron(jax.tree.map(partial(partly_detached, share=self.memory), carry), inputs)


@dataclasses.dataclass(frozen=True)
class Discounted(LayerRule):
    """E_t = m D_t E_{t-1} + d_t x_t        eps_t = m o_t E_{t-1} + psi_t x_t        dL/dW = sum_t delta_t eps_t"""

    memory: float

    def init_layer(self, layer, inputs, states):
        return zero_eligibility(layer, inputs, states)

    def layer_gradient(self, layer, window, traces, signal):
        layer = dataclasses.replace(layer, neuron=Forgetting(layer.neuron, self.memory))
        return eligibility_gradient(layer, window, traces, signal)


RULES["discounted"] = RuleEntry(
    title="Discounted",
    rule=Discounted,
    options={"memory": 0.5},
    exact=Exactness(steps=1),  # equal to BPTT for a sequence of one step: check_rule compares them
)
