"""OSTL whose eligibilities are forgotten faster: the rule of slax's tutorial "Write your own learning rule"."""

import dataclasses

import jax

from slax_rules import RULES, LayerRule, RuleEntry, eligibility_gradient, linearize, zero_eligibility
from slax_rules.registry import Exactness


@dataclasses.dataclass(frozen=True)
class Discounted(LayerRule):
    """E_t = m D_t E_{t-1} + d_t x_t        eps_t = m o_t E_{t-1} + psi_t x_t        dL/dW = sum_t delta_t eps_t"""

    memory: float

    def init_layer(self, layer, inputs, states):
        return zero_eligibility(layer, inputs, states)

    def layer_gradient(self, layer, window, traces, signal):
        def jacobians_at(*point):
            at = linearize(layer.neuron, *point)
            D, o = jax.tree.map(lambda array: self.memory * array, (at.D, at.o))
            return at._replace(D=D, o=o)

        return eligibility_gradient(layer, window, traces, signal, jacobians_at)


RULES["discounted"] = RuleEntry(
    title="Discounted",
    rule=Discounted,
    options={"memory": 0.5},
    exact=Exactness(steps=1),  # equal to BPTT for a sequence of one step: check_rule compares them
)
