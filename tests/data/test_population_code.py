"""Laws of the population code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slax_data import latency_decode, latency_encode, population_decode, population_encode

VALUES = jnp.asarray(np.r_[np.linspace(0, 1, 37), 0.25, 0.375, 0.999].reshape(5, 8), jnp.float32)


@pytest.mark.parametrize(("n_cells", "width"), [(2, 0.4), (5, 0.25), (9, 0.06)])
def test_decoder_inverts_the_encoder(n_cells, width):
    cells = population_encode(VALUES, n_cells=n_cells, width=width)
    np.testing.assert_allclose(population_decode(cells, n_cells=n_cells, width=width), VALUES, atol=3e-6)


def test_intensities_are_the_tuning_curves_with_the_cells_of_a_value_side_by_side():
    cells = np.asarray(population_encode(VALUES, n_cells=5, width=0.2)).reshape(5, 8, 5)
    values = np.asarray(VALUES, np.float64)
    for j, centre in enumerate([0, 0.25, 0.5, 0.75, 1]):
        np.testing.assert_allclose(cells[..., j], np.exp(-((values - centre) ** 2) / 0.08), atol=1e-6)
    assert cells.dtype == np.float32 and cells.min() >= 0 and cells.max() <= 1


def test_error_is_bounded_by_that_of_the_intensities():
    n_cells, width, n_steps = 5, 0.25, 100
    cells = population_encode(VALUES, n_cells=n_cells, width=width)
    decoded = population_decode(latency_decode(latency_encode(cells, n_steps=n_steps)), n_cells=n_cells, width=width)
    error = 0.5 / (n_steps - 1)
    strongest = np.sort(np.asarray(cells).reshape(-1, n_cells))[:, -2:]
    bound = width**2 * (n_cells - 1) * error * (1 / strongest).sum(axis=-1)
    assert np.all(np.abs(np.asarray(decoded - VALUES)).ravel() < 1.1 * bound)


def test_narrow_cells_give_the_nearest_centre():
    decoded = population_decode(population_encode(VALUES, n_cells=5, width=0.01), n_cells=5, width=0.01)
    np.testing.assert_array_less(np.abs(decoded - VALUES), 0.125 + 1e-6)
    one = population_decode(jnp.array([[0.0, 0.0, 0.0, 0.2, 0.0]]), n_cells=5, width=0.2)
    np.testing.assert_array_equal(one, [[0.75]])


def test_cells_without_activity_say_nothing():
    decoded = population_decode(jnp.array([[0.0, 0.0, 0.0, 1.0, 1.0, 0.0]]), n_cells=3, width=0.2)
    np.testing.assert_array_equal(decoded, [[np.nan, 0.25]])


def test_values_are_cut_off_at_the_ends():
    decoded = population_decode(jnp.array([[1.0, 0.01, 0.0], [0.0, 0.01, 1.0]]), n_cells=3, width=0.5)
    np.testing.assert_array_equal(decoded, [[0.0], [1.0]])


def test_jit_changes_nothing():
    def encode(values):
        return population_encode(values, n_cells=4, width=0.3)

    cells = encode(VALUES)
    np.testing.assert_allclose(jax.jit(encode)(VALUES), cells, rtol=1e-6)
    decode = lambda cells: population_decode(cells, n_cells=4, width=0.3)  # noqa: E731
    np.testing.assert_allclose(jax.jit(decode)(cells), decode(cells), atol=1e-6)


def test_double_precision_is_kept(x64):
    cells = population_encode(VALUES.astype(jnp.float64), n_cells=4, width=0.3)
    assert cells.dtype == population_decode(cells, n_cells=4, width=0.3).dtype == jnp.float64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (jnp.array([[0.0, 1.5]]), r"values must lie in \[0, 1\], got values from 0 to 1.5"),
        (jnp.array([[jnp.nan, 0.5]]), r"values must be numbers in \[0, 1\], got 1 NaN in 2"),
        (jnp.array([0.5]), r"values must be floating-point numbers of shape \[B, N\]"),
    ],
)
def test_bad_values_are_an_error(no_shape_checks, values, message):
    with pytest.raises(ValueError, match=message):
        population_encode(values, n_cells=3, width=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_cells": 1, "width": 0.2}, "n_cells got 1, expected an integer of at least 2"),
        ({"n_cells": 3, "width": 0.0}, "width got 0.0, expected a finite number above 0"),
        ({"n_cells": 3, "width": float("nan")}, "width got nan"),
    ],
)
@pytest.mark.parametrize("code", [population_encode, population_decode])
def test_bad_cells_are_an_error(code, options, message):
    with pytest.raises(ValueError, match=message):
        code(jnp.zeros((2, 6)), **options)


@pytest.mark.parametrize("shape", [(2, 7), (6,)])
def test_other_units_than_those_of_the_cells_are_an_error(no_shape_checks, shape):
    with pytest.raises(ValueError, match=r"shape \[B, N K\] for K = n_cells = 3, got \[.*Give n_cells and all units"):
        population_decode(jnp.zeros(shape), n_cells=3, width=0.2)
