"""The sliding parallel spiking neuron: a convolution over time, whose gradient OSTL finds exactly in one layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slax_neurons import SlidingPSN, Trainable, connect, parallel_in_time, unroll
from slax_neurons.testing import check_neuron
from slax_rules import BPTT, OSTL, OTTT, cross_entropy, gradients
from stacks import furthest, linear

EXACT, DOUBLE = 1e-12, {"param_dtype": jnp.float64}
RANDOM = np.random.default_rng(0)
WEIGHTS, X, LABELS = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(12, 2, 5)), jnp.array([0, 2])


@pytest.mark.parametrize("together", [False, True])
def test_membranes_are_the_convolution_of_the_currents_with_the_weights(together, x64):
    """Over windows, too: no step is lost between them."""
    neuron, x = SlidingPSN(weights=WEIGHTS, threshold=0.3, **DOUBLE), RANDOM.normal(size=(9, 1, 4))
    expected = np.stack([np.convolve(x[:, 0, unit], WEIGHTS[:, unit])[:9] for unit in range(4)], axis=1)
    carry, found = neuron.initialize_carry((1, 4)), []
    with parallel_in_time(together):
        for window in (x[:4], x[4:]):
            carry, spikes = unroll(neuron, carry, jnp.asarray(window))
            found.append(spikes)
            np.testing.assert_allclose(carry.u[0], expected[sum(map(len, found)) - 1], atol=EXACT)
    np.testing.assert_array_equal(np.concatenate(found)[:, 0], expected >= 0.3)


@pytest.mark.parametrize(("rule", "options"), [
    (OSTL(), {"weights": Trainable(WEIGHTS), "threshold": Trainable(0.3)}),
    (OTTT(), {"weights": WEIGHTS[:, 0]}),  # which filters the inputs once for the layer
])  # fmt: skip
def test_rules_with_traces_are_exact_in_one_layer(rule, options, x64):
    model = connect([linear(5, 4, 0), SlidingPSN(**options, **DOUBLE), linear(4, 3, 1)])
    batch = model, cross_entropy, jnp.asarray(X), LABELS
    one, exact = (gradients(*batch, rule=of, window=window)[1] for of, window in ((rule, 5), (BPTT(), None)))
    assert furthest(one, exact) < EXACT and all(map(np.any, jax.tree.leaves(exact)))


def test_one_weight_is_no_memory_and_none_is_refused():
    check_neuron(SlidingPSN(weights=[1.0]))
    with pytest.raises(ValueError, match=r"SlidingPSN got weights=.*, expected one for each of the last k steps"):
        SlidingPSN(weights=[])
