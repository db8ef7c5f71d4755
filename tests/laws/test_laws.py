"""The laws of every rule in the table, read from the same few programs."""

import numpy as np
import pytest

import oracle
from laws.programs import case
from laws.table import ALL, LI, MASK, NETWORKS, TABLE, TARGETS, B, T, inputs_of
from slax_rules import RULES, Adaptive, LayerRule, Target
from stacks import deviation, worst

EXACT = 1e-12
CASES = [(name, network) for name, entry in TABLE.items() for network in entry.networks]
ONCE = [(name, entry.networks[0]) for name, entry in TABLE.items()]
cases = pytest.mark.parametrize(("name", "network"), CASES)
once = pytest.mark.parametrize(("name", "network"), ONCE)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_spiking_layer_fires_now_and_then(network):
    """No comparison may hold for want of spikes."""
    layers = NETWORKS[network].pair().layers
    history = oracle.forward(layers, inputs_of(network))
    for index, neuron in enumerate(NETWORKS[network].neurons):
        if neuron["kind"] not in ("li", "none"):
            assert 0.05 < oracle.series(history, "output", index).mean() < 0.8, index


@cases
def test_gradient_is_that_of_the_oracle(name, network):
    """In windows, behind a mask, and whatever targets are missing and inputs are padding there."""
    here = case(name, network)
    found, expected = here.run(mask=MASK), here.expected(mask=MASK)
    assert abs(found.loss / expected.loss - 1) < EXACT
    assert worst(found.gradients, expected.gradients) < EXACT
    padded = here.inputs.copy()
    padded[7:, 1], padded[8:, 0] = 3.0, -2.0
    missing = np.where(MASK[..., None], TARGETS, np.nan)
    other = here.run(padded, missing, MASK)
    assert other.loss == found.loss
    assert worst(other.gradients, found.gradients) < EXACT


@once
def test_gradient_is_linear_in_the_loss_and_no_sample_has_a_place(name, network):
    """Hidden layers to which targets are sent do not see the loss, but targets with their weights."""
    here = case(name, network)
    found, order = here.run(), np.array([2, 0, 1])
    permuted = here.run(here.inputs[:, order], TARGETS[:, order])
    assert worst(permuted.gradients, found.gradients) < EXACT
    double = here.run(targets=TARGETS * np.where(np.arange(TARGETS.shape[-1]) < TARGETS.shape[-1] - 1, 1, 2))
    last = slice(-1, None) if isinstance(getattr(here.rule, "route", None), Target) else slice(None)
    twice = [{name: 2 * part for name, part in layer.items()} for layer in found.gradients]
    assert abs(double.loss / found.loss - 2) < EXACT
    assert worst(double.gradients[last], twice[last]) < EXACT
    silent = here.run(0 * here.inputs).gradients[0]
    assert not silent["kernel"].any() and silent["bias"].any()


@once
def test_windows_change_nothing(name, network):
    """Of the length of several, with a shorter one at the end, of one step, and the default."""
    here = case(name, network)
    found = here.run()
    for window in (4, None):
        other = here.run(mask=None, window=window)
        assert abs(other.loss / found.loss - 1) < EXACT
        assert worst(other.gradients, found.gradients) < EXACT
