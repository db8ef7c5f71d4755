"""What a local rule does not treat is an error that says what it got, what it takes, and what to do."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import BRF, LI, LIF, LTC, Edge, Neuron, Trainable, arctan, connect
from slax_rules import (
    OSTL,
    OTTT,
    RULES,
    Ruled,
    approximate_otpe,
    decolle,
    e_prop,
    ostl,
    ostl_with_recurrence,
    otpe,
    ottt,
    pp_prop,
    sltt,
)
from stacks import linear

EACH = {
    "OSTL": ostl,
    "OTTT": ottt,
    "OTPE": otpe,
    "ApproximateOTPE": approximate_otpe,
    "SLTT": sltt,
    "EProp": e_prop,
    "PPProp": pp_prop,
    "OSTL with recurrence": ostl_with_recurrence,
}


def synapse(n_in=7, n_out=4):
    return linear(n_in, n_out, 0, jnp.float32)


def layers(*neurons):
    """A stack of Linear and neuron, 4 units each."""
    modules = []
    for index, neuron in enumerate(neurons):
        modules += [synapse(4 if index else 7), neuron]
    return connect(modules)


def per_neuron():
    return LIF(decay=np.linspace(0.5, 0.9, 4))


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize(
    ("make", "got", "instead"),
    [
        (lambda: connect([nnx.LSTMCell(7, 4, rngs=nnx.Rngs(0)), LI()]), "got LSTMCell as module 0", "Use rtrl"),
        (lambda: connect([LTC(4, rngs=nnx.Rngs(0)), synapse(4), LI()]), "got LTC as module 0", "Use rtrl"),
        (lambda: LIF(), "got LIF", "expected a stack made by connect"),
        (lambda: connect([synapse()]), "a stack without neurons", "expected at least one"),
        (
            lambda: connect([synapse(), nnx.LayerNorm(4, rngs=nnx.Rngs(0)), LIF()]),
            "got Linear as module 0, followed by LayerNorm",
            "Use rtrl",
        ),
        (
            lambda: connect([nnx.Einsum("bi,io->bo", (7, 4), rngs=nnx.Rngs(0)), LIF()]),
            "got Einsum as module 0",
            "Use rtrl",
        ),
        (
            lambda: connect([lambda x: x, synapse(), LIF()], [Edge(2, 0, synapse=synapse(4, 7))]),
            "the edge from 2 to 0, which does not end at a Linear or Conv right before a neuron",
            "Let it end there",
        ),
        (
            lambda: connect([synapse(), LIF()], [Edge(1, 0, synapse=nnx.BatchNorm(4, rngs=nnx.Rngs(0)))]),
            "got BatchNorm as the synapse of the edge from 1 to 0",
            "Use rtrl",
        ),
    ],
    ids=["LSTM", "LTC", "no stack", "no neuron", "norm between", "not a Linear", "edge", "synapse of an edge"],
)
def test_no_local_rule_takes_it(name, make, got, instead):
    with pytest.raises(TypeError, match=f"(?s){name}.*{got}") as error:
        EACH[name](make())
    assert instead in str(error.value)


@pytest.mark.parametrize("name", EACH)
def test_a_stack_is_under_one_rule(name):
    with pytest.raises(TypeError, match=f"{name} got a stack that is under OSTL already"):
        EACH[name](ostl(layers(LIF())))
    with pytest.raises(TypeError, match=f"{name} got a stack that is under OSTL already, as module 0"):
        EACH[name](connect([ostl(layers(LIF())), synapse(4), LI()]))


@pytest.mark.parametrize(("name", "wrap"), [("OTTT", ottt), ("ApproximateOTPE", approximate_otpe)])
@pytest.mark.parametrize(
    ("neuron", "got"),
    [
        (BRF, "got BRF"),
        (per_neuron, r"got a LIF with one per neuron, of shape \[4\]"),
        (lambda: LIF(threshold=Trainable(np.ones(4))), r"got a LIF with one per neuron, of shape \[4\]"),
    ],
    ids=["BRF", "decays", "thresholds"],
)
def test_traces_of_inputs_need_linear_neurons_that_are_alike(name, wrap, neuron, got):
    with pytest.raises(TypeError, match=f"{name} filters the inputs of a layer.*{got}.*Use ostl"):
        wrap(layers(neuron()))


class OwnSpikes(Neuron):
    """Says that it is linear, and makes its spikes by itself, where no rule can leave them out."""

    linear = True

    def integrate(self, carry, inputs):
        return 0.9 * carry + inputs

    def fire(self, membrane):
        spikes = arctan()(membrane - 1)
        return membrane - spikes, spikes


class Quadratic(OwnSpikes):
    """Says that it is linear, and forgets the faster the higher its membrane is."""

    def integrate(self, carry, inputs):
        return 0.9 * carry - 0.1 * carry**2 + inputs

    def fire(self, membrane):
        return membrane, membrane


class Deaf(Quadratic):
    """Its current reaches nothing."""

    def integrate(self, carry, inputs):
        return 0.9 * carry


class OtherMembrane(Quadratic):
    """Its membranes have another structure than its state."""

    def integrate(self, carry, inputs):
        return (0.9 * carry + inputs,)

    def fire(self, membrane):
        return membrane[0], membrane[0]


@pytest.mark.parametrize(("name", "wrap"), [("OTTT", ottt), ("ApproximateOTPE", approximate_otpe)])
@pytest.mark.parametrize(
    ("neuron", "got"),
    [
        (OwnSpikes, "takes OwnSpikes at its word, .* unless they are those of a SpikingNeuron"),
        (Quadratic, "takes Quadratic at its word, .* derivatives of its halves change"),
        (Deaf, "takes Deaf at its word, .* or its current reaches nothing"),
        (OtherMembrane, "needs a neuron whose membranes have the structure of its state, got a OtherMembrane"),
    ],
)
def test_a_neuron_that_only_says_that_it_is_linear(name, wrap, neuron, got):
    with pytest.raises(TypeError, match=f"{name} {got}.*Use ostl"):
        wrap(layers(neuron()))


@pytest.mark.parametrize(
    ("name", "wrap", "option"),
    [
        ("OTPE", otpe, "decay_post"),
        ("ApproximateOTPE", approximate_otpe, "decay_post"),
        ("EProp", e_prop, "kappa"),
    ],
)
def test_the_decay_above_has_to_be_one_number_or_given(name, wrap, option):
    for above in (per_neuron(), BRF()):
        message = (
            f"{name} sums a layer's output with the decay .* got a {type(above).__name__} .* Give one: {option}=0.9"
        )
        if wrap is not approximate_otpe:
            wrap(layers(LIF(), above), **{option: 0.9})
        with pytest.raises(TypeError, match=message):
            wrap(layers(LIF(), above))


def test_decolle_refuses_what_its_rule_refuses_and_takes_another_rule():
    options = {"input_shape": (7,), "n_outputs": 4, "rngs": nnx.Rngs(0)}
    with pytest.raises(TypeError, match="Use ostl"):
        decolle(layers(per_neuron()), **options)
    decolle(layers(per_neuron()), **options, rule=OSTL())


def test_pp_prop_takes_neurons_in_halves_without_parameters():
    with pytest.raises(TypeError, match=r"got a LIF that has some\. Fix them, or use ostl"):
        pp_prop(layers(LIF(decay=Trainable(0.9))))
    for decay in (1.0, -0.1):
        with pytest.raises(ValueError, match=rf"decay={decay}, expected a number in \[0, 1\)"):
            pp_prop(layers(LIF()), decay=decay)


def test_one_rule_for_each_layer():
    with pytest.raises(ValueError, match="Got 1 rules for a stack of 2 layers, expected one for each"):
        Ruled(layers(LIF(), LI()), [OSTL()])
    with pytest.raises(TypeError, match="OTTT filters"):
        Ruled(layers(LIF(), per_neuron()), [OSTL(), OTTT()])
    Ruled(layers(per_neuron(), LIF()), [OSTL(), OTTT()])


def test_e_prop_says_what_its_feedback_needs():
    with pytest.raises(ValueError, match="feedback='other', expected one of 'symmetric', 'random', 'adaptive'"):
        inspect.unwrap(e_prop)(layers(LIF()), feedback="other")  # without the tests' check of annotations
    for feedback in ("random", "adaptive"):
        with pytest.raises(TypeError, match=f"needs rngs to draw the matrices of feedback='{feedback}': rngs=nnx.Rngs"):
            e_prop(layers(LIF()), feedback=feedback)
    model = connect([synapse(), LIF()], [Edge(1, 0, synapse=lambda x: x)])
    with pytest.raises(TypeError, match='Give the edge a Linear or Conv, or use feedback="symmetric"'):
        e_prop(model, feedback="random", rngs=nnx.Rngs(0))


def test_recurrent_traces_take_edges_from_a_layer_to_itself():
    model = connect([synapse(), LIF(), synapse(4), LIF()], [Edge(3, 0, synapse=synapse(4))])
    with pytest.raises(TypeError, match=r"got one from 3 to 0\. Use ostl"):
        ostl_with_recurrence(model)


@pytest.mark.parametrize("name", ["uoro", "decolle"])
def test_the_table_names_the_options_that_a_rule_cannot_do_without(name):
    with pytest.raises(TypeError, match=RULES[name].options[0]):
        RULES[name].wrap(layers(LIF()))
