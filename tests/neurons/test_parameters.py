"""Time constants, the domains of parameters, and that no step of an optimizer leaves them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from slax_neurons import ALIF, BRF, LI, LIF, AdLIF, CuBaLIF, Trainable, time_constant, unroll
from slax_neurons.parameter import POSITIVE, REAL, UNIT_INTERVAL, Domain, Parameter

DOMAINS = [UNIT_INTERVAL, Domain(0.0, 100.0), Domain(-3.0, 2.0), POSITIVE, Domain(low=2.5), REAL]
domains = pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: f"({domain.low}, {domain.high})")
dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])

# ------------------------------------------------------------------------------------------------------ time constants


@given(tau=st.floats(2e-3, 1e3), dt=st.floats(1e-3, 1.0))
def test_decay_of_a_time_constant_is_a_number_and_its_exponential(tau, dt):
    decay = time_constant(tau, dt=dt)
    assert type(decay) is float
    assert decay == pytest.approx(math.exp(-dt / tau), rel=1e-15)


@pytest.mark.parametrize("make", [list, np.array, jnp.array, tuple])
def test_decays_of_several_time_constants_are_an_array_in_float64(make):
    decays = time_constant(make([5.0, 10.0, 20.0]), dt=0.5)
    assert decays.dtype == np.float64
    np.testing.assert_allclose(decays, [math.exp(-0.1), math.exp(-0.05), math.exp(-0.025)], rtol=1e-15)


def test_only_the_ratio_to_the_step_counts():
    assert time_constant(20e-3, dt=1e-3) == pytest.approx(time_constant(20.0, dt=1.0), rel=1e-14)
    assert time_constant(20.0, dt=0.5) ** 2 == pytest.approx(time_constant(20.0, dt=1.0), rel=1e-14)


def test_a_membrane_falls_to_1_over_e_within_its_time_constant(x64):
    neuron = LI(decay=time_constant(np.array([10e-3, 20e-3]), dt=1e-3), param_dtype=jnp.float64)
    start = jnp.ones((1, 2))
    u = unroll(neuron, start, jnp.zeros((20, 1, 2)))[1][:, 0]
    np.testing.assert_allclose([u[9, 0], u[19, 1]], math.exp(-1), rtol=1e-12)


def test_a_time_constant_can_be_trained():
    decay = time_constant(20e-3, dt=1e-3)
    assert LIF(decay=Trainable(decay)).decay(jnp.zeros(())) == pytest.approx(decay, rel=1e-6)


@pytest.mark.parametrize(
    ("tau", "dt"),
    [
        (0.0, 1.0),
        (-1.0, 1.0),
        (float("nan"), 1.0),
        (float("inf"), 1.0),
        (10.0, 0.0),
        (10.0, -1.0),
        (1.0, -1e6),  # no overflow on the way
        (-10.0, -1.0),
        (10.0, float("nan")),
        (10.0, float("inf")),
        ([10.0, 0.0], 1.0),
        (np.array([10.0, -5.0]), 1.0),
        (1e20, 1.0),  # the decay rounds to 1
        (1e-3, 1.0),  # to 0
    ],
)
def test_a_time_constant_without_a_decay_inside_0_and_1_is_an_error(tau, dt):
    with pytest.raises(ValueError, match=r"time_constant got tau=.* and dt=.*, expected positive numbers"):
        time_constant(tau, dt=dt)


def test_the_step_of_a_time_constant_is_named():
    with pytest.raises(TypeError):
        time_constant(20e-3, 1e-3)


# -------------------------------------------------------------------------------------------------------------- domains


def inside(domain, n=41):
    """Numbers all over a domain, close to its finite bounds too."""
    low, high = max(domain.low, -50.0), min(domain.high, 50.0 + max(domain.low, 0.0))
    parts = 1 / (1 + np.exp(-np.linspace(-12, 12, n)))
    return low + (high - low) * parts


@domains
def test_a_value_comes_back_from_its_unconstrained_number(domain, x64):
    values = inside(domain)
    unconstrained = domain.unconstrain(values)
    np.testing.assert_allclose(domain.constrain(jnp.asarray(unconstrained)), values, rtol=1e-9, atol=1e-12)
    assert np.isfinite(unconstrained).all()


def test_maps_are_a_scaled_sigmoid_a_softplus_and_none(x64):
    x = np.linspace(-8, 8, 33)
    np.testing.assert_allclose(Domain(-3.0, 2.0).constrain(jnp.asarray(x)), -3 + 5 / (1 + np.exp(-x)), rtol=1e-12)
    np.testing.assert_allclose(Domain(low=2.5).constrain(jnp.asarray(x)), 2.5 + np.log1p(np.exp(x)), rtol=1e-12)
    np.testing.assert_array_equal(REAL.constrain(jnp.asarray(x)), x)


@domains
@dtypes
def test_any_number_is_mapped_into_the_domain_in_its_order_and_dtype(domain, dtype):
    x = jnp.asarray(np.concatenate([[-1e4], np.linspace(-20, 20, 101), [1e4]]), dtype)
    values = domain.constrain(x)
    assert values.dtype == x.dtype
    exact = np.asarray(values, np.float64)
    assert ((exact >= domain.low) & (exact <= domain.high)).all()
    assert (np.diff(exact) >= 0).all()
    slope = jax.vmap(jax.grad(domain.constrain))(x)
    assert jnp.isfinite(slope).all()
    assert (slope >= 0).all()


@domains
def test_bounds_and_what_is_no_number_are_outside(domain):
    assert np.asarray(inside(domain)) in domain
    for value in (domain.low, domain.high, float("nan"), [inside(domain)[0], domain.low], [float("nan"), 1.0]):
        assert np.asarray(value) not in domain


# ------------------------------------------------------------------------------------------------------------ parameters


@domains
@dtypes
@pytest.mark.parametrize("mark", [lambda value: value, Trainable], ids=["fixed", "trainable"])
def test_parameter_has_its_value_in_every_dtype(domain, dtype, mark):
    middle = inside(domain, 3)[1] + 0.1
    state = jnp.zeros((2, 3), dtype)
    for value in (middle, np.array([0.9, 1.0, 1.1]) * middle):
        used = jnp.asarray(Parameter("LIF decay", mark(value), domain, dtype)(state), dtype)
        tolerance = 8 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            np.broadcast_to(np.asarray(used, np.float64), (2, 3)) - value, 0, atol=tolerance * 60
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(decay=[0.5, 1 - 1e-9]), r"LIF decay got .*, which float32 rounds to a bound of \(0.0, 1.0\)"),
        (
            lambda: BRF(omega=Trainable(100 - 1e-7)),
            r"BRF omega got .*, which float32 rounds to a bound of \(0.0, 100.0\)",
        ),
        (
            lambda: LIF(decay=Trainable(float(np.float32(0.99999994)))),  # which float32 holds, but its logit does not
            r"LIF decay got 0.99999994, which float32 rounds to a bound of \(0.0, 1.0\) in the form that is trained\. Use",
        ),
        (lambda: LIF(threshold=1e39), r"LIF threshold got 1.e\+39, which float32 rounds to a bound of \(-inf, inf\)"),
        (
            lambda: BRF(b_offset=1e-9, param_dtype=jnp.float16),
            r"b_offset got .*, which float16 rounds to a bound of \(0.0",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_parameter_that_rounds_to_a_bound_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parameter_that_is_no_number_is_an_error():
    with pytest.raises((TypeError, ValueError)):
        LIF(decay=Trainable("0.9"))


# The parameters with bounds, of every kind of domain.
BOUNDED = {
    LIF: ["decay"],
    CuBaLIF: ["synapse_decay", "decay"],
    ALIF: ["decay", "adaptation_decay"],
    AdLIF: ["decay", "adaptation_decay"],
    BRF: ["omega", "b_offset", "refractory_decay"],
}
GAIN = {AdLIF: 10.0, BRF: 200.0}
bounded = pytest.mark.parametrize("kind", BOUNDED)


def trained(kind, **options):
    defaults = {name: getattr(kind(), name).number for name in BOUNDED[kind]}
    return kind(**{name: Trainable(value) for name, value in defaults.items()}, **options)


def loss(neuron, currents, sign):
    carry, outputs = unroll(neuron, neuron.initialize_carry(currents.shape[1:]), currents)
    return sign * sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves((carry, outputs)))


def currents_for(kind, dtype="float32"):
    return GAIN.get(kind, 1.0) * jax.random.normal(jax.random.key(0), (10, 2, 3), dtype)


@bounded
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_no_step_of_an_optimizer_leaves_the_domain(kind, sign):
    """Steps of a thousand times the usual size, up and down; outputs and gradients stay finite."""
    neuron, currents = trained(kind), currents_for(kind)
    optimizer = nnx.Optimizer(neuron, optax.sign_sgd(10.0), wrt=nnx.Param)

    @nnx.jit
    def step(neuron, optimizer):
        value, gradient = nnx.value_and_grad(loss)(neuron, currents, sign)
        optimizer.update(neuron, gradient)
        return value, gradient

    before, moved = nnx.state(nnx.clone(neuron)), False
    for _ in range(8):
        for leaf in jax.tree.leaves(step(neuron, optimizer)):
            assert jnp.isfinite(leaf)
        for name in BOUNDED[kind]:
            parameter = getattr(neuron, name)
            assert parameter.domain.low <= parameter(jnp.zeros(())) <= parameter.domain.high
        moved |= not all(jax.tree.leaves(jax.tree.map(jnp.array_equal, nnx.state(neuron), before)))
    assert moved


@bounded
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("end", [-1e3, 1e3])
def test_outputs_and_gradients_are_finite_at_the_ends_of_the_domains(kind, dtype, end):
    neuron = trained(kind, param_dtype=dtype)
    for name in BOUNDED[kind]:
        getattr(neuron, name).unconstrained[...] = jnp.asarray(end, dtype)
    value, gradient = nnx.jit(nnx.value_and_grad(loss))(neuron, currents_for(kind, dtype), 1.0)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
