"""The controls: what an exchange of traces or signals between samples changes in a gradient, and what it leaves as it is."""

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.controls import run
from experiments.controls.exchange import Exchanged
from slax_neurons import LI, LIF, connect
from slax_rules import OSTL, OTPE, RULES, SLTT, PerLayer, gradients

STEPS, SAMPLES = 7, 4


def stack(neuron, hidden=1):
    rngs = nnx.Rngs(0)
    layers = [module for _ in range(hidden) for module in (nnx.Linear(5, 5, rngs=rngs), neuron)]
    return connect([*layers, nnx.Linear(5, 3, rngs=rngs), LI(decay=0.8)])


def data():
    """Inputs that make neurons spike, and targets, of which `linear` makes signals that depend on no output."""
    draw = np.random.default_rng(0).normal
    return 2 * draw(size=(STEPS, SAMPLES, 5)).astype("float32"), draw(size=(STEPS, SAMPLES, 3)).astype("float32")


def linear(outputs, targets):
    return (outputs * targets).sum(axis=-1)


def gradient(model, rule, inputs, targets):
    """The gradient of bias and kernel of each layer, from the first to the last."""
    found = gradients(model, linear, inputs, targets, rule=rule)[1]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def of_next(values):
    return np.roll(values, -1, axis=1)


def check(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_exchanged_signals_are_those_of_the_next_samples_targets():
    model, rule, (inputs, targets) = stack(LIF(decay=0.9)), OTPE(), data()
    found, own = (gradient(model, one, inputs, targets) for one in (Exchanged(rule, "signals"), rule))
    check(found[:2], gradient(model, rule, inputs, of_next(targets))[:2])
    check(found[2:], own[2:])  # of the read-out
    assert not np.allclose(found[1], own[1], rtol=0.1)


@pytest.mark.parametrize("name", ["approximate_otpe", "otpe"])
def test_exchanged_traces_are_those_of_the_next_samples_past(name):
    """In a linear layer, whose traces depend on its inputs alone; SLTT has the part of the gradient without a past."""
    model, rule, (inputs, targets) = stack(LI(decay=0.7)), RULES[name].make(), data()
    found, own = (gradient(model, one, inputs, targets) for one in (Exchanged(rule, "traces"), rule))
    whole, now = (gradient(model, one, of_next(inputs), targets) for one in (rule, SLTT()))
    of_step = gradient(model, SLTT(), inputs, targets)
    check(found[:2], [whole[i] - now[i] + of_step[i] for i in (0, 1)])
    check(found[2:], own[2:])
    assert not np.allclose(found[1], own[1], rtol=0.1)


def test_among_equal_samples_an_exchange_changes_nothing():
    model, rule = stack(LIF(decay=0.9), 2), OTPE()
    equal = [np.repeat(values[:, :1], SAMPLES, axis=1) for values in data()]
    check(gradient(model, Exchanged(rule, "traces"), *equal), gradient(model, rule, *equal))


def test_an_exchange_in_one_layer_reaches_no_other_one():
    model, one = stack(LIF(decay=0.9), 2), Exchanged(SLTT(), "signals")
    mixed = (PerLayer([one, SLTT(), OSTL()]), PerLayer([SLTT(), one, OSTL()]))
    both, first, second = (gradient(model, rule, *data()) for rule in (PerLayer([one, one, OSTL()]), *mixed))
    check(both, [*first[:2], *second[2:4], *first[4:]])


def test_references_have_an_exact_read_out_above_no_traces_or_fixed_layers():
    config, model = {"layers": [5, 5, 5, 3], "variant": "itself"}, stack(LIF(decay=0.9), 2)
    without, fixed = (run.rule_of(config | {"rule": name})(model=model) for name in ("without_traces", "fixed"))
    assert without == PerLayer([SLTT(), SLTT(), OSTL()])
    found, exact = (gradient(model, rule, *data()) for rule in (fixed, OSTL()))
    assert not any(leaf.any() for leaf in found[:4])
    check(found[4:], exact[4:])
