"""Laws of bias and variance of gradients, of intervals and of firing rates: those of NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from slax_viz import firing_rates, gradient_noise, mean_interval


def trees(seed, scale):
    """Gradients of six batches, along a first axis, about a mean that is not zero."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (scale * rng.normal(2, 1, (6, *shape))).astype(np.float32)  # noqa: E731
    return {"1": {"bias": draw(2), "kernel": draw(3, 2)}}


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_bias_and_variance_are_those_of_the_definition(scale):
    gradients, reference = trees(0, scale), trees(1, scale)
    found = gradient_noise(gradients, reference)
    assert list(found) == ["1/bias", "1/kernel"]
    for path, noise in found.items():
        g, r = (tree["1"][path[2:]].reshape(6, -1).astype(float) / scale for tree in (gradients, reference))

        def unpaired(a, b):  # the mean over all pairs of two batches
            products = a @ b.T
            return (products.sum() - np.trace(products)) / 30

        unit = unpaired(r, r)
        variances = [np.var(x, axis=0, ddof=1).sum() / unit for x in (g, r)]
        cosine = unpaired(g, r) / np.sqrt(unpaired(g, g) * unit)
        expected = [unpaired(g - r, g - r) / unit, *variances, unpaired(g, r) / unit, cosine]
        np.testing.assert_allclose(noise[:5], expected, rtol=1e-4, atol=1e-5)
        assert bool(noise.defined) and bool(noise.cosine_defined)


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
    mean, low, high = mean_interval(samples, bounds=(0.0, 1.0))
    scale = stats.sem(samples, axis=0)
    expected = stats.t.interval(0.95, 6, loc=samples.mean(axis=0), scale=scale)
    np.testing.assert_allclose((mean, low, high), (samples.mean(axis=0), *np.clip(expected, 0, 1)))
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    free, bounded = mean_interval([0.2, 0.9, 1.0]), mean_interval([0.2, 0.9, 1.0], bounds=(-1.0, 1.0))
    assert free.high > 1 and (bounded.low, bounded.high) == (free.low, 1)


SPIKES = (np.random.default_rng(0).random((6, 4, 3)) < 0.4).astype(np.float32)


def test_firing_rates_are_means_over_what_counts():
    lengths = np.array([5, 2, 0, 4])
    rates = firing_rates(jnp.asarray(SPIKES[..., None]), mask=np.arange(6)[:, None] < lengths, dt=0.5)
    counted = np.concatenate([SPIKES[:length, i] for i, length in enumerate(lengths)])  # [11, N]
    assert rates.layer == pytest.approx(2 * counted.mean())
    np.testing.assert_allclose(rates.units[:, 0], 2 * counted.mean(axis=0))
    np.testing.assert_allclose(rates.steps, [*(2 * SPIKES[t][lengths > t].mean() for t in range(5)), np.nan])
