"""Laws of bias and variance of gradients, of intervals and of firing rates: those of NumPy in double precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from slax_viz import firing_rates, gradient_noise, mean_interval

LAYERS = {"1": {"bias": (2,), "kernel": (3, 2)}, "2": {"kernel": (2, 2)}}


def trees(seed, batches=None, scale=1.0, dtype=np.float32):
    """Gradients about a mean that is not zero, of one batch or of several along a first axis."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        mean = 2 * np.sign(np.arange(np.prod(shape)) % 2 - 0.5).reshape(shape)
        return (scale * (mean + rng.normal(size=(*(() if batches is None else (batches,)), *shape)))).astype(dtype)

    return jax.tree.map(draw, LAYERS, is_leaf=lambda leaf: isinstance(leaf, tuple))


def layer_of(path):
    return path.partition("/")[0]


def vector(tree):
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_bias_and_variance_are_those_of_the_definition(scale):
    found = gradient_noise(trees(0, 6, scale), trees(1, 6, scale), group=layer_of)
    assert list(found) == ["1", "2"]
    for layer, noise in found.items():
        g, r = (
            np.concatenate(
                [leaf.reshape(6, -1) for leaf in jax.tree.leaves(trees(seed, 6)[layer])], axis=1, dtype=float
            )
            for seed in (0, 1)
        )

        def unpaired(a, b):  # the mean over all pairs of two batches
            products = a @ b.T
            return (products.sum() - np.trace(products)) / 30

        unit = unpaired(r, r)
        variances = [np.var(x, axis=0, ddof=1).sum() / unit for x in (g, r)]
        cosine = unpaired(g, r) / np.sqrt(unpaired(g, g) * unit)
        expected = [unpaired(g - r, g - r) / unit, *variances, unpaired(g, r) / unit, cosine]
        np.testing.assert_allclose(noise[:5], expected, rtol=1e-4, atol=1e-5)
        assert bool(noise.defined) and bool(noise.cosine_defined)


def test_estimates_of_bias_and_variance_are_unbiased():
    """Noise without a mean is no bias, on the average over many draws of the batches; |mean(g) - mean(r)|^2 would see one."""
    rng = np.random.default_rng(0)
    truth = np.arange(1.0, 9)
    r = truth + rng.normal(size=(4000, 4, 8))
    g = r + 3 * rng.normal(size=r.shape)
    found = jax.jit(jax.vmap(gradient_noise))(*({"kernel": x.astype(np.float32)} for x in (g, r)))["kernel"]
    assert abs(np.mean(found.bias_squared)) < 0.1 * 9 * 8 / 4 / (truth @ truth)
    assert np.mean(found.projection) == pytest.approx(1, abs=0.02)
    assert np.mean(found.variance) == pytest.approx((1 + 9) * 8 / (truth @ truth), rel=0.05)


def test_what_the_noise_hides_is_not_defined():
    noise = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    signal, broken = noise + 10, noise + np.where(np.arange(50) == 3, np.nan, 10).astype(np.float32)
    compare = jax.jit(lambda g, r: gradient_noise({"w": g}, {"w": r})["w"])
    for g, r in ((signal, noise), (noise, np.zeros_like(noise)), (broken, signal)):
        assert list(map(float, compare(g, r))) == [0] * 7
    hidden = compare(noise, signal)
    assert bool(hidden.defined) and not bool(hidden.cosine_defined)
    assert hidden.cosine == 0 and hidden.variance > 0 and hidden.reference_variance < 4


def test_interval_is_that_of_scipy_within_its_bounds():
    samples = np.random.default_rng(0).normal(0.5, 0.3, size=(7, 4, 2)).clip(0, 1)
    mean, low, high = mean_interval(samples, level=0.9, bounds=(0.0, 1.0))
    scale = stats.sem(samples, axis=0)
    expected = stats.t.interval(0.9, 6, loc=samples.mean(axis=0), scale=scale)
    np.testing.assert_allclose((mean, low, high), (samples.mean(axis=0), *np.clip(expected, 0, 1)))
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    free, bounded = mean_interval([0.2, 0.9, 1.0]), mean_interval([0.2, 0.9, 1.0], bounds=(-1.0, 1.0))
    assert free.high > 1 and (bounded.low, bounded.high) == (free.low, 1)


SPIKES = (np.random.default_rng(0).random((6, 4, 3)) < 0.4).astype(np.float32)


def test_firing_rates_are_means_over_what_counts():
    lengths = np.array([6, 2, 0, 4])
    rates = firing_rates({"a": SPIKES, "maps": SPIKES[..., None]}, mask=np.arange(6)[:, None] < lengths, dt=0.5)
    counted = np.concatenate([SPIKES[:length, i] for i, length in enumerate(lengths)])  # [12, N]
    assert rates["a"].layer == pytest.approx(2 * counted.mean())
    np.testing.assert_allclose(rates["a"].units, 2 * counted.mean(axis=0))
    np.testing.assert_allclose(rates["a"].steps, [2 * SPIKES[t][lengths > t].mean() for t in range(6)])
    np.testing.assert_allclose(rates["maps"].units, rates["a"].units[:, None])
    whole = firing_rates(jnp.asarray(SPIKES))
    np.testing.assert_allclose(whole.steps, SPIKES.mean(axis=(1, 2)), rtol=1e-6)
    padded = firing_rates(
        np.concatenate([SPIKES, SPIKES]), mask=np.repeat([[True], [False]], 6, axis=0) & np.ones(4, bool)
    )
    assert padded.layer == whole.layer and np.isnan(padded.steps[6:]).all()


ONES = {"w": np.ones((2, 3), np.float32)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(gradient_noise, trees(0, 1), trees(1, 1)), "the same number of batches in each, at least 2"),
        (partial(gradient_noise, *2 * [ONES | {"b": np.ones((4, 2), np.float32)}]), r"'b': \(4,\)"),
        (partial(mean_interval, np.ones((1, 3))), "at least 2 samples"),
        (partial(mean_interval, [1.0, 2.0], level=95.0), "level must be a probability"),
        (partial(mean_interval, [[0, 1, 2], [3, 4, np.nan]]), r"got 1 others, the first at index \[1, 2\]"),
        (partial(mean_interval, [0.2, 0.9, 1.1], bounds=(-1.0, 1.0)), r"lie in \(-1.0, 1.0\), got 1 others"),
        (partial(firing_rates, np.ones((3, 2))), r"spikes must have shape \[T, B, N\], time first"),
        (partial(firing_rates, {"one": np.ones((3, 0, 2))}), "spikes of one must have shape"),
        (partial(firing_rates, -SPIKES), "spikes must not be negative"),
        (partial(firing_rates, SPIKES * np.nan), "spikes must be finite"),
        (partial(firing_rates, SPIKES, dt=0.0), "dt must be a positive duration, got 0.0"),
        (partial(firing_rates, SPIKES, mask=np.ones((4, 6), bool)), r"must be bool\[6, 4\].* got bool\[4, 6\]"),
        (partial(firing_rates, SPIKES, mask=np.zeros((6, 4), bool)), "somewhere true"),
    ],
)
def test_unusable_numbers_are_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
