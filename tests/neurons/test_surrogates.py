import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slax_neurons import (
    LIF,
    SURROGATES,
    Surrogate,
    arctan,
    boxcar,
    fast_sigmoid,
    gaussian,
    multi_gaussian,
    sigmoid,
    super_spike,
    triangular,
    unroll,
)


def normal(x, mean, deviation):
    return np.exp(-((x - mean) ** 2) / (2 * deviation**2)) / np.sqrt(2 * np.pi * deviation**2)


# The derivatives by hand, in NumPy, with the options of ours by the same names.
FORMULAS = {
    "arctan": lambda x, alpha=2.0: 2 * alpha / (4 + (np.pi * alpha * x) ** 2),
    "boxcar": lambda x, width=0.5, height=1.0: np.where((-width <= x) & (x <= width), height, 0.0),
    "fast_sigmoid": lambda x, slope=25.0: (1 + slope * np.abs(x)) ** -2.0,
    "gaussian": lambda x, width=0.5: normal(x, 0, width),
    "multi_gaussian": lambda x, gamma=0.5, width=0.3, scale=6.0, height=0.15: (
        gamma * (1 + height) * normal(x, 0, width)
        - gamma * height * (normal(x, width, scale * width) + normal(x, -width, scale * width))
    ),
    "sigmoid": lambda x, beta=4.0: beta * np.exp(-beta * np.abs(x)) / (1 + np.exp(-beta * np.abs(x))) ** 2,
    "super_spike": lambda x, beta=10.0: beta / (1 + beta * np.abs(x)) ** 2,
    "triangular": lambda x, height=0.3, width=1.0: np.where(np.abs(x) < width, height * (width - np.abs(x)) / width, 0),
}
OTHER_OPTIONS = [
    ("arctan", {"alpha": 5.0}),
    ("boxcar", {"width": 0.2, "height": 0.7}),
    ("fast_sigmoid", {"slope": 3.0}),
    ("gaussian", {"width": 0.2}),
    ("multi_gaussian", {"gamma": 0.8, "width": 0.4, "scale": 3.0, "height": 0.3}),
    ("sigmoid", {"beta": 9.0}),
    ("super_spike", {"beta": 3.0}),
    ("triangular", {"height": 0.8, "width": 0.6}),
]
OPTIONS = [
    (name, option) for name, make in SURROGATES.items() for option in inspect.signature(make).parameters
]  # of each, all

names = pytest.mark.parametrize("name", SURROGATES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
# Both sides of zero, zero itself, the threshold's neighborhood and far away.
FAR_AND_NEAR = np.concatenate([np.linspace(-1e3, 1e3, 4001), np.linspace(-1, 1, 4001), [0.0, -0.0]])


@names
@dtypes
def test_spikes_are_heaviside_with_a_spike_at_zero_and_keep_the_dtype(name, dtype):
    x = jnp.array([-1e3, -1e-3, -0.0, 0.0, 1e-3, 1e3], dtype)
    spikes = SURROGATES[name]()(x)
    assert spikes.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(spikes, np.float64), [0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in SURROGATES), *OTHER_OPTIONS])
def test_derivative_is_the_formula(name, options, x64):
    """With the default options too: those of the formulas are written there a second time."""
    x = np.linspace(-3, 3, 1001)
    ours = jax.vmap(jax.grad(SURROGATES[name](**options)))(jnp.asarray(x))
    np.testing.assert_allclose(ours, FORMULAS[name](x, **options), rtol=1e-12, atol=1e-15)


def test_options_are_passed_by_position_in_the_order_of_the_signature(x64):
    for name, options in OTHER_OPTIONS:
        assert SURROGATES[name](*options.values()) == SURROGATES[name](**options)
        assert SURROGATES[name](**options) != SURROGATES[name]()


@pytest.mark.parametrize(
    ("spike_fn", "peak", "integral"),
    [
        (fast_sigmoid(10.0), 1.0, 0.2),
        (fast_sigmoid(), 1.0, 2 / 25),
        (super_spike(), 10.0, 2.0),
        (super_spike(3.0), 3.0, 2.0),
        (sigmoid(), 1.0, 1.0),
        (sigmoid(10.0), 2.5, 1.0),
        (gaussian(), 0.3989 / 0.5, 1.0),
        (gaussian(0.1), 3.989, 1.0),
        (triangular(), 0.3, 0.3),
        (triangular(2.0, 0.5), 2.0, 1.0),
        (boxcar(), 1.0, 1.0),
        (boxcar(0.2, 3.0), 3.0, 1.2),
        (arctan(4.0), 2.0, 1.0),
        (arctan(), 1.0, 1.0),
        (multi_gaussian(), 0.7319, 0.425),
        (multi_gaussian(gamma=1.0, height=0.5), None, 0.5),
    ],
)
def test_peak_and_integral_of_the_derivative(spike_fn, peak, integral, x64):
    # x = sinh(y) reaches far into the tails, which fall like 1 / x^2.
    y = jnp.linspace(-14, 14, 200_001)
    values = spike_fn.derivative(jnp.sinh(y), *spike_fn.options)
    assert jnp.trapezoid(values * jnp.cosh(y), y) == pytest.approx(integral, rel=5e-4)
    at_zero = float(jax.grad(spike_fn)(jnp.zeros(())))
    assert at_zero == pytest.approx(float(values.max()), rel=1e-12)
    assert peak is None or at_zero == pytest.approx(peak, rel=2e-4)


@names
def test_derivative_is_the_same_on_both_sides_of_the_threshold(name, x64):
    x = jnp.asarray(FAR_AND_NEAR)
    derivative = jax.vmap(jax.grad(SURROGATES[name]()))
    np.testing.assert_array_equal(derivative(x), derivative(-x))


@names
@dtypes
def test_derivative_is_finite_and_near_the_formula_in_every_dtype(name, dtype):
    """Also far from the threshold, where squares overflow, and at zero."""
    x = jnp.asarray(FAR_AND_NEAR, dtype)
    _, slope = jax.jvp(SURROGATES[name](), (x,), (jnp.ones_like(x),))
    assert slope.dtype == x.dtype
    assert jnp.isfinite(slope).all()
    exact = FORMULAS[name](np.asarray(x, np.float64))
    tolerance = 10 * float(jnp.finfo(dtype).eps) * exact.max()
    np.testing.assert_allclose(np.asarray(slope, np.float64), exact, rtol=0, atol=tolerance)


@names
@given(x=st.floats(-1e3, 1e3, width=32), tangent=st.floats(-10, 10, width=32))
def test_forward_and_reverse_mode_agree(name, x, tangent):
    spike_fn = SURROGATES[name]()
    x, tangent = jnp.float32(x), jnp.float32(tangent)
    _, forward = jax.jvp(spike_fn, (x,), (tangent,))
    _, pull = jax.vjp(spike_fn, x)
    assert forward == pull(tangent)[0]


@names
def test_second_derivative_is_that_of_the_surrogate(name, x64):
    """Away from zero and from the edges of boxcar and triangular, where there is none."""
    x = np.array([-2.0, -0.7, -0.1, 0.05, 0.3, 1.5])
    ours = jax.vmap(jax.grad(jax.grad(SURROGATES[name]())))(jnp.asarray(x))
    step = 1e-5
    numeric = (FORMULAS[name](x + step) - FORMULAS[name](x - step)) / (2 * step)
    np.testing.assert_allclose(ours, numeric, rtol=1e-6, atol=1e-9)


@names
def test_second_derivative_is_finite_at_every_kink(name, x64):
    x = jnp.array([0.0, -0.0, 0.5, -0.5, 1.0, -1.0])
    assert jnp.isfinite(jax.vmap(jax.grad(jax.grad(SURROGATES[name]())))(x)).all()


def test_edge_of_the_box_is_inside(x64):
    x = jnp.array([-0.5, 0.5, np.nextafter(-0.5, -1), np.nextafter(0.5, 1)])
    np.testing.assert_array_equal(jax.vmap(jax.grad(boxcar()))(x), [1, 1, 0, 0])


@names
def test_equal_options_make_equal_spike_functions(name):
    make, options = SURROGATES[name], dict(OTHER_OPTIONS)[name]
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make(**options) == make(**options) != make()


def test_different_surrogates_are_not_equal():
    """Not with equal options either."""
    for one, other in itertools.combinations(SURROGATES, 2):
        assert SURROGATES[one]() != SURROGATES[other]()
    assert super_spike(2.0) != fast_sigmoid(2.0) != sigmoid(2.0)


def test_own_derivative():
    spike_fn = Surrogate(lambda x, width: jnp.exp(-jnp.abs(x) / width), (2.0,))
    assert spike_fn(jnp.zeros(())) == 1
    assert jax.grad(spike_fn)(-jnp.ones(())) == pytest.approx(np.exp(-0.5))


def test_own_derivative_in_a_neuron_is_what_its_gradient_is_made_of(x64):
    """One step from rest: ds/dI is the derivative at I - threshold, and the chain rule over the reset uses it again."""
    neuron = LIF(spike_fn=Surrogate(lambda x: 1 + x), threshold=0.5, reset="zero", param_dtype=jnp.float64)

    def step(current):
        carry, spikes = unroll(neuron, jnp.zeros((1, 1)), current.reshape(1, 1, 1))
        return jnp.stack([carry.sum(), spikes.sum()])

    for current in (0.25, 0.75):
        slope, fired = 1 + current - 0.5, current > 0.5
        ours = jax.jacobian(step)(jnp.asarray(current))
        np.testing.assert_allclose(ours, [1 - fired - current * slope, slope], rtol=1e-14)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_option_outside_its_range_is_an_error(name, option, value):
    if (name, option) == ("multi_gaussian", "height"):
        value = value - 0.1  # it may be zero
        message = rf"multi_gaussian got height={value}, expected a number >= 0"
    else:
        message = rf"{name} got {option}={value}, expected a number > 0"
    with pytest.raises(ValueError, match=message):
        SURROGATES[name](**{option: value})


def test_multi_gaussian_without_flanks_is_a_gaussian(x64):
    x = jnp.linspace(-3, 3, 101)
    ours = jax.vmap(jax.grad(multi_gaussian(gamma=1.0, width=0.5, height=0.0)))(x)
    np.testing.assert_allclose(ours, jax.vmap(jax.grad(gaussian(0.5)))(x), rtol=1e-14)


def test_options_that_are_not_numbers_are_refused():
    with pytest.raises(TypeError, match=r"got options .*, expected numbers|'options'"):
        Surrogate(lambda x, width: width * x, (jnp.ones(3),))


@pytest.mark.parametrize("wrong", [lambda x: x.astype(jnp.bfloat16), lambda x: x.sum(), lambda x: jnp.stack([x, x])])
def test_a_derivative_of_another_shape_or_dtype_is_refused(wrong):
    with pytest.raises(TypeError, match=r"got x of float32\[2\] and returned .*, expected the same shape and dtype"):
        jax.grad(lambda x: Surrogate(wrong)(x).sum())(jnp.ones(2))
