"""Laws of planes through the space of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_viz import Plane, pca_plane, random_plane


def random_tree(seed, scale=1.0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), dtype)  # noqa: E731
    return {
        "layers": [{"kernel": draw(5, 4), "bias": draw(4)}, {"kernel": draw(2, 4, 3), "bias": draw(3)}],
        "decay": draw(),
    }


def moved(tree, *steps):
    """The tree plus the sum of factors times directions."""
    for factor, direction in steps:
        tree = jax.tree.map(lambda a, d, factor=factor: a + factor * d, tree, direction)
    return tree


def vector(tree):
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


def walk(seed, n=4):
    start = random_tree(0)
    return [moved(start, *((1.0, random_tree(10 * seed + i)) for i in range(k))) for k in range(n)]


def assert_trees_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_directions_of_checkpoints_are_orthonormal():
    d1, d2 = map(vector, pca_plane({"bptt": walk(1), "ostl": walk(2)}).directions)
    np.testing.assert_allclose([d1 @ d1, d2 @ d2, d1 @ d2], [1, 1, 0], atol=1e-6)


def test_equals_the_eigenvectors_of_the_covariance():
    points = np.stack([vector(tree) for tree in (*walk(1), *walk(2))])
    values, vectors = np.linalg.eigh(np.cov(points.T))
    plane = pca_plane({"bptt": walk(1), "ostl": walk(2)})
    np.testing.assert_allclose(plane.explained, values[[-1, -2]] / values.sum(), rtol=1e-5)
    for direction, expected in zip(plane.directions, vectors.T[[-1, -2]], strict=True):
        np.testing.assert_allclose(abs(vector(direction) @ expected), 1, atol=1e-5)
    np.testing.assert_allclose(vector(plane.origin), points.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"centered": True}, {"origin": 0}, {"origin": 0, "centered": True}], ids=str)
def test_checkpoints_in_a_plane_are_reproduced_exactly(options):
    corner, u, v = random_tree(0), random_tree(1), random_tree(2)
    flat = lambda *pairs: [moved(corner, (a, u), (b, v)) for a, b in pairs]  # noqa: E731
    trajectories = {"bptt": flat((0.0, 0.0), (1.0, 0.5), (2.0, -1.0)), "ostl": flat((0.5, 0.0), (-0.5, 2.0))}
    if "origin" in options:
        options = options | {"origin": corner}
    plane = pca_plane(trajectories, **options)
    np.testing.assert_allclose(sum(plane.explained), 1, atol=1e-6)
    for trajectory in trajectories.values():
        for (x, y), checkpoint in zip(plane.coordinates(trajectory), trajectory, strict=True):
            assert_trees_close(
                moved(plane.origin, (x, plane.directions[0]), (y, plane.directions[1])), checkpoint, atol=2e-5
            )


def test_coordinates_are_those_of_the_nearest_point():
    plane = random_plane(random_tree(0), jax.random.key(0))
    assert abs(vector(plane.directions[0]) @ vector(plane.directions[1])) > 0.1  # so that a plain product would not do
    away = random_tree(3)
    ((x, y),) = plane.coordinates([away])
    residual = vector(away) - vector(plane.origin) - x * vector(plane.directions[0]) - y * vector(plane.directions[1])
    for direction in plane.directions:
        np.testing.assert_allclose(residual @ vector(direction), 0, atol=1e-5)
    np.testing.assert_allclose(plane.coordinates([plane.origin]), [[0, 0]], atol=1e-12)


def test_order_of_the_rules_changes_nothing():
    rules = {"bptt": walk(1), "ostl": walk(2), "ottt": walk(3, n=3)}
    plane, other = pca_plane(rules), pca_plane(dict(reversed(rules.items())))
    np.testing.assert_allclose(plane.explained, other.explained, rtol=1e-6)
    assert_trees_close(plane.directions, other.directions, atol=1e-6)
    np.testing.assert_allclose(plane.coordinates(rules["ostl"]), other.coordinates(rules["ostl"]), atol=1e-5)


def test_sign_of_a_direction_is_that_of_its_larger_half():
    for seed in range(1, 5):
        for direction in map(vector, pca_plane({"bptt": walk(seed)}).directions):
            assert np.sum(direction * np.abs(direction)) > 0


def test_plane_through_an_origin_is_the_nearest_of_those():
    rules = {"bptt": walk(1), "ostl": walk(2)}
    origin = walk(1)[-1]
    offsets = np.stack([vector(tree) - vector(origin) for tree in rules["bptt"] + rules["ostl"]])

    def off(plane):
        axes = np.stack([vector(direction) for direction in plane.directions])
        return np.sum(np.square(offsets - offsets @ axes.T @ axes))

    nearest, upstream = pca_plane(rules, origin=origin), pca_plane(rules, origin=origin, centered=True)
    assert nearest.origin is origin and upstream.origin is origin
    assert off(nearest) < off(upstream)
    np.testing.assert_allclose(sum(nearest.explained), 1 - off(nearest) / np.sum(np.square(offsets)), rtol=1e-5)
    # The directions of Slax 0.0.1 are those about the mean, whatever the origin.
    np.testing.assert_allclose(upstream.explained, pca_plane(rules).explained, rtol=1e-5)
    assert_trees_close(upstream.directions, pca_plane(rules).directions, atol=1e-5)


def test_a_random_walk_is_explained_as_antognini_and_sohl_dickstein_say():
    steps = np.random.default_rng(0).normal(size=(80, 2000)).astype(np.float32)
    plane = pca_plane({"walk": [{"w": jnp.asarray(point)} for point in np.cumsum(steps, axis=0)]})
    np.testing.assert_allclose(plane.explained, np.array([1, 1 / 4]) * 6 / np.pi**2, rtol=0.04)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_structure_and_dtype_are_kept(dtype):
    trees = [random_tree(i, dtype=dtype) for i in range(4)]
    for plane in (pca_plane({"rule": trees}), random_plane(trees[0], jax.random.key(0))):
        for tree, expected in [(plane.origin, dtype), *((direction, jnp.float32) for direction in plane.directions)]:
            assert jax.tree.structure(tree) == jax.tree.structure(trees[0])
            assert jax.tree.map(jnp.shape, tree) == jax.tree.map(jnp.shape, trees[0])
            assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype(expected)}


def test_double_precision_is_kept(x64):
    trees = [random_tree(i, dtype=jnp.float64) for i in range(4)]
    plane = pca_plane({"rule": trees})
    assert {leaf.dtype for leaf in jax.tree.leaves((plane.origin, plane.directions))} == {jnp.dtype("float64")}
    d1, d2 = map(vector, plane.directions)
    np.testing.assert_allclose([d1 @ d1, d2 @ d2, d1 @ d2], [1, 1, 0], atol=1e-14)


def test_states_of_nnx_are_trees_too():
    states = [nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(seed)), nnx.Param) for seed in range(3)]
    plane = pca_plane({"rule": states})
    assert isinstance(plane.origin, nnx.State)
    # Their pure dicts have the same paths.
    np.testing.assert_allclose(plane.coordinates([nnx.to_pure_dict(states[1])]), plane.coordinates([states[1]]))


def units_of(leaf):
    return np.linalg.norm(np.asarray(leaf, np.float64).reshape(-1, leaf.shape[-1]), axis=0)


def test_each_filter_is_as_long_as_its_weights():
    params = random_tree(0)
    params["layers"][0]["kernel"] = params["layers"][0]["kernel"].at[:, 1].set(0.0)
    for direction in random_plane(params, jax.random.key(0)).directions:
        for layer, of_layer in zip(params["layers"], direction["layers"], strict=True):
            np.testing.assert_allclose(units_of(of_layer["kernel"]), units_of(layer["kernel"]), rtol=1e-5)
            assert not of_layer["bias"].any()
        assert not direction["decay"].any()


def test_each_layer_is_as_long_as_its_weights_and_biases_move_if_told():
    params = random_tree(0)
    for direction in random_plane(params, jax.random.key(0), normalize="layer", move_biases=True).directions:
        for leaf, of_leaf in zip(jax.tree.leaves(params), jax.tree.leaves(direction), strict=True):
            np.testing.assert_allclose(np.linalg.norm(of_leaf), np.linalg.norm(leaf), rtol=1e-5)
    (kernel,) = {str(random_plane(params, jax.random.key(0), normalize="layer").directions[0]["layers"][0]["kernel"])}
    assert kernel != str(random_plane(params, jax.random.key(0)).directions[0]["layers"][0]["kernel"])


def test_directions_without_a_scale_are_orthonormal():
    d1, d2 = map(vector, random_plane(random_tree(0), jax.random.key(0), normalize=None, move_biases=True).directions)
    np.testing.assert_allclose([d1 @ d1, d2 @ d2, d1 @ d2], [1, 1, 0], atol=1e-6)
    assert np.all(d1 != 0)


def test_key_decides_the_directions():
    params = random_tree(0)
    a, b, c = (random_plane(params, jax.random.key(seed)).directions for seed in (0, 0, 1))
    assert_trees_close(a, b, rtol=0)
    assert np.max(np.abs(vector(a[0]) - vector(c[0]))) > 0.1
    assert np.max(np.abs(vector(a[0]) - vector(a[1]))) > 0.1


BROKEN = {"w": jnp.array([1.0, np.nan])}
THREE = [{"w": jnp.asarray(row)} for row in np.eye(3, dtype=np.float32)]


@pytest.mark.parametrize(
    ("trajectories", "options", "message"),
    [
        ({}, {}, "got 0 of 0 rules"),
        ({"a": THREE, "b": []}, {}, r"got 3 of 2 rules, none of \['b'\]"),
        ({"a": THREE[:1], "b": THREE[1:2]}, {}, "at least 3 checkpoints, and each rule one, got 2 of 2 rules"),
        ({"a": [{}, {}, {}]}, {}, "empty trees"),
        ({"a": [*THREE, BROKEN]}, {}, r"infinite ones in checkpoint 3 of 'a' at \['w'\]"),
        ({"a": THREE}, {"origin": BROKEN}, "infinite ones in the origin"),
        ({"a": THREE, "b": [{"v": jnp.ones(3)}]}, {}, r"only in checkpoint 0 of 'b': \['v'\]"),
        (
            {"a": THREE, "b": [{"w": jnp.ones(2)}]},
            {},
            r"same shapes, got different ones \(checkpoint 0 of 'b' first\): w: \(2,\)",
        ),
        ({"a": THREE, "b": [{"w": jnp.ones(3, jnp.bfloat16)}]}, {}, "same dtypes.* w: bfloat16 and float32"),
        ({"a": THREE}, {"origin": {"w": jnp.ones(2)}}, r"w: \(3,\) and \(2,\)"),
        ({"a": THREE[:1] * 4}, {}, "the 4 checkpoints lie on a line"),
        ({"a": [{"w": jnp.full(3, x)} for x in (0.1, 0.2, 0.7)]}, {}, "the 3 checkpoints lie on a line"),
        ({"a": [{"w": jnp.full(1, x)} for x in (0.1, 0.2, 0.7)]}, {}, "the 3 checkpoints lie on a line"),
    ],
)
def test_unusable_checkpoints_are_refused(trajectories, options, message):
    with pytest.raises(ValueError, match=message):
        pca_plane(trajectories, **options)


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        ({}, {}, "expected weights to move"),
        ({"b": jnp.ones(3)}, {}, "move_biases=True"),
        ({"w": jnp.zeros((2, 2))}, {}, "normalize=None"),
        ({"w": jnp.full((2, 2), np.inf)}, {}, "infinite ones in params"),
        ({"w": jnp.ones(1)}, {"move_biases": True}, "expected weights to move"),
    ],
)
def test_unusable_parameters_are_refused(params, options, message):
    with pytest.raises(ValueError, match=message):
        random_plane(params, jax.random.key(0), **options)


def test_integers_are_no_parameters():
    with pytest.raises(TypeError, match="int32 at 'step' in params"):
        random_plane({"step": jnp.zeros((), jnp.int32)}, jax.random.key(0))


@pytest.mark.parametrize("factor", [0.0, 1.0, -3.0])
def test_two_directions_span_a_plane(factor):
    direction = {"w": jnp.array([0.1, 0.2, 0.7])}
    with pytest.raises(ValueError, match="collinear"):
        Plane(THREE[0], (direction, moved(direction, (factor - 1, direction))))


def test_directions_and_checkpoints_fit_the_origin():
    with pytest.raises(ValueError, match=r"only in d2: \['v'\]"):
        Plane(THREE[0], (THREE[1], {"v": jnp.ones(3)}))
    plane = Plane(THREE[0], (THREE[1], THREE[2]))
    with pytest.raises(ValueError, match=r"checkpoint 1 and the origin must have leaves of the same shapes"):
        plane.coordinates([THREE[0], {"w": jnp.ones(2)}])
