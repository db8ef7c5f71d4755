"""Laws of bias and variance of gradients over batches."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slax_viz import gradient_noise

BATCHES = 6


def trees(seed, scale=1.0, batches=BATCHES):
    """Gradients of batches about a mean that is not zero, in two leaves of a layer and one of another."""
    rng = np.random.default_rng(seed)
    shapes = {"1": {"kernel": (3, 2), "bias": (2,)}, "2": {"kernel": (2, 2)}}

    def draw(shape):
        mean = 2 * np.sign(np.arange(np.prod(shape)) % 2 - 0.5).reshape(shape)
        return jnp.asarray(scale * (mean + rng.normal(size=(batches, *shape))), jnp.float32)

    return jax.tree.map(draw, shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))


def layer_of(path):
    return path.split("/")[0]


def flat(tree, layer):
    leaves = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree[layer])]
    return np.concatenate(leaves, axis=1)


def unpaired(g, r):
    """The definition: the mean over all pairs of two batches."""
    products = g @ r.T
    return (products.sum() - np.trace(products)) / (len(g) * (len(g) - 1))


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_numbers_are_those_of_the_definition(scale):
    gradients, reference = trees(0, scale), trees(1, scale)
    found = gradient_noise(gradients, reference, group=layer_of)
    assert list(found) == ["1", "2"]
    for layer, noise in found.items():
        g, r = (flat(tree, layer) / scale for tree in (gradients, reference))
        unit = unpaired(r, r)
        variances = [((x - x.mean(0)) ** 2).sum() / (len(x) - 1) for x in (g, r)]
        expected = [
            unpaired(g - r, g - r) / unit,
            *(variance / unit for variance in variances),
            unpaired(g, r) / unit,
            unpaired(g, r) / np.sqrt(unpaired(g, g) * unit),
        ]
        np.testing.assert_allclose(noise[:5], expected, rtol=1e-4, atol=1e-5)
        assert bool(noise.defined) and bool(noise.cosine_defined)


def test_gradient_that_is_the_reference_has_its_variance_and_no_bias():
    tree = trees(0)
    for noise in gradient_noise(tree, tree).values():
        assert float(noise.bias_squared) == 0
        assert float(noise.variance) == float(noise.reference_variance) > 0
        np.testing.assert_allclose([noise.projection, noise.cosine], 1, rtol=1e-5)


def test_gradient_that_is_too_short_has_a_bias_in_length_alone():
    tree = trees(0)
    short = jax.tree.map(lambda leaf: 0.25 * leaf, tree)
    for noise in gradient_noise(short, tree).values():
        np.testing.assert_allclose(noise.bias_squared, 0.75**2, rtol=1e-4)
        np.testing.assert_allclose(noise.projection, 0.25, rtol=1e-5)
        np.testing.assert_allclose(noise.cosine, 1, rtol=1e-5)
        np.testing.assert_allclose(noise.variance, noise.reference_variance / 16, rtol=1e-5)


def test_estimates_are_unbiased():
    """Noise without a mean is no bias, on the average over many draws of the batches; |mean(g) - mean(r)|^2 would see one."""
    rng = np.random.default_rng(0)
    truth = np.arange(1.0, 9)
    r = truth + rng.normal(size=(4000, 4, 8))
    g = r + 3 * rng.normal(size=r.shape)
    found = jax.vmap(gradient_noise)(*({"kernel": jnp.asarray(x, jnp.float32)} for x in (g, r)))["kernel"]
    assert abs(float(found.bias_squared.mean())) < 0.1 * 9 * 8 / 4 / (truth @ truth)
    assert float(found.projection.mean()) == pytest.approx(1, abs=0.02)
    assert float(found.variance.mean()) == pytest.approx((1 + 9) * 8 / (truth @ truth), rel=0.05)


def test_what_the_noise_hides_is_not_defined():
    rng = np.random.default_rng(0)
    noise = {"kernel": jnp.asarray(rng.normal(size=(4, 50)), jnp.float32)}
    signal = {"kernel": noise["kernel"] + 10}
    hidden = gradient_noise(signal, noise)["kernel"]
    assert not bool(hidden.defined) and not bool(hidden.cosine_defined)
    assert [float(number) for number in hidden[:5]] == [0] * 5
    of_noise = gradient_noise(noise, signal)["kernel"]
    assert bool(of_noise.defined) and not bool(of_noise.cosine_defined)
    assert float(of_noise.cosine) == 0 and float(of_noise.variance) > 0
    zero = jax.tree.map(jnp.zeros_like, noise)
    assert not bool(gradient_noise(noise, zero)["kernel"].defined)
    broken = {"kernel": signal["kernel"].at[0, 0].set(jnp.nan)}
    assert not bool(gradient_noise(broken, signal)["kernel"].defined)


def test_variance_of_the_reference_is_below_the_number_of_batches_where_it_is_defined():
    """So that a mean over the defined draws alone is too small, here at any rate: the true variance is above it."""
    rng = np.random.default_rng(0)
    truth = np.full(50, 0.45)
    reference = {"kernel": jnp.asarray(truth + rng.normal(size=(500, 4, 50)), jnp.float32)}
    found = jax.vmap(gradient_noise)(reference, reference)["kernel"]
    defined = np.asarray(found.defined)
    assert 0.1 < defined.mean() < 0.9
    assert np.asarray(found.reference_variance)[defined].max() < 4 < 50 / (truth @ truth)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ((1, 1), "expected the same number of batches in each, at least 2. Stack the gradients"),
        ((6, 5), "gradients and reference must have leaves of the same shapes"),
    ],
)
def test_what_cannot_be_compared_is_refused(batches, message):
    left, right = (trees(0, batches=number) for number in batches)
    with pytest.raises(ValueError, match=re.escape(message)):
        gradient_noise(left, right)


def test_leaves_of_unequal_numbers_of_batches_are_refused():
    tree = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones((4, 2))}
    with pytest.raises(ValueError, match=r"'bias': \(4,\)"):
        gradient_noise(tree, tree)
