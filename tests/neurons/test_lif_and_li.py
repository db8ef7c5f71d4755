import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from slax_neurons import LI, LIF, Trainable, fast_sigmoid, unroll
from stacks import deviation

RESETS = [(reset, stop) for reset in ("subtract", "zero", "none") for stop in (False, True)]


def run(neuron, currents):
    return unroll(neuron, neuron.initialize_carry(currents.shape[1:]), currents)


def test_lif_follows_its_equations_by_hand():
    """decay 1/2, threshold 1, currents 0.8 0.8 2 0: integrate, then fire, then reset, within one step."""
    neuron = LIF(decay=0.5, threshold=1.0)
    carry = jnp.zeros((1, 1))
    history = []
    for current in (0.8, 0.8, 2.0, 0.0):
        carry, spikes = neuron(carry, jnp.full((1, 1), current))
        history.append((float(spikes[0, 0]), float(carry[0, 0])))
    np.testing.assert_allclose(history, [(0, 0.8), (1, 0.2), (1, 1.1), (0, 0.55)], rtol=1e-6)


def test_a_current_at_the_threshold_fires():
    assert LIF()(jnp.zeros((1, 1)), jnp.ones((1, 1)))[1] == 1


@pytest.mark.parametrize(("reset", "stop"), RESETS)
@pytest.mark.parametrize("decay", [0.8, [0.3, 0.5, 0.7, 0.9, 0.95]], ids=["per layer", "per neuron"])
@pytest.mark.parametrize("threshold", [1.0, [0.5, 0.8, 1.0, 1.2, 1.5]], ids=["per layer", "per neuron"])
def test_lif_equals_the_oracle(reset, stop, decay, threshold, x64):
    """Spikes, states, and the gradients by the input current, decay and threshold."""
    currents = jax.random.normal(jax.random.key(0), (30, 3, 5)) + 0.3
    neuron = LIF(
        decay=Trainable(decay),
        threshold=Trainable(threshold),
        reset=reset,
        stop_reset_gradient=stop,
        param_dtype=jnp.float64,
    )
    layer = oracle.Layer(np.eye(5), np.zeros(5), oracle.LIF(decay, threshold, reset=reset, stop_reset_gradient=stop))
    weights = np.random.default_rng(0).normal(size=(30, 3, 5))
    theirs = oracle.bptt([layer], currents, oracle.linear(weights))

    def loss(neuron, currents):
        carry, spikes = run(neuron, currents)
        return jnp.mean(jnp.sum(jnp.asarray(weights) * spikes, axis=-1)), (carry, spikes)

    (by_neuron, by_current), (carry, spikes) = nnx.grad(loss, argnums=(0, 1), has_aux=True)(neuron, currents)
    np.testing.assert_array_equal(spikes, theirs.outputs)
    np.testing.assert_allclose(carry, theirs.carry.states[0][..., 0], rtol=1e-12, atol=1e-12)
    assert 0.1 < spikes.mean() < 0.9
    decay = np.asarray(decay)
    by_decay = by_neuron["decay"]["unconstrained"][...] / (decay * (1 - decay))
    assert deviation(by_decay, theirs.gradients[0]["decay"]) < 1e-11
    assert deviation(by_neuron["threshold"]["unconstrained"][...], theirs.gradients[0]["threshold"]) < 1e-11
    assert deviation(by_current.sum(axis=(0, 1)), theirs.gradients[0]["bias"]) < 1e-11


def test_li_equals_its_sum(x64):
    """u_T = sum_t decay^(T - t) I_t."""
    currents = jax.random.normal(jax.random.key(0), (9, 2, 4))
    carry, outputs = run(LI(decay=0.7, param_dtype=jnp.float64), currents)
    powers = 0.7 ** np.arange(8, -1, -1)
    np.testing.assert_allclose(carry, np.einsum("t,tbn->bn", powers, currents), rtol=1e-12)
    np.testing.assert_array_equal(carry, outputs[-1])


def test_default_decay_is_the_sigmoid_of_two():
    assert LIF().decay.number == LI().decay.number == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-15)


def test_trainable_decay_stays_inside_its_interval():
    """No optimizer step, however large, makes it leave (0, 1)."""
    neuron = LIF(decay=Trainable(0.9))
    for step in (-50.0, 50.0):
        neuron.decay.unconstrained[...] = jnp.float32(step)
        assert 0 <= neuron.decay(jnp.zeros((1, 1))) <= 1


@pytest.mark.parametrize("value", [0.9, np.linspace(0.1, 0.9, 5)], ids=["per layer", "per neuron"])
def test_trainable_and_fixed_parameters_compute_the_same(value):
    currents = jax.random.normal(jax.random.key(0), (20, 2, 5)) + 0.5
    fixed = run(LIF(decay=value), currents)
    trainable = run(LIF(decay=Trainable(value)), currents)
    np.testing.assert_array_equal(fixed[1], trainable[1])
    np.testing.assert_allclose(fixed[0], trainable[0], rtol=1e-5, atol=1e-6)


def test_only_trainable_parameters_are_params():
    assert not jax.tree.leaves(nnx.state(LIF(decay=np.full(3, 0.5)), nnx.Param))
    assert len(jax.tree.leaves(nnx.state(LIF(decay=Trainable(0.5), threshold=Trainable(1.0)), nnx.Param))) == 2


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 2.0, float("nan"), [0.5, 1.0]])
@pytest.mark.parametrize("kind", [LIF, LI])
@pytest.mark.parametrize("mark", [lambda value: value, Trainable], ids=["fixed", "trainable"])
def test_decay_outside_its_interval_is_an_error(kind, value, mark):
    with pytest.raises(ValueError, match=rf"{kind.__name__} decay got .*, expected numbers inside \(0.0, 1.0\)"):
        kind(decay=mark(value))


@pytest.mark.parametrize("mark", [lambda value: value, np.atleast_1d, Trainable], ids=["number", "array", "trainable"])
def test_decay_that_rounds_to_a_bound_is_an_error(mark):
    with pytest.raises(ValueError, match=r"LIF decay got .*0\.999.*, which bfloat16 rounds to a bound"):
        LIF(decay=mark(0.999), param_dtype=jnp.bfloat16)


def test_unknown_reset_is_an_error():
    with pytest.raises(ValueError, match="reset='soft', expected one of 'subtract', 'zero', 'none'"):
        LIF(reset="soft")


def test_unknown_option_is_an_error():
    with pytest.raises(TypeError, match="v_threshold"):
        LIF(v_threshold=1.0)


def test_parameter_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"LIF decay has shape \(3,\), .* features of shape \(5,\)"):
        run(LIF(decay=np.full(3, 0.5)), jnp.zeros((2, 1, 5)))


@pytest.mark.parametrize("shape", [(2, 4), (1, 5)])
def test_carry_of_another_shape_is_an_error(shape):
    with pytest.raises(ValueError, match=r"got a carry of float32.*for a current of float32"):
        unroll(LIF(), jnp.zeros(shape), jnp.zeros((3, 2, 5)))


def test_carry_of_another_dtype_is_an_error():
    with pytest.raises(ValueError, match="param_dtype=bfloat16"):
        run(LIF(), jnp.zeros((3, 2, 5), jnp.bfloat16))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_kept(dtype):
    neuron = LIF(decay=Trainable(np.full(5, 0.9)), threshold=Trainable(1.0), param_dtype=dtype)
    carry, spikes = run(neuron, jnp.ones((4, 2, 5), dtype))
    assert carry.dtype == spikes.dtype == jnp.dtype(dtype)


def test_a_neuron_that_is_built_twice_is_traced_once():
    traces = []

    @nnx.jit
    def step(neuron, current):
        traces.append(1)
        return neuron(jnp.zeros_like(current), current)

    for _ in range(2):
        step(LIF(spike_fn=fast_sigmoid(10.0)), jnp.ones((2, 3)))
    assert len(traces) == 1


def test_a_neuron_can_be_made_inside_a_traced_function():
    spikes = jax.jit(lambda x: LIF(decay=Trainable(0.5))(jnp.zeros_like(x), x)[1])(jnp.ones((2, 3)))
    np.testing.assert_array_equal(spikes, 1)
