"""Laws of the random manifolds."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import manifold_values, random_manifolds

CASES = {
    "rough line": dict(dim=1, alpha=1.5),
    "surface": dict(dim=2, alpha=2.0),
    "smooth volume with submanifolds": dict(dim=3, alpha=3.0, n_spikes=2),
}


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@cache
def draw(case="surface", seed=0):
    return random_manifolds(random.key(seed), n_classes=4, n_units=50, **CASES[case])


def points(n_points, case):
    return jnp.asarray(np.random.default_rng(9).random((n_points, 4, CASES[case]["dim"])), float)


def values_at(coordinates, manifolds):
    return np.asarray(jax.jit(manifold_values)(manifolds, coordinates))


def parts_of(case):
    """The uniform draws behind the parameters: u, v and p of the equation, for each harmonic i = 1..F-1."""
    manifolds = draw(case)
    i = np.arange(1, manifolds.amplitudes.shape[1] + 1, dtype=np.float64).reshape(1, -1, 1, 1, 1)
    spectrum = 1 / ((i + 1) ** CASES[case]["alpha"] + 1)
    return (
        np.asarray(manifolds.amplitudes) / spectrum,
        np.asarray(manifolds.frequencies) / i,
        np.asarray(manifolds.phases),
    )


def double_values(manifolds, coordinates):
    """The equation in float64 and plain loops, standardised: [P, C, S, N]."""
    a, w, p, low, high = (np.asarray(parameter, np.float64) for parameter in manifolds)
    n_classes, n_harmonics, dim = a.shape[:3]
    values = np.empty((len(coordinates), n_classes, *a.shape[3:]))
    for point, c in np.ndindex(len(coordinates), n_classes):
        y = np.ones(a.shape[3:])
        for m in range(dim):
            x = float(coordinates[point, c, m])
            y *= sum(a[c, i, m] * np.sin(2 * np.pi * (w[c, i, m] * x + p[c, i, m])) for i in range(n_harmonics))
        values[point, c] = (y - low[c]) / (high[c] - low[c])
    return values


def test_values_are_those_of_the_equation(case):
    manifolds, coordinates = draw(case), points(11, case)
    values = values_at(coordinates, manifolds)
    assert values.shape == (11, 4, CASES[case].get("n_spikes", 1), 50)
    np.testing.assert_allclose(values, double_values(manifolds, np.asarray(coordinates)), rtol=0, atol=1e-4)


def test_values_are_those_of_the_equation_to_double_precision(x64):
    manifolds, coordinates = draw.__wrapped__("surface"), points(11, "surface")
    values = values_at(coordinates, manifolds)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, double_values(manifolds, np.asarray(coordinates)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("alpha", "n_harmonics"), [(3.0, 10), (2.0, 32), (1.5, 100), (1.0, 1000), (0.5, 1000), (1e-3, 1000)]
)
def test_smoothness_sets_the_number_of_harmonics(alpha, n_harmonics):
    manifolds = jax.eval_shape(lambda key: random_manifolds(key, n_classes=2, n_units=3, alpha=alpha), random.key(0))
    assert manifolds.amplitudes.shape[1] == n_harmonics - 1  # without the constant


def test_amplitudes_and_frequencies_are_uniform_times_the_spectrum(case):
    for part in parts_of(case):
        assert part.min() >= 0 and part.max() < 1 + 1e-6
        per_harmonic = part.swapaxes(0, 1).reshape(part.shape[1], -1)  # at least 200 draws of each
        sizes = np.array([[0.25], [0.5], [0.75]])
        tolerance = 5 * np.sqrt(sizes * (1 - sizes) / per_harmonic.shape[1])
        assert np.all(np.abs(np.quantile(per_harmonic, sizes.ravel(), axis=1) - sizes) < tolerance)


def test_parameters_are_drawn_independently(case):
    parts = np.stack(parts_of(case)).reshape(3, -1)
    assert len(np.unique(parts[2])) > 0.99 * parts[2].size  # no class, harmonic, dimension or unit repeats another
    np.testing.assert_allclose(np.corrcoef(parts), np.eye(3), atol=5 / np.sqrt(parts.shape[1]))


def test_bounds_belong_to_the_manifold(case):
    values = values_at(points(4000, case), draw(case))
    # The extremes of 4,096 points leave out 2 in 4,097 of the values on average; 4,000 other points nearly reach them.
    assert 1e-4 < np.mean((values < 0) | (values > 1)) < 1.5e-3
    assert np.all(np.ptp(values, axis=0) > 0.7)
    assert np.mean(np.ptp(values, axis=0)) > 0.95


def test_same_key_gives_the_same_manifolds():
    for first, second, other in zip(draw(), draw.__wrapped__(), draw(seed=1), strict=True):
        np.testing.assert_array_equal(first, second)
        assert np.mean(np.asarray(first) == np.asarray(other)) < 1e-3


def test_a_constant_unit_has_finite_values():
    flat = jax.tree.map(lambda parameter: 0 * parameter, draw())
    np.testing.assert_array_equal(values_at(points(11, "surface"), flat), np.zeros((11, 4, 1, 50)))


@pytest.mark.parametrize("option", ["n_classes", "n_units", "n_spikes", "dim"])
def test_a_size_below_one_is_an_error(option):
    with pytest.raises(ValueError, match=rf"{option} got 0, expected an integer of at least 1"):
        random_manifolds(random.key(0), **{option: 0})


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_a_smoothness_not_above_zero_is_an_error(alpha):
    with pytest.raises(ValueError, match=r"alpha got .*, expected a finite number above 0"):
        random_manifolds(random.key(0), alpha=alpha)
