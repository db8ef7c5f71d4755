"""Laws of losses on planes and lines of parameters."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_viz import Plane, barrier, grid_around, interpolation, losses_at, pca_plane, random_plane, surface

XS, YS = np.linspace(-1, 2, 5), np.linspace(-0.5, 1, 4)


def random_tree(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in [("kernel", (4, 3)), ("bias", (3,))]}


def reordered(tree):
    """The leaves of an OrderedDict come in its own order, those of a dict sorted."""
    other = OrderedDict((name, tree[name]) for name in ("kernel", "bias"))
    assert jax.tree.map(jnp.shape, jax.tree.leaves(other)) != jax.tree.map(jnp.shape, jax.tree.leaves(tree))
    return other


def quadratic(params):
    return jnp.sum(jnp.square(params["kernel"] - 1)) + 2 * jnp.sum(jnp.square(params["bias"]))


def double_quadratic(params):
    kernel, bias = (np.asarray(params[name], np.float64) for name in ("kernel", "bias"))
    return np.sum(np.square(kernel - 1)) + 2 * np.sum(np.square(bias))


@pytest.fixture(scope="module")
def plane():
    return random_plane(random_tree(0), jax.random.key(0), move_biases=True)


def at(plane, x, y):
    double = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)  # noqa: E731
    return jax.tree.map(lambda o, a, b: o + x * a + y * b, double(plane.origin), *map(double, plane.directions))


def test_surface_of_a_quadratic_loss_is_the_analytic_one(plane):
    losses = surface(quadratic, plane, xs=XS, ys=YS)
    assert losses.shape == (4, 5) and losses.dtype == np.float32
    expected = [[double_quadratic(at(plane, x, y)) for x in XS] for y in YS]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_surface_at_the_origin_is_its_loss(plane):
    (loss,) = surface(quadratic, plane, xs=[0.0], ys=[0.0]).ravel()
    np.testing.assert_allclose(loss, quadratic(plane.origin), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 7, 1000])
def test_batch_changes_nothing_and_no_more_is_computed_at_once(plane, batch):
    sizes = []

    @jax.custom_batching.custom_vmap
    def seen(x):
        return x

    @seen.def_vmap
    def _(axis_size, in_batched, x):
        sizes.append(axis_size)
        return x, in_batched[0]

    losses = surface(lambda params: seen(quadratic(params)), plane, xs=XS, ys=YS, batch=batch)
    np.testing.assert_allclose(losses, surface(quadratic, plane, xs=XS, ys=YS), rtol=1e-6)
    assert set(sizes) == {min(batch, 20)}


def test_loss_gets_the_structure_and_dtypes_of_the_origin():
    model = nnx.Linear(4, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model)
    inputs = jnp.ones((2, 4), jnp.bfloat16)

    def loss(state):
        assert jax.tree.structure(state) == jax.tree.structure(params)
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.bfloat16)}
        return jnp.mean(jnp.square(nnx.merge(graph, state)(inputs)))

    losses = surface(loss, random_plane(params, jax.random.key(0)), xs=[0.0, 1.0], ys=[0.0])
    assert losses.dtype == np.float32
    np.testing.assert_allclose(losses[0, 0], float(loss(params)), rtol=1e-2)


def test_double_precision_is_kept(x64):
    plane = random_plane(random_tree(0, jnp.float64), jax.random.key(0))
    losses = surface(quadratic, plane, xs=XS, ys=YS)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, [[double_quadratic(at(plane, x, y)) for x in XS] for y in YS], rtol=1e-13)


def test_directions_are_matched_by_path(plane):
    swapped = [reordered(direction) for direction in plane.directions]
    other = Plane(plane.origin, (swapped[0], swapped[1]))
    np.testing.assert_allclose(
        surface(quadratic, other, xs=XS, ys=YS), surface(quadratic, plane, xs=XS, ys=YS), rtol=1e-6
    )


def test_losses_that_are_not_finite_are_kept(plane):
    def loss(params):
        x = params["w"][0]
        return jnp.where(x > 1, jnp.inf, jnp.where(x < 0, jnp.nan, x))

    basis = [{"w": jnp.asarray(row)} for row in np.eye(2, dtype=np.float32)]
    flat = Plane({"w": jnp.zeros(2)}, (basis[0], basis[1]))
    np.testing.assert_array_equal(surface(loss, flat, xs=[-1, 0.5, 2], ys=[0, 1], batch=2), [[np.nan, 0.5, np.inf]] * 2)


def test_bar_counts_points_and_losses_that_are_not_finite(plane, monkeypatch):
    shown = []

    class Bar:
        def __init__(self, total, disable, **_):
            shown.append((total, disable))

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731
        update = lambda self, n: shown.append(n)  # noqa: E731
        set_postfix_str = lambda self, text: shown.append(text)  # noqa: E731

    monkeypatch.setattr("slax_viz.landscape.tqdm", Bar)
    surface(lambda params: jnp.inf * jnp.sum(jnp.square(params["kernel"])), plane, xs=[0, 1, 2], ys=[0], batch=2)
    assert shown == [(3, None), "2 not finite", 2, "3 not finite", 1]


def test_trajectory_ends_on_the_surface_where_its_coordinates_say():
    corner, u, v = random_tree(0), random_tree(1), random_tree(2)
    step = lambda a, b: jax.tree.map(lambda o, x, y: o + a * x + b * y, corner, u, v)  # noqa: E731
    trajectories = {"bptt": [step(0.0, 0.0), step(0.5, 0.1), step(1.0, 1.0)], "ostl": [step(0.0, 0.0), step(-0.3, 0.6)]}
    plane = pca_plane(trajectories)
    for trajectory in trajectories.values():
        losses = losses_at(quadratic, plane, plane.coordinates(trajectory))
        np.testing.assert_allclose(losses, [quadratic(params) for params in trajectory], rtol=1e-4)


def test_line_between_solutions_is_the_analytic_one():
    a, b = random_tree(0), random_tree(1)
    ts = np.linspace(-0.5, 1.5, 9)
    losses = interpolation(quadratic, a, reordered(b), ts, batch=4)
    between = [jax.tree.map(lambda x, y, t=t: (1 - t) * np.float64(x) + t * np.float64(y), a, b) for t in ts]
    np.testing.assert_allclose(losses, [double_quadratic(params) for params in between], rtol=1e-5)
    np.testing.assert_allclose(losses[[2, 6]], [quadratic(a), quadratic(b)], rtol=1e-6)


def test_barrier_of_a_convex_loss_is_zero_and_that_of_a_hill_its_height():
    ts = np.linspace(-1, 2, 31).round(1)
    assert barrier(np.square(ts - 0.3), ts) == 0
    hill = 1 + 2 * ts + 3 * ts * (1 - ts)
    np.testing.assert_allclose(barrier(hill, ts), 0.75)
    # What lies beyond the solutions does not count, and what is not finite is not hidden.
    assert barrier(np.where(ts > 1, 100, hill), ts) == barrier(hill, ts)
    assert barrier(np.where(ts == 0.5, np.inf, hill), ts) == np.inf
    assert np.isnan(barrier(np.where(ts == 0.5, np.nan, hill), ts))
    assert np.isnan(barrier(np.where(ts == 1, np.inf, hill), ts))


def test_grid_holds_all_trajectories_with_a_margin():
    xs, ys = grid_around({"a": np.array([[0.0, 0.0], [1.0, 4.0]]), "b": np.array([[2.0, 1.0]])}, n_points=5, margin=0.5)
    np.testing.assert_allclose(xs, np.linspace(-1, 3, 5))
    np.testing.assert_allclose(ys, np.linspace(-2, 6, 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"xs": []}, r"xs must be a list of finite numbers, got shape \[0\]"),
        ({"ys": np.zeros((2, 2))}, r"ys must be a list of finite numbers, got shape \[2, 2\]"),
        ({"xs": [0, np.nan]}, "xs must be a list of finite numbers"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"loss": lambda params: params["bias"]}, "one floating-point number, got ShapeDtypeStruct"),
        ({"loss": lambda params: (quadratic(params), 0)}, "one floating-point number"),
        ({"loss": lambda params: jnp.sum(params["bias"] > 0)}, "one floating-point number"),
    ],
)
def test_unusable_grids_and_losses_are_refused(plane, options, message):
    options = {"loss": quadratic, "xs": XS, "ys": YS} | options
    with pytest.raises(ValueError, match=message):
        surface(options.pop("loss"), plane, **options)


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.zeros((2, 3)), np.zeros(2), np.full((1, 2), np.inf)])
def test_unusable_points_are_refused(plane, points):
    with pytest.raises(ValueError, match=r"expected finite points \[n, 2\]"):
        losses_at(quadratic, plane, points)


def test_solutions_must_fit_each_other():
    a = random_tree(0)
    for b, message in [
        ({"kernel": a["kernel"]}, r"only in a: \['bias'\]"),
        (a | {"bias": jnp.ones(2)}, r"bias: \(3,\) and \(2,\)"),
        (random_tree(1, jnp.bfloat16), "same dtypes"),
        (a | {"bias": jnp.full(3, np.nan)}, "infinite ones in b"),
    ]:
        with pytest.raises(ValueError, match=message):
            interpolation(quadratic, a, b, [0, 1])
    with pytest.raises(ValueError, match="empty trees"):
        interpolation(lambda params: jnp.zeros(()), {}, {}, [0, 1])


@pytest.mark.parametrize(
    ("losses", "ts"), [(np.ones(3), [0, 1]), (np.ones(2), [0, 0.9]), (np.ones(2), [0.1, 1]), (np.ones((2, 1)), [0, 1])]
)
def test_barrier_needs_both_ends(losses, ts):
    with pytest.raises(ValueError, match="t = 0 and t = 1 among them"):
        barrier(losses, ts)


@pytest.mark.parametrize(
    ("coordinates", "options", "message"),
    [
        ({}, {}, "got 0 trajectories"),
        ({"a": np.eye(2)}, {"n_points": 1}, "n_points=1"),
        ({"a": np.eye(2)}, {"margin": -0.1}, "margin=-0.1"),
        ({"a": np.array([[0.0, 0.0], [1.0, 0.0]])}, {}, r"along both axes, got from \[0.0, 0.0\] to \[1.0, 0.0\]"),
    ],
)
def test_grids_around_nothing_are_refused(coordinates, options, message):
    with pytest.raises(ValueError, match=message):
        grid_around(coordinates, **options)
