"""Where a local rule is BPTT, where it is another rule, and where it must not be: on the packages themselves.

Where two must differ, the smallest deviation over all kernels of the layer is asserted, so that no identity holds for want of
what it is about.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from rules.ledger import LABELS, B, alif, cuba_lif, lif
from slax_neurons import SpikingNeuron, boxcar, connect
from slax_neurons.neurons.cuba_lif import CuBaLIFState
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    OTTT,
    SLTT,
    TBPTT,
    ApproximateOTPE,
    EProp,
    PPProp,
    cross_entropy,
    gradients,
)
from stacks import deviation, gradients_of, inputs, pair, worst

T = 10
SAME, DIFFERENT = 1e-11, 0.1
EXACT = BPTT()
LI = {"kind": "li"}
DENSE = {"kind": "none"}
DETACHED = {"stop_reset_gradient": True}
LOCAL = {
    "ostl": OSTL(),
    "ostl_with_recurrence": OSTL(recurrence=True),
    "otpe": OTPE(),
    "approximate_otpe": ApproximateOTPE(),
    "ottt": OTTT(),
    "sltt": SLTT(),
    "e_prop": EProp(),
}


def of(model, rule=EXACT, x=None, window=None):
    x = inputs(T, B, 7) if x is None else x
    return gradients_of(model, gradients(model, cross_entropy, x, LABELS, rule=rule, window=window)[1])


def distance(ours, theirs, layer):
    """The deviation of the kernel of a layer."""
    return deviation(ours[layer]["kernel"], theirs[layer]["kernel"])


def net(*neurons, edges=(), surrogate=None):
    options = {} if surrogate is None else {"surrogate": surrogate}
    sizes = {1: [7, 4], 2: [7, 6, 4], 3: [7, 6, 5, 4]}[len(neurons)]
    spiking = [neuron if neuron["kind"] in ("li", "none") else neuron | options for neuron in neurons]
    return pair(sizes, spiking, edges=list(edges)).model


# ------------------------------------------------------------------------------------------------------------ OSTL and OTTT


def test_ostl_is_exact_in_the_last_layer_and_not_below(x64):
    for last in (lif(), cuba_lif(reset="zero"), LI):
        model = net(lif(), last)
        online, exact = of(model, OSTL()), of(model)
        assert worst(online[1:], exact[1:]) < SAME
        assert distance(online, exact, 0) > DIFFERENT


def test_ottt_is_ostl_where_no_gradient_passes_the_reset(x64):
    """In all layers and parameters, and so exact in the last layer."""
    model = net(lif(**DETACHED), lif(decay=0.6, **DETACHED), LI)
    trace, eligibility, exact = of(model, OTTT()), of(model, OSTL()), of(model)
    assert worst(trace, eligibility) < SAME
    assert worst(trace[2:], exact[2:]) < SAME
    assert min(distance(trace, exact, layer) for layer in (0, 1)) > DIFFERENT


@pytest.mark.parametrize("last", [lif(), lif(reset="zero", **DETACHED)], ids=["through a soft reset", "zero"])
def test_ottt_is_not_exact_in_the_last_layer_where_the_reset_has_a_gradient_or_is_to_zero(last, x64):
    model = net(lif(), last, surrogate="arctan")
    online, exact = of(model, OTTT()), of(model)
    assert distance(online, exact, 1) > DIFFERENT
    assert worst(of(model, OSTL())[1:], exact[1:]) < SAME


class Delayed(SpikingNeuron):
    """A LIF whose current, a leaky sum of inputs, arrives one step late: no input reaches a spike within its step."""

    carry_type = CuBaLIFState
    linear = True

    def integrate(self, carry, inputs):
        return CuBaLIFState(0.7 * carry[0] + inputs, 0.9 * carry[1] + carry[0])

    def fire(self, membrane):
        after, spikes = self.spike(membrane[1])
        return CuBaLIFState(membrane[0], after), spikes


@pytest.mark.parametrize("bias_trace", [True, False])
def test_ottt_and_approximate_otpe_take_a_neuron_whose_current_arrives_late(bias_trace, x64):
    given = {"reset": "subtract", "stop_reset_gradient": True, "param_dtype": jnp.float64}
    model = net(lif(**DETACHED), LI)
    model = connect([model.modules[0], Delayed(threshold=0.7, **given), model.modules[2], model.modules[3]])
    eligibility, exact = of(model, OSTL()), of(model)
    trace = of(model, OTTT(bias_trace=bias_trace))
    assert distance(trace, eligibility, 0) < SAME
    assert np.any(trace[0]["bias"]) == bias_trace  # without a trace nothing of it is left
    summed = of(model, ApproximateOTPE(bias_trace=bias_trace))
    assert distance(summed, exact, 1) < SAME
    assert np.any(summed[0]["kernel"])


@pytest.mark.parametrize("rule", [*LOCAL, "pp_prop"])
def test_every_rule_is_exact_for_one_layer_in_a_sequence_of_one_step(rule, x64):
    """Of the layer's own parameters too."""
    model = pair([7, 4], [cuba_lif(fixed=rule == "pp_prop", **DETACHED)]).model
    if rule in ("otpe", "approximate_otpe", "e_prop"):
        assert worst(of(model, LOCAL[rule]), of(model, OTTT() if rule == "approximate_otpe" else OSTL())) == 0
    x = inputs(1, B, 7)
    online, exact = (of(model, one, x) for one in ((LOCAL | {"pp_prop": PPProp()})[rule], BPTT()))
    assert worst(online, exact) < SAME
    assert np.any(exact[0]["kernel"])


def test_a_bias_without_trace_is_not_exact(x64):
    model = net(lif(**DETACHED), LI)
    online, exact = of(model, OTTT(bias_trace=False)), of(model)
    assert deviation(online[1]["bias"], exact[1]["bias"]) > 0.5
    assert distance(online, exact, 1) < SAME
    assert worst(of(model, OTTT())[1:], exact[1:]) < SAME


# -------------------------------------------------------------------------------------------------------------------- OTPE


@pytest.mark.parametrize("last", [lif(decay=0.6, **DETACHED), LI], ids=["soft reset", "LI"])
def test_otpe_is_exact_in_the_last_two_layers_above_any_others(last, x64):
    """Whatever the reset below, and with decays that differ; not in the third layer from above."""
    model = net(lif(reset="zero"), cuba_lif(), last)
    online, exact = of(model, OTPE()), of(model)
    assert worst(online[1:], exact[1:]) < SAME
    assert distance(online, exact, 0) > DIFFERENT


def test_otpe_is_not_exact_below_a_reset_with_a_gradient(x64):
    model = net(lif(), lif(), surrogate="arctan")
    online, exact = of(model, OTPE()), of(model)
    assert worst(online[1:], exact[1:]) < SAME
    assert distance(online, exact, 0) > DIFFERENT


def test_otpe_with_the_layer_s_own_decay_is_not_exact(x64):
    model = net(lif(decay=0.5), lif(decay=0.9, **DETACHED))
    exact = of(model)
    assert worst(of(model, OTPE()), exact) < SAME
    assert distance(of(model, OTPE(output_decay=0.5)), exact, 0) > DIFFERENT


def test_without_a_decay_above_otpe_and_e_prop_are_ostl_and_approximate_otpe_is_ottt(x64):
    model = net(lif(), cuba_lif(), LI)
    eligibility = of(model, OSTL())
    assert worst(of(model, OTPE(output_decay=0.0)), eligibility) < SAME
    assert worst(of(model, EProp(output_decay=0.0)), eligibility) < SAME
    assert worst(of(model, ApproximateOTPE(output_decay=0.0)), of(model, OTTT())) < SAME


@pytest.mark.parametrize("same", [True, False])
def test_approximate_otpe_is_otpe_where_the_surrogate_is_constant(same, x64):
    """T7a of the rules. A box that is wider than all potentials has one slope; reset without a gradient."""
    model = net(lif(**DETACHED), lif(decay=0.6, **DETACHED))
    for neuron in (model.modules[1], model.modules[3]):
        neuron.spike_fn = boxcar(width=1e3 if same else 0.5, height=0.3)
    approximate, exact = of(model, ApproximateOTPE()), of(model, OTPE())
    assert worst(approximate[1:], exact[1:]) < SAME
    assert distance(approximate, exact, 0) < SAME if same else distance(approximate, exact, 0) > DIFFERENT


def test_approximate_otpe_is_otpe_where_the_input_trace_is_constant(x64):
    """x_t = (1 - decay) x_1 for t > 1. For the kernel of the first layer; reset without a gradient."""
    model = net(lif(decay=0.8, **DETACHED), lif(decay=0.6, **DETACHED))
    first = inputs(1, B, 7)
    x = jnp.concatenate([first, jnp.broadcast_to(0.2 * first, (T - 1, B, 7))])
    assert distance(of(model, ApproximateOTPE(), x), of(model, OTPE(), x), 0) < SAME
    assert distance(of(model, ApproximateOTPE()), of(model, OTPE()), 0) > DIFFERENT


def test_approximate_otpe_sends_the_signal_of_otpe_down(x64):
    """Two of three layers under the one or the other: the first layer, under SLTT, gets the same."""
    model = net(lif(), lif(decay=0.6, **DETACHED), LI)
    rules = ([SLTT(), OTPE(), OSTL()], [SLTT(), ApproximateOTPE(), OTTT()])
    found = [of(model, rule) for rule in rules]
    assert worst(*(layers[:1] for layers in found)) < SAME
    assert distance(*found, 1) > DIFFERENT


# ------------------------------------------------------------------------------------------------------------------ e-prop


def test_e_prop_is_exact_below_a_read_out_that_integrates_but_for_recurrent_spikes(x64):
    """A wide surrogate, so that much would pass over the recurrent weights."""
    without, recurrent = (net(lif(), LI, edges=edges, surrogate="arctan") for edges in ([], [(0, 0, 1)]))
    assert worst(of(without, EProp()), of(without)) < SAME
    online, exact = of(recurrent, EProp()), of(recurrent)
    assert worst(online[1:], exact[1:]) < SAME
    assert deviation(online[0]["edge0_kernel"], exact[0]["edge0_kernel"]) > 0.05


def test_e_prop_is_exact_where_the_recurrent_weights_are_zero(x64):
    model = net(lif(), LI, edges=[(0, 0, 1)], surrogate="arctan")
    model.synapses[0].kernel[...] = jnp.zeros_like(model.synapses[0].kernel[...])
    online, exact = of(model, EProp()), of(model)
    assert worst(online, exact) < SAME
    assert np.any(exact[0]["edge0_kernel"])


def test_e_prop_sums_as_otpe_and_sends_down_as_ostl(x64):
    """So the last hidden layer is that of OTPE, and the one below it is not."""
    model = net(lif(), lif(decay=0.6), LI)
    filtered, summed = of(model, EProp()), of(model, OTPE())
    assert worst(filtered[1:], summed[1:]) < SAME
    assert distance(filtered, summed, 0) > DIFFERENT


# ------------------------------------------------------------------------------------------------------------ SLTT, all rules


def test_sltt_is_truncation_to_one_step(x64):
    model = net(lif(), alif(), LI, edges=[(0, 0, 1), (0, 2, 0)])
    online = of(model, SLTT())
    assert worst(online, of(model, TBPTT(steps=1))) < SAME
    assert distance(online, of(model), 2) > DIFFERENT


def test_pp_prop_without_a_decay_is_sltt(x64):
    model = pair([7, 6, 4], [lif(fixed=True), lif(fixed=True)]).model
    assert worst(of(model, PPProp(decay=0.0)), of(model, SLTT())) < SAME
    assert distance(of(model, PPProp(decay=0.8)), of(model, SLTT()), 1) > DIFFERENT


@pytest.mark.parametrize("rule", LOCAL)
def test_without_memory_every_rule_is_exact(rule, x64):
    """A decay of 0 as nearly as a logit can say; it has no gradient here."""
    model = pair([7, 6, 4], [lif(decay=1e-14, fixed=True), {"kind": "li", "decay": 1e-14, "fixed": True}]).model
    online, exact = of(model, LOCAL[rule]), of(model)
    assert worst(online, exact) < SAME


@pytest.mark.parametrize("rule", ["ostl", "otpe"])
def test_a_hidden_layer_differs_from_bptt_at_every_window(rule, x64):
    """At the whole sequence too: reverse mode through the net would be BPTT there, and no rule."""
    model = net(lif(), lif(decay=0.6), lif(decay=0.9))
    exact = of(model)
    for window in (2, T):
        assert distance(of(model, LOCAL[rule], window=window), exact, 0) > DIFFERENT


def test_a_hidden_layer_below_layers_without_memory_is_exact(x64):
    model = net(alif(), DENSE)
    assert worst(of(model, OSTL()), of(model)) < SAME
