"""`check_rule` finds what is wrong with a rule. Where a law holds for the library's rules: test_laws.py."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import OSTL, RULES, SLTT, RuleEntry, cross_entropy, gradients, testing
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


class Silent(SLTT):
    """No layer below the last one learns."""

    def layer_gradient(self, layer, window, traces, signal):
        return super().layer_gradient(layer, window, traces, signal * float(layer.number == 2))


@pytest.mark.parametrize(
    ("rule", "law"),
    [
        (Silent(), "complete and finite.*gradient of modules/0/bias.*, modules/2/kernel/value is exactly zero"),
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


def test_the_template_of_a_rule_is_ostl_when_it_forgets_nothing(monkeypatch):
    monkeypatch.setitem(RULES, "discounted", None)  # to be taken out again
    template = runpy.run_path(str(Path(__file__).parents[2] / "templates/slax-my-rule/slax_my_rule.py"))
    assert RULES["discounted"].make() == template["Discounted"](memory=0.5)
    model = connect([nnx.Linear(3, 4, rngs=nnx.Rngs(0)), LIF(threshold=0.3), nnx.Linear(4, 2, rngs=nnx.Rngs(1)), LI()])
    inputs, labels = jnp.ones((6, 2, 3), jnp.float32), jnp.array([0, 1])
    found, expected = (
        gradients(model, cross_entropy, inputs, labels, rule=rule, window=3)[1]
        for rule in (template["Discounted"](memory=1.0), OSTL())
    )
    assert jax.tree.all(jax.tree.map(jnp.allclose, found, expected))
