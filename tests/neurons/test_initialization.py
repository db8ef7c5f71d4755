import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import ALIF, BRF, IF, LI, LIF, LTC, AdLIF, CuBaLIF, Neuron, Trainable, connect, unroll
from slax_neurons.initialization import impulse_moments
from slax_neurons.initialization import fluctuation_driven

T, B, FEATURES = 60, 150, 1500
XI, MEAN = 2.0, 0.4
NEVER = 1e6
NEURONS = {
    "LIF": lambda threshold: LIF(threshold=threshold, decay=0.8),
    "trainable": lambda threshold: LIF(threshold=threshold, decay=Trainable(0.8)),
    "CuBaLIF": lambda threshold: CuBaLIF(threshold=threshold, decay=0.8, synapse_decay=0.6),
    "ALIF": lambda threshold: ALIF(threshold=threshold, decay=0.8),
    "AdLIF": lambda threshold: AdLIF(threshold=threshold, decay=0.8, adaptation_decay=0.9, a=0.1),
    "symplectic AdLIF": lambda threshold: AdLIF(
        threshold=threshold, decay=0.8, adaptation_decay=0.9, a=0.1, form="symplectic", q=10.0
    ),
    "BRF": lambda threshold: BRF(threshold=threshold, b_offset=5.0, dt=0.02),
    "IF": lambda threshold: IF(threshold=threshold),
}


def last_membranes(neuron, currents):
    """The membranes [B, N] after all of the currents [T, B, N]."""
    carry, outputs = unroll(neuron, neuron.initialize_carry(currents.shape[1:]), currents)
    assert isinstance(neuron, LI) or not outputs.any()
    return np.asarray(getattr(carry, "u", carry), np.float64)


def spikes(rate, *shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < rate, jnp.float32)


def kernel_of(neuron, *shape, seed=0, **options):
    return np.asarray(fluctuation_driven(neuron, **options)(jax.random.key(seed), shape), np.float64)


def check_membranes(u, weights, scatter):
    """Mean and variance over samples [B, N], against the targets: within 4 standard errors.

    Args:
        weights: [n, N]; as far as they have a mean, the units fluctuate together.
        scatter: standard deviation over units of a unit's own mean, in units of the target standard deviation.
    """
    (samples, units), n = u.shape, len(weights)
    together = weights.mean() ** 2 / np.mean(weights**2)
    sigma = (1 - MEAN) / XI
    of_mean = 4 * sigma * math.sqrt(scatter**2 / units + (together + 1 / n) / samples)
    of_variance = 4 * math.sqrt(2 * (1 / (n * units) + (together**2 + 1 / n) / samples))
    assert of_mean < MEAN / 3
    assert of_variance < 0.15
    assert u.mean() == pytest.approx(MEAN, abs=of_mean)
    assert np.mean(u.var(0, ddof=1)) == pytest.approx(sigma**2, rel=of_variance)


@pytest.mark.parametrize(("kind", "rate"), [("LIF", 0.4), *((kind, 0.1) for kind in NEURONS)])
def test_membranes_of_a_dense_layer_have_the_target_mean_and_variance(kind, rate):
    """As they would be without spikes: weights are made for a threshold of 1, and the neuron that is run never fires."""
    n, neuron = 100, NEURONS[kind](1.0)
    options = {"rate": rate, "xi": XI, "mean": MEAN, "steps": T if kind == "IF" else None}
    weights = kernel_of(neuron, n, FEATURES, **options)
    currents = spikes(rate, T, B, n) @ jnp.asarray(weights, jnp.float32)
    first, second = impulse_moments(neuron, np.full(1, 2.0**-12), T if kind == "IF" else None)
    scatter = math.sqrt(rate * first[0] ** 2 / ((1 - rate) * second[0]))
    check_membranes(last_membranes(NEURONS[kind](NEVER), currents), weights, scatter)


def test_membranes_of_a_convolution_have_the_target_mean_and_variance():
    """Where all of a filter's inputs are inside the image."""
    rate, neuron = 0.1, NEURONS["LIF"](1.0)
    init = fluctuation_driven(neuron, rate=rate, xi=XI, mean=MEAN)
    conv = nnx.Conv(8, FEATURES, (3, 3), padding="VALID", kernel_init=init, rngs=nnx.Rngs(0))
    currents = conv(spikes(rate, T * B, 3, 3, 8)).reshape(T, B, FEATURES)
    weights = np.asarray(conv.kernel[...]).reshape(72, FEATURES)
    scatter = math.sqrt(rate * 25 * (1 - 0.8**2) / (1 - rate))
    check_membranes(last_membranes(NEURONS["LIF"](NEVER), currents), weights, scatter)


@pytest.mark.parametrize("sizes", [(2000,), (5, 4, 100)])
def test_each_neuron_has_the_variance_for_its_own_threshold_and_decay(sizes):
    n, rate, decays, thresholds = 2000, 0.1, np.linspace(0.3, 0.95, 60), np.linspace(2.0, 0.5, 60)
    weights = kernel_of(LIF(threshold=thresholds, decay=decays), *sizes, 60, rate=rate, xi=XI).reshape(n, 60)
    expected = (thresholds / XI) ** 2 * (1 - decays**2) / (n * rate * (1 - rate))
    np.testing.assert_allclose(weights.var(0), expected, rtol=5 * math.sqrt(2 / n))


def test_weights_follow_the_closed_form_of_the_leaky_integrator():
    n, rate, decay, share, theta = 4000, 0.2, 0.7, 0.4, 1.5
    neuron = LIF(decay=decay, threshold=theta)
    weights = kernel_of(neuron, n, 50, rate=rate, xi=XI, mean=MEAN, share=share)
    mean = share * MEAN * (1 - decay) / (n * rate)
    variance = share * ((theta - MEAN) / XI) ** 2 * (1 - decay**2) / (n * rate * (1 - rate)) - mean**2
    assert weights.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / weights.size))
    assert weights.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / weights.size))


def test_shares_add_up():
    """Two synapses with shares that sum to 1 make the mean and the variance that one alone makes."""
    options = {"rate": 0.2, "xi": XI, "mean": MEAN}
    neuron = LIF(decay=0.5)

    def parts(share, n):
        weights = kernel_of(neuron, n, 5000, share=share, **options)
        return np.array([n * weights.mean(), n * np.square(weights).mean()])

    np.testing.assert_allclose(parts(0.3, 40) + parts(0.7, 90), parts(1.0, 60), rtol=0.03)


def test_a_read_out_takes_the_threshold_that_is_given():
    same = {"rate": 0.1, "xi": XI, "steps": 9}
    read_out = kernel_of(LI(decay=0.8), 5, 4, threshold=2.0, **same)
    np.testing.assert_array_equal(read_out, kernel_of(LIF(decay=0.8, threshold=2.0), 5, 4, **same))
    np.testing.assert_array_equal(read_out, kernel_of(LIF(decay=0.8, threshold=7.0), 5, 4, threshold=2.0, **same))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.995])
@pytest.mark.parametrize("steps", [None, 1, 30, 300])
def test_moments_of_the_response_are_geometric_sums(decay, steps):
    for dtype in (jnp.float32, jnp.bfloat16):
        neuron = LIF(decay=np.full(3, decay), param_dtype=dtype)
        used = float(neuron.decay.constant[0])
        long = 10**6 if steps is None else steps
        expected = [(1 - used**long) / (1 - used), (1 - used ** (2 * long)) / (1 - used**2)]
        for ours, theirs in zip(impulse_moments(neuron, np.full(3, 2.0**-12), steps), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3)


class Resting(Neuron):
    """A leaky integrator that does not rest at 0."""

    threshold = 1.0

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.full(input_shape, 0.3)

    def __call__(self, carry, inputs):
        u = 0.06 + 0.8 * carry + inputs
        return u, u


def test_the_response_is_the_difference_that_a_current_makes():
    for ours, theirs in zip(impulse_moments(Resting(), np.full(1, 2.0**-12), None), (5, 1 / 0.36), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2)


def deep(kernel_init):
    rngs = nnx.Rngs(0)
    layers = [(nnx.Linear(80, 80, kernel_init=kernel_init, rngs=rngs), LIF()) for _ in range(5)]
    return connect([module for layer in layers for module in layer])


def test_each_layer_of_a_deep_net_fires_where_flax_leaves_the_last_ones_dead():
    rate = 0.05

    def rates(model):
        x = spikes(rate, 60, 16, 80)
        return [float(y.mean()) for y in model.outputs(model.initialize_carry(x.shape[1:]), x)[1][1::2]]

    usual = rates(deep(nnx.nn.linear.default_kernel_init))
    assert usual[0] > 0
    assert usual[-2:] == [0, 0]
    ours = rates(deep(fluctuation_driven(LIF(), rate=rate)))
    assert all(rate / 4 < r < rate * 8 for r in ours)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("neuron_dtype", ["float32", "bfloat16"])
def test_dtype_is_kept(dtype, neuron_dtype):
    init = fluctuation_driven(LIF(threshold=np.linspace(1, 2, 5), param_dtype=neuron_dtype), rate=0.1)
    assert init(jax.random.key(0), (30, 5), dtype).dtype == dtype
    layer = nnx.Linear(30, 5, kernel_init=init, param_dtype=dtype, rngs=nnx.Rngs(0))
    assert layer.kernel.dtype == dtype
    assert jnp.isfinite(layer.kernel[...]).all()


def test_float64(x64):
    init = fluctuation_driven(LIF(param_dtype=jnp.float64), rate=0.1)
    assert init(jax.random.key(0), (30, 5), jnp.float64).dtype == jnp.float64


def test_the_key_decides():
    init = fluctuation_driven(LIF(), rate=0.1)
    first, again, other = (init(jax.random.key(seed), (6, 5)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_a_layer_made_inside_a_traced_function_has_the_same_weights():
    def make(key):
        neuron = LIF(decay=Trainable(np.linspace(0.5, 0.9, 5)))
        init = fluctuation_driven(neuron, rate=0.1)
        return nnx.Linear(30, 5, kernel_init=init, rngs=nnx.Rngs(key)).kernel[...]

    np.testing.assert_allclose(jax.jit(make)(jax.random.key(0)), make(jax.random.key(0)), rtol=1e-6)
    assert nnx.eval_shape(lambda: make(jax.random.key(0))).shape == (30, 5)


class Opaque(Neuron):
    """A neuron whose membrane cannot be told from its carry."""

    threshold = 1.0

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"v": jnp.zeros(input_shape)}

    def __call__(self, carry, inputs):
        return {"v": 0.5 * carry["v"] + inputs}, inputs


def make(neuron, shape=(100, 5), *, rate=0.1, **options):
    return lambda: fluctuation_driven(neuron, rate=rate, **options)(jax.random.key(0), shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (make(LIF(), rate=0.0), ValueError, r"rate=0.0, expected a probability per step in \(0, 1\)"),
        (make(LIF(), rate=1.0), ValueError, "rate=1.0, expected"),
        (make(LIF(), rate=30.0), ValueError, "rate=30.0, expected"),
        (make(LIF(), xi=0.0), ValueError, "xi=0.0, expected a number > 0"),
        (make(LIF(), xi=math.nan), ValueError, "xi=nan, expected a number > 0"),
        (make(LIF(), share=0.0), ValueError, r"share=0.0, expected a number in \(0, 1\]"),
        (make(LIF(), share=1.1), ValueError, "share=1.1, expected"),
        (make(IF(), steps=0), ValueError, "steps=0, expected at least 1"),
        (make(LIF(), mean=1.0), ValueError, "mean=1.0 for thresholds down to 1, expected a mean below"),
        (make(LIF(threshold=np.linspace(0.2, 2, 5)), mean=0.3), ValueError, "thresholds down to 0.2"),
        (make(LIF(), mean=0.9, xi=3.0, rate=0.01), ValueError, "xi=3.0 and mean=0.9 for 100 inputs of rate 0.01"),
        (make(IF()), ValueError, r"IF does not forget an impulse .* fluctuation_driven\(..., steps=100\)"),
        (make(LIF(decay=0.9998)), ValueError, "LIF does not forget an impulse"),
        (make(AdLIF(a=-2.0)), ValueError, "AdLIF (does not forget an impulse|fires at rest)"),
        (make(LI()), ValueError, r"LI has no threshold .* threshold=1.0"),
        (make(LIF(threshold=0.0)), ValueError, "LIF fires at rest: got a threshold of 0, expected"),
        (make(LIF(threshold=1e-4), threshold=1.0), ValueError, "LIF fires at rest or after a current of 0.00024"),
        (make(LIF(threshold=np.ones(4))), ValueError, r"LIF threshold has shape \(4,\)"),
        (make(LIF(decay=np.full(4, 0.5))), ValueError, r"LIF decay has shape \(4,\)"),
        (make(LIF(), (5,)), ValueError, r"a kernel of shape \(5,\), expected \[..., in, out\]"),
        (make(LTC(5, rngs=nnx.Rngs(0))), TypeError, "got LTC, expected an element-wise neuron"),
        (make(LIF), TypeError, "got the class LIF"),
        (make(Opaque()), TypeError, "Opaque whose carry is a dict, expected an array or a NamedTuple"),
    ],
)
def test_what_cannot_be_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()
