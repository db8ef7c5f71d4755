"""Spike functions and parameters against their formulas in NumPy, all of them in one program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import (
    LIF,
    POSITIVE,
    REAL,
    SURROGATES,
    UNIT_INTERVAL,
    Parameter,
    Surrogate,
    Trainable,
    connect,
    time_constant,
    unroll,
)
from slax_neurons.parameter import ClosedInterval, Domain


def density(x, mean, width):
    return np.exp(-(((x - mean) / width) ** 2) / 2) / np.sqrt(2 * np.pi) / width


def multi_gaussian(x, gamma=0.5, width=0.3, scale=6.0, height=0.15):
    flanks = density(x, width, scale * width) + density(x, -width, scale * width)
    return gamma * ((1 + height) * density(x, 0, width) - height * flanks)


def logistic(x):
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


FORMULAS = {
    "arctan": lambda x, alpha=2.0: alpha / 2 / (1 + (np.pi * alpha * x / 2) ** 2),
    "boxcar": lambda x, width=0.5, height=1.0: height * (np.abs(x) <= width),
    "fast_sigmoid": lambda x, slope=25.0: 1 / (slope * np.abs(x) + 1) ** 2,
    "gaussian": lambda x, width=0.5: density(x, 0, width),
    "multi_gaussian": multi_gaussian,
    "sigmoid": lambda x, beta=4.0: beta * logistic(beta * x) * logistic(-beta * x),
    "super_spike": lambda x, beta=10.0: beta / (beta * np.abs(x) + 1) ** 2,
    "triangular": lambda x, height=0.3, width=1.0: height * np.maximum(0, 1 - np.abs(x) / width),
}
OTHERS = {
    "arctan": {"alpha": 5.0},
    "boxcar": {"width": 0.2, "height": 0.7},
    "fast_sigmoid": {"slope": 3.0},
    "gaussian": {"width": 0.2},
    "multi_gaussian": {"gamma": 0.8, "width": 0.4, "scale": 3.0, "height": 0.3},
    "sigmoid": {"beta": 9.0},
    "super_spike": {"beta": 3.0},
    "triangular": {"height": 0.8, "width": 0.6},
}
CASES = [(name, options) for name in SURROGATES for options in ({}, OTHERS[name])]
X = np.concatenate([np.linspace(-1e3, 1e3, 501), np.linspace(-1.01, 1.01, 400), [0.0, -0.0, 0.5, -0.5, 0.2, -0.2]])


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_spikes_and_slopes_of_all_surrogates_are_the_formulas(dtype, x64):
    """Spikes at zero and above, slopes near the formula and finite, second derivatives those of the formula."""
    functions = [SURROGATES[name](**options) for name, options in CASES]

    @jax.jit
    def everything(x):
        ones = jnp.ones_like(x)
        made = []
        for spike in functions:
            slope = lambda x, spike=spike: jax.jvp(spike, (x,), (ones,))[1]  # noqa: E731
            made.append((spike(x), slope(x), jax.vjp(spike, x)[1](ones)[0], jax.jvp(slope, (x,), (ones,))[1]))
        return made

    x = jnp.asarray(X, dtype)
    exact = np.asarray(x, np.float64)
    for (name, options), (spikes, slope, reverse, second) in zip(CASES, everything(x), strict=True):
        assert {array.dtype for array in (spikes, slope, reverse, second)} == {jnp.dtype(dtype)}
        np.testing.assert_array_equal(np.asarray(spikes, np.float64), exact >= 0)
        np.testing.assert_array_equal(np.asarray(slope, np.float64), np.asarray(reverse, np.float64))
        formula = FORMULAS[name](exact, **options)
        if dtype == "float64":
            np.testing.assert_allclose(slope, formula, rtol=1e-12, atol=1e-15)
            eps = 1e-6
            quotient = (FORMULAS[name](exact + eps, **options) - FORMULAS[name](exact - eps, **options)) / (2 * eps)
            has_one = np.min(np.abs(np.abs(exact)[:, None] - [0, 0.2, 0.5, 0.6, 1.0]), axis=1) > 0.006
            np.testing.assert_allclose(np.asarray(second)[has_one], quotient[has_one], rtol=1e-5, atol=1e-6)
        else:
            edge = np.isin(np.abs(exact), np.asarray(jnp.asarray([0.2, 0.5], dtype), np.float64))  # of the box
            bound = 12 * float(jnp.finfo(dtype).eps) * formula.max()
            np.testing.assert_allclose(np.asarray(slope, np.float64)[~edge], formula[~edge], rtol=0, atol=bound)
        assert dtype == "float16" or np.isfinite(np.asarray(second, np.float64)).all()


def test_integrals_are_those_of_the_docstrings():
    """x = sinh(y) reaches far into the tails, which fall like 1 / x^2."""
    y = np.linspace(-14, 14, 200_001)
    integrals = {"arctan": 1, "boxcar": 1, "fast_sigmoid": 2 / 25, "gaussian": 1, "multi_gaussian": 0.425}
    integrals |= {"sigmoid": 1, "super_spike": 2, "triangular": 0.3}
    for name, expected in integrals.items():
        assert np.trapezoid(FORMULAS[name](np.sinh(y)) * np.cosh(y), y) == pytest.approx(expected, rel=5e-4)


def test_surrogates_are_equal_where_they_are_made_alike():
    for name, options in OTHERS.items():
        make = SURROGATES[name]
        assert make() == make() != make(**options) == make(*options.values())
        assert hash(make()) == hash(make())
    assert all(SURROGATES[one]() != SURROGATES[other]() for one, other in itertools.combinations(SURROGATES, 2))
    assert SURROGATES["super_spike"](2.0) != SURROGATES["fast_sigmoid"](2.0)


def test_second_and_third_derivatives_in_a_loop_are_those_of_calculus(x64):
    """Of x s(2 x) + s(x)^2 at .3 with s' = exp(-x^2); JAX drops the rule of a `jax.custom_jvp` there."""
    spike = Surrogate(lambda x: jnp.exp(-(x**2)))
    x, u = 0.3, 0.6
    d, slope, bend = np.exp(-(x**2)), -2 * x * np.exp(-(x**2)), (4 * x**2 - 2) * np.exp(-(x**2))
    e, slope_2, bend_2 = np.exp(-(u**2)), -2 * u * np.exp(-(u**2)), (4 * u**2 - 2) * np.exp(-(u**2))

    def in_a_loop(x):
        def body(total, factor):
            return total + factor * (spike(x) ** 2 + x * spike(2 * x)), None

        return jax.lax.scan(body, 0.0, jnp.array([0.25, 0.75]))[0]

    second, third = jax.grad(jax.grad(in_a_loop)), jax.grad(jax.grad(jax.grad(in_a_loop)))
    found = jax.jit(lambda x: (second(x), third(x), jax.vmap(second)(x[None])[0]))(jnp.asarray(x))
    by_hand = 2 * (d * d + slope) + 4 * e + 4 * x * slope_2  # s(.3) = s(.6) = 1
    assert found[0] == pytest.approx(by_hand, rel=1e-12) == found[2]
    assert found[1] == pytest.approx(2 * (3 * d * slope + bend) + 12 * slope_2 + 8 * x * bend_2, rel=1e-12)


# ----------------------------------------------------------------------------------------------------------- parameters

DOMAINS = {"(0, 1)": UNIT_INTERVAL, "(0, inf)": POSITIVE, "(-inf, inf)": REAL, "(0, 100)": Domain(0.0, 100.0)}
INSIDE = {"(0, 1)": 0.9, "(0, inf)": 2.5, "(-inf, inf)": -3.0, "(0, 100)": 40.0}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_parameter_has_its_value_and_no_number_leads_out_of_its_domain(dtype, x64):
    numbers = jnp.asarray([-1e3, -3.0, 0.0, 2.0, 1e3], dtype)
    for name, domain in DOMAINS.items():
        value = INSIDE[name]
        for given in (value, Trainable(value), np.array([1.0, 0.9, 1.1]) * value, Trainable(np.full(3, value))):
            used = np.asarray(Parameter("a b", given, domain, dtype)(jnp.zeros((2, 3), dtype)), np.float64)
            expected = np.asarray(getattr(given, "value", given))
            np.testing.assert_allclose(np.broadcast_to(used, (2, 3)), np.broadcast_to(expected, (2, 3)),
                                       rtol=16 * float(jnp.finfo(dtype).eps))  # fmt: skip
        mapped = domain.constrain(numbers)
        assert mapped.dtype == jnp.dtype(dtype)
        mapped = np.asarray(mapped, np.float64)
        assert np.all(np.diff(mapped) >= 0) and np.all((mapped >= domain.low) & (mapped <= domain.high))
        slope = np.asarray(jax.vmap(jax.grad(domain.constrain))(numbers), np.float64)
        assert np.isfinite(slope).all() and np.all(slope >= 0)
        for outside in (domain.low, domain.high, np.nan, [value, domain.low]):
            assert np.asarray(outside) not in domain
    sigmoid = 100 / (1 + np.exp(-np.asarray(numbers, np.float64)[1:4]))
    np.testing.assert_allclose(
        np.asarray(DOMAINS["(0, 100)"].constrain(numbers), np.float64)[1:4],
        sigmoid,
        rtol=16 * float(jnp.finfo(dtype).eps),
    )


def test_a_closed_interval_is_reached_and_lets_gradients_pass():
    interval = ClosedInterval(0.0, 4.0)
    x = jnp.array([-2.0, 0.0, 1.5, 4.0, 9.0])
    assert interval.constrain(x).tolist() == [0.0, 0.0, 1.5, 4.0, 4.0]
    assert jax.vmap(jax.grad(interval.constrain))(x).tolist() == [1.0] * 5
    assert np.asarray([0.0, 4.0]) in interval
    assert np.asarray([4.1]) not in interval


def test_number_array_and_trainable_compute_the_same_and_a_value_per_unit_of_an_image(x64):
    x = jnp.asarray(np.random.default_rng(0).normal(0.5, 1, (5, 2, 4, 3)))
    values = np.array([0.5, 0.7, 0.9])

    def run(value):
        neuron = LIF(decay=value, param_dtype=jnp.float64)
        return np.asarray(unroll(neuron, neuron.initialize_carry(x.shape[1:]), x)[0])

    alone = np.stack([run(float(value))[..., n] for n, value in enumerate(values)], -1)
    for given in (values, Trainable(values), np.broadcast_to(values, (4, 3)), Trainable(np.tile(values, (4, 1)))):
        np.testing.assert_allclose(run(given), alone, rtol=1e-12, atol=1e-14)
    assert [leaf.shape for leaf in jax.tree.leaves(nnx.state(LIF(decay=Trainable(values)), nnx.Param))] == [(3,)]


def test_a_time_constant_is_its_exponential():
    assert time_constant(20e-3, dt=1e-3) == pytest.approx(np.exp(-1 / 20), rel=1e-15)
    assert type(time_constant(20, dt=1.0)) is float
    several = time_constant([5.0, 20.0], dt=2.0)
    assert several.dtype == np.float64
    np.testing.assert_allclose(several, np.exp(-2 / np.array([5.0, 20.0])), rtol=1e-15)


def test_a_replaced_attribute_is_that_of_a_neuron_made_with_it():
    neuron = LIF(decay=Trainable(0.75), threshold=np.full(3, 2.0))
    other = neuron.replace(reset="none", threshold=Trainable(0.5))
    assert (other.reset, type(other), neuron.reset) == ("none", LIF, "subtract")
    other.decay.unconstrained[...] = jnp.zeros(())
    assert (float(other.membrane_decay), float(neuron.membrane_decay)) == (0.5, pytest.approx(0.75))
    made, x = LIF(decay=0.5, reset="none", threshold=0.5), jnp.full((6, 2, 3), 0.4)
    runs = [unroll(cell, cell.initialize_carry((2, 3)), x) for cell in (other, made)]
    jax.tree.map(np.testing.assert_array_equal, *runs)


def test_a_model_built_twice_or_inside_a_traced_function_is_traced_once():
    traced = []

    @nnx.jit
    def run(model, x):
        traced.append(1)
        return unroll(model, model.initialize_carry((2, 3)), x)[1]

    for seed in range(2):
        model = connect([nnx.Linear(3, 3, rngs=nnx.Rngs(seed)), LIF(decay=Trainable(0.5))])
        run(model, jnp.ones((4, 2, 3)))
    assert len(traced) == 1
    inside = jax.jit(lambda x: LIF(decay=Trainable(0.5))(jnp.zeros_like(x), x)[1])
    np.testing.assert_array_equal(inside(jnp.ones((2, 3))), 1)
