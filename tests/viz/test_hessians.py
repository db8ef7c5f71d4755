"""Laws of the Hessian's eigenvalues and trace: those of the dense matrix, which is made here."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slax_viz import hessian_eigenvalues, hessian_trace, mean_interval

KEY = jax.random.key(0)


def test_eigenvalues_and_trace_are_those_of_the_dense_hessian(x64):
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    shapes = {"layers": [{"kernel": (3, 3), "bias": (1, 3)}, {"kernel": (3, 2), "bias": (1, 2)}], "gain": ()}
    params = jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=shape)), shapes, is_leaf=lambda x: type(x) is tuple)

    def loss(params):
        first, second = params["layers"]
        hidden = jnp.tanh(inputs @ first["kernel"] + first["bias"])
        outputs = jnp.exp(params["gain"]) * (hidden @ second["kernel"] + second["bias"])
        return jnp.mean(jnp.square(outputs - targets))

    flat, unravel = ravel_pytree(params)
    dense = np.asarray(jax.jit(jax.hessian(lambda flat: loss(unravel(flat))))(flat))
    values, vectors = np.linalg.eigh(dense)
    find = partial(hessian_eigenvalues, loss, n_top=3, tolerance=1e-9, order="smallest", n_starts=1)
    found = jax.jit(find)(params, KEY)
    assert values[0] < 0 and found.values.dtype == jnp.float64 and found.converged.all()
    np.testing.assert_allclose(found.values, values[:3], rtol=0, atol=1e-8)
    ours = np.asarray(jax.vmap(lambda tree: ravel_pytree(tree)[0])(found.vectors))
    np.testing.assert_allclose(np.abs(np.sum(ours * vectors[:, :3].T, axis=1)), 1, atol=1e-8)
    assert found.asymmetry < 1e-12 * np.abs(values).max()

    traces = jax.jit(jax.vmap(lambda key: hessian_trace(loss, params, key, n_samples=16)))(jax.random.split(KEY, 500))
    inside = [low <= np.trace(dense) <= high for _, low, high in map(mean_interval, np.asarray(traces.samples))]
    assert abs(np.mean(inside) - 0.95) < 0.03
    np.testing.assert_allclose(traces.mean, np.mean(traces.samples, axis=1), rtol=1e-12)
    np.testing.assert_allclose(traces.standard_error, np.std(traces.samples, axis=1, ddof=1) / 4, rtol=1e-12)
    variance = 2 * np.sum((dense - np.diag(np.diag(dense))) ** 2) / 16  # of Hutchinson's estimator
    np.testing.assert_allclose(np.var(traces.mean), variance, rtol=0.25)


SPECTRA = [(5, 5, 5, 3, -7, 0, 0), (2, 2, 2, 2, 2, 2, 2), (0, 0, 0, 0, 0, 0, 0), (1e6, 1, 1, 1, 0, 0, -1e6)]


@pytest.mark.parametrize("order", ["largest", "smallest", "magnitude"])
def test_known_spectra_are_found_with_their_copies(x64, order):
    key = {"largest": lambda x: -x, "smallest": lambda x: x, "magnitude": lambda x: -abs(x)}[order]
    options = {"n_top": 4, "tolerance": 1e-9, "order": order}
    find = jax.jit(lambda matrix: hessian_eigenvalues(lambda x: x @ matrix @ x / 2, jnp.zeros(7), KEY, **options))
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(7, 7)))
    for spectrum in SPECTRA:
        matrix = basis @ np.diag(np.array(spectrum, float)) @ basis.T
        found, scale = find(jnp.asarray(matrix)), max(map(abs, spectrum)) or 1
        of_order = np.abs if order == "magnitude" else np.asarray  # of 1e6 and -1e6 rounding makes one the first
        np.testing.assert_allclose(of_order(found.values), of_order(sorted(spectrum, key=key)[:4]), atol=1e-8 * scale)
        np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(4), atol=1e-8)
        misses = found.vectors @ matrix - np.asarray(found.values)[:, None] * found.vectors
        np.testing.assert_allclose(found.residuals, np.linalg.norm(misses, axis=1), atol=1e-12 * scale)
        assert found.converged.all()


def test_it_stops_when_it_has_converged_and_says_so_when_it_has_not(x64):
    spectrum = np.concatenate([[100.0, 50.0, 50.0], np.linspace(-1, 1, 97)])
    find = partial(hessian_eigenvalues, lambda x: jnp.sum(spectrum * x**2) / 2, jnp.zeros(100), KEY, n_top=3)
    early, short = find(n_steps=100), find(n_steps=3, n_starts=1)
    assert early.converged.all() and early.steps <= 24  # the copy of 50 long before the space is spanned
    np.testing.assert_allclose(early.values, [100, 50, 50], rtol=1e-4)
    assert not short.converged.all() and short.steps == 3
    # Whatever has converged: some eigenvalue is within the residual.
    distances = np.min(np.abs(np.asarray(short.values)[:, None] - spectrum), axis=1)
    assert np.all(distances <= np.asarray(short.residuals) * (1 + 1e-9))


def test_basis_stays_orthogonal_where_plain_lanczos_loses_it():
    """In float32 an eigenvalue far above the others comes back as a ghost copy, unless all is made orthogonal again."""
    spectrum = np.concatenate([[1e4], np.linspace(0.5, 1, 59)])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))
    matrix = jnp.asarray(rotation @ np.diag(spectrum) @ rotation.T, jnp.float32)
    options = {"n_top": 3, "n_steps": 60, "n_starts": 1, "tolerance": 1e-7}
    found = hessian_eigenvalues(lambda x: x @ matrix @ x / 2, jnp.zeros(60), KEY, **options)
    np.testing.assert_allclose(found.values, [1e4, 1, 1], rtol=0.1)
    np.testing.assert_allclose(found.values[0], 1e4, rtol=1e-5)
    assert found.values.dtype == jnp.float32 and found.asymmetry < 1e-5 * found.values[0]


def test_a_field_that_is_no_gradient_is_reported(x64):
    field = np.array([[2.0, 1.0, 0.0], [-1.0, 1.0, 0.5], [0.0, 0.0, -1.0]])
    skewed = jax.custom_vjp(lambda x: jnp.sum(x))  # its "gradient" is the field F x, which is not that of any function
    skewed.defvjp(lambda x: (jnp.sum(x), x), lambda x, g: (g * (field @ x),))
    found = hessian_eigenvalues(skewed, jnp.ones(3), KEY, n_top=2, n_steps=3)
    symmetric, skew = (field + field.T) / 2, field - field.T
    # All of the space is spanned: the values are those of the symmetric part, and H v misses them by the skew part of v.
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(symmetric)[::-1][:2], atol=1e-8)
    np.testing.assert_allclose(found.residuals, np.linalg.norm(found.vectors @ skew.T / 2, axis=1), atol=1e-8)
    assert not found.converged.any()
    largest = np.linalg.norm(skew, 2)  # v . H w - w . H v is at most this, and in some pair a good part of it
    assert largest / 3 < found.asymmetry <= largest + 1e-12
