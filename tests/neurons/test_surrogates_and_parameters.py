"""Spike functions and parameters against their formulas in NumPy, all of them in one program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_neurons as sn
from slax_neurons import LIF, POSITIVE, REAL, SURROGATES, UNIT_INTERVAL, Surrogate, Trainable, unroll
from slax_neurons.parameter import Domain


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
OTHERS = {"arctan": (5.0,), "boxcar": (0.2, 0.7), "fast_sigmoid": (3.0,), "gaussian": (0.2,), "sigmoid": (9.0,)}
OTHERS |= {"multi_gaussian": (0.8, 0.4, 3.0, 0.3), "super_spike": (3.0,), "triangular": (0.8, 0.6)}
CASES = [(name, options) for name in SURROGATES for options in ((), OTHERS[name])]
X = np.concatenate([np.linspace(-1e3, 1e3, 501), np.linspace(-1.01, 1.01, 400), [0.0, -0.0, 0.5, -0.5, 0.2, -0.2]])


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_spikes_and_slopes_of_all_surrogates_are_the_formulas(dtype, x64):
    """Spikes at zero and above, slopes near the formula, second derivatives those of the formula, all of them finite."""

    @jax.jit
    def everything(x):
        ones = jnp.ones_like(x)

        def derivatives(spike):
            slope = lambda x: jax.jvp(spike, (x,), (ones,))[1]  # noqa: E731
            return spike(x), jax.vjp(spike, x)[1](ones)[0], *jax.jvp(slope, (x,), (ones,))

        return [derivatives(SURROGATES[name](*options)) for name, options in CASES]

    x = jnp.asarray(X, dtype)
    exact, eps, tiny = np.asarray(x, np.float64), float(jnp.finfo(dtype).eps), 1e-6
    kinks = np.asarray(jnp.asarray([0, 0.2, 0.5, 0.6, 1.0], dtype), np.float64)
    from_kinks = np.min(np.abs(np.abs(exact)[:, None] - kinks), axis=1)
    for (name, options), made in zip(CASES, everything(x), strict=True):
        assert {array.dtype for array in made} == {jnp.dtype(dtype)}
        spikes, reverse, slope, second = (np.asarray(array, np.float64) for array in made)
        np.testing.assert_array_equal(spikes, exact >= 0)
        np.testing.assert_array_equal(slope, reverse)
        before, formula, after = (FORMULAS[name](exact + step, *options) for step in (-tiny, 0, tiny))
        smooth = from_kinks > (0.006 if dtype == "float64" else 0)
        np.testing.assert_allclose(slope[smooth], formula[smooth], rtol=0, atol=12 * eps * formula.max())
        assert dtype == "float16" or np.isfinite(second).all()
        if dtype == "float64":
            np.testing.assert_allclose(slope, formula, rtol=1e-12, atol=1e-15)
            quotient = (after - before) / (2 * tiny)
            np.testing.assert_allclose(second[smooth], quotient[smooth], rtol=1e-5, atol=1e-6)


def test_second_derivatives_at_the_threshold_are_zero_by_symmetry(x64):
    for make in SURROGATES.values():
        assert jax.grad(jax.grad(make()))(0.0) == 0


def test_second_and_third_derivatives_in_a_loop_are_those_outside_of_it(x64):
    """JAX drops the rule of a `jax.custom_jvp` there."""
    spike = Surrogate(lambda x: jnp.exp(-(x**2)))
    plain = lambda x: spike(x) ** 2 + x * spike(2 * x)  # noqa: E731

    def in_a_loop(x):
        return jax.lax.scan(lambda total, factor: (total + factor * plain(x), None), 0.0, jnp.array([0.25, 0.75]))[0]

    x, d = jnp.asarray(0.3), np.exp(-(np.array([0.3, 0.6]) ** 2))
    by_hand = 2 * (d[0] ** 2 - 0.6 * d[0]) + 4 * d[1] - 4 * 0.3 * 1.2 * d[1]  # s(.3) = s(.6) = 1
    second, third = (jax.grad(jax.grad(number)) for number in (in_a_loop, jax.grad(in_a_loop)))
    found = jax.jit(lambda x: (second(x), jax.vmap(second)(x[None])[0], third(x)))(x)
    np.testing.assert_allclose(found, [by_hand, by_hand, jax.grad(jax.grad(jax.grad(plain)))(x)], rtol=1e-12)


# ----------------------------------------------------------------------------------------------------------- parameters


def test_attributes_of_a_neuron_are_set_as_its_constructor_sets_them():
    neuron = LIF()
    neuron.decay, neuron.threshold, neuron.spike_fn, neuron.reset = 0.5, Trainable(0.7), "arctan", "zero"
    assert neuron.membrane_decay == 0.5 and neuron.spike_fn == SURROGATES["arctan"]() and neuron.reset == "zero"
    assert len(jax.tree.leaves(nnx.state(neuron, nnx.Param))) == 1


DOMAINS = [(UNIT_INTERVAL, 0.9), (POSITIVE, 2.5), (REAL, -3.0), (Domain(0.0, 100.0), 40.0)]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_parameter_has_its_value_and_no_number_leads_out_of_its_domain(dtype, x64):
    numbers, close = jnp.asarray([-1e3, -3.0, 0.0, 2.0, 1e3], dtype), {"rtol": 16 * float(jnp.finfo(dtype).eps)}
    for domain, value in DOMAINS:
        for given in (value, Trainable(value), np.array([1.0, 0.9, 1.1]) * value, Trainable(np.full(3, value))):
            used = np.asarray(sn.Parameter("a b", given, domain, dtype)(jnp.zeros((2, 3), dtype)), np.float64)
            whole = np.broadcast_arrays(used, getattr(given, "value", given), np.zeros((2, 3)))
            np.testing.assert_allclose(*whole[:2], **close)
        mapped = domain.constrain(numbers)
        slope = np.asarray(jax.vmap(jax.grad(domain.constrain))(numbers), np.float64)
        assert mapped.dtype == jnp.dtype(dtype)
        mapped = np.asarray(mapped, np.float64)
        assert np.all(np.diff(mapped) >= 0) and np.all((mapped >= domain.low) & (mapped <= domain.high))
        assert np.isfinite(slope).all() and np.all(slope >= 0)
        for outside in (domain.low, domain.high, np.nan, [value, domain.low]):
            assert np.asarray(outside) not in domain
    sigmoid = 100 * logistic(np.asarray(numbers, np.float64)[1:4])
    np.testing.assert_allclose(np.asarray(Domain(0.0, 100.0).constrain(numbers), np.float64)[1:4], sigmoid, **close)


def test_number_array_and_trainable_compute_the_same_and_a_value_per_unit_of_an_image(x64):
    x = jnp.asarray(np.random.default_rng(0).normal(0.5, 1, (5, 2, 4, 3)))
    values = np.array([0.5, 0.7, 0.9])

    def run(value):
        neuron = LIF(decay=value, param_dtype=jnp.float64)
        return np.asarray(unroll(neuron, neuron.initialize_carry(x.shape[1:]), x)[0])

    alone = np.stack([run(float(value))[..., n] for n, value in enumerate(values)], -1)
    for given in (values, Trainable(values), np.broadcast_to(values, (4, 3)), Trainable(np.tile(values, (4, 1)))):
        np.testing.assert_allclose(run(given), alone, rtol=1e-12, atol=1e-14)


def test_a_model_built_twice_or_inside_a_traced_function_is_traced_once():
    traced = []

    @nnx.jit
    def run(model, x):
        traced.append(1)
        return unroll(model, model.initialize_carry((2, 3)), x)[1]

    for seed in range(2):
        run(sn.connect([nnx.Linear(3, 3, rngs=nnx.Rngs(seed)), LIF(decay=Trainable(0.5))]), jnp.ones((4, 2, 3)))
    assert len(traced) == 1
    inside = jax.jit(lambda x: LIF(decay=Trainable(0.5))(jnp.zeros_like(x), x)[1])
    np.testing.assert_array_equal(inside(jnp.ones((2, 3))), 1)
