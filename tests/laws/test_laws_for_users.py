"""`check_rule` finds what is wrong with a rule. Where a law holds for the library's rules: test_laws.py."""

import jax.numpy as jnp
import pytest

from slax_rules import SLTT, RuleEntry, testing
from slax_rules.registry import Exactness


class Growing(SLTT):
    """The signal grows from window to window."""

    def init_layer(self, layer, inputs, states):
        return jnp.zeros_like(states[0])

    def layer_gradient(self, layer, window, traces, signal):
        found, _ = super().layer_gradient(layer, window, (), signal * (1 + traces)[None])
        return found, traces + self.growth(window)

    def growth(self, window):
        return 1.0


class Mixing(Growing):
    """It grows by what all samples have in common."""

    def growth(self, window):
        return window.inputs[0].mean()


class Broken(SLTT):
    def layer_gradient(self, layer, window, traces, signal):
        return super().layer_gradient(layer, window, traces, jnp.log(signal))


@pytest.mark.parametrize(
    ("rule", "law"),
    [
        (Growing(), "windows change nothing.*window=5"),
        (Mixing(), "samples are independent.*the first sample"),
        (Broken(), "complete and finite.*NaN or infinity"),
        (
            RuleEntry("", SLTT, exact=Exactness(last_layers=1), updates=()),
            "where this is claimed.*module 4, beside BPTT",
        ),
        (RuleEntry("", SLTT, exact=Exactness(steps=2), updates=()), "where this is claimed.*a sequence of 2 steps"),
    ],
)
def test_a_rule_that_breaks_a_law_is_told_which(rule, law):
    with pytest.raises(AssertionError, match=law):
        testing.check_rule(rule)
