"""Each neuron against its paper: a loop in float64 NumPy, in the order of the paper and not in ours.

The loops run on dual numbers: the same loop gives spikes, states, and how they change with every current and parameter, in
forward mode and without JAX. The derivative of a spike is that of its surrogate.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from slax_neurons import (
    ALIF,
    BRF,
    IF,
    LTC,
    AdLIF,
    CuBaLIF,
    Neuron,
    Trainable,
    fast_sigmoid,
    multi_gaussian,
    unroll,
)
from stacks import deviation

T, B, N = 24, 2, 3
SLOPE = 5.0  # of the surrogate: wide enough that every spike carries a gradient
RESETS = [(reset, stop) for reset in ("subtract", "zero", "none") for stop in (False, True)]

# ------------------------------------------------------------------------------------------------------- dual numbers


class Dual:
    """Numbers and their derivatives by P unknowns: value [...], slopes [P, ...]."""

    __array_ufunc__ = None  # NumPy leaves array * Dual to us

    def __init__(self, value, slopes):
        self.value, self.slopes = value, slopes

    def __getitem__(self, index):
        return Dual(self.value[index], self.slopes[:, index])

    def __add__(self, other):
        other = dual(other)
        return Dual(self.value + other.value, self.slopes + other.slopes)

    def __mul__(self, other):
        other = dual(other)
        return Dual(self.value * other.value, self.slopes * other.value + self.value * other.slopes)

    def __matmul__(self, other):
        return Dual(self.value @ other.value, self.slopes @ other.value + self.value @ other.slopes)

    def __neg__(self):
        return Dual(-self.value, -self.slopes)

    def __sub__(self, other):
        return self + -dual(other)

    def __rsub__(self, other):
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    @property
    def real(self):
        return Dual(self.value.real, self.slopes.real)

    @property
    def imag(self):
        return Dual(self.value.imag, self.slopes.imag)

    def sqrt(self):
        root = np.sqrt(self.value)
        return Dual(root, self.slopes / (2 * root))

    def sigmoid(self):
        value = 1 / (1 + np.exp(-self.value))
        return Dual(value, self.slopes * value * (1 - value))

    def sum(self):
        return Dual(self.value.sum(), self.slopes.reshape(len(self.slopes), -1).sum(axis=1))


def dual(x):
    return x if isinstance(x, Dual) else Dual(np.asarray(x), np.zeros((1, *np.shape(x))))


def beside(a, b):
    slopes = np.concatenate(np.broadcast_arrays(a.slopes, b.slopes), axis=-1)
    return Dual(np.concatenate([a.value, b.value], axis=-1), slopes)


def unknowns(arrays: dict[str, np.ndarray]) -> dict[str, Dual]:
    """The arrays, each of at least two axes, as dual numbers by all of their entries."""
    count, start, result = sum(array.size for array in arrays.values()), 0, {}
    for name, array in arrays.items():
        slopes = np.zeros((count, array.size))
        slopes[start : start + array.size] = np.eye(array.size)
        start += array.size
        matrix = (1,) * (2 - array.ndim) + array.shape
        result[name] = Dual(array.reshape(matrix), slopes.reshape(count, *matrix))
    return result


def slopes_by(total: Dual, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The derivatives of one number by each of the arrays."""
    parts = np.split(total.slopes, np.cumsum([array.size for array in arrays.values()])[:-1])
    return {name: part.reshape(array.shape) for (name, array), part in zip(arrays.items(), parts, strict=True)}


def spike(x):
    return Dual((x.value >= 0).astype(np.float64), x.slopes / (SLOPE * np.abs(x.value) + 1) ** 2)


def reset(option, v, s, threshold):
    """The membrane that the last spike leaves: the papers take it off at the start of the next step."""
    kind, stopped = option
    s = s.value if stopped else s
    return {"subtract": v - threshold * s, "zero": v - v * s, "none": v}[kind]


# ---------------------------------------------------------------------------------------------------- the papers' loops

REST = dual(np.zeros((B, N)))


def integrate_and_fire(currents, p, option):
    v, s, spikes = REST, REST, []
    for t in range(T):
        v = reset(option, v, s, p["threshold"]) + currents[t]
        s = spike(v - p["threshold"])
        spikes.append(s)
    return spikes, [reset(option, v, s, p["threshold"])]


def with_synapse(currents, p, option):
    """Neftci, Mostafa, Zenke, with the current of the same step and a reset before the leak."""
    i, v, s, spikes = REST, REST, REST, []
    for t in range(T):
        i = p["synapse_decay"] * i + currents[t]
        v = p["decay"] * reset(option, v, s, p["threshold"]) + i
        s = spike(v - p["threshold"])
        spikes.append(s)
    return spikes, [i, reset(option, v, s, p["threshold"])]


def adaptive_threshold(currents, p, option):
    """Bellec et al. with a reset before the leak: the adaptation of a step takes in the spike of the step before."""
    v, a, s, spikes = REST, REST, REST, []
    for t in range(T):
        a = p["adaptation_decay"] * a + s
        v = p["decay"] * reset(option, v, s, p["threshold"]) + currents[t]
        A = p["threshold"] + p["beta"] * a
        s = spike(v - A)
        spikes.append(s)
    return spikes, [reset(option, v, s, p["threshold"]), p["adaptation_decay"] * a + s]


def adaptive_threshold_of_yin(currents, p, option):
    """Yin et al.: the adaptation is a running mean of the spikes; the threshold is 0.1 at rest, 1.8 more at most."""
    v, b, s, rho, spikes = REST, REST, REST, p["adaptation_decay"], []
    for t in range(T):
        b = rho * b + (1 - rho) * s
        v = p["decay"] * reset(option, v, s, 0.1) + currents[t]
        s = spike(v - (0.1 + 1.8 * b))
        spikes.append(s)
    return spikes, [reset(option, v, s, 0.1), rho * b + (1 - rho) * s]


def adaptive_lif(currents, p, option):
    """Bittar and Garner: w from the membrane before its reset and the spike of the step before, then the membrane."""
    u, w, s, alpha, spikes = REST, REST, REST, p["decay"], []
    for t in range(T):
        w = p["adaptation_decay"] * w + p["a"] * u + p["b"] * s
        u = alpha * reset(option, u, s, p["threshold"]) + (1 - alpha) * (currents[t] - w)
        s = spike(u - p["threshold"])
        spikes.append(s)
    return spikes, [
        reset(option, u, s, p["threshold"]),
        p["adaptation_decay"] * w + p["a"] * u + p["b"] * s,
    ]


Q = 20.0


def symplectic_adaptive_lif(currents, p, option):
    """Baronig et al.: u_hat, the spike, the reset, and w from the membrane after the reset; their a and b are q times ours."""
    u, w, alpha, beta, spikes = REST, REST, p["decay"], p["adaptation_decay"], []
    for t in range(T):
        u_hat = alpha * u + (1 - alpha) * (currents[t] - w)
        s = spike(u_hat - p["threshold"])
        u = reset(option, u_hat, s, p["threshold"])
        w = beta * w + (1 - beta) * (Q * p["a"] * u + Q * p["b"] * s)
        spikes.append(s)
    return spikes, [u, w]


DT = 0.01


def balanced_resonate_and_fire(currents, p, option):
    """Higuchi et al., with the membrane as one complex number."""
    z, q, spikes = REST, REST, []
    omega = p["omega"]
    for t in range(T):
        damping = ((1 - DT * omega * DT * omega).sqrt() - 1) * (1 / DT) - p["b_offset"] - q
        z = z + DT * ((damping + 1j * omega) * z + currents[t])
        s = spike(z.real - p["threshold"] - q)
        q = p["refractory_decay"] * q + s
        spikes.append(s)
    return spikes, [z.real, z.imag, q]


def liquid_time_constants(currents, p, option):
    """Yin, Corradi, Bohte: gates of the concatenated current and state."""
    u, b, s, spikes = REST, REST + 0.1, REST, []
    for t in range(T):
        tau_m = (beside(currents[t], u) @ p["membrane_gate.kernel"] + p["membrane_gate.bias"]).sigmoid()
        tau_a = (beside(currents[t], b) @ p["adaptation_gate.kernel"] + p["adaptation_gate.bias"]).sigmoid()
        b = tau_a * b + (1 - tau_a) * s
        mem = u + tau_m * (currents[t] - u)
        s = spike(mem - (0.1 + 1.8 * b))
        u = mem * (1 - s)
        spikes.append(s)
    return spikes, [u, b, s]


# ------------------------------------------------------------------------------------------------------------ the cases


class Case(NamedTuple):
    kind: Callable[..., Neuron]
    loop: Callable
    parameters: dict[str, float]  # one number per layer
    gain: float = 1.0  # of the currents


CASES = {
    "if": Case(IF, integrate_and_fire, {"threshold": 1.3}),
    "cuba_lif": Case(CuBaLIF, with_synapse, {"synapse_decay": 0.6, "decay": 0.8, "threshold": 1.4}),
    "alif": Case(
        ALIF,
        adaptive_threshold,
        {"decay": 0.85, "adaptation_decay": 0.9, "beta": 0.2, "threshold": 0.8},
    ),
    "adlif": Case(
        AdLIF,
        adaptive_lif,
        {"decay": 0.8, "adaptation_decay": 0.9, "a": 0.3, "b": 0.7, "threshold": 0.9},
        gain=7.0,
    ),
    "symplectic adlif": Case(
        functools.partial(AdLIF, form="symplectic", q=Q),
        symplectic_adaptive_lif,
        {"decay": 0.8, "adaptation_decay": 0.9, "a": 0.2, "b": 0.4, "threshold": 0.9},
        gain=7.0,
    ),
    "brf": Case(
        BRF,
        balanced_resonate_and_fire,
        {"omega": 30.0, "b_offset": 2.0, "threshold": 0.7, "refractory_decay": 0.8},
        gain=80.0,
    ),
}
FIRING = ["if", "cuba_lif", "alif", "adlif", "symplectic adlif"]  # those with a reset

# How fast a parameter follows the number that is trained in its place.
CHAIN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "synapse_decay": lambda value: value * (1 - value),
    "decay": lambda value: value * (1 - value),
    "adaptation_decay": lambda value: value * (1 - value),
    "refractory_decay": lambda value: value * (1 - value),
    "omega": lambda value: value * (1 - DT * value),
    "b_offset": lambda value: 1 - np.exp(-value),
}


def currents_of(gain):
    return gain * (np.random.default_rng(1).normal(size=(T, B, N)) + 0.3)


def compare(neuron, gradient_of, loop, arrays, option, gain):
    """Spikes, last carry, and the gradients of a weighted sum of both, ours and the loop's.

    Args:
        gradient_of: the gradient by the array of that name, out of the gradient by the neuron.
        arrays: the parameters, by name.
    """
    currents = currents_of(gain)
    draw = np.random.default_rng(2)
    arrays = arrays | {"currents": currents}
    p = unknowns(arrays)
    spikes, states = loop(p.pop("currents"), p, option)
    weights, ends = draw.normal(size=(T, B, N)), draw.normal(size=(len(states), B, N))
    total = sum((w * s).sum() for w, s in zip((*weights, *ends), (*spikes, *states), strict=True))

    def loss(neuron, currents):
        carry, outputs = unroll(neuron, neuron.initialize_carry((B, N)), currents)
        at_end = jnp.stack(jax.tree.leaves(carry))
        return jnp.sum(jnp.asarray(weights) * outputs) + jnp.sum(jnp.asarray(ends) * at_end), (at_end, outputs)

    differentiate = nnx.jit(nnx.grad(loss, argnums=(0, 1), has_aux=True))
    (by_neuron, by_current), (at_end, outputs) = differentiate(neuron, jnp.asarray(currents))
    theirs = np.stack([s.value for s in spikes])
    assert 0.05 < theirs.mean() < 0.95
    np.testing.assert_array_equal(outputs, theirs)
    np.testing.assert_allclose(at_end, np.stack([state.value for state in states]), rtol=1e-12, atol=1e-12)
    expected = slopes_by(total, arrays)
    assert deviation(by_current, expected.pop("currents")) < 1e-10
    for name, slope in expected.items():
        assert slope.all(), f"{name} changes nothing, so that this test would not see it"
        assert deviation(gradient_of(by_neuron, name), slope) < 1e-10, name


def check(kind, per_neuron, option=None):
    case = CASES[kind]
    spread = np.linspace(0.9, 1.05, N) if per_neuron else np.ones(())
    arrays = {name: value * spread for name, value in case.parameters.items()}
    options: dict[str, Any] = {} if option is None else {"reset": option[0], "stop_reset_gradient": option[1]}
    neuron = case.kind(
        **{name: Trainable(value) for name, value in arrays.items()},
        **options,
        spike_fn=fast_sigmoid(SLOPE),
        param_dtype=jnp.float64,
    )

    def gradient_of(by_neuron, name):
        chain = CHAIN.get(name, np.ones_like)(arrays[name])
        return np.asarray(by_neuron[name]["unconstrained"][...]) / chain

    compare(neuron, gradient_of, case.loop, arrays, option, case.gain)


# ------------------------------------------------------------------------------------------------------------- the laws


@pytest.mark.parametrize("option", RESETS, ids=lambda option: f"{option[0]}{'-stopped' * option[1]}")
@pytest.mark.parametrize("kind", FIRING)
def test_neuron_equals_its_paper_for_every_reset_and_parameters_per_neuron(kind, option, x64):
    check(kind, True, option)


@pytest.mark.parametrize("kind", FIRING)
def test_neuron_equals_its_paper_with_parameters_of_the_layer(kind, x64):
    check(kind, False, ("subtract", False))


@pytest.mark.parametrize("per_neuron", [False, True], ids=["per layer", "per neuron"])
def test_brf_equals_its_paper_with_the_membrane_as_a_complex_number(per_neuron, x64):
    check("brf", per_neuron)


def test_ltc_equals_its_paper_with_gates_of_the_concatenated_current_and_state(x64):
    neuron = LTC(N, spike_fn=fast_sigmoid(SLOPE), param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    gates = {"membrane_gate": neuron.membrane_gate, "adaptation_gate": neuron.adaptation_gate}
    for seed, gate in enumerate(gates.values()):
        gate.bias[...] = jax.random.normal(jax.random.key(seed), (N,))
    arrays = {
        f"{name}.{weight}": np.asarray(getattr(gate, weight)[...])
        for name, gate in gates.items()
        for weight in ("kernel", "bias")
    }

    def gradient_of(by_neuron, name):
        gate, weight = name.split(".")
        return by_neuron[gate][weight][...]

    compare(neuron, gradient_of, liquid_time_constants, arrays, None, 1.0)


def test_ltc_takes_other_thresholds_and_adaptations(x64):
    """threshold + beta b, by one step from a state at which either decides."""
    neuron = LTC(N, threshold=0.5, beta=2.0, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    for gate in (neuron.membrane_gate, neuron.adaptation_gate):
        gate.kernel[...] = jnp.zeros((2 * N, N))  # both gates are one half
    rest = neuron.initialize_carry((1, N))
    np.testing.assert_array_equal(rest.b, 0.5)
    carry, spikes = neuron(rest._replace(b=jnp.full((1, N), 0.25)), jnp.array([[1.4, 1.5, 1.6]]))
    np.testing.assert_array_equal(spikes, [[0, 1, 1]])  # v is half the current, the threshold 0.5 + 2 x 0.125
    np.testing.assert_allclose(carry.u, [[0.7, 0, 0]], rtol=1e-15)
    np.testing.assert_allclose(carry.b, 0.125, rtol=1e-15)


def test_alif_is_the_neuron_of_yin_with_beta_times_one_minus_rho(x64):
    currents, rho = currents_of(0.5), 0.9
    neuron = ALIF(decay=0.85, adaptation_decay=rho, beta=1.8 * (1 - rho), threshold=0.1, param_dtype=jnp.float64)
    carry, spikes = unroll(neuron, neuron.initialize_carry((B, N)), jnp.asarray(currents))
    p = {"decay": dual(0.85), "adaptation_decay": dual(rho)}
    theirs, (u, b) = adaptive_threshold_of_yin(dual(currents), p, ("subtract", False))
    assert 0.05 < spikes.mean() < 0.95
    np.testing.assert_array_equal(spikes, np.stack([s.value for s in theirs]))
    np.testing.assert_allclose(carry.u, u.value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose((1 - rho) * carry.a, b.value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("reset", "stop"), RESETS)
def test_cuba_lif_equals_the_oracle(reset, stop, x64):
    options = {"reset": reset, "stop_reset_gradient": stop}
    parameters = {"synapse_decay": 0.6, "decay": 0.8, "threshold": 1.4}
    neuron = CuBaLIF(**{name: Trainable(value) for name, value in parameters.items()}, **options, param_dtype="float64")
    theirs = oracle.CuBaLIF(parameters["synapse_decay"], parameters["decay"], parameters["threshold"], **options)
    names = {"synapse_decay": "current_decay", "decay": "decay", "threshold": "threshold"}
    compare_with_oracle(neuron, theirs, names, parameters)


@pytest.mark.parametrize("stop", [False, True])
def test_alif_equals_the_oracle(stop, x64):
    parameters = {"decay": 0.85, "adaptation_decay": 0.9, "beta": 0.2, "threshold": 0.8}
    trainable = {name: Trainable(value) for name, value in parameters.items()}
    neuron = ALIF(**trainable, stop_reset_gradient=stop, param_dtype="float64")
    names = {
        "decay": "decay",
        "adaptation_decay": "adaptation_decay",
        "beta": "adaptation",
        "threshold": "threshold",
    }
    compare_with_oracle(neuron, oracle.ALIF(*parameters.values(), stop_reset_gradient=stop), names, parameters)


@pytest.mark.parametrize("q", [None, Q], ids=["additive", "symplectic"])
@pytest.mark.parametrize(("reset", "stop"), RESETS)
def test_adlif_equals_the_oracle(reset, stop, q, x64):
    options = {"reset": reset, "stop_reset_gradient": stop}
    parameters = CASES["adlif" if q is None else "symplectic adlif"].parameters
    form = {} if q is None else {"form": "symplectic", "q": q}
    neuron = AdLIF(
        **{name: Trainable(value) for name, value in parameters.items()}, **options, **form, param_dtype="float64"
    )
    compare_with_oracle(neuron, oracle.AdLIF(**parameters, **options, q=q), {p: p for p in parameters}, parameters, 7.0)


def test_brf_equals_the_oracle(x64):
    parameters = CASES["brf"].parameters
    neuron = BRF(**{name: Trainable(value) for name, value in parameters.items()}, dt=DT, param_dtype="float64")
    compare_with_oracle(neuron, oracle.BRF(**parameters, dt=DT), {p: p for p in parameters}, parameters, 80.0)


def compare_with_oracle(neuron, theirs, names, parameters, gain=1.0):
    currents, weights = currents_of(gain), np.random.default_rng(0).normal(size=(T, B, N))
    expected = oracle.bptt([oracle.Layer(np.eye(N), np.zeros(N), theirs)], currents, oracle.linear(weights))

    def loss(neuron):
        carry, spikes = unroll(neuron, neuron.initialize_carry((B, N)), jnp.asarray(currents))
        return jnp.sum(jnp.asarray(weights) * spikes) / (T * B), (carry, spikes)

    gradient, (carry, spikes) = nnx.jit(nnx.grad(loss, has_aux=True))(neuron)
    assert 0.05 < spikes.mean() < 0.95
    np.testing.assert_array_equal(spikes, expected.outputs)
    np.testing.assert_allclose(jnp.stack(carry, axis=-1), expected.carry.states[0], rtol=1e-12, atol=1e-12)
    for name, their_name in names.items():
        by_value = gradient[name]["unconstrained"][...] / CHAIN.get(name, np.ones_like)(np.asarray(parameters[name]))
        assert deviation(by_value, expected.gradients[0][their_name]) < 1e-10, name


def test_if_loses_no_charge(x64):
    """What came in is in the membrane, or left it with a spike."""
    currents = jnp.asarray(currents_of(1.0))
    u, spikes = unroll(IF(threshold=0.7, param_dtype=jnp.float64), jnp.zeros((B, N)), currents)
    assert 0.05 < spikes.mean() < 0.95
    np.testing.assert_allclose(u + 0.7 * spikes.sum(axis=0), currents.sum(axis=0), rtol=1e-12, atol=1e-12)


def test_brf_without_offset_neither_decays_nor_grows_but_rotates(x64):
    """p is the boundary: each step turns u + i v by asin(dt omega)."""
    omega = np.array([5.0, 40.0, 90.0])
    neuron = BRF(omega=omega, b_offset=1e-13, threshold=1e9, param_dtype=jnp.float64)
    start = np.random.default_rng(0).normal(size=(2, B, N))
    carry = neuron.initialize_carry((B, N))._replace(u=jnp.asarray(start[0]), v=jnp.asarray(start[1]))
    carry, spikes = unroll(neuron, carry, jnp.zeros((T, B, N)))
    assert not spikes.any()
    turned = (start[0] + 1j * start[1]) * np.exp(1j * T * np.arcsin(DT * omega))
    np.testing.assert_allclose(carry.u, turned.real, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(carry.v, turned.imag, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("dt", [0.0, -0.01, float("nan")])
def test_brf_needs_a_step_of_some_length(dt):
    with pytest.raises(ValueError, match=r"BRF got dt=.*, expected a number > 0"):
        BRF(dt=dt)


def test_brf_in_another_unit_of_time_computes_the_same(x64):
    """Steps of half the length, twice the frequency, offset and current. (q counts per step, so the neuron may not fire.)"""
    currents = jnp.asarray(currents_of(80.0))

    def run(unit):
        neuron = BRF(omega=30.0 / unit, b_offset=2.0 / unit, threshold=1e9, dt=DT * unit, param_dtype=jnp.float64)
        return unroll(neuron, neuron.initialize_carry((B, N)), currents / unit)[0]

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), run(1.0), run(0.5))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("CuBaLIF synapse_decay", lambda: CuBaLIF(synapse_decay=1.0), r"\(0.0, 1.0\)"),
        ("ALIF adaptation_decay", lambda: ALIF(adaptation_decay=0.0), r"\(0.0, 1.0\)"),
        ("AdLIF adaptation_decay", lambda: AdLIF(adaptation_decay=1.5), r"\(0.0, 1.0\)"),
        ("BRF omega", lambda: BRF(omega=100.0), r"\(0.0, 100.0\)"),
        ("BRF omega", lambda: BRF(omega=[10.0, -1.0]), r"\(0.0, 100.0\)"),
        ("BRF omega", lambda: BRF(omega=20.0, dt=0.05), r"\(0.0, 20.0\)"),
        ("BRF b_offset", lambda: BRF(b_offset=0.0), r"\(0.0, inf\)"),
        ("BRF refractory_decay", lambda: BRF(refractory_decay=1.0), r"\(0.0, 1.0\)"),
        ("AdLIF threshold", lambda: AdLIF(threshold=float("inf")), r"\(-inf, inf\)"),
        ("ALIF beta", lambda: ALIF(beta=float("nan")), r"\(-inf, inf\)"),
    ],
)
def test_parameter_outside_its_range_is_an_error(name, make, message):
    with pytest.raises(ValueError, match=f"{name} got .*, expected numbers inside {message}"):
        make()


def test_default_adaptation_of_alif_raises_the_threshold_by_at_most_that_of_yin():
    neuron = ALIF()
    assert neuron.beta.number / (1 - neuron.adaptation_decay.number) == pytest.approx(1.8)
    assert -1 / math.log(neuron.adaptation_decay.number) == pytest.approx(200, abs=1)


def test_default_parameters_of_adlif_are_inside_the_ranges_of_its_paper():
    neuron = AdLIF()
    assert 0.819 < neuron.decay.number < 0.961
    assert 0.967 < neuron.adaptation_decay.number < 0.992
    assert -1 < neuron.a.number < 1
    assert 0 < neuron.b.number < 2


def test_default_surrogate_of_ltc_is_that_of_its_authors():
    assert LTC(N, rngs=nnx.Rngs(0)).spike_fn == multi_gaussian()
