"""Laws of planes through the space of parameters, and of losses on planes and lines."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_viz as viz

XS, YS = np.linspace(-1, 2, 5), np.linspace(-0.5, 1, 4)
SHAPES = {"bias": (3,), "kernel": (4, 3)}


def tree(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def vector(leaves):
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(leaves)])


RULES = {"bptt": [tree(i) for i in range(4)], "ostl": [tree(i) for i in range(4, 8)]}
POINTS = np.stack([vector(one) for one in RULES["bptt"] + RULES["ostl"]])


def reordered(leaves):
    """The leaves of an OrderedDict come in its own order, those of a dict sorted."""
    return OrderedDict((name, leaves[name]) for name in ("kernel", "bias"))


def quadratic(params):
    return jnp.sum(jnp.square(params["kernel"] - 1)) + 2 * jnp.sum(jnp.square(params["bias"]))


def at(origin, x, a, y=0.0, b=None):
    return jax.tree.map(lambda o, a, b: o + x * a + y * b, origin, a, a if b is None else b)


@pytest.mark.parametrize(("dtype", "batch", "precision"), [(np.float32, 3, 1e-5), (np.float64, 1000, 1e-13)])
def test_surface_is_the_loss_at_each_point_of_the_plane(dtype, batch, precision):
    with jax.enable_x64(dtype == np.float64):
        origin, d1, d2 = (tree(seed, dtype) for seed in range(3))
        other = viz.Plane(origin, (d1, reordered(d2)))  # leaves are matched by path
        losses = viz.surface(quadratic, other, xs=XS, ys=YS, batch=batch)
        assert losses.dtype == dtype
        expected = [[quadratic(at(origin, x, d1, y, d2)) for x in XS.astype(dtype)] for y in YS.astype(dtype)]
        np.testing.assert_allclose(losses, expected, rtol=precision)


def test_losses_get_the_structure_and_dtypes_of_the_origin_and_keep_what_is_not_finite():
    graph, params = nnx.split(nnx.Linear(2, 1, use_bias=False, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    seen = set()

    def loss(state):
        seen.add((jax.tree.structure(state), *(leaf.dtype for leaf in jax.tree.leaves(state))))
        x = nnx.merge(graph, state).kernel[0, 0]
        return jnp.where(x > 1, jnp.inf, jnp.where(x < 0, jnp.nan, x))

    axes = [jax.tree.map(lambda _, row=row: jnp.asarray(row)[:, None], params) for row in np.eye(2, dtype=np.float32)]
    plane = viz.Plane(jax.tree.map(jnp.zeros_like, params), (axes[0], axes[1]))
    losses = viz.surface(loss, plane, xs=[-1, 0.5, 2], ys=[0], batch=2)
    assert losses.dtype == np.float32 and seen == {(jax.tree.structure(params), np.dtype(jnp.bfloat16))}
    np.testing.assert_array_equal(losses, [[np.nan, 0.5, np.inf]])


@pytest.mark.parametrize("origin", [None, RULES["bptt"][3]])
def test_plane_is_that_of_the_largest_moments_about_its_origin(origin):
    offsets = POINTS - (POINTS.mean(axis=0) if origin is None else POINTS[3])
    values, vectors = np.linalg.eigh(offsets.T @ offsets)
    plane, other = (viz.pca_plane(rules, origin=origin) for rules in (RULES, dict(reversed(RULES.items()))))
    np.testing.assert_allclose(plane.explained, values[[-1, -2]] / values.sum(), rtol=1e-5)
    np.testing.assert_allclose(vector(plane.origin), (POINTS - offsets)[0], atol=1e-6)
    for direction, same, expected in zip(plane.directions, other.directions, vectors.T[[-1, -2]], strict=True):
        sign = np.sign(np.sum(expected * np.abs(expected)))  # that of its larger half
        np.testing.assert_allclose(vector(direction), sign * expected, atol=1e-5)
        np.testing.assert_allclose(vector(same), sign * expected, atol=1e-5)
    upstream = viz.pca_plane(RULES, origin=RULES["bptt"][3], centered=True)
    assert origin or plane.explained == pytest.approx(upstream.explained, rel=1e-12)  # as Slax 0.0.1 had them


def test_coordinates_are_those_of_the_nearest_point_and_losses_there_those_of_checkpoints_on_the_plane():
    plane = viz.random_plane(tree(0), jax.random.key(0))
    d1, d2 = map(vector, plane.directions)
    assert abs(d1 @ d2) > 0.1  # so that a plain product would not do
    ((x, y),) = plane.coordinates([tree(3)])
    rest = vector(tree(3)) - vector(plane.origin) - x * d1 - y * d2
    np.testing.assert_allclose([rest @ d1, rest @ d2], 0, atol=1e-5)
    on_it = [at(tree(0), s, tree(1), t, tree(2)) for s, t in ((0, 0), (1, 0.5), (2, -1))]
    flat = viz.pca_plane({"bptt": on_it})
    np.testing.assert_allclose(sum(flat.explained), 1, atol=1e-6)
    losses = viz.losses_at(quadratic, flat, flat.coordinates(on_it))
    np.testing.assert_allclose(losses, list(map(quadratic, on_it)), rtol=1e-4)


def test_random_directions_are_as_long_as_their_weights():
    params = tree(0) | {"delays": {"unconstrained": np.ones((2, 3), np.float32)}}
    params["kernel"][:, 1] = 0
    for direction in viz.random_plane(params, jax.random.key(0)).directions:
        norms = (np.linalg.norm(one["kernel"], axis=0) for one in (direction, params))
        np.testing.assert_allclose(*norms, rtol=1e-5)
        assert not np.any(direction["bias"]) and not np.any(direction["delays"]["unconstrained"])
    one, two = (viz.random_plane(params, jax.random.key(seed)).directions[0] for seed in (0, 1))
    assert np.max(np.abs(vector(one) - vector(two))) > 0.1


def test_line_between_solutions_and_its_barrier():
    ts = np.linspace(-0.5, 1.5, 9)
    losses = viz.interpolation(quadratic, tree(0), reordered(tree(1)), ts, batch=4)
    step = jax.tree.map(np.subtract, tree(1), tree(0))
    np.testing.assert_allclose(losses, [quadratic(at(tree(0), np.float32(t), step)) for t in ts], rtol=1e-5)
    ts = np.linspace(-1, 2, 31).round(1)
    hill = 1 + 2 * ts + 3 * ts * (1 - ts)
    assert viz.barrier(np.square(ts - 0.3), ts) == 0
    np.testing.assert_allclose(viz.barrier(np.where(ts > 1, 100, hill), ts), 0.75)  # what lies beyond does not count
    assert viz.barrier(np.where(ts == 0.5, np.inf, hill), ts) == np.inf
    assert np.isnan(viz.barrier(np.where(ts == 0.5, np.nan, hill), ts))
    assert np.isnan(viz.barrier(np.where(ts == 1, np.inf, hill), ts))
