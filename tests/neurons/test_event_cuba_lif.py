"""EventCuBaLIF: exact spike times, and EventProp's gradient by BPTT and by online rules."""

from functools import partial
from math import factorial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from scipy.optimize import brentq

from slax_neurons import EventCuBaLIF, Trainable, connect, unroll
from slax_neurons.neurons.event_cuba_lif import _first_crossing, _growth, _voltage
from slax_rules import BPTT, OSTL, RTRL, gradients, predict
from stacks import deviation, linear

with np.load(Path(__file__).parent / "data" / "eventax.npz") as file:
    EVENTAX = dict(file)
INPUTS, KERNELS = EVENTAX["inputs"], [EVENTAX["kernel_0"], EVENTAX["kernel_1"]]
T, TAU_SYN, TAU_MEM = len(INPUTS), float(EVENTAX["tau_syn"]), float(EVENTAX["tau_mem"])
EXACT, DOUBLE = 1e-12, {"param_dtype": jnp.float64}


def network(kernels, per=1):
    """A stack, and its inputs in steps of 1 / per, of which two units of time more bring the rest of the last spikes."""
    modules = []
    for kernel in kernels:
        dense = linear(*kernel.shape, 0, use_bias=False)
        dense.kernel[...] = jnp.asarray(kernel)
        decays = {"synapse_decay": np.exp(-1 / per / TAU_SYN).item(), "decay": np.exp(-1 / per / TAU_MEM).item()}
        modules += [dense, EventCuBaLIF(**decays, **DOUBLE)]
    inputs = np.zeros(((T + 2) * per, 1, INPUTS.shape[1]))
    inputs[: T * per : per, 0] = INPUTS
    return connect(modules), jnp.asarray(inputs)


def weights(per, tau=TAU_SYN):
    """By which outputs are summed to sum_k exp((t_k - T) / tau)."""
    return np.exp((np.arange((T + 2) * per) / per - T) / tau)


def weighted(outputs, targets):
    return (outputs * targets).sum(-1)


def gradient(kernels, per, rule, window=None):
    model, inputs = network(kernels, per)
    targets = jnp.broadcast_to(weights(per)[:, None, None], (len(inputs), 1, kernels[-1].shape[1]))
    found = gradients(model, weighted, inputs, targets, rule=rule, window=window)[1]["modules"]
    return [len(inputs) * np.asarray(found[2 * layer]["kernel"][...]) for layer in range(len(kernels))]


def passed(s, drive, driven, tau_drive, tau_driven):
    """drive' = -drive / tau_drive and driven' = (drive - driven) / tau_driven, after a time s."""
    own, foreign = np.exp(-s / tau_driven), np.exp(-s / tau_drive)
    return drive * foreign, driven * own + drive * (own - foreign) * tau_drive / (tau_driven - tau_drive)


def simulated(kernel, recurrent):
    """The spikes (time, neuron, slope of its voltage) of all neurons in continuous time, from event to event."""
    i, v, now, spikes = np.zeros(len(recurrent)), np.zeros(len(recurrent)), 0.0, []
    for t, x in enumerate(INPUTS):
        i = i + x @ kernel
        while now < t + 1:
            times, first = np.linspace(0, t + 1 - now, 100), (t + 1 - now, None)
            above = passed(times[1:, None], i, v, TAU_SYN, TAU_MEM)[1] >= 1
            for n in np.flatnonzero(above.any(0)):
                gap = partial(lambda n, s: passed(s, i[n], v[n], TAU_SYN, TAU_MEM)[1] - 1, n)  # noqa: B023
                at = above[:, n].argmax()
                first = min(first, (brentq(gap, times[at], times[at + 1], xtol=1e-15, rtol=1e-15), n))
            (s, n), (i, v) = first, passed(first[0], i, v, TAU_SYN, TAU_MEM)
            now = t + 1 if n is None else now + s
            if n is not None:
                spikes.append((now, n, (i[n] - 1) / TAU_MEM))
                v[n], i = 0, i + recurrent[n]
    return spikes


def adjoint(kernel, recurrent, spikes, by_time):
    """The gradient by the equations of Wunderlich and Pehle, table 1, given the derivatives of the loss by the spike times."""
    on_v, on_i = np.zeros((2, len(recurrent)))
    gradient, by_recurrent = np.zeros_like(kernel), np.zeros_like(recurrent)
    events = [(t, 1, (n, slope, by)) for (t, n, slope), by in zip(spikes, by_time, strict=True)]
    later, inputs = float(T), [(float(t), 0, x) for t, x in enumerate(INPUTS)]
    for t, is_spike, what in sorted([*events, *inputs], key=lambda event: event[:2])[::-1]:
        on_v, on_i = passed(later - t, on_v, on_i, TAU_MEM, TAU_SYN)
        later = t
        if is_spike:
            n, slope, by = what
            by_recurrent[n] -= TAU_SYN * on_i
            on_v = on_v.copy()
            on_v[n] += (on_v[n] + recurrent[n] @ (on_v - on_i) + by) / (TAU_MEM * slope)
        else:
            gradient -= TAU_SYN * np.outer(what, on_i)
    return gradient, by_recurrent


def by_adjoint(kernels):
    """Of two layers as one recurrent network, whose last neurons have the loss."""
    n, last = sum(kernel.shape[1] for kernel in kernels), kernels[-1].shape[1]
    kernel, recurrent = np.zeros((len(kernels[0]), n)), np.zeros((n, n))
    kernel[:, : kernels[0].shape[1]] = kernels[0]
    for more in kernels[1:]:
        recurrent[: len(more), len(more) :] = more
    spikes = simulated(kernel, recurrent)
    by_time = [(which >= n - last) * np.exp((t - T) / TAU_SYN) / TAU_SYN for t, which, _ in spikes]
    gradient, by_recurrent = adjoint(kernel, recurrent, spikes, by_time)
    return [gradient[:, : kernels[0].shape[1]], *(by_recurrent[: len(more), len(more) :] for more in kernels[1:])]


@pytest.mark.parametrize(("layers", "per", "rules"), [(1, 1, [OSTL()]), (2, 8, [BPTT(), RTRL()])])
def test_times_and_gradients_are_those_of_eventax_and_of_the_adjoint_equations(layers, per, rules, x64):
    """Two layers in steps so short that no neuron spikes in the step of a spike that it receives."""
    name, kernels = ("one", "two")[layers - 1], KERNELS[:layers]
    times = EVENTAX[f"{name}_times"]
    model, inputs = network(kernels, per)
    outputs = np.asarray(predict(model, inputs))[:, 0]
    for tau in (TAU_SYN, TAU_MEM):
        sums = np.exp((times - T) / tau, where=np.isfinite(times), out=np.zeros_like(times)).sum(1)
        assert deviation(weights(per, tau) @ outputs, sums) < EXACT
    equations = by_adjoint(kernels)
    for layer in range(layers):
        # They solve an equation in steps.
        assert deviation(equations[layer], EVENTAX[f"{name}_gradient_{layer}"]) < 1e-9
    for rule in rules:
        for found, expected in zip(gradient(kernels, per, rule, window=8), equations, strict=True):
            assert deviation(found, expected) < EXACT


def test_of_longer_steps_the_error_is_of_first_order(x64):
    """By spikes in a step in which their neuron receives one."""
    times = EVENTAX["two_times"]
    sums = np.exp((times - T) / TAU_SYN, where=np.isfinite(times), out=np.zeros_like(times)).sum(1)
    for per in (1, 4):
        model, inputs = network(KERNELS, per)
        error = deviation(weights(per) @ np.asarray(predict(model, inputs))[:, 0], sums)
        assert EXACT < error < 0.0125 / per


def test_the_first_crossing_is_found_also_where_the_voltage_falls_below_the_threshold_again(x64):
    """By bisection, first for the maximum, with time constants from half a step to 200 steps, some of them equal."""
    random = np.random.default_rng(0)
    rates = tuple(np.exp(random.uniform(np.log(0.005), np.log(2), (2, 4000))))
    rates[1][:500] = rates[0][:500]
    u, i = 1 - np.exp(random.uniform(-8, 2, 4000)), np.exp(random.uniform(-1, 6, 4000))
    crosses, found, _ = map(np.asarray, _first_crossing(*map(jnp.asarray, (i, u)), tuple(map(jnp.asarray, rates)), 1.0))
    voltage = lambda s: np.asarray(_voltage(*map(jnp.asarray, (s, i, u)), tuple(map(jnp.asarray, rates))))  # noqa: E731

    def bisected(is_before, end):
        low, high = np.zeros_like(end), end
        for _ in range(60):
            middle = (low + high) / 2
            low, high = np.where(is_before(middle), middle, low), np.where(is_before(middle), high, middle)
        return high

    peak = bisected(lambda s: i * np.exp(-rates[0] * s) > voltage(s), np.ones(4000))
    assert (crosses == (voltage(peak) >= 1)).all() and (crosses & (voltage(np.ones(4000)) < 1)).sum() > 20
    expected = bisected(lambda s: voltage(s) < 1, peak)
    assert np.abs(found - expected)[crosses].max() < 1e-9


def test_outputs_have_the_derivatives_of_finite_differences(x64):
    """By currents and all parameters, also with equal time constants, of units that spike several times."""
    decays = Trainable(np.array([0.6, 0.6, 0.9, 0.9]))
    neuron = EventCuBaLIF(synapse_decay=Trainable(0.6), decay=decays, threshold=Trainable(0.9), **DOUBLE)
    graphdef, params = nnx.split(neuron)

    @jax.jit
    def run(params, currents):
        return unroll(nnx.merge(graphdef, params), neuron.initialize_carry((1, 4)), currents)[1]

    currents = jnp.asarray(np.random.default_rng(3).normal(2.0, 2.0, (8, 1, 4)))
    assert ((run(params, currents) > 0).sum(0) >= 2).all()
    check_grads(run, (params, currents), order=1, modes=("rev",), eps=1e-6, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("z", [0.0, 1e-4, -1e-4, 1e-3])
def test_time_constants_that_are_nearly_equal_have_the_derivative_of_the_series(z, x64):
    series = sum(np.array([z**k, k * z ** max(k - 1, 0)]) / factorial(k + 1) for k in range(9))
    np.testing.assert_allclose(jax.value_and_grad(_growth)(z), series, rtol=1e-11)


def test_a_second_crossing_within_a_step_is_a_spike_at_the_start_of_the_next():
    neuron = EventCuBaLIF(synapse_decay=0.9, decay=0.1)
    step = lambda carry, current: neuron(carry, jnp.full((1, 1), current))  # noqa: E731
    carry, first = step(neuron.initialize_carry((1, 1)), 3.0)
    assert carry.u > 1 and carry.y > 0
    after, second = step(carry, 0.0)
    np.testing.assert_allclose(second, carry.y + 1, rtol=1e-6)
    assert after.y == 0 and 0 < first < 1
    assert step(carry._replace(u=jnp.ones((1, 1))), 0.0)[1] == carry.y + 1  # just at the threshold


def test_a_threshold_at_rest_is_refused():
    with pytest.raises(ValueError, match=r"EventCuBaLIF threshold got 0., expected numbers inside \(0.0, inf\)"):
        EventCuBaLIF(threshold=0.0)
