"""The oracle against truths that do not need it: a simulation in scalars, finite differences, sums by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from oracle import (
    ALIF,
    LI,
    LIF,
    CuBaLIF,
    Dense,
    Layer,
    arctan,
    bptt,
    fast_sigmoid,
    forward,
    forward_step,
    linear,
    multi_gaussian,
    ostl,
    otpe,
    ottt,
    rtrl,
    series,
    smooth,
    softmax_cross_entropy,
)
from small_networks import (
    EDGES,
    LABELS,
    NEURONS,
    SIGNAL,
    B,
    T,
    alif,
    changed,
    cuba,
    depth,
    lif,
    network,
    spikes,
)


def simulate(layers, inputs, labels, held=None):
    """The mean loss of a network, neuron by neuron in scalars; returns it with the outputs and the spikes.

    With `held`, spikes of another run, a detached reset uses these in place of its own: what it is a constant of.
    """
    losses, record, outputs = [], {}, []
    states = {}
    for t, b in itertools.product(range(len(inputs)), range(inputs.shape[1])):
        x = list(inputs[t, b])
        for index, layer in enumerate(layers):
            y = []
            for j in range(layer.size):
                current = _weighted_sum(layer.kernel, layer.bias, x, j)
                for edge in layer.edges:
                    sent = [record.get((t - edge.delay, b, edge.sender, i), 0.0) for i in range(edge.kernel.shape[0])]
                    current += _weighted_sum(edge.kernel, edge.bias, sent, j)
                parameter = {
                    name: float(np.broadcast_to(getattr(layer.neuron, name), (layer.size,))[j])
                    for name in layer.neuron.parameters
                }
                old = states.get((b, index, j), (0.0, 0.0))
                key = (t, b, index, j)
                states[b, index, j], output = _neuron(layer.neuron, parameter, old, current, held and held[key])
                record[key] = output
                y.append(output)
            x = y
        outputs.append(x)
        log_sum = max(x) + math.log(sum(math.exp(value - max(x)) for value in x))
        losses.append(log_sum - x[labels[b]])
    return sum(losses) / len(losses), np.reshape(outputs, (*inputs.shape[:2], -1)), record


def _weighted_sum(kernel, bias, x, j):
    return (0.0 if bias is None else float(bias[j])) + sum(x[i] * float(kernel[i, j]) for i in range(len(x)))


def _neuron(neuron, p, old, current, held):
    if isinstance(neuron, Dense):
        return (0.0, 0.0), current
    if isinstance(neuron, LI):
        u = p["decay"] * old[0] + current
        return (u, 0.0), u
    synaptic = p["current_decay"] * old[1] + current if isinstance(neuron, CuBaLIF) else current
    v = p["decay"] * old[0] + synaptic
    adaptation = p["adaptation"] * old[1] if isinstance(neuron, ALIF) else 0.0
    s = float(neuron.spike.value(np.float64(v - p["threshold"] - adaptation)))
    in_reset = held if neuron.stop_reset_gradient and held is not None else s
    reset = getattr(neuron, "reset", "subtract")
    u = {"subtract": v - p["threshold"] * in_reset, "zero": v * (1 - in_reset), "none": v}[reset]
    second = p["adaptation_decay"] * old[1] + s if isinstance(neuron, ALIF) else synaptic
    return (u, second), s


def networks():
    return [
        *(pytest.param([neuron, neuron], [], id=name) for name, neuron in NEURONS.items()),
        pytest.param([lif(), Dense()], [(0, 0, 1)], id="no neuron"),
        *(
            pytest.param([lif("zero"), alif(), cuba()][: depth(edges)], edges, id=f"edges {name}")
            for name, edges in EDGES.items()
        ),
    ]


@pytest.mark.parametrize(("neurons", "edges"), networks())
def test_forward_pass_is_that_of_a_scalar_simulation(neurons, edges):
    layers = network(*neurons, edges=edges)
    _, outputs, _ = simulate(layers, spikes(), LABELS)
    result = bptt(layers, spikes(), SIGNAL)
    np.testing.assert_allclose(result.outputs, outputs, atol=1e-12)
    assert np.mean(series(forward(layers, spikes()), "output", layer=0) != 0) > 0.05  # the network is not silent


@pytest.mark.parametrize(("neurons", "edges"), [p for p in networks() if p.id not in ("lif-none-detached", "dense")])
def test_bptt_equals_finite_differences_of_a_smooth_stand_in(neurons, edges):
    layers = [
        replace(layer, neuron=replace(layer.neuron, spike=smooth(2.0))) if hasattr(layer.neuron, "spike") else layer
        for layer in network(*neurons, sizes=[2, 3, 2, 2][: len(neurons) + 1], edges=edges)
    ]
    inputs, labels, step = spikes(steps=4, batch=2, n=2), np.array([0, 1]), 1e-4
    loss, _, held = simulate(layers, inputs, labels)
    result = bptt(layers, inputs, softmax_cross_entropy(labels))
    np.testing.assert_allclose(result.loss, loss)
    for index, gradients in enumerate(result.gradients):
        for name, gradient in gradients.items():
            for place in np.ndindex(np.shape(gradient)):
                up, down = (
                    simulate(changed(layers, index, name, place, sign * step), inputs, labels, held)[0]
                    for sign in (1, -1)
                )
                assert abs((up - down) / (2 * step) - gradient[place]) < 1e-7, (index, name, place)


@pytest.mark.parametrize("name", NEURONS)
def test_two_halves_of_a_neuron_make_its_step(name):
    (layer,) = network(NEURONS[name], sizes=[7, 4])
    for (step,) in forward([layer], spikes()):
        halves = layer.unit_neuron().halves(step)
        np.testing.assert_allclose(np.einsum("bns,bnsr->bnr", halves.fired, halves.A), step.o, atol=1e-15)
        np.testing.assert_allclose((halves.fired * halves.b).sum(axis=-1), step.psi, atol=1e-15)
        for parameter, ds in step.ds.items():
            through_states = (halves.fired * halves.dm.get(parameter, 0.0)).sum(axis=-1)
            np.testing.assert_allclose(through_states + halves.ds.get(parameter, 0.0), ds, atol=1e-15)


def test_first_half_of_a_neuron_is_its_step_without_firing():
    for name in ("lif-none-detached", "cuba-subtract-detached", "li"):
        (layer,) = network(NEURONS[name], sizes=[7, 4])
        (step,) = forward_step([layer], [np.zeros((B, 4, layer.neuron.n_states))], spikes()[0])
        halves = layer.unit_neuron().halves(step)
        np.testing.assert_allclose(halves.F @ halves.A, step.D, atol=1e-15)
        np.testing.assert_allclose(halves.b, step.d, atol=1e-15)


def test_cross_entropy_has_its_derivative():
    logits = np.random.default_rng(0).normal(size=(3, 4))
    losses, derivatives = SIGNAL(0, logits)
    for b, c in np.ndindex(3, 4):
        shift = np.zeros((3, 4))
        shift[b, c] = 1e-5
        difference = (SIGNAL(0, logits + shift)[0] - SIGNAL(0, logits - shift)[0]) / 2e-5
        expected = np.zeros(3)
        expected[b] = derivatives[b, c]
        np.testing.assert_allclose(difference, expected, atol=1e-9)
    np.testing.assert_allclose(
        np.exp(-losses), (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[range(3), LABELS]
    )


def test_labels_may_change_from_step_to_step():
    labels = np.random.default_rng(0).integers(0, 4, (T, B))
    outputs = np.random.default_rng(1).normal(size=(B, 4))
    for t in range(T):
        for a, b in zip(
            softmax_cross_entropy(labels)(t, outputs), softmax_cross_entropy(labels[t])(0, outputs), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("spike", "peak", "integral"),
    [(fast_sigmoid(25), 1, 2 / 25), (arctan(2), 1, 1), (arctan(3), 1.5, 1), (multi_gaussian(), 0.7319, 0.425)],
)
def test_surrogates_have_their_peak_and_integral(spike, peak, integral):
    # Substituting x = y / (1 - y^2) brings the whole line to (-1, 1).
    y = np.linspace(-1, 1, 400_002)[1:-1]
    x, dx = y / (1 - y**2), (1 + y**2) / (1 - y**2) ** 2
    np.testing.assert_allclose(spike.derivative(np.float64(0)), peak, atol=5e-5)
    np.testing.assert_allclose(np.sum(spike.derivative(x) * dx) * (y[1] - y[0]), integral, rtol=1e-4)
    np.testing.assert_array_equal(spike.derivative(x), spike.derivative(-x))
    np.testing.assert_array_equal(spike.value(np.array([-1e-9, 0.0, 1e-9])), [0, 1, 1])


def test_two_steps_of_one_neuron_by_hand():
    # psi(x) = 1 / (|x| + 1)^2. v: 1.5, then 0.5 (1.5 - 1) + 0.25 = 0.5; spikes 1, 0; psi = 1/1.5^2 = 4/9 both times.
    # OSTL with the detached reset: eps = psi (0.5 E + x) = 4/9 (1.5, 0.75 + 0.25); the signal is 2, then 3.
    layers = [Layer([[1.0]], [0.0], LIF(0.5, 1.0, fast_sigmoid(1), "subtract", True))]
    inputs = np.array([1.5, 0.25]).reshape(2, 1, 1)
    signal = linear(np.array([2.0, 3.0]).reshape(2, 1, 1))
    for rule in (ostl, bptt, ottt, rtrl):
        result = rule(layers, inputs, signal)
        np.testing.assert_allclose(result.outputs.ravel(), [1, 0])
        np.testing.assert_allclose(result.gradients[0]["kernel"], [[4 / 9 * (2 * 1.5 + 3 * 1.0) / 2]])
        np.testing.assert_allclose(result.gradients[0]["bias"], [4 / 9 * (2 * 1 + 3 * 1.5) / 2])
        # decay: eps = psi (0, u_1 = 0.5); threshold: eps = psi (-1, 0.5 (-s_1) - 1).
        np.testing.assert_allclose(result.gradients[0]["decay"], 4 / 9 * 3 * 0.5 / 2)
        np.testing.assert_allclose(result.gradients[0]["threshold"], 4 / 9 * (2 * -1 + 3 * -1.5) / 2)
    # Differentiated: du_1/dw = (1 - psi) 1.5 = 5/9 1.5, so eps_2 = 4/9 (0.5 5/9 1.5 + 0.25).
    layers = [replace(layers[0], neuron=replace(layers[0].neuron, stop_reset_gradient=False))]
    for rule in (ostl, bptt, rtrl):
        gradient = rule(layers, inputs, signal).gradients[0]["kernel"]
        np.testing.assert_allclose(gradient, [[4 / 9 * (2 * 1.5 + 3 * (0.5 * 5 / 9 * 1.5 + 0.25)) / 2]])


def test_unknown_reset_and_unfit_neurons_are_refused():
    with pytest.raises(ValueError, match="reset must be"):
        forward(network(lif("hard")), spikes())
    with pytest.raises(ValueError, match="one decay for the whole layer, got 4"):
        otpe(network(lif(), None), spikes(), SIGNAL)
