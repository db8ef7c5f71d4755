"""Laws of the Hessian's products, eigenvalues and trace: those of the dense matrix, which is made here."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slax_viz import hessian_eigenvalues, hessian_product, hessian_trace, mean_interval

KEY = jax.random.key(0)


def quadratic(eigenvalues, seed=0):
    """A loss x . A x / 2 with A of these eigenvalues in a random basis, and the basis as columns."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    matrix = jnp.asarray(basis @ np.diag(eigenvalues) @ basis.T)
    return lambda x: x @ matrix @ x / 2, basis


def smooth_net(dtype):
    """A loss of 21 parameters, and random ones."""
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    inputs, targets = draw(6, 3), draw(6, 2)
    layers = [{"kernel": draw(3, 3), "bias": draw(3)}, {"kernel": draw(3, 2), "bias": draw(2)}]

    def loss(params):
        first, second = params["layers"]
        hidden = jnp.tanh(inputs @ first["kernel"] + first["bias"][None])
        outputs = jnp.exp(params["gain"]) * (hidden @ second["kernel"] + second["bias"][None])
        return jnp.mean(jnp.square(outputs - targets))

    return loss, {"layers": layers, "gain": draw()}


@cache
def dense_hessian():
    """That of the net in float64, in the order of the leaves."""
    with jax.enable_x64(True):
        loss, params = smooth_net(jnp.float64)
        flat, unravel = ravel_pytree(params)
        return np.asarray(jax.jit(jax.hessian(lambda flat: loss(unravel(flat))))(flat))


def flat_vectors(vectors):
    return np.asarray(jax.vmap(lambda tree: ravel_pytree(tree)[0])(vectors))


@jax.custom_vjp
def skewed(x):
    """A function whose "gradient" is the field F x, which is not that of any function."""
    return jnp.sum(x)


FIELD = np.array([[2.0, 1.0, 0.0], [-1.0, 1.0, 0.5], [0.0, 0.0, -1.0]])
skewed.defvjp(lambda x: (jnp.sum(x), x), lambda x, g: (g * (jnp.asarray(FIELD, x.dtype) @ x),))


def test_product_is_that_of_the_dense_hessian(x64):
    loss, params = smooth_net(jnp.float64)
    dense = dense_hessian()
    flat, unravel = ravel_pytree(params)
    vector = jax.random.normal(KEY, flat.shape, flat.dtype)
    product = hessian_product(loss, params, unravel(vector))
    assert jax.tree.structure(product) == jax.tree.structure(params)
    np.testing.assert_allclose(ravel_pytree(product)[0], dense @ vector, rtol=1e-10, atol=1e-10)


def test_eigenvalues_are_those_of_the_dense_hessian(x64):
    loss, params = smooth_net(jnp.float64)
    dense = dense_hessian()
    values, vectors = np.linalg.eigh(dense)
    first = [0, 1, 2]
    assert values[0] < 0
    find = partial(hessian_eigenvalues, loss, n_top=3, tolerance=1e-9, order="smallest", n_starts=1)
    found = jax.jit(find)(params, KEY)
    assert found.values.dtype == jnp.float64
    assert found.converged.all()
    np.testing.assert_allclose(found.values, values[first], rtol=0, atol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(flat_vectors(found.vectors) * vectors[:, first].T, axis=1)), 1, atol=1e-8)
    assert found.asymmetry < 1e-12 * np.abs(values).max()


def test_trace_is_that_of_the_dense_hessian_within_its_interval(x64):
    loss, params = smooth_net(jnp.float64)
    dense = dense_hessian()
    traces = jax.jit(jax.vmap(lambda key: hessian_trace(loss, params, key, n_samples=16)))(jax.random.split(KEY, 500))
    inside = [low <= np.trace(dense) <= high for _, low, high in map(mean_interval, np.asarray(traces.samples))]
    assert abs(np.mean(inside) - 0.95) < 0.03
    np.testing.assert_allclose(traces.mean, traces.samples.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(traces.standard_error, np.std(traces.samples, axis=1, ddof=1) / 4, rtol=1e-12)
    # The spread over keys is what the standard error says, and what the variance of Hutchinson's estimator is.
    variance = 2 * np.sum((dense - np.diag(np.diag(dense))) ** 2) / 16
    np.testing.assert_allclose(np.var(traces.mean), variance, rtol=0.25)
    np.testing.assert_allclose(np.mean(traces.standard_error**2), variance, rtol=0.1)


def test_float32_is_as_near_as_its_rounding():
    loss, params = smooth_net(jnp.float32)
    dense = dense_hessian()
    found = hessian_eigenvalues(loss, params, KEY, n_top=2, tolerance=1e-4)
    assert found.values.dtype == jnp.float32
    assert found.converged.all()
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(dense)[::-1][:2], rtol=1e-5)
    assert found.asymmetry < 1e-5 * found.values[0]


SPECTRA = [
    (5, 5, 5, 3, -7, 0, 0),
    (-1, -2, -2, -3, -3, -3, -9),
    (2, 2, 2, 2, 2, 2, 2),
    (0, 0, 0, 0, 0, 0, 0),
    (1e6, 1, 1, 1, 0, 0, -1e6),
]


@pytest.mark.parametrize("order", ["largest", "smallest", "magnitude"])
def test_known_spectra_are_found_with_their_copies(x64, order):
    key = {"largest": lambda x: -x, "smallest": lambda x: x, "magnitude": lambda x: -abs(x)}[order]

    @jax.jit
    def find(matrix):
        return hessian_eigenvalues(
            lambda x: x @ matrix @ x / 2, jnp.zeros(7), KEY, n_top=4, tolerance=1e-9, order=order
        )

    for spectrum in SPECTRA:
        _, basis = quadratic(np.array(spectrum, np.float64))
        matrix = basis @ np.diag(spectrum) @ basis.T
        found = find(jnp.asarray(matrix))
        scale = max(map(abs, spectrum)) or 1
        expected = sorted(spectrum, key=key)[:4]
        of_order = np.abs if order == "magnitude" else np.asarray  # of 1e6 and -1e6 rounding makes one the first
        np.testing.assert_allclose(of_order(found.values), of_order(expected), atol=1e-8 * scale)
        np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(4), atol=1e-8)
        misses = found.vectors @ matrix - np.asarray(found.values)[:, None] * found.vectors
        np.testing.assert_allclose(found.residuals, np.linalg.norm(misses, axis=1), atol=1e-12 * scale)
        assert found.converged.all()


def test_one_parameter_has_its_second_derivative(x64):
    found = hessian_eigenvalues(lambda x: -2 * x**2, jnp.ones(()), KEY)
    assert (found.values, found.steps, found.residuals, found.asymmetry) == (-4, 1, 0, 0)


def test_copies_are_found_long_before_the_space_is_spanned(x64):
    loss, _ = quadratic(np.concatenate([[5.0, 5.0, 5.0], np.linspace(-1, 1, 97)]))
    find = partial(hessian_eigenvalues, loss, jnp.zeros(100), KEY, n_top=3)
    found = find()
    assert found.steps < 50
    np.testing.assert_allclose(found.values, [5, 5, 5], rtol=1e-4)
    # The products of one vector hold one of the three, until rounding brings the others.
    assert np.all(find(n_starts=1, n_steps=10).values[1:] < 1.1)


def test_it_stops_when_it_has_converged_and_says_so_when_it_has_not(x64):
    spectrum = np.concatenate([[100.0, 50.0], np.linspace(-1, 1, 98)])
    loss, _ = quadratic(spectrum)
    find = partial(hessian_eigenvalues, loss, jnp.zeros(100), KEY, n_top=2, n_starts=1)
    early, short = find(n_steps=100), find(n_steps=2)
    assert early.converged.all()
    assert early.steps <= 16
    assert np.all(early.residuals <= 1e-3 * 100)
    np.testing.assert_allclose(early.values, [100, 50], rtol=1e-4)
    assert not short.converged.all()
    assert short.steps == 2
    # Whatever has converged: some eigenvalue is within the residual.
    distances = np.min(np.abs(np.asarray(short.values)[:, None] - spectrum), axis=1)
    assert np.all(distances <= np.asarray(short.residuals) * (1 + 1e-9))


def test_basis_stays_orthogonal_where_plain_lanczos_loses_it():
    """In float32 an eigenvalue far above the others comes back as a ghost copy, unless all is made orthogonal again."""
    spectrum = np.concatenate([[1e4], np.linspace(0.5, 1, 59)])
    loss, _ = quadratic(spectrum)
    found = hessian_eigenvalues(loss, jnp.zeros(60), KEY, n_top=3, n_steps=60, n_starts=1, tolerance=1e-7)
    np.testing.assert_allclose(found.values[0], 1e4, rtol=1e-5)
    assert np.all(found.values[1:] < 1.1)


def test_structure_of_the_tree_changes_nothing(x64):
    loss, params = smooth_net(jnp.float64)
    flat, unravel = ravel_pytree(params)
    as_tree = hessian_eigenvalues(loss, params, KEY, n_top=2)
    as_vector = hessian_eigenvalues(lambda flat: loss(unravel(flat)), flat, KEY, n_top=2)
    np.testing.assert_allclose(as_tree.values, as_vector.values, rtol=1e-10)
    np.testing.assert_allclose(flat_vectors(as_tree.vectors), as_vector.vectors, atol=1e-8)
    trace = hessian_trace(loss, params, KEY, n_samples=3)
    same = hessian_trace(lambda flat: loss(unravel(flat)), flat, KEY, n_samples=3)
    np.testing.assert_allclose(trace.samples, same.samples, rtol=1e-10)


def test_leaves_may_differ_in_dtype(x64):
    params = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(2, jnp.float64)}

    def loss(params):
        return jnp.sum(params["a"].astype(jnp.float64) ** 2) * 1.5 + jnp.sum(params["b"] ** 2)

    found = hessian_eigenvalues(loss, params, KEY, n_top=4)
    np.testing.assert_allclose(found.values, [3, 3, 2, 2], rtol=1e-6)
    assert {name: leaf.dtype for name, leaf in found.vectors.items()} == {"a": jnp.float32, "b": jnp.float64}
    np.testing.assert_allclose(hessian_trace(loss, params, KEY, n_samples=2).samples, 10)  # of a diagonal one, each


def test_a_field_that_is_no_gradient_is_reported(x64):
    found = hessian_eigenvalues(skewed, jnp.ones(3), KEY, n_top=2, n_steps=3)
    symmetric, skew = (FIELD + FIELD.T) / 2, FIELD - FIELD.T
    # All of the space is spanned: the values are those of the symmetric part, and H v misses them by the skew part of v.
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(symmetric)[::-1][:2], atol=1e-8)
    misses = np.linalg.norm(found.vectors @ skew.T / 2, axis=1)
    np.testing.assert_allclose(found.residuals, misses, atol=1e-8)
    assert not found.converged.any()
    largest = np.linalg.norm(skew, 2)  # v . H w - w . H v is at most this, and in some pair a good part of it
    assert largest / 3 < found.asymmetry <= largest + 1e-12
    # The trace does not see the skew part.
    trace = hessian_trace(skewed, jnp.ones(3), KEY, n_samples=400)
    assert abs(trace.mean - np.trace(FIELD)) < 4 * trace.standard_error


@pytest.mark.parametrize("stopped", [False, True])
def test_the_formal_hessian_of_spikes_is_symmetric(x64, stopped):
    """Derivatives of first and second order by surrogate, with and without a detached reset, over a few steps."""

    @jax.custom_jvp
    def spike(v):
        return (v >= 0).astype(v.dtype)

    spike.defjvp(lambda v, dv: (spike(*v), dv[0] / (1 + 3 * jnp.abs(v[0])) ** 2))
    rng = np.random.default_rng(0)
    inputs, weights = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.normal(size=(3, 4)))

    def loss(params):
        u, total = jnp.zeros(4), 0.0
        for x in inputs:
            v = jax.nn.sigmoid(params["decay"]) * u + x @ params["w"]
            s = spike(v - 0.5)
            u = v - 0.5 * (jax.lax.stop_gradient(s) if stopped else s)
            total = total + jnp.sum(s * params["out"]) ** 2
        return total

    params = {"w": weights, "decay": jnp.ones(4), "out": jnp.arange(1.0, 5.0)}
    found = hessian_eigenvalues(loss, params, KEY, n_steps=20, tolerance=1e-9)
    assert found.converged.all()
    assert found.asymmetry < 1e-12 * found.values[0]


@pytest.mark.parametrize(
    "find", [hessian_eigenvalues, hessian_trace, lambda *args: hessian_product(*args[:2], args[1])]
)
@pytest.mark.parametrize(
    ("loss", "params", "error", "message"),
    [
        (jnp.sum, {}, ValueError, "got an empty tree"),
        (jnp.sum, jnp.zeros((0, 3)), ValueError, "got an empty tree"),
        (jnp.sum, {"w": jnp.ones(2), "n": jnp.ones(2, jnp.int32)}, TypeError, "got int32 at 'n' in params"),
        (lambda x: jnp.sum(x**2), jnp.array([1.0, np.nan]), ValueError, "a parameter is NaN"),
        (lambda x: jnp.sum(x**1.5), jnp.array([1.0, -1.0]), ValueError, "Hessian.* is NaN"),
    ],
    ids=["none", "no number", "integers", "NaN parameter", "NaN Hessian"],
)
def test_unusable_parameters_are_refused(find, loss, params, error, message):
    with pytest.raises(error, match=message):
        find(loss, params, KEY)


def test_nan_goes_through_jit():
    loss = lambda x: jnp.sum(x**1.5)  # noqa: E731
    found = jax.jit(partial(hessian_eigenvalues, loss))(jnp.array([1.0, -1.0]), KEY)
    assert np.isnan(found.values).all()
    assert not found.converged.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_top": 4}, "n_top must be 1 to 3, the number of parameters, got 4"),
        ({"n_top": 0}, "n_top must be 1 to 3"),
        ({"n_top": 2, "n_starts": 3}, "n_starts must be 1 to n_top=2, got 3"),
        ({"n_top": 2, "n_steps": 1}, "n_steps must be at least n_top=2, got 1"),
        ({"tolerance": 0.0}, r"tolerance must be in \(0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hessian_eigenvalues(jnp.sum, jnp.ones(3), KEY, **options)


def test_one_sample_has_no_standard_error():
    with pytest.raises(ValueError, match="n_samples of at least 2, got 1"):
        hessian_trace(jnp.sum, jnp.ones(3), KEY, n_samples=1)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (jnp.ones(2), r"leaves of the same shapes, .*\(3,\) and \(2,\)"),
        ({"w": jnp.ones(3)}, r"only in vector: \['w'\]"),
        (jnp.ones(3, jnp.bfloat16), "leaves of the same dtypes, .*float32 and bfloat16"),
    ],
)
def test_vector_is_like_the_parameters(vector, message):
    with pytest.raises(ValueError, match=message):
        hessian_product(jnp.sum, jnp.ones(3), vector)
