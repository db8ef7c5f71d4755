"""Laws of planes through the space of parameters, and of losses on planes and lines."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_viz import Plane, barrier, grid_around, interpolation, losses_at, pca_plane, random_plane, surface

XS, YS = np.linspace(-1, 2, 5), np.linspace(-0.5, 1, 4)
SHAPES = {"bias": (3,), "kernel": (4, 3)}


def tree(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def vector(leaves):
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(leaves)])


def walk(seed, n=4):
    steps = [tree(0), *(tree(10 * seed + i) for i in range(n - 1))]
    return [jax.tree.map(lambda *leaves: sum(leaves), *steps[: k + 1]) for k in range(n)]


def reordered(leaves):
    """The leaves of an OrderedDict come in its own order, those of a dict sorted."""
    return OrderedDict((name, leaves[name]) for name in ("kernel", "bias"))


def quadratic(params):
    return jnp.sum(jnp.square(params["kernel"] - 1)) + 2 * jnp.sum(jnp.square(params["bias"]))


def quadratic_of(flat):
    """The same of a vector, in float64."""
    return 2 * np.sum(flat[:3] ** 2) + np.sum((flat[3:] - 1) ** 2)


@pytest.mark.parametrize(("dtype", "batch", "precision"), [(np.float32, 3, 1e-5), (np.float64, 1000, 1e-13)])
def test_surface_is_the_loss_at_each_point_of_the_plane(dtype, batch, precision):
    with jax.enable_x64(dtype == np.float64):
        plane = random_plane(tree(0, dtype), jax.random.key(0), move_biases=True)
        origin, d1, d2 = map(vector, (plane.origin, *plane.directions))
        expected = [[quadratic_of(origin + x * d1 + y * d2) for x in XS] for y in YS]
        other = Plane(plane.origin, (reordered(plane.directions[0]), reordered(plane.directions[1])))
        for one in (plane, other):  # leaves are matched by path
            losses = surface(quadratic, one, xs=XS, ys=YS, batch=batch)
            assert losses.dtype == dtype
            np.testing.assert_allclose(losses, expected, rtol=precision)


def test_losses_get_the_structure_and_dtypes_of_the_origin_and_keep_what_is_not_finite():
    graph, params = nnx.split(nnx.Linear(4, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    seen = []

    def loss(state):
        seen.append((jax.tree.structure(state), {leaf.dtype for leaf in jax.tree.leaves(state)}))
        return jnp.sum(nnx.merge(graph, state)(jnp.ones((2, 4), jnp.bfloat16)))

    losses = surface(loss, random_plane(params, jax.random.key(0)), xs=[0.0], ys=[0.0])
    assert losses.dtype == np.float32 and set(map(str, seen)) == {
        str((jax.tree.structure(params), {np.dtype(jnp.bfloat16)}))
    }
    basis = [{"w": row} for row in np.eye(2, dtype=np.float32)]
    flat = Plane({"w": np.zeros(2, np.float32)}, (basis[0], basis[1]))
    broken = lambda p: jnp.where(p["w"][0] > 1, jnp.inf, jnp.where(p["w"][0] < 0, jnp.nan, p["w"][0]))  # noqa: E731
    np.testing.assert_array_equal(surface(broken, flat, xs=[-1, 0.5, 2], ys=[0], batch=2), [[np.nan, 0.5, np.inf]])


def test_principal_plane_is_that_of_the_covariance():
    rules = {"bptt": walk(1), "ostl": walk(2)}
    points = np.stack([vector(one) for one in (*walk(1), *walk(2))])
    values, vectors = np.linalg.eigh(np.cov(points.T))
    plane, other = pca_plane(rules), pca_plane(dict(reversed(rules.items())))
    np.testing.assert_allclose(plane.explained, values[[-1, -2]] / values.sum(), rtol=1e-5)
    np.testing.assert_allclose(vector(plane.origin), points.mean(axis=0), atol=1e-6)
    for direction, same, expected in zip(plane.directions, other.directions, vectors.T[[-1, -2]], strict=True):
        found = vector(direction)
        sign = np.sign(np.sum(expected * np.abs(expected)))  # that of its larger half
        np.testing.assert_allclose(found, sign * expected, atol=1e-5)
        np.testing.assert_allclose(vector(same), found, atol=1e-6)


def test_plane_through_an_origin_is_the_nearest_of_those():
    rules, origin = {"bptt": walk(1), "ostl": walk(2)}, walk(1)[-1]
    offsets = np.stack([vector(one) - vector(origin) for one in rules["bptt"] + rules["ostl"]])

    def off(plane):
        axes = np.stack([vector(direction) for direction in plane.directions])
        return np.sum(np.square(offsets - offsets @ axes.T @ axes))

    nearest, upstream = pca_plane(rules, origin=origin), pca_plane(rules, origin=origin, centered=True)
    assert nearest.origin is origin and off(nearest) < off(upstream)
    np.testing.assert_allclose(sum(nearest.explained), 1 - off(nearest) / np.sum(np.square(offsets)), rtol=1e-5)
    np.testing.assert_allclose(upstream.explained, pca_plane(rules).explained, rtol=1e-5)  # as Slax 0.0.1 had them


def test_coordinates_are_those_of_the_nearest_point_and_losses_there_those_of_checkpoints_on_the_plane():
    plane = random_plane(tree(0), jax.random.key(0))
    d1, d2 = map(vector, plane.directions)
    assert abs(d1 @ d2) > 0.1  # so that a plain product would not do
    ((x, y),) = plane.coordinates([tree(3)])
    rest = vector(tree(3)) - vector(plane.origin) - x * d1 - y * d2
    np.testing.assert_allclose([rest @ d1, rest @ d2], 0, atol=1e-5)
    corner, u, v = tree(0), tree(1), tree(2)
    on_it = [
        jax.tree.map(lambda o, a, b, s=s, t=t: o + s * a + t * b, corner, u, v) for s, t in ((0, 0), (1, 0.5), (2, -1))
    ]
    flat = pca_plane({"bptt": on_it})
    np.testing.assert_allclose(sum(flat.explained), 1, atol=1e-6)
    losses = losses_at(quadratic, flat, flat.coordinates(on_it))
    np.testing.assert_allclose(losses, [quadratic_of(vector(params)) for params in on_it], rtol=1e-4)


def test_random_directions_are_as_long_as_their_weights():
    params = tree(0)
    params["kernel"][:, 1] = 0
    length = lambda leaf: np.linalg.norm(leaf, axis=0)  # noqa: E731
    by_filter, by_layer = (
        random_plane(params, jax.random.key(0)).directions,
        random_plane(params, jax.random.key(0), normalize="layer", move_biases=True).directions,
    )
    for direction in by_filter:
        np.testing.assert_allclose(length(direction["kernel"]), length(params["kernel"]), rtol=1e-5)
        assert not np.any(direction["bias"])
    for direction in by_layer:
        for name in SHAPES:
            np.testing.assert_allclose(np.linalg.norm(direction[name]), np.linalg.norm(params[name]), rtol=1e-5)
    plain = [random_plane(params, jax.random.key(seed), normalize=None, move_biases=True).directions for seed in (0, 1)]
    d1, d2 = map(vector, plain[0])
    np.testing.assert_allclose([d1 @ d1, d2 @ d2, d1 @ d2], [1, 1, 0], atol=1e-6)
    assert np.max(np.abs(d1 - vector(plain[1][0]))) > 0.1 and np.all(d1 != 0)


def test_line_between_solutions_and_its_barrier():
    ts = np.linspace(-0.5, 1.5, 9)
    losses = interpolation(quadratic, tree(0), reordered(tree(1)), ts, batch=4)
    expected = [quadratic_of((1 - t) * vector(tree(0)) + t * vector(tree(1))) for t in ts]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    ts = np.linspace(-1, 2, 31).round(1)
    hill = 1 + 2 * ts + 3 * ts * (1 - ts)
    assert barrier(np.square(ts - 0.3), ts) == 0
    np.testing.assert_allclose(barrier(np.where(ts > 1, 100, hill), ts), 0.75)  # what lies beyond does not count
    assert barrier(np.where(ts == 0.5, np.inf, hill), ts) == np.inf
    assert np.isnan(barrier(np.where(ts == 0.5, np.nan, hill), ts))
    assert np.isnan(barrier(np.where(ts == 1, np.inf, hill), ts))


def test_grid_holds_all_trajectories_with_a_margin():
    xs, ys = grid_around({"a": np.array([[0.0, 0.0], [1.0, 4.0]]), "b": np.array([[2.0, 1.0]])}, n_points=5, margin=0.5)
    np.testing.assert_allclose((xs, ys), (np.linspace(-1, 3, 5), np.linspace(-2, 6, 5)))


ROWS = [{"w": row} for row in np.eye(3, dtype=np.float32)]
PLANE = Plane(ROWS[0], (ROWS[1], ROWS[2]))
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pca_plane({"a": ROWS, "b": []}), r"got 3 of 2 rules, none of \['b'\]"),
        (lambda: pca_plane({"a": ROWS[:2]}), "at least 3 checkpoints, and each rule one, got 2"),
        (lambda: pca_plane({"a": [*ROWS, {"w": np.full(3, np.nan)}]}), "infinite ones in checkpoint 3 of 'a'"),
        (lambda: pca_plane({"a": [*ROWS, {"v": np.ones(3)}]}), r"only in checkpoint 3 of 'a': \['v'\]"),
        (lambda: pca_plane({"a": [*ROWS, {"w": jnp.ones(3, jnp.bfloat16)}]}), "same dtypes.* w: bfloat16 and float32"),
        (lambda: pca_plane({"a": [{"w": np.full(3, x)} for x in (0.1, 0.2, 0.7)]}), "3 checkpoints lie on a line"),
        (lambda: random_plane({"b": np.ones(3)}, KEY), "move_biases=True"),
        (lambda: random_plane({"w": np.zeros((2, 2))}, KEY), "normalize=None"),
        (lambda: random_plane({"step": np.zeros((), np.int32)}, KEY), "int32 at 'step' in params"),
        (lambda: Plane(ROWS[0], (ROWS[1], jax.tree.map(lambda leaf: -3 * leaf, ROWS[1]))), "zero or collinear"),
        (lambda: Plane(ROWS[0], (ROWS[1], {"v": np.ones(3)})), r"only in d2: \['v'\]"),
        (lambda: PLANE.coordinates([{"w": np.ones(2)}]), "checkpoint 0 and the origin must have leaves of the same sh"),
        (lambda: surface(quadratic, PLANE, xs=[], ys=YS), r"xs must have shape \[X\], got \[0\]"),
        (lambda: surface(quadratic, PLANE, xs=[0, np.nan], ys=YS), "xs must be finite"),
        (lambda: surface(lambda p: jnp.sum(p["w"]), PLANE, xs=XS, ys=YS, batch=0), "batch must be at least 1, got 0"),
        (lambda: surface(lambda p: p["w"], PLANE, xs=XS, ys=YS), "one floating-point number, got ShapeDtypeStruct"),
        (lambda: losses_at(quadratic, PLANE, np.zeros((2, 3))), r"points must have shape \[n, 2\], got \[2, 3\]"),
        (lambda: interpolation(quadratic, ROWS[0], {"w": np.full(3, np.nan, np.float32)}, [0, 1]), "ones in b"),
        (lambda: interpolation(lambda p: 0.0, {}, {}, [0, 1]), "empty trees"),
        (lambda: barrier(np.ones(2), [0, 0.9]), "t = 0 and t = 1 among them"),
        (lambda: grid_around({"a": np.eye(2)}, margin=-0.1), "margin=-0.1"),
        (lambda: grid_around({"a": np.array([[0.0, 0.0], [1.0, 0.0]])}), "along both axes"),
    ],
)
def test_what_is_no_plane_or_has_no_loss_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
