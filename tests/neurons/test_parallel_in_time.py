"""All steps of a neuron together are the loop over its steps, forward and in reverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import ALIF, LIF, LRU, Trainable, parallel_in_time, unroll
from slax_neurons.building_blocks import reverse_pass_of_jax
from stacks import deviation

NEURONS = {
    "reset to zero": LIF(reset="zero", decay=Trainable(0.9), threshold=Trainable(1.0)),
    "two states, of which spikes reach both": ALIF(decay=Trainable(0.9), beta=Trainable(0.3)),
    "two currents": LRU(r=Trainable(0.9), theta=Trainable(0.3)),
}


def random(mean, *shape):
    return np.random.default_rng(int(10 * mean)).normal(mean, 0.6, shape)


@pytest.mark.parametrize("name", NEURONS)
def test_states_outputs_and_gradients_are_those_of_the_loop(name, x64):
    """By currents, first states and parameters, from states that are not at rest; and there are spikes."""
    neuron = nnx.clone(NEURONS[name]).replace()
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    x, weights = jnp.asarray(random(0.3, 40, 2, 4)), random(0.0, 40, 2, 4)
    shape = (2, 4 // neuron.currents_per_unit)
    start = jax.tree.map(lambda _: jnp.asarray(random(0.5, *shape)), neuron.initialize_carry((2, 4)))

    def total(params, start, x):
        carry, outputs = unroll(nnx.merge(graphdef, params, rest), start, x)
        return jnp.sum(weights * outputs) + sum(map(jnp.sum, jax.tree.leaves(carry))), (carry, outputs)

    found = []
    for together in (False, True):
        with parallel_in_time(together), reverse_pass_of_jax(False):
            found.append(jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(params, start, x))
    for loop, ours in zip(*map(jax.tree.leaves, found), strict=True):
        assert np.any(loop) and deviation(ours, loop) < 1e-12
    assert not neuron.spikes or 0.1 < found[0][1][1].mean() < 0.5


@pytest.mark.parametrize("neuron", [LIF(reset="none"), LRU(r=0.9, theta=0.3)])
def test_no_loop_over_steps_is_left(neuron):
    def loops(together):
        with parallel_in_time(together):
            run = jax.make_jaxpr(lambda x: unroll(neuron, neuron.initialize_carry((2, 4)), x)[1])
            return str(run(jnp.ones((400, 2, 4)))).count("scan[")

    assert loops(False) > 0 == loops(True)


def test_after_a_current_that_is_not_finite_its_unit_is_not_a_number_and_all_else_is_the_loops():
    neuron, x = LIF(), random(0.3, 8, 1, 4).astype(np.float32)
    x[3, 0, :3] = np.inf, -np.inf, np.nan
    found = []
    for together in (False, True):
        with parallel_in_time(together):
            found.append(np.array(neuron.pre_reset_states(neuron.initialize_carry((1, 4)), jnp.asarray(x))[1]))
    loop, ours = found
    assert not np.isfinite(loop[3:, 0, :3]).any() and np.isnan(ours[4:, 0, :3]).all()
    loop[4:, 0, :3] = np.nan
    np.testing.assert_allclose(ours, loop, rtol=1e-5, atol=1e-6)
