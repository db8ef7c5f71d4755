"""What a neuron says of itself, copies of it with other attributes, and errors for options that it does not have."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import (
    ALIF,
    BRF,
    IF,
    LI,
    LIF,
    LTC,
    NEURONS,
    Neuron,
    NeuronCell,
    Parameter,
    SpikingNeuron,
    Surrogate,
    Trainable,
    arctan,
    complexity,
    connect,
    fluctuation_driven,
    health,
    unroll,
)
from slax_neurons.parameter import UNIT_INTERVAL

T, B, N = 10, 3, 4


class Named(NamedTuple):
    u: jax.Array
    w: jax.Array


class Trace(Neuron):
    """A user's neuron in the simplest style: states by name, and a membrane that is none of the names we know."""

    spikes = True

    def __init__(self):
        super().__init__()
        self.spike_fn = arctan()
        self.threshold = 1.0

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"v": jnp.zeros(input_shape), "count": jnp.zeros(input_shape)}

    def __call__(self, carry, inputs):
        v = 0.5 * carry["v"] + inputs
        spikes = self.spike_fn(v - 1)
        return {"v": v - spikes, "count": carry["count"] + spikes}, spikes

    def membrane(self, carry):
        return carry["v"]

    @property
    def membrane_decay(self):
        return 0.5


def test_membrane_is_the_carry_or_its_field_u_or_what_the_neuron_says():
    one, other = jnp.ones((B, N)), jnp.zeros((B, N))
    assert LIF().membrane(one) is one
    assert LIF().membrane(Named(u=one, w=other)) is one
    assert Trace().membrane({"v": one, "count": other}) is one


@pytest.mark.parametrize("carry", [{"u": jnp.ones(2)}, (jnp.ones(2),), Named(u=None, w=jnp.ones(2)), None])
def test_a_membrane_that_is_not_known_is_an_error_that_says_what_to_define(carry):
    message = rf"Got a LIF whose carry is a {type(carry).__name__}, .* Define LIF.membrane\(carry\), which returns it"
    with pytest.raises(TypeError, match=message):
        LIF().membrane(carry)


def test_analyses_take_a_users_neuron_at_its_word():
    """A dict for a carry; rates, membrane updates and the impulse are those of the membrane that it names."""
    model, x = connect([Trace()]), jnp.full((T, B, N), 0.8)
    outputs = unroll(model, model.initialize_carry((B, N)), x)[1]
    assert 0 < outputs.mean() < 1
    assert health(model, x).layers[0].rate == pytest.approx(float(outputs.mean()))
    found = complexity(model, x)
    assert found.activation_sparsity == pytest.approx(float(1 - outputs.mean()))
    assert found.membrane_updates > 0
    ours = fluctuation_driven(Trace(), rate=0.1)(jax.random.key(0), (20, N))
    np.testing.assert_array_equal(ours, fluctuation_driven(LIF(decay=0.5), rate=0.1)(jax.random.key(0), (20, N)))


def test_a_neuron_that_spikes_without_a_spike_function_is_an_error_in_health():
    class Bare(Neuron):
        spikes = True

        def __call__(self, carry, inputs):
            return carry, (inputs > 0).astype(inputs.dtype)

    with pytest.raises(TypeError, match=r"Bare.replace got spike_fn, which Bare does not have"):
        health(connect([Bare()]), jnp.ones((T, B, N)))


DECAYS = {
    "an integrator": (IF(), 1.0),
    "a number": (LIF(decay=0.75), 0.75),
    "a number in an array": (LI(decay=np.array(0.75)), 0.75),
    "trainable": (ALIF(decay=Trainable(0.75)), 0.75),
    "one per neuron": (LIF(decay=np.full(N, 0.75)), None),
    "trainable, one per neuron": (LIF(decay=Trainable(np.full(N, 0.75))), None),
    "none": (BRF(), None),
    "none, with weights": (LTC(N, rngs=nnx.Rngs(0)), None),
    "a user's": (Trace(), 0.5),
}


@pytest.mark.parametrize("name", DECAYS)
def test_membrane_decay_is_one_number_or_none(name):
    neuron, expected = DECAYS[name]
    assert neuron.membrane_decay == (None if expected is None else pytest.approx(expected, rel=1e-6))
    if name == "trainable":
        assert isinstance(neuron.membrane_decay, jax.Array)
        assert neuron.membrane_decay.shape == ()
    elif expected is not None:
        assert type(neuron.membrane_decay) is float


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_trainable_membrane_decay_has_the_neurons_dtype_and_a_gradient_under_jit(dtype, x64):
    neuron = LIF(decay=Trainable(0.75), param_dtype=dtype)
    assert neuron.membrane_decay.dtype == jnp.dtype(dtype)
    decay, gradient = nnx.jit(nnx.value_and_grad(lambda neuron: neuron.membrane_decay))(neuron)
    # d sigmoid(x) / dx = s (1 - s)
    assert float(gradient["decay"]["unconstrained"][...]) == pytest.approx(float(decay * (1 - decay)), rel=1e-3)


def test_a_copy_has_the_new_attributes_and_shares_no_variable():
    neuron = LIF(decay=Trainable(0.75), threshold=np.full(N, 2.0))
    spike_fn = arctan()
    copy = neuron.replace(spike_fn=spike_fn, reset="none", threshold=Trainable(0.5))
    assert (copy.spike_fn, copy.reset, type(copy)) == (spike_fn, "none", LIF)
    assert (neuron.reset, neuron.spike_fn) == ("subtract", LIF().spike_fn)
    assert [leaf.shape for leaf in jax.tree.leaves(nnx.state(neuron))] == [(), (N,)]
    assert [leaf.shape for leaf in jax.tree.leaves(nnx.state(copy, nnx.Param))] == [(), ()]
    copy.decay.unconstrained[...] = jnp.zeros(())
    assert copy.membrane_decay == 0.5
    assert neuron.membrane_decay == pytest.approx(0.75)
    x = jnp.full((T, B, N), 0.4)
    ours = unroll(copy, copy.initialize_carry((B, N)), x)
    theirs = LIF(decay=0.5, reset="none", threshold=0.5)
    jax.tree.map(np.testing.assert_array_equal, ours, unroll(theirs, theirs.initialize_carry((B, N)), x))


def test_a_copy_of_a_users_neuron_and_of_ltc():
    straight = Surrogate(jnp.ones_like)
    for neuron in (Trace(), LTC(N, rngs=nnx.Rngs(0))):
        copy = neuron.replace(spike_fn=straight)
        assert copy.spike_fn is straight
        assert neuron.spike_fn is not straight
        assert type(copy) is type(neuron)


def test_a_copy_is_made_inside_a_traced_function_and_passes_gradients_on():
    def loss(neuron):
        copy = neuron.replace(reset="zero")
        return unroll(copy, copy.initialize_carry((B, N)), jnp.full((T, B, N), 0.3))[1].sum()

    neuron = LIF(decay=Trainable(0.75), threshold=Trainable(1.0))
    ours = nnx.jit(nnx.grad(loss))(neuron)
    assert all(leaf.any() for leaf in jax.tree.leaves(ours))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LIF().replace(tau=3.0), TypeError, "LIF.replace got tau, which LIF does not have, expected .*spike_fn, decay"),
        (lambda: LI().replace(spike_fn=arctan()), TypeError, "LI.replace got spike_fn, which LI does not have"),
        (lambda: LIF().replace(_pytree__state=None), TypeError, "got _pytree__state, which LIF does not have"),
        (lambda: LIF().replace(reset="never"), ValueError, "LIF got reset='never', expected one of 'subtract'"),
        (lambda: LIF().replace(decay=2.0), ValueError, r"LIF decay got 2., expected numbers inside \(0.0, 1.0\)"),
        (lambda: LIF().replace(param_dtype=jnp.float64), ValueError, r"Make a new one: LIF\(param_dtype=...\)"),
        (lambda: BRF().replace(dt=0.1), ValueError, r"BRF.replace got dt=0.1, .* Make a new BRF"),
    ],
)  # fmt: skip
def test_what_cannot_be_replaced_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def sizes(kind):
    return {"features": N, "rngs": nnx.Rngs(0)} if NEURONS[kind] is LTC else {}


UNKNOWN = {
    "tau": ({"tau": 20.0}, r"tau=20\.0", r"decay=time_constant\(tau, dt=\.\.\.\)"),
    "beta": ({"beta": 0.9}, r"beta=0\.9", r"is called `decay` here: \w+\(decay=\.\.\.\)"),
    "alpha": ({"alpha": 0.9}, r"alpha=0\.9", r"called `decay` here, the decay of a synaptic current `synapse_decay`"),
    "v_threshold": ({"v_threshold": 1.0}, r"v_threshold=1\.0", "called `threshold` here"),
    "two": ({"color": "red", "size": 3}, "color='red', size=3", ""),
}
CASES = [
    (kind, name) for kind in NEURONS for name in UNKNOWN if (kind, name) not in {("alif", "beta"), ("ltc", "beta")}
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_an_option_that_a_neuron_does_not_have_is_an_error_that_lists_those_that_it_has(kind, name):
    options, got, hint = UNKNOWN[name]
    neuron = NEURONS[kind]
    message = rf"^{neuron.__name__} got {got}, expected {neuron.__name__}\(.*\)\. ?.*{hint}"
    with pytest.raises(TypeError, match=message) as caught:
        neuron(**sizes(kind), **options)
    if neuron is not LTC:  # whose attributes are more than its options
        own = [option for option in vars(neuron()) if not option.startswith("_")]
        assert [option for option in own if f"{option}=..." not in str(caught.value)] == []


@pytest.mark.parametrize("kind", [kind for kind in NEURONS if NEURONS[kind] is not LTC])
def test_options_come_by_name(kind):
    with pytest.raises(
        TypeError, match=rf"^{NEURONS[kind].__name__} got 0\.9, expected {NEURONS[kind].__name__}\(\w+=\.\.\."
    ):
        NEURONS[kind](0.9)


class Plain(SpikingNeuron):
    """A user's neuron that passes options on, one of which it takes away first."""

    def __init__(self, rate=0.1, **options):
        self.color = options.pop("color", None)
        super().__init__(**options)
        self.rate = Parameter("Plain rate", rate, UNIT_INTERVAL, self.param_dtype)


class Wrong(SpikingNeuron):
    """A user's neuron that gives its base an option of its own."""

    def __init__(self, rate=0.1):
        super().__init__(rate=rate)


def test_options_of_users_neurons():
    assert Plain(0.2, color="red", reset="zero").color == "red"
    with pytest.raises(TypeError, match=r"^Plain got tau=1, expected Plain\(rate, threshold=\.\.\., reset=\.\.\.,"):
        Plain(tau=1)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'rate'"):  # Python's own error
        Wrong()
    with pytest.raises(TypeError, match=r"missing .*'rngs'"):
        LTC(N)


def test_long_values_are_shortened():
    with pytest.raises(TypeError) as caught:
        LIF(weights=list(range(1000)))
    assert len(str(caught.value)) < 250


def test_every_neuron_is_one_that_says_what_it_is():
    assert all(issubclass(neuron, NeuronCell) for neuron in NEURONS.values())
