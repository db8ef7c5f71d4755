"""The laws of every rule in the table, read from the same few programs."""

import dataclasses

import numpy as np
import pytest

import oracle
from laws.table import ALL, MASK, NETWORKS, PENALTIES, TABLE, TARGETS, T, by_oracle, case, inputs_of, squares
from slax_rules import RULES, Penalty, Target, firing_rate
from slax_rules.engine import layerwise
from slax_rules.testing import samples_are_independent, what_the_mask_leaves_out_changes_nothing
from stacks import deviation, worst

pytestmark = pytest.mark.slow
EXACT = 1e-12
CASES = [(name, network) for name, entry in TABLE.items() for network in entry.networks]
# One of each kind; the others fill the same traces with other numbers, or are one of these along another route.
KINDS = [
    *("bptt", "tbptt", "rtrl", "snap", "ostl", "ostl_with_recurrence", "otpe", "approximate_otpe", "ottt", "sltt"),
    *("e_prop", "pp_prop", "s_tllr", "e_prop_adaptive", "decolle", "osttp"),
]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_spiking_layer_fires_now_and_then(network):
    """No comparison may hold for want of spikes."""
    layers = NETWORKS[network].pair().layers
    history = oracle.forward(layers, inputs_of(network))
    for index, neuron in enumerate(NETWORKS[network].neurons):
        if neuron["kind"] not in ("li", "none"):
            assert 0.05 < oracle.series(history, "output", index).mean() < 0.8, index


@pytest.mark.parametrize(("name", "network"), CASES)
def test_gradient_is_that_of_the_oracle(name, network):
    """In windows, behind a mask, and whatever targets are missing and inputs are padding there. In the network with edges,
    layers have losses of their own, of each step and of a mean."""
    here, penalties = case(name, network), PENALTIES if network == "edges" else []
    ours = {"mask": MASK, "penalties": [penalty for penalty, _ in penalties]}
    found, expected = here.run(**ours), here.expected(mask=MASK, penalties=by_oracle(penalties, MASK))
    assert abs(found.loss / (expected.loss + expected.penalty) - 1) < EXACT
    assert worst(found.gradients, expected.gradients) < EXACT
    if penalties:
        plain = here.expected(mask=MASK).gradients
        assert all(deviation(a["kernel"], b["kernel"]) > 0.02 for a, b in zip(expected.gradients, plain, strict=True))
    what_the_mask_leaves_out_changes_nothing(here.trial(ours["penalties"]))


@pytest.mark.parametrize("name", KINDS)
def test_gradient_is_linear_and_no_sample_sees_another(name):
    """Hidden layers to which targets are sent do not see the loss, but targets with their weights."""
    here = case(name, TABLE[name].networks[0])
    found = here.run()
    samples_are_independent(here.trial())
    double = here.run(targets=TARGETS * np.where(np.arange(TARGETS.shape[-1]) < TARGETS.shape[-1] - 1, 1, 2))
    last = slice(-1, None) if isinstance(getattr(here.rule, "route", None), Target) else slice(None)
    twice = [{name: 2 * part for name, part in layer.items()} for layer in found.gradients]
    assert abs(double.loss / found.loss - 2) < EXACT
    assert worst(double.gradients[last], twice[last]) < EXACT
    silent = here.run(0 * here.inputs).gradients[0]
    assert not silent["kernel"].any() and silent["bias"].any()


@pytest.mark.parametrize(
    ("name", "network", "window"), [("ostl", "delays", T), ("otpe", "edges", 6), ("e_prop_adaptive", "conv", 6)]
)
def test_pieces_change_nothing(name, network, window, monkeypatch):
    """Of two steps, with trained neurons, edges, delays, penalties, and a route with parameters; also without traces."""
    monkeypatch.setattr(layerwise, "steps_in_cache", lambda size: 5)
    monkeypatch.setattr(layerwise, "SHORTEST_PIECE", 2)
    lengths, forward = [], layerwise.forward
    monkeypatch.setattr(layerwise, "forward", lambda *of: lengths.append(len(of[2])) or forward(*of))
    here, penalties = case(name, network), PENALTIES if network == "edges" else []
    found = here.run(mask=MASK, window=window, penalties=[penalty for penalty, _ in penalties])
    expected = here.expected(mask=MASK, penalties=by_oracle(penalties, MASK))
    # A step for the shapes of the traces, pieces, and, where there are traces, the whole window, in which no neuron runs again.
    assert set(lengths) == ({1, 2, 6} if window == 6 else {1, 2})
    assert worst(found.gradients, expected.gradients) < EXACT


def test_spiking_layers_are_penalized_where_none_is_named():
    named, spiking = (
        case("bptt", "edges").run(penalties=[Penalty(squares, 0.7, layers=layers), firing_rate(0.1, layers=layers)])
        for layers in (None, (0, 1))
    )
    assert worst(named.gradients, spiking.gradients) == 0


# ---------------------------------------------------------------------------------------------------- where a rule is exact

IN_THE_MEAN_OR_IN_THE_OPTIMIZER = {"uoro", "kf_rtrl", "forward_gradient", "node_perturbation", "fptt"}
EVERY = [name for name in RULES if name not in IN_THE_MEAN_OR_IN_THE_OPTIMIZER]


def test_the_table_has_every_rule():
    assert {entry.rule or name for name, entry in TABLE.items()} | IN_THE_MEAN_OR_IN_THE_OPTIMIZER == set(RULES)


@pytest.mark.parametrize("name", EVERY)
def test_gradient_is_bptt_where_the_registry_says_so(name):
    """In as many last layers, of a chain where no reset has a gradient and the last layer integrates, and in as many steps."""
    exact, here = RULES[name].exact, case(name, TABLE[name].networks[0])
    found, true = here.run().gradients, here.expected(rule=oracle.bptt).gradients
    count = len(true) if exact.always else exact.last_layers
    assert count == 0 or worst(found[-count:], true[-count:]) < EXACT
    if count == 0:
        assert worst(found, true) > 0.01
    elif count < len(true):
        assert deviation(found[-count - 1]["kernel"], true[-count - 1]["kernel"]) > 0.01
    assert exact.always == (name in ("bptt", "rtrl"))
    steps = here.rule.steps if name == "tbptt" else exact.steps
    first = (np.arange(T) < max(steps, 1))[:, None] & ALL  # steps that do not count come after those that do
    one, true = here.run(mask=first).gradients, here.expected(mask=first, rule=oracle.bptt).gradients
    if steps and name != "s_tllr":  # here with a factor, see test_oracle.py
        assert worst(one, true) < EXACT
    elif not steps:
        assert deviation(one[0]["kernel"], true[0]["kernel"]) > 0.01


def test_last_layers_are_exact_as_the_registry_says():
    """Kernels alone, and layers without memory."""
    for name in ("s_tllr", "tess", "etlp"):
        here = case(name, "chain")
        found, true = here.run().gradients[-1], here.expected(rule=oracle.bptt).gradients[-1]
        assert "kernels of" in str(RULES[name].exact)
        assert deviation(found["kernel"], true["kernel"]) < EXACT
        assert deviation(found["bias"], true["bias"]) > 0.01
    for name in ("sltt", "dfa", "drtp"):
        here = case(name, "linear last")
        assert "no memory" in str(RULES[name].exact)
        assert worst(here.run().gradients[-1:], here.expected(rule=oracle.bptt).gradients[-1:]) < EXACT


@pytest.mark.parametrize("name", ["otpe", "e_prop"])
def test_a_recurrent_layer_below_the_last_is_not_exact(name, monkeypatch):
    monkeypatch.setitem(NETWORKS, "recurrent", dataclasses.replace(NETWORKS["chain"], edges=((1, 1, 1),)))
    here = case(name, "recurrent")
    found, true = here.expected().gradients, here.expected(rule=oracle.bptt).gradients
    assert "without late edges" in str(RULES[name].exact)
    assert worst(found[2:], true[2:]) < EXACT and deviation(found[1]["kernel"], true[1]["kernel"]) > 1e-3
