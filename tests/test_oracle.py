"""The oracle against truths that do not need it: finite differences, a scalar simulation, known identities of rules."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from oracle import (
    ALIF,
    LI,
    LIF,
    OSTL,
    CuBaLIF,
    Layer,
    SpikeFunction,
    advance,
    approximate_otpe,
    arctan,
    bptt,
    fast_sigmoid,
    forward,
    forward_step,
    heaviside,
    linear,
    multi_gaussian,
    ostl,
    otpe,
    ottt,
    rtrl,
    series,
    sltt,
    smooth,
    softmax_cross_entropy,
    start,
    tbptt,
)

T, B = 12, 3
LABELS = np.array([0, 3, 1])
EXACT = 1e-12
SPIKE = fast_sigmoid(slope=4)

RESETS = [(reset, stop) for reset in ("subtract", "zero", "none") for stop in (False, True)]


def lif(reset="subtract", stop=False, decay=0.8, threshold=1.0):
    return LIF(decay, threshold, SPIKE, reset, stop)


def cuba(reset="subtract", stop=False):
    return CuBaLIF(0.5, 0.7, 1.0, SPIKE, reset, stop)


def alif(stop=False):
    return ALIF(0.8, 0.9, 0.3, 1.0, SPIKE, stop)


def li(decay=0.8):
    return LI(decay)


def dense():
    return LI(0.0)


DETACHED = lif(stop=True)
NEURONS = {
    **{f"lif-{reset}-{'detached' if stop else 'diff'}": lif(reset, stop) for reset, stop in RESETS},
    **{f"cuba-{reset}-{'detached' if stop else 'diff'}": cuba(reset, stop) for reset, stop in RESETS[:4]},
    "alif-diff": alif(),
    "alif-detached": alif(True),
    "li": li(),
    "dense": dense(),
    "lif-per-neuron": None,  # see `network`
}
MEMORYLESS = {
    "lif": lif(decay=0.0),
    "lif-zero": lif("zero", decay=0.0),
    "li": dense(),
}


def network(*neurons, sizes=None, seed=0):
    """Random layers with 7 inputs and 4 outputs, in between 6 and 5; None is an LIF with parameters per neuron."""
    rng = np.random.default_rng(seed)
    sizes = sizes or [*[7, 6, 5, 4][: len(neurons)], 4]
    layers = []
    for neuron, n_in, n_out in zip(neurons, sizes[:-1], sizes[1:], strict=True):
        if neuron is None:
            neuron = lif(decay=rng.uniform(0.5, 0.95, n_out), threshold=rng.uniform(0.7, 1.3, n_out))
        kernel = rng.normal(0.3, 1.0, (n_in, n_out)) / np.sqrt(n_in)
        layers.append(Layer(kernel * 1.5, rng.normal(0.1, 0.1, n_out), neuron))
    return layers


def spikes(seed=1, steps=T, batch=B, n=7):
    return (np.random.default_rng(seed).uniform(size=(steps, batch, n)) < 0.4).astype(float)


SIGNAL = softmax_cross_entropy(LABELS)


def deviation(a, b, *, layers=slice(None), names=None):
    """max |a - b| / max |b| over the parameters of the layers."""
    pairs = [
        (x[name], y[name])
        for x, y in zip(a.gradients[layers], b.gradients[layers], strict=True)
        for name in y
        if names is None or name in names
    ]
    assert pairs
    largest = max(np.max(np.abs(y)) for _, y in pairs)
    assert largest > 0
    return max(np.max(np.abs(x - y)) for x, y in pairs) / largest


FIRST, LAST, HIDDEN = slice(0, 1), slice(-1, None), slice(0, -1)
LAST_TWO = slice(-2, None)


# ------------------------------------------------------------------------------------------------- independent truths


def simulate(layers, inputs, labels, held=None):
    """The mean loss of a network, neuron by neuron in scalars; returns it with the outputs and the spikes.

    With `held`, spikes of another run, a detached reset uses these in place of its own: what it is a constant of.
    """
    losses, record, outputs = [], {}, []
    states = {}
    for t, b in itertools.product(range(len(inputs)), range(inputs.shape[1])):
        x = list(inputs[t, b])
        for depth, layer in enumerate(layers):
            y = []
            for j in range(layer.bias.size):
                current = float(layer.bias[j]) + sum(x[i] * float(layer.kernel[i, j]) for i in range(len(x)))
                parameter = {
                    name: float(np.broadcast_to(value, layer.bias.shape)[j])
                    for name, value in layer.parameters().items()
                    if name not in ("kernel", "bias")
                }
                old = states.get((b, depth, j), (0.0, 0.0))
                key = (t, b, depth, j)
                states[b, depth, j], output = _neuron(layer.neuron, parameter, old, current, held and held[key])
                record[key] = output
                y.append(output)
            x = y
        outputs.append(x)
        log_sum = max(x) + math.log(sum(math.exp(value - max(x)) for value in x))
        losses.append(log_sum - x[labels[b]])
    return sum(losses) / len(losses), np.reshape(outputs, (*inputs.shape[:2], -1)), record


def _neuron(neuron, p, old, current, held):
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


@pytest.mark.parametrize("name", NEURONS)
def test_forward_pass_is_that_of_a_scalar_simulation(name):
    layers = network(NEURONS[name], NEURONS[name])
    _, outputs, _ = simulate(layers, spikes(), LABELS)
    result = bptt(layers, spikes(), SIGNAL)
    np.testing.assert_allclose(result.outputs, outputs, atol=1e-12)
    assert np.mean(series(forward(layers, spikes()), "output", layer=0) != 0) > 0.05  # the network is not silent


def changed(layers, depth, name, index, step):
    def shifted(value):
        value = np.array(value)
        value[index] += step
        return value

    layer = layers[depth]
    if name in ("kernel", "bias"):
        layer = replace(layer, **{name: shifted(getattr(layer, name))})
    else:
        layer = replace(layer, neuron=replace(layer.neuron, **{name: shifted(getattr(layer.neuron, name))}))
    return [*layers[:depth], layer, *layers[depth + 1 :]]


@pytest.mark.parametrize("name", [name for name in NEURONS if name not in ("lif-none-detached", "dense")])
def test_bptt_equals_finite_differences_of_a_smooth_stand_in(name):
    neuron = NEURONS[name]
    layers = network(neuron, neuron, sizes=[2, 3, 2])
    layers = [
        layer if isinstance(layer.neuron, LI) else replace(layer, neuron=replace(layer.neuron, spike=smooth(2.0)))
        for layer in layers
    ]
    inputs, labels, step = spikes(steps=4, batch=2, n=2), np.array([0, 1]), 1e-4
    loss, _, held = simulate(layers, inputs, labels)
    result = bptt(layers, inputs, softmax_cross_entropy(labels))
    np.testing.assert_allclose(result.loss, loss)
    for depth, gradients in enumerate(result.gradients):
        for parameter, gradient in gradients.items():
            for index in np.ndindex(np.shape(gradient)):
                up, down = (
                    simulate(changed(layers, depth, parameter, index, sign * step), inputs, labels, held)[0]
                    for sign in (1, -1)
                )
                assert abs((up - down) / (2 * step) - gradient[index]) < 1e-7, (depth, parameter, index)


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
    with pytest.raises(ValueError, match="one state, got ALIF"):
        ottt(network(alif()), spikes(), SIGNAL)
    with pytest.raises(ValueError, match="one decay for the whole layer, got 4"):
        otpe(network(lif(), None), spikes(), SIGNAL)


# ------------------------------------------------------------------------------------------------- T1: RTRL, T9: TBPTT


def stacks():
    """One, two and three layers of each neuron, and mixed ones."""
    return [
        *(pytest.param([n] * depth, id=f"{depth} {name}") for name, n in NEURONS.items() for depth in (1, 2, 3)),
        pytest.param([lif(), alif(), li()], id="lif alif li"),
        pytest.param([cuba(), lif("zero"), dense()], id="cuba lif dense"),
        pytest.param([None, cuba("zero"), lif()], id="per-neuron cuba lif"),
    ]


def two_layer_stacks():
    return [pytest.param(neuron, last, id=f"{a} {b}") for (a, neuron), (b, last) in _pairs()]


def _pairs():
    hidden = [item for item in NEURONS.items() if item[0] in ("lif-subtract-diff", "lif-zero-diff", "cuba-zero-diff")]
    hidden += [item for item in NEURONS.items() if item[0] in ("alif-diff", "lif-subtract-detached", "lif-per-neuron")]
    return itertools.product(hidden, NEURONS.items())


@pytest.mark.parametrize("neurons", stacks())
def test_t1_rtrl_is_bptt(neurons):
    layers = network(*neurons)
    assert deviation(rtrl(layers, spikes(), SIGNAL), bptt(layers, spikes(), SIGNAL)) < EXACT


@pytest.mark.parametrize("neurons", [(lif(), lif()), (alif(), cuba()), (None, li())])
def test_t3_rtrl_of_one_step_is_bptt_of_its_loss_alone(neurons):
    layers, inputs = network(*neurons), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    for t in (0, 5, T - 1):
        alone = np.where(np.arange(T)[:, None, None] == t, weights, 0)
        whole, part = bptt(layers, inputs, linear(alone)), rtrl(layers, inputs[: t + 1], linear(alone))
        scaled = [{name: g * (t + 1) / T for name, g in layer.items()} for layer in part.gradients]
        assert deviation(part._replace(gradients=scaled), whole) < EXACT


@pytest.mark.parametrize("neurons", [(lif(), lif()), (alif(), cuba(), li()), (None, lif("zero"), lif())])
def test_t9_tbptt_ends_at_sltt_and_at_bptt(neurons):
    layers, inputs = network(*neurons), spikes()
    full = bptt(layers, inputs, SIGNAL)
    assert deviation(tbptt(layers, inputs, SIGNAL, 1), sltt(layers, inputs, SIGNAL)) < EXACT
    assert deviation(tbptt(layers, inputs, SIGNAL, T), full) == 0
    assert deviation(tbptt(layers, inputs, SIGNAL, T + 5), full) == 0
    for window in (1, 2, 5):
        assert deviation(tbptt(layers, inputs, SIGNAL, window), full) > 0.01


def test_tbptt_is_bptt_of_each_window_from_the_states_before():
    layers, inputs = network(lif(), alif(), li()), spikes()
    window, states = 5, None
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    total = [dict.fromkeys(layer.parameters(), 0.0) for layer in layers]
    for first in range(0, T, window):
        part = slice(first, first + window)
        result = bptt(layers, inputs[part], linear(weights[part]), states=states)
        states = result.carry.states
        for sums, gradients in zip(total, result.gradients, strict=True):
            for name in sums:
                sums[name] = sums[name] + gradients[name] * len(inputs[part]) / T
    whole = tbptt(layers, inputs, linear(weights), window)
    assert deviation(whole._replace(gradients=total), whole) < EXACT


# ------------------------------------------------------------------------------------------------------------ T4: OSTL


@pytest.mark.parametrize("neurons", stacks())
def test_t4a_t4b_ostl_is_bptt_in_the_last_layer(neurons):
    layers, inputs = network(*neurons), spikes()
    assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


@pytest.mark.parametrize("above", MEMORYLESS)
@pytest.mark.parametrize("hidden", NEURONS)
def test_t4c_ostl_is_bptt_below_memoryless_layers(hidden, above):
    inputs = spikes()
    for neurons in ([NEURONS[hidden], MEMORYLESS[above]], [NEURONS[hidden], MEMORYLESS[above], MEMORYLESS[above]]):
        layers = network(*neurons)
        assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize(("hidden", "last"), [p for p in two_layer_stacks() if "dense" not in p.id])
def test_t4d_ostl_is_not_bptt_below_a_layer_with_memory(hidden, last):
    layers, inputs = network(hidden, last), spikes()
    assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=HIDDEN) > 0.1


@pytest.mark.parametrize("neurons", stacks())
def test_t4e_ostl_is_the_reverse_pass_of_each_layer_alone(neurons):
    layers, inputs = network(*neurons), spikes()
    result = ostl(layers, inputs, SIGNAL)
    history = forward(layers, inputs)
    signals = np.stack([SIGNAL(t, steps[-1].output)[1] for t, steps in enumerate(history)])
    for depth in reversed(range(len(layers))):
        x = series(history, "output", layer=depth - 1) if depth > 0 else inputs
        alone = bptt([layers[depth]], x, linear(signals))
        assert deviation(result._replace(gradients=[result.gradients[depth]]), alone) < EXACT
        signals = (signals * series(history, "psi", layer=depth)) @ layers[depth].kernel.T


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


# ---------------------------------------------------------------------------------------------- laws of all the rules

ONE_STATE = {"ottt": ottt, "approximate_otpe": approximate_otpe}
RULES = {"bptt": bptt, "rtrl": rtrl, "ostl": ostl, "sltt": sltt, "otpe": otpe, **ONE_STATE}


def knows(rule, neuron):
    if neuron is None:
        return rule not in ("otpe", *ONE_STATE)
    return rule not in ONE_STATE or neuron.n_states == 1


@pytest.mark.parametrize(
    ("name", "rule"), [(name, rule) for name in NEURONS for rule in RULES if knows(rule, NEURONS[name])]
)
def test_t8a_every_rule_is_bptt_in_one_step(name, rule):
    layers, inputs = network(*[NEURONS[name]] * 3), spikes(steps=1)
    assert deviation(RULES[rule](layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("reset", "stop"), RESETS)
def test_t8b_every_rule_is_bptt_without_memory(reset, stop, rule):
    layers, inputs = network(*[lif(reset, stop, decay=0.0)] * 3), spikes()
    assert deviation(RULES[rule](layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("rule", RULES)
def test_t8c_silent_inputs_leave_their_weights_alone(rule):
    layers = network(lif(), lif())
    gradients = RULES[rule](layers, 0 * spikes(), SIGNAL).gradients
    assert not gradients[0]["kernel"].any()
    assert gradients[0]["bias"].any()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "bptt"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, T])
def test_t10a_chunks_with_carried_traces_give_the_same_gradient(rule, chunk):
    layers, inputs = network(lif(), lif("zero"), lif(stop=True)), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    whole = RULES[rule](layers, inputs, linear(weights))
    carry, total = None, [dict.fromkeys(layer.parameters(), 0.0) for layer in layers]
    for first in range(0, T, chunk):
        part = slice(first, first + chunk)
        result = RULES[rule](layers, inputs[part], linear(weights[part]), carry=carry)
        carry = result.carry
        for sums, gradients in zip(total, result.gradients, strict=True):
            for name in sums:
                sums[name] = sums[name] + gradients[name] * len(inputs[part]) / T
    assert deviation(whole._replace(gradients=total), whole) < EXACT


@pytest.mark.parametrize("rule", RULES)
def test_t14_gradients_are_linear_in_the_signal(rule):
    layers, inputs = network(lif(), lif("zero"), lif()), spikes()

    def tripled(t, outputs):
        return tuple(3 * part for part in SIGNAL(t, outputs))

    once, thrice = RULES[rule](layers, inputs, SIGNAL), RULES[rule](layers, inputs, tripled)
    expected = [{name: 3 * g for name, g in layer.items()} for layer in once.gradients]
    assert deviation(thrice, once._replace(gradients=expected)) < EXACT
    assert thrice.loss == pytest.approx(3 * once.loss)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_means_over_samples(rule):
    layers, inputs = network(lif(), lif("zero"), lif()), spikes()
    whole = RULES[rule](layers, inputs, SIGNAL)
    alone = [RULES[rule](layers, inputs[:, b : b + 1], softmax_cross_entropy(LABELS[b : b + 1])) for b in range(B)]
    mean = [
        {name: sum(result.gradients[depth][name] for result in alone) / B for name in layer}
        for depth, layer in enumerate(whole.gradients)
    ]
    assert deviation(whole._replace(gradients=mean), whole) < EXACT


def test_parameters_per_neuron_sum_to_the_shared_ones():
    inputs = spikes()
    shared = network(lif(), cuba(), alif())
    separate = [
        replace(
            layer,
            neuron=replace(
                layer.neuron,
                **{name: np.full(layer.bias.shape, getattr(layer.neuron, name)) for name in layer.neuron.parameters},
            ),
        )
        for layer in shared
    ]
    for rule in (bptt, rtrl, ostl, sltt):
        a, b = rule(separate, inputs, SIGNAL), rule(shared, inputs, SIGNAL)
        summed = [
            {name: g if name in ("kernel", "bias") else np.sum(g) for name, g in layer.items()} for layer in a.gradients
        ]
        assert deviation(a._replace(gradients=summed), b) < EXACT
        assert a.gradients[0]["decay"].shape == (6,)
        assert np.shape(b.gradients[0]["decay"]) == ()


def test_advance_uses_the_parameters_that_it_is_given():
    # Online training: states and traces stay, parameters change between steps.
    before, after = network(lif(), lif(), seed=0), network(lif(), lif(), seed=1)
    x = spikes()
    carry, _, _, _ = advance(OSTL(), before, start(OSTL(), before, B), x[0], lambda y: SIGNAL(0, y))
    _, output, loss, gradients = advance(OSTL(), after, carry, x[1], lambda y: SIGNAL(1, y))
    step = forward_step(after, carry.states, x[1])[-1]
    np.testing.assert_array_equal(output, step.output)
    assert loss == SIGNAL(1, output)[0].mean()
    eps = step.o[..., 0] * carry.traces[1]["bias"][..., 0] + step.psi
    np.testing.assert_allclose(gradients[1]["bias"], (SIGNAL(1, output)[1] / B * eps).sum(axis=0))
