import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from slax_neurons import SURROGATES, Surrogate, arctan, fast_sigmoid, multi_gaussian

names = pytest.mark.parametrize("name", SURROGATES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


@names
@dtypes
def test_spikes_are_heaviside_with_a_spike_at_zero_and_keep_the_dtype(name, dtype):
    x = jnp.array([-1e3, -1e-3, -0.0, 0.0, 1e-3, 1e3], dtype)
    spikes = SURROGATES[name]()(x)
    assert spikes.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(spikes, np.float64), [0, 0, 1, 1, 1, 1])


@names
def test_derivative_is_the_formula(name, x64):
    x = jnp.linspace(-3, 3, 1001)
    ours = jax.vmap(jax.grad(SURROGATES[name]()))(x)
    np.testing.assert_allclose(ours, getattr(oracle, name)().derivative(np.asarray(x)), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("spike_fn", "peak", "integral"),
    [
        (fast_sigmoid(10.0), 1.0, 0.2),
        (fast_sigmoid(), 1.0, 2 / 25),
        (arctan(4.0), 2.0, 1.0),
        (arctan(), 1.0, 1.0),
        (multi_gaussian(), 0.7319, 0.425),
    ],
)
def test_peak_and_integral_of_the_derivative(spike_fn, peak, integral, x64):
    # x = sinh(y) reaches far into the tails, which fall like 1 / x^2.
    y = jnp.linspace(-14, 14, 200_001)
    values = spike_fn.derivative(jnp.sinh(y), *spike_fn.options) * jnp.cosh(y)
    assert jnp.trapezoid(values, y) == pytest.approx(integral, rel=2e-4)
    assert jax.grad(spike_fn)(jnp.zeros(())) == pytest.approx(peak, rel=1e-4)


@names
@dtypes
def test_derivative_is_finite_far_from_the_threshold(name, dtype):
    x = jnp.concatenate([jnp.linspace(-1e3, 1e3, 4001), jnp.linspace(-1, 1, 4001)]).astype(dtype)
    _, slope = jax.jvp(SURROGATES[name](), (x,), (jnp.ones_like(x),))
    assert slope.dtype == x.dtype
    assert jnp.isfinite(slope).all()


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
    spike_fn = SURROGATES[name]()
    x = jnp.array([-0.7, -0.1, 0.05, 0.3])
    ours = jax.vmap(jax.grad(jax.grad(spike_fn)))(x)
    step = 1e-5
    theirs = getattr(oracle, name)()
    numeric = (theirs.derivative(np.asarray(x) + step) - theirs.derivative(np.asarray(x) - step)) / (2 * step)
    np.testing.assert_allclose(ours, numeric, rtol=1e-6)


def test_equal_options_make_equal_spike_functions():
    assert fast_sigmoid(10.0) == fast_sigmoid(10.0) != fast_sigmoid(11.0)
    assert hash(arctan()) == hash(arctan())


def test_own_derivative():
    spike_fn = Surrogate(lambda x, width: jnp.exp(-jnp.abs(x) / width), (2.0,))
    assert jax.grad(spike_fn)(-jnp.ones(())) == pytest.approx(np.exp(-0.5))


@pytest.mark.parametrize(
    "make", [lambda: fast_sigmoid(0.0), lambda: arctan(-1.0), lambda: multi_gaussian(width=float("nan"))]
)
def test_option_outside_its_range_is_an_error(make):
    with pytest.raises(ValueError, match="expected a number > 0"):
        make()


def test_negative_height_is_an_error():
    with pytest.raises(ValueError, match=r"height=-0\.1, expected a number >= 0"):
        multi_gaussian(height=-0.1)
