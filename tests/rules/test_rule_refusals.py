"""What a rule for layers does not treat is an error that says what it got, what it takes, and what to do."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import BRF, LI, LIF, LTC, Edge, Neuron, Trainable, arctan, connect
from slax_rules import (
    BPTT,
    DECOLLE,
    OSTL,
    OTPE,
    OTTT,
    RTRL,
    RULES,
    SLTT,
    STLLR,
    TBPTT,
    Adaptive,
    ApproximateOTPE,
    Direct,
    EProp,
    Local,
    PPProp,
    Random,
    SnAp,
    Target,
    cross_entropy,
    gradients,
)
from slax_rules.layerwise.passes import as_rule
from stacks import linear

EACH = {
    "OSTL": OSTL(),
    "OTTT": OTTT(),
    "OTPE": OTPE(),
    "ApproximateOTPE": ApproximateOTPE(),
    "SLTT": SLTT(),
    "EProp": EProp(),
    "PPProp": PPProp(),
    "OSTL with recurrence": OSTL(recurrence=True),
    "DECOLLE": DECOLLE(rngs=nnx.Rngs(0)),
    "STLLR": STLLR(),
    "OSTL directly": OSTL(route=Direct(rngs=nnx.Rngs(0))),
    "SLTT by targets": SLTT(route=Target(rngs=nnx.Rngs(0))),
}


def under(rule, model):
    return gradients(model, cross_entropy, jnp.zeros((2, 3, 7)), jnp.zeros(3, int), rule=rule)


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


class Doubled(LIF):
    """Its outputs over time are not those of its step."""

    def outputs(self, membranes):
        return 2 * super().outputs(membranes)


def test_a_rule_for_any_cell_takes_a_neuron_with_outputs_of_its_own():
    model = connect([synapse(), Doubled()])
    inputs, labels = jnp.ones((2, 3, 7)), jnp.zeros(3, int)
    found = [gradients(model, cross_entropy, inputs, labels, rule=rule)[0] for rule in (BPTT(), RTRL())]
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize(
    ("make", "got", "instead"),
    [
        (lambda: connect([nnx.LSTMCell(7, 4, rngs=nnx.Rngs(0)), LI()]), "got LSTMCell as module 0", "Use rule=RTRL()"),
        (lambda: connect([LTC(4, rngs=nnx.Rngs(0)), synapse(4), LI()]), "got LTC as module 0", "Use rule=RTRL()"),
        (lambda: LIF(), "got LIF", "expected a stack made by connect"),
        (lambda: connect([synapse()]), "a stack without neurons", "expected at least one"),
        (
            lambda: connect([synapse(), nnx.LayerNorm(4, rngs=nnx.Rngs(0)), LIF()]),
            "got Linear as module 0, followed by LayerNorm",
            "Use rule=RTRL()",
        ),
        (
            lambda: connect([nnx.Einsum("bi,io->bo", (7, 4), rngs=nnx.Rngs(0)), LIF()]),
            "got Einsum as module 0",
            "Use rule=RTRL()",
        ),
        (
            lambda: connect([lambda x: x, synapse(), LIF()], [Edge(2, 0, synapse=synapse(4, 7))]),
            "the edge from 2 to 0, which does not end at a Linear or Conv right before a neuron",
            "Let it end there",
        ),
        (
            lambda: connect([synapse(), LIF()], [Edge(1, 0, synapse=nnx.BatchNorm(4, rngs=nnx.Rngs(0)))]),
            "got BatchNorm as the synapse of the edge from 1 to 0",
            "Use rule=RTRL()",
        ),
        (
            lambda: connect([synapse(), connect([Doubled()])]),
            "got a Doubled as module 1, whose class replaces outputs of Neuron",
            "let integrate and fire, or __call__, do the same",
        ),
    ],
    ids=[
        "LSTM",
        "LTC",
        "no stack",
        "no neuron",
        "norm between",
        "not a Linear",
        "edge",
        "synapse of an edge",
        "outputs",
    ],
)
def test_no_local_rule_takes_it(name, make, got, instead):
    with pytest.raises(TypeError, match=f"(?s){name.split()[0]}.*{got}") as error:
        under(EACH[name], make())
    assert instead in str(error.value)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize(
    ("make", "got", "instead"),
    [
        (
            lambda: connect([synapse(), LIF(), nnx.Dropout(0.5, rngs=nnx.Rngs(0)), synapse(4), LIF()]),
            "got an nnx.Dropout as module 2",
            "Use slax_neurons.Dropout",
        ),
        (
            lambda: connect([synapse(), LIF(), nnx.Dropout(0.5, rngs=nnx.Rngs(0))]),
            "got an nnx.Dropout as module 2",
            "Use slax_neurons.Dropout",
        ),
        (
            lambda: connect([nnx.BatchNorm(7, use_bias=False, use_scale=False, rngs=nnx.Rngs(0)), synapse(), LIF()]),
            "got a BatchNorm as module 0, which changes its own variables when called",
            "Call model.eval()",
        ),
    ],
    ids=["draws in the stack", "draws behind it", "statistics"],
)
def test_no_local_rule_takes_a_module_that_changes_itself_where_a_window_would_show(name, make, got, instead):
    with pytest.raises(TypeError, match=f"(?s){name.split()[0]}.*{got}") as error:
        under(EACH[name], make())
    assert instead in str(error.value)
    model = make()
    model.eval()
    under(EACH[name], model)


@pytest.mark.parametrize("rule", [OTTT(), ApproximateOTPE(), DECOLLE(rngs=nnx.Rngs(0))])
@pytest.mark.parametrize(
    ("neuron", "got"),
    [
        (BRF, "got BRF"),
        (per_neuron, r"got a LIF with one per neuron, of shape \[4\]"),
        (lambda: LIF(threshold=Trainable(np.ones(4))), r"got a LIF with one per neuron, of shape \[4\]"),
    ],
    ids=["BRF", "decays", "thresholds"],
)
def test_traces_of_inputs_need_linear_neurons_that_are_alike(rule, neuron, got):
    with pytest.raises(TypeError, match=f"{type(rule).__name__} filters the inputs of a layer.*{got}.*Use OSTL"):
        under(rule, layers(neuron(), LIF()))


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


@pytest.mark.parametrize("rule", [OTTT(), ApproximateOTPE(), DECOLLE(rngs=nnx.Rngs(0))])
@pytest.mark.parametrize(
    ("neuron", "got"),
    [
        (OwnSpikes, "got a OwnSpikes that declares `linear = True`, .* unless they come from a SpikingNeuron"),
        (
            Quadratic,
            "got a Quadratic that declares .*, but the derivatives of `integrate` or `fire` depend on its state",
        ),
        (Deaf, "got a Deaf that declares .*, or its current reaches nothing"),
        (OtherMembrane, "needs a neuron whose membranes have the structure of its state, got a OtherMembrane"),
    ],
)
def test_a_neuron_that_only_says_that_it_is_linear(rule, neuron, got):
    with pytest.raises(TypeError, match=f"{type(rule).__name__} {got}.*Use OSTL"):
        under(rule, layers(neuron(), LIF()))


@pytest.mark.parametrize("rule", [OTPE, ApproximateOTPE, EProp])
def test_the_decay_above_has_to_be_one_number_or_given(rule):
    for above in (per_neuron(), BRF()):
        message = (
            f"{rule.__name__} sums a layer's output with the decay .* got a {type(above).__name__} .* "
            "Give one: output_decay=0.9"
        )
        if rule is not ApproximateOTPE:
            under(rule(output_decay=0.9), layers(LIF(), above))
        with pytest.raises(TypeError, match=message):
            under(rule(), layers(LIF(), above))


@pytest.mark.parametrize("rule", [OTPE, ApproximateOTPE, EProp])
def test_the_last_layer_of_a_list_has_no_decay_above(rule):
    """By itself the rule gives its last layer another one."""
    message = f"(?s){rule.__name__} sums .* got the last layer of a stack, a LIF, .* such as OSTL.*output_decay=0.9"
    with pytest.raises(TypeError, match=message):
        under([OSTL(), rule()], layers(LIF(), LIF()))
    under([OSTL(), rule(output_decay=0.9)], layers(LIF(), LIF()))
    under(rule(), layers(LIF(), LIF()))


def test_decolle_refuses_what_its_traces_refuse_and_its_losses_go_with_other_traces():
    with pytest.raises(TypeError, match="Use OSTL"):
        under(DECOLLE(rngs=nnx.Rngs(0)), layers(per_neuron(), LIF()))
    under(OSTL(route=Local(rngs=nnx.Rngs(0))), layers(per_neuron(), LIF()))
    with pytest.raises(TypeError, match=r"got no rngs\. Give them: DECOLLE\(rngs=nnx\.Rngs\(0\)\)"):
        DECOLLE()


def test_pp_prop_takes_neurons_that_define_both_halves_and_have_no_parameters():
    with pytest.raises(TypeError, match=r"got a LIF that has some\. Fix them, or use OSTL"):
        under(PPProp(), layers(LIF(decay=Trainable(0.9))))
    for decay in (1.0, -0.1):
        with pytest.raises(ValueError, match=rf"decay={decay}, expected a number in \[0, 1\)"):
            PPProp(decay=decay)


class Whole(Neuron):
    """A neuron in one piece."""

    def __call__(self, carry, inputs):
        return 0.9 * carry + inputs, carry


@pytest.mark.parametrize("rule", [PPProp(), OTTT(), ApproximateOTPE()])
def test_a_neuron_in_one_piece_is_for_eligibilities(rule):
    with pytest.raises(TypeError, match=rf"{type(rule).__name__} .* got (a )?Whole.*Use OSTL"):
        under(rule, layers(Whole(), LIF()))
    under(OSTL(), layers(Whole(), LIF()))


def test_one_rule_for_each_layer():
    with pytest.raises(ValueError, match="Got 1 rules for a stack of 2 layers, expected one rule for each"):
        under([OSTL()], layers(LIF(), LI()))
    with pytest.raises(TypeError, match="OTTT filters"):
        under([OSTL(), OTTT()], layers(LIF(), per_neuron()))
    under([OSTL(), OTTT()], layers(per_neuron(), LIF()))
    under((OSTL(), OTTT()), layers(per_neuron(), LIF()))


def test_feedback_says_what_it_needs():
    model = connect([synapse(), LIF()], [Edge(1, 0, synapse=lambda x: x)])
    with pytest.raises(
        TypeError, match=r"Random replaces .* Give the edge a Linear or Conv, or use route=Symmetric\(\)"
    ):
        under(EProp(route=Random(rngs=nnx.Rngs(0))), model)
    with pytest.raises(
        TypeError, match=r"Adaptive replaces .* Give the edge a Linear or Conv, or use route=Symmetric\(\)"
    ):
        Adaptive(model, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="Adaptive got LIF, expected a stack made by connect"):
        Adaptive(LIF(), rngs=nnx.Rngs(0))


def test_adaptive_feedback_of_another_model_is_an_error():
    rule = EProp(route=Adaptive(layers(LIF()), rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"Adaptive got a layer 1 with kernels .*\(4, 4\).* Adaptive\(model, rngs"):
        under(rule, layers(LIF(), LIF()))


def test_recurrent_traces_take_edges_from_a_layer_to_itself():
    model = connect([synapse(), LIF(), synapse(4), LIF()], [Edge(3, 0, synapse=synapse(4))])
    with pytest.raises(TypeError, match=r"got one from another layer\. Use OSTL\(\)"):
        under(OSTL(recurrence=True), model)


@pytest.mark.parametrize("name", [name for name, entry in RULES.items() if entry.needs_rngs])
def test_a_rule_that_draws_says_that_it_needs_rngs(name):
    with pytest.raises(TypeError, match=r"draws random numbers, got no rngs\. Give them: make\(rngs=nnx\.Rngs\(0\)\)"):
        RULES[name].make(model=layers(LIF(), LI()))


def test_a_rule_that_learns_matrices_says_that_it_needs_a_model():
    message = (
        r"e-prop, adaptive learns a matrix for each kernel.*got no model\. Give it: make\(rngs=rngs, model=model\)"
    )
    with pytest.raises(TypeError, match=message):
        RULES["e_prop_adaptive"].make(rngs=nnx.Rngs(0))
    rule = RULES["e_prop_adaptive"].make(rngs=nnx.Rngs(0), route=Random(rngs=nnx.Rngs(0)), model=layers(LIF(), LI()))
    assert isinstance(rule.route, Random)


@pytest.mark.parametrize("name", ["OTPE", "approximate-otpe", "eprop"])
def test_an_unknown_name_says_which_there_are(name):
    with pytest.raises(KeyError, match=r"expected one of: bptt, tbptt, .*Did you mean"):
        RULES[name]
    with pytest.raises(KeyError, match=r"expected one of: bptt, tbptt, .*fptt\."):
        RULES["backprop"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (OTPE, r"Got the class OTPE as the rule, expected a rule such as .*Make one: rule=OTPE\(\)"),
        ("otpe", r"Got 'otpe' as the rule, .*By name: rule=RULES\['otpe'\]\.make\(\)"),
        ([], r"Got \[\] as the rule"),
        ([OTPE(), BPTT()], "a list of rules for layers with one for each layer"),
        (None, "Got None as the rule"),
    ],
    ids=["class", "name", "empty", "mixed", "none"],
)
def test_what_is_no_rule_is_an_error(rule, message):
    with pytest.raises(TypeError, match=message):
        as_rule(rule)


@pytest.mark.parametrize("rule", [BPTT(), TBPTT(), RTRL(), SnAp()])
def test_a_model_has_to_be_a_cell(rule):
    plan = inspect.unwrap(type(rule).plan)  # without the tests' check of annotations
    with pytest.raises(TypeError, match=f"{type(rule).__name__} got Linear, expected a cell"):
        plan(rule, synapse(), (7,))


def test_truncation_to_no_steps_is_an_error():
    with pytest.raises(ValueError, match="steps=0, expected at least 1"):
        TBPTT(steps=0)


@pytest.mark.parametrize("decay", [1 - 1e-9, 1.0, float("nan")])
def test_a_decay_that_is_one_in_single_precision_is_an_error(decay):
    """Its traces would be divided by 1 - decay**t, which is zero."""
    with pytest.raises(ValueError, match=r"PPProp got decay=.*, expected a number in \[0, 1\) that float32 does not"):
        PPProp(decay=decay)
