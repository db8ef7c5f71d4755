"""OTTT, OTPE and its approximation, pp-prop: rules whose eligibilities are decayed sums."""

from dataclasses import replace

import numpy as np
import pytest

from oracle import SpikeFunction, approximate_otpe, bptt, forward, heaviside, ostl, otpe, ottt, pp_prop, series, sltt
from small_networks import (
    DETACHED,
    EDGES,
    EXACT,
    FIRST,
    HIDDEN,
    LAST,
    LAST_TWO,
    NEURONS,
    SELF,
    SIGNAL,
    B,
    T,
    alif,
    cuba,
    dense,
    depth,
    deviation,
    li,
    lif,
    network,
    spikes,
    without_neuron_parameters,
)

# ------------------------------------------------------------------------------------------------------------ T5: OTTT


@pytest.mark.parametrize(
    "neurons",
    [(DETACHED,), (DETACHED, DETACHED), (DETACHED, DETACHED, DETACHED), (DETACHED, li()), (lif(reset="none"), dense())],
)
def test_t5a_t5b_ottt_is_ostl_without_a_gradient_through_resets(neurons):
    layers, inputs = network(*neurons), spikes()
    result = ottt(layers, inputs, SIGNAL)
    assert deviation(result, ostl(layers, inputs, SIGNAL)) < EXACT
    assert deviation(result, bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


@pytest.mark.parametrize("hidden", [lif(), lif("zero"), lif("zero", True)])
def test_t5e_ottt_is_bptt_in_a_last_layer_that_integrates(hidden):
    layers, inputs = network(hidden, li()), spikes()
    assert deviation(ottt(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


@pytest.mark.parametrize("last", [lif(), lif("zero"), lif("zero", True)], ids=["subtract", "zero", "zero-detached"])
def test_t5c_ottt_is_not_bptt_with_other_resets(last):
    layers, inputs = network(lif(), last), spikes()
    a, b = ottt(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)
    assert deviation(a, b, layers=LAST, names=["kernel"]) > 0.1


def test_t5d_without_its_trace_the_bias_is_not_exact():
    layers, inputs = network(DETACHED), spikes()
    a, b = ottt(layers, inputs, SIGNAL, bias_trace=False), bptt(layers, inputs, SIGNAL)
    assert deviation(a, b, names=["bias"]) > 0.5
    assert deviation(a, b, names=["kernel", "decay", "threshold"]) < EXACT
    present = sltt(layers, inputs, SIGNAL)
    assert deviation(a, present, names=["bias"]) < EXACT


# ------------------------------------------------------------------------------------------------- T6, T7: OTPE


@pytest.mark.parametrize("decay", [0.8, 0.55])
@pytest.mark.parametrize("hidden", [name for name in NEURONS if name != "dense"])
@pytest.mark.parametrize("last", ["detached", "li"])
def test_t6a_t6b_otpe_is_bptt_in_two_layers(hidden, last, decay):
    above = lif(stop=True, decay=decay) if last == "detached" else li(decay)
    layers, inputs = network(NEURONS[hidden], above), spikes()
    assert deviation(otpe(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("middle", ["lif-subtract-diff", "lif-zero-diff", "cuba-zero-detached", "alif-diff"])
def test_t6c_t6d_otpe_is_bptt_in_the_last_two_layers_only(middle):
    inputs = spikes()
    for last in (DETACHED, li(0.6)):
        layers = network(lif(), NEURONS[middle], last)
        a, b = otpe(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)
        assert deviation(a, b, layers=LAST_TWO) < EXACT
        assert deviation(a, b, layers=FIRST) > 0.1


@pytest.mark.parametrize("last", [lif(), lif("zero")])
def test_t6e_otpe_is_not_bptt_below_a_differentiated_reset(last):
    layers, inputs = network(lif(), last), spikes()
    assert deviation(otpe(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=HIDDEN) > 0.1


def test_t6f_otpe_with_its_own_decay_is_not_bptt():
    layers, inputs = network(lif(decay=0.9), lif(stop=True, decay=0.5)), spikes()
    own = otpe(layers, inputs, SIGNAL, next_decay=lambda layer, above: layer.neuron.decay)
    assert deviation(own, bptt(layers, inputs, SIGNAL), layers=HIDDEN) > 0.1


def test_t6g_otpe_without_a_postsynaptic_memory_is_ostl():
    layers, inputs = network(lif(), None, lif("zero")), spikes()
    without = otpe(layers, inputs, SIGNAL, next_decay=lambda layer, above: 0.0)
    assert deviation(without, ostl(layers, inputs, SIGNAL)) == 0


def decayed_sums(values, decay):
    """sum over k <= t of decay^(t - k) values[k], without a recursion."""
    return np.stack([sum(decay ** (t - k) * values[k] for k in range(t + 1)) for t in range(len(values))])


@pytest.mark.parametrize("bias_trace", [True, False])
def test_otpe_and_its_approximation_are_their_explicit_sums(bias_trace):
    # The first of three layers, where nothing is exact, with three decays.
    layers = network(lif(decay=0.9), lif(decay=0.7, stop=True), lif(decay=0.6))
    inputs = spikes()
    history = forward(layers, inputs)
    psi = [series(history, "psi", layer=depth) for depth in range(3)]
    signal = np.stack([SIGNAL(t, steps[-1].output)[1] / (T * B) for t, steps in enumerate(history)])
    signal = (signal * psi[2]) @ layers[2].kernel.T
    mean_psi = [
        decayed_sums(psi[depth], k) / decayed_sums(np.ones(T), k)[:, None, None] for depth, k in ((0, 0.7), (1, 0.6))
    ]
    signal = (signal * mean_psi[1]) @ layers[1].kernel.T

    a = decayed_sums(inputs, 0.9)
    z = decayed_sums(a, 0.7)
    kernel = np.einsum("tbj,tbj,tbi->ij", signal, mean_psi[0], z)
    c = decayed_sums(decayed_sums(np.ones(T), 0.9), 0.7) if bias_trace else np.ones(T)
    bias = np.einsum("tbj,tbj,t->j", signal, mean_psi[0], c)
    result = approximate_otpe(layers, inputs, SIGNAL, bias_trace=bias_trace).gradients[0]
    np.testing.assert_allclose(result["kernel"], kernel, rtol=1e-11)
    np.testing.assert_allclose(result["bias"], bias, rtol=1e-11)

    # With the membranes' own derivative in place of the decay, eps is exact: E_t = sum over k of the product of D.
    D = series(history, "D", layer=0)[..., 0, 0]
    d = series(history, "d", layer=0)[..., 0]
    eps = np.zeros((T, B, 7, 6))
    for t in range(T):
        eps[t] += inputs[t][:, :, None] * psi[0][t][:, None]
        for k in range(t):
            path = 0.9 * psi[0][t] * np.prod(D[k + 1 : t], axis=0) * d[k]
            eps[t] += inputs[k][:, :, None] * path[:, None]
    kernel = np.einsum("tbj,tbij->ij", signal, decayed_sums(eps, 0.7))
    np.testing.assert_allclose(otpe(layers, inputs, SIGNAL).gradients[0]["kernel"], kernel, rtol=1e-11)


def test_t7a_approximation_is_otpe_if_psi_is_constant():
    constant = SpikeFunction(heaviside, lambda x: 0.3 * np.ones_like(x))
    neurons = [replace(lif(stop=True, decay=decay), spike=constant) for decay in (0.9, 0.7, 0.6)]
    layers, inputs = network(*neurons), spikes()
    assert deviation(approximate_otpe(layers, inputs, SIGNAL), otpe(layers, inputs, SIGNAL)) < EXACT


def test_t7b_approximation_is_otpe_if_the_input_traces_are_constant():
    layers = network(lif(stop=True, decay=0.8), lif(stop=True, decay=0.6))
    inputs = np.repeat(spikes(steps=1) + 0.5, T, axis=0)
    inputs[1:] *= 1 - 0.8
    a, b = approximate_otpe(layers, inputs, SIGNAL), otpe(layers, inputs, SIGNAL)
    assert deviation(a, b, layers=FIRST, names=["kernel"]) < EXACT
    assert deviation(a, b, layers=FIRST, names=["bias"]) > 0.01


def test_t7c_approximation_is_not_otpe_otherwise():
    layers, inputs = network(DETACHED, DETACHED, DETACHED), spikes()
    a, b = approximate_otpe(layers, inputs, SIGNAL), otpe(layers, inputs, SIGNAL)
    assert deviation(a, b, layers=HIDDEN) > 0.05
    assert deviation(a, b, layers=LAST) < EXACT


# ------------------------------------------------------------------------------------------------- T5 to T7 with edges


@pytest.mark.parametrize("edges", EDGES)
def test_t5a_ottt_is_ostl_over_edges_too(edges):
    neurons = (DETACHED, lif(reset="none"), lif(stop=True, decay=0.6))[: depth(EDGES[edges])]
    layers, inputs = network(*neurons, edges=EDGES[edges]), spikes()
    assert deviation(ottt(layers, inputs, SIGNAL), ostl(layers, inputs, SIGNAL)) < EXACT


def test_t5d_without_its_trace_the_bias_of_an_edge_is_that_of_the_present_step():
    layers, inputs = network(DETACHED, DETACHED, edges=[SELF]), spikes()
    a, present = ottt(layers, inputs, SIGNAL, bias_trace=False), sltt(layers, inputs, SIGNAL)
    assert deviation(a, present, names=["bias", "edge0_bias"]) < EXACT
    assert deviation(a, ottt(layers, inputs, SIGNAL), names=["edge0_bias"]) > 0.1


# Without a cycle, what an edge brings into the last layer late is an input of it as good as any.
INTO_LAST = [[(0, 1, 2)], [(0, 1, 1), (0, 1, 4)]]


@pytest.mark.parametrize("edges", INTO_LAST)
@pytest.mark.parametrize("hidden", ["lif-subtract-diff", "lif-zero-detached", "cuba-zero-diff", "alif-diff"])
def test_t6a_otpe_is_bptt_of_what_no_late_edge_carries(hidden, edges):
    """The last layer with its edges is exact, the hidden layer is not, whose signal over late edges is dropped."""
    for last in (DETACHED, li(0.6)):
        layers, inputs = network(NEURONS[hidden], last, edges=edges), spikes()
        a, b = otpe(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)
        assert deviation(a, b, layers=LAST) < EXACT
        assert deviation(a, b, layers=FIRST) > 0.05


@pytest.mark.parametrize("hidden", ["lif-subtract-diff", "cuba-zero-diff", "alif-diff"])
def test_t6c_otpe_is_bptt_in_all_layers_that_feed_the_last_alone(hidden):
    """Each of two hidden layers reaches the last one within the step; the lower one over a skip, its chain cut."""
    for last in (DETACHED, li(0.6)):
        layers, inputs = network(NEURONS[hidden], lif(decay=last.decay), last, edges=[(0, 2, 0)]), spikes()
        layers[1].kernel[...] = 0
        a, b = otpe(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)
        assert deviation(a, b, layers=LAST_TWO) < EXACT
        assert deviation(a, b, layers=FIRST) < EXACT


@pytest.mark.parametrize("edges", EDGES)
def test_t7a_approximation_is_otpe_over_edges_if_psi_is_constant(edges):
    constant = SpikeFunction(heaviside, lambda x: 0.3 * np.ones_like(x))
    neurons = [replace(lif(stop=True, decay=decay), spike=constant) for decay in (0.9, 0.7, 0.6)]
    layers, inputs = network(*neurons[: depth(EDGES[edges])], edges=EDGES[edges]), spikes()
    assert deviation(approximate_otpe(layers, inputs, SIGNAL), otpe(layers, inputs, SIGNAL)) < EXACT


# --------------------------------------------------------------------------------------------- OTTT of several states


@pytest.mark.parametrize("reset", ["subtract", "none"])
def test_ottt_of_two_states_is_ostl_without_a_gradient_through_resets(reset):
    layers, inputs = (
        network(cuba(reset, True), cuba(reset, True), cuba(reset, True), edges=EDGES["everything"]),
        spikes(),
    )
    assert deviation(ottt(layers, inputs, SIGNAL), ostl(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("neurons", [(cuba(), cuba("zero")), (alif(), alif(True))])
def test_ottt_of_two_states_is_not_ostl_otherwise(neurons):
    layers, inputs = network(*neurons), spikes()
    assert deviation(ottt(layers, inputs, SIGNAL), ostl(layers, inputs, SIGNAL), names=["kernel"]) > 0.05


def test_ottt_of_two_states_is_its_explicit_sum():
    """The response of a membrane to one input: of CuBaLIF a difference of exponentials, of ALIF that of LIF."""
    layers, inputs = network(cuba("zero"), alif()), spikes()
    history = forward(layers, inputs)
    signal = np.stack([SIGNAL(t, steps[-1].output)[1] / (T * B) for t, steps in enumerate(history)])
    result = ottt(layers, inputs, SIGNAL).gradients
    psi = series(history, "psi", layer=1)
    a = decayed_sums(series(history, "output", layer=0), 0.8)
    np.testing.assert_allclose(result[1]["kernel"], np.einsum("tbj,tbj,tbi->ij", signal, psi, a), rtol=1e-11)
    signal = (signal * psi) @ layers[1].kernel.T
    response = [(0.7 ** (n + 1) - 0.5 ** (n + 1)) / (0.7 - 0.5) for n in range(T)]
    a = np.stack([sum(response[t - k] * inputs[k] for k in range(t + 1)) for t in range(T)])
    psi = series(history, "psi", layer=0)
    np.testing.assert_allclose(result[0]["kernel"], np.einsum("tbj,tbj,tbi->ij", signal, psi, a), rtol=1e-11)


def test_approximate_otpe_of_two_states_is_its_explicit_sum():
    layers, inputs = network(cuba("zero"), lif(decay=0.6)), spikes()
    history = forward(layers, inputs)
    signal = np.stack([SIGNAL(t, steps[-1].output)[1] / (T * B) for t, steps in enumerate(history)])
    signal = (signal * series(history, "psi", layer=1)) @ layers[1].kernel.T
    mean = decayed_sums(series(history, "psi", layer=0), 0.6) / decayed_sums(np.ones(T), 0.6)[:, None, None]
    response = [(0.7 ** (n + 1) - 0.5 ** (n + 1)) / (0.7 - 0.5) for n in range(T)]
    a = np.stack([sum(response[t - k] * inputs[k] for k in range(t + 1)) for t in range(T)])
    expected = np.einsum("tbj,tbj,tbi->ij", signal, mean, decayed_sums(a, 0.6))
    result = approximate_otpe(layers, inputs, SIGNAL).gradients[0]["kernel"]
    np.testing.assert_allclose(result, expected, rtol=1e-11)


def test_ottt_of_parameters_of_the_adaptation_is_their_explicit_sum():
    """At given spikes, a_t is the sum of rho^(t - k) s_k, and so is its derivative by rho without any membrane."""
    layers, inputs = network(alif()), spikes()
    history = forward(layers, inputs)
    s, psi = series(history, "output"), series(history, "psi")
    signal = np.stack([SIGNAL(t, steps[-1].output)[1] / (T * B) for t, steps in enumerate(history)])
    a, slope = np.zeros((2, T, B, 4))  # before each step
    for t in range(T):
        a[t] = sum((0.9 ** (t - 1 - k) * s[k] for k in range(t)), start=np.zeros((B, 4)))
        slope[t] = sum(((t - 1 - k) * 0.9 ** (t - 2 - k) * s[k] for k in range(t)), start=np.zeros((B, 4)))
    result = ottt(layers, inputs, SIGNAL).gradients[0]
    np.testing.assert_allclose(result["adaptation"], -(signal * psi * a).sum(), rtol=1e-11)
    np.testing.assert_allclose(result["adaptation_decay"], -0.3 * (signal * psi * slope).sum(), rtol=1e-11)


# ------------------------------------------------------------------------------------------------------------- pp-prop


@pytest.mark.parametrize("edges", EDGES)
def test_pp_prop_without_memory_is_sltt(edges):
    layers = without_neuron_parameters(network(*(lif(), alif(), cuba())[: depth(EDGES[edges])], edges=EDGES[edges]))
    inputs = spikes()
    assert deviation(pp_prop(layers, inputs, SIGNAL, decay=0.0), sltt(layers, inputs, SIGNAL)) < EXACT
    assert deviation(pp_prop(layers, inputs, SIGNAL, decay=0.5), sltt(layers, inputs, SIGNAL)) > 0.05


def test_pp_prop_of_one_step_is_bptt():
    layers, inputs = without_neuron_parameters(network(lif(), alif(), cuba(), edges=EDGES["skip"])), spikes(steps=1)
    assert deviation(pp_prop(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


def test_pp_prop_is_its_explicit_sum():
    layers, inputs, decay = without_neuron_parameters(network(lif("zero"))), spikes(), 0.7
    history = forward(layers, inputs)
    psi, D, d = (series(history, name) for name in ("psi", "D", "d"))
    signal = np.stack([SIGNAL(t, steps[-1].output)[1] / (T * B) for t, steps in enumerate(history)])
    ef = np.zeros((T, B, 4))
    for t in range(T):
        ef[t] = psi[t]
        for k in range(t):
            path = 0.8 * psi[t] * np.prod(D[k + 1 : t, ..., 0, 0], axis=0) * d[k, ..., 0]
            ef[t] += decay ** (t - k) * path
        ef[t] *= (1 - decay) / (1 - decay ** (t + 1))
    result = pp_prop(layers, inputs, SIGNAL, decay=decay).gradients[0]
    np.testing.assert_allclose(
        result["kernel"], np.einsum("tbj,tbj,tbi->ij", signal, ef, decayed_sums(inputs, decay)), rtol=1e-11
    )
    np.testing.assert_allclose(result["bias"], (signal * ef).sum(axis=(0, 1)), rtol=1e-11)


def test_pp_prop_refuses_parameters_of_a_neuron():
    with pytest.raises(ValueError, match="expected a neuron without parameters, got decay, threshold"):
        pp_prop(network(lif()), spikes(), SIGNAL)
