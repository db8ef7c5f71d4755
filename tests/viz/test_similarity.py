"""Laws of the cosine similarity of two gradients."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from slax_viz import cosine_similarity, global_cosine_similarity


def random_tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)  # noqa: E731
    return {
        "layers": [{"kernel": draw(5, 4), "bias": draw(4)}, {"kernel": draw(4, 3), "bias": draw(3)}],
        "decay": draw(),
    }


def layer_of(path):
    return path.rpartition("/")[0]


def double_cosine(a, b):
    a, b = (np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in side]) for side in (a, b))
    return a @ b / np.sqrt((a @ a) * (b @ b)), np.sqrt((a @ a) / (b @ b))


def assert_close(cosine, expected, tolerance=1e-6):
    value, ratio = expected
    assert bool(cosine.defined)
    np.testing.assert_allclose(cosine.value, value, rtol=0, atol=tolerance)
    np.testing.assert_allclose(cosine.norm_ratio, ratio, rtol=tolerance)


def test_keys_are_the_paths_of_the_leaves():
    assert list(cosine_similarity(random_tree(0), random_tree(1))) == [
        "decay",
        "layers/0/bias",
        "layers/0/kernel",
        "layers/1/bias",
        "layers/1/kernel",
    ]


@given(seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))
@settings(max_examples=10, deadline=None)
def test_equals_the_definition_in_double_precision(seeds):
    a, b = random_tree(seeds[0]), random_tree(seeds[1])
    for path, cosine in cosine_similarity(a, b).items():
        leaves = [[dict(_paths(tree))[path]] for tree in (a, b)]
        assert_close(cosine, double_cosine(*leaves))
    assert_close(global_cosine_similarity(a, b), double_cosine(jax.tree.leaves(a), jax.tree.leaves(b)))


def _paths(tree):
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def test_groups_are_compared_as_one_vector():
    a, b = random_tree(0), random_tree(1)
    # Unequal scales within a group, so that a mean of the cosines of its leaves would differ.
    a["layers"][0]["bias"] *= 100
    groups = cosine_similarity(a, b, group=layer_of)
    assert list(groups) == ["", "layers/0", "layers/1"]
    for i in range(2):
        leaves = [list(tree["layers"][i].values()) for tree in (a, b)]
        assert_close(groups[f"layers/{i}"], double_cosine(*leaves))


@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_agrees_with_itself_and_opposes_its_negative(seed):
    a = random_tree(seed)
    negative = jax.tree.map(jnp.negative, a)
    for cosine in cosine_similarity(a, a).values():
        assert_close(cosine, (1, 1))
        assert cosine.value <= 1
    for cosine in cosine_similarity(a, negative).values():
        assert_close(cosine, (-1, 1))
        assert cosine.value >= -1


@pytest.mark.parametrize("scale", [1e-33, 1e-30, 1e-3, 1e3, 1e30, 1e37])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_value_does_not_depend_on_the_scale(scale, transform):
    a, b = random_tree(0), random_tree(1)
    plain = cosine_similarity(a, b)
    scaled = transform(cosine_similarity)(jax.tree.map(lambda x: x * scale, a), b)
    for path in plain:
        assert_close(scaled[path], (plain[path].value, plain[path].norm_ratio * scale), 1e-5)
    for side in (1, scale):
        both = transform(global_cosine_similarity)(
            jax.tree.map(lambda x: x * scale, a), jax.tree.map(lambda x, side=side: x * side, b)
        )
        np.testing.assert_allclose(both.value, global_cosine_similarity(a, b).value, atol=1e-6)


def test_leaves_of_very_different_scales_share_one_vector():
    a = {"large": jnp.full(3, 1e30), "small": jnp.full(3, 1e-30)}
    b = {"large": jnp.full(3, 1e30), "small": jnp.full(3, -1e-30)}
    assert_close(global_cosine_similarity(a, b), (1, 1))
    assert_close(cosine_similarity(a, b)["small"], (-1, 1))


def test_orthogonal_gradients_have_cosine_zero_and_are_defined():
    cosine = global_cosine_similarity({"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 2.0])})
    assert_close(cosine, (0, 0.5))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1e-42, 1.0)])
def test_a_zero_gradient_has_no_direction(transform, a, b):
    cosine = transform(cosine_similarity)({"w": jnp.full(3, a)}, {"w": jnp.full(3, b)})["w"]
    assert not bool(cosine.defined)
    assert cosine.value == 0
    assert cosine.norm_ratio == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("other", [0.0, 1.0])
def test_a_broken_gradient_is_not_hidden(broken, other):
    for a, b in [(broken, other), (other, broken)]:
        cosine = global_cosine_similarity({"w": jnp.array([1.0, a])}, {"w": jnp.array([other, b])})
        assert not bool(cosine.defined)
        assert np.isnan(cosine.value)


def test_low_precision_is_computed_in_float32():
    # In bfloat16 the squares of these 4096 entries would add up to 256 only.
    a = {"w": jnp.ones(4096, jnp.bfloat16)}
    b = {"w": jnp.concatenate([jnp.ones(2048, jnp.bfloat16), jnp.zeros(2048, jnp.bfloat16)])}
    cosine = global_cosine_similarity(a, b)
    assert cosine.value.dtype == jnp.float32
    assert_close(cosine, (np.sqrt(0.5), np.sqrt(2)))


def test_one_side_may_be_of_lower_precision(x64):
    a = random_tree(0)
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), a)
    double = jax.tree.map(lambda x: x.astype(jnp.float64), a)
    assert_close(global_cosine_similarity(low, a), (1, 1), 5e-3)
    assert global_cosine_similarity(low, a).value.dtype == jnp.float32
    assert_close(global_cosine_similarity(a, double), (1, 1), 1e-15)
    assert global_cosine_similarity(a, double).value.dtype == jnp.float64


def test_order_of_the_leaves_does_not_matter():
    a, b = random_tree(0), random_tree(1)
    reordered = {"decay": b["decay"], "layers": [dict(reversed(layer.items())) for layer in b["layers"]]}
    assert list(reordered["layers"][0]) != list(b["layers"][0])
    for path, cosine in cosine_similarity(a, reordered).items():
        assert cosine.value == cosine_similarity(a, b)[path].value


def test_leaves_are_matched_by_path_and_not_by_order():
    a = {"x": jnp.array([1.0, 0.0]), "y": jnp.array([0.0, 1.0])}
    with pytest.raises(ValueError, match=re.escape("only in gradients: ['x'], only in reference: ['z']")):
        cosine_similarity(a, {"y": a["y"], "z": a["x"]})
    with pytest.raises(ValueError, match=re.escape("only in gradients: [], only in reference: ['layers/0/bias']")):
        global_cosine_similarity({"layers": [{}]}, {"layers": [{"bias": jnp.ones(2)}]})


def test_shapes_must_agree():
    a, b = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"w": jnp.ones((3, 2)), "b": jnp.ones(3)}
    with pytest.raises(ValueError, match=re.escape("w: (2, 3) and (3, 2)")) as error:
        cosine_similarity(a, b)
    assert "b:" not in str(error.value)


def test_only_gradients_are_compared():
    with pytest.raises(TypeError, match="int32 at 'steps' in reference"):
        cosine_similarity({"steps": jnp.ones(())}, {"steps": jnp.ones((), jnp.int32)})
    with pytest.raises(ValueError, match="two leaves with the same path 'a/b'"):
        cosine_similarity({"a/b": jnp.ones(2), "a": {"b": jnp.ones(2)}}, {})
    with pytest.raises(ValueError, match="empty trees"):
        global_cosine_similarity({}, {})


def test_state_of_an_nnx_module_has_the_paths_of_its_attributes():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.modules = nnx.List([nnx.Linear(3, 2, rngs=rngs), nnx.Linear(2, 2, rngs=rngs)])

        def __call__(self, x):
            return self.modules[1](jnp.tanh(self.modules[0](x)))

    net = Net(nnx.Rngs(0))
    inputs = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
    gradients = nnx.grad(lambda net: jnp.mean(jnp.square(net(inputs))))(net)
    reference = nnx.grad(lambda net: jnp.mean(jnp.abs(net(inputs))))(net)
    cosines = cosine_similarity(gradients, reference)
    assert sorted(cosines) == ["modules/0/bias", "modules/0/kernel", "modules/1/bias", "modules/1/kernel"]
    leaves = [[side["modules"][0]["kernel"][...]] for side in (gradients, reference)]
    assert_close(cosines["modules/0/kernel"], double_cosine(*leaves))
    # The pure dict of a state has the same paths, and a key "value" of a dict is a part of its path.
    assert cosine_similarity(gradients, nnx.to_pure_dict(reference)).keys() == cosines.keys()
    assert list(cosine_similarity({"a": {"value": jnp.ones(1)}}, {"a": {"value": jnp.ones(1)}})) == ["a/value"]


@pytest.mark.parametrize("group", [None, layer_of], ids=["leaves", "layers"])
def test_jit_changes_nothing(group):
    a, b = random_tree(0), random_tree(1)
    plain = cosine_similarity(a, b, group=group)
    jitted = jax.jit(partial(cosine_similarity, group=group))(a, b)
    assert plain.keys() == jitted.keys()
    for path in plain:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), plain[path], jitted[path])


def test_vmap_over_seeds():
    a, b = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(random_tree, seeds)) for seeds in ((0, 1), (2, 3)))
    batch = jax.vmap(global_cosine_similarity)(a, b)
    for i in range(2):
        assert_close(
            global_cosine_similarity(random_tree(i), random_tree(2 + i)), (batch.value[i], batch.norm_ratio[i])
        )
