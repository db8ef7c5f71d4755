"""What rules and the loop do not treat is an error that says what came, what is taken, and what to do: one example each."""

import inspect

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import (
    BRF,
    LI,
    LIF,
    LTC,
    Delay,
    Dropout,
    Edge,
    Neuron,
    Standardized,
    Trainable,
    arctan,
    connect,
)
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
    Penalty,
    PerSequence,
    PerStep,
    PPProp,
    Random,
    SequenceLoss,
    SnAp,
    Target,
    accuracy,
    cite,
    cross_entropy,
    firing_rate,
    gradients,
    random_steps,
    squared_error,
    train_offline,
    train_online,
    valid_steps,
)
from stacks import linear


@pytest.fixture(autouse=True)
def _without_shape_checks():
    """As users run it, so that the packages' own errors are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


T, B = 2, 3
X, LABELS = jnp.ones((T, B, 7), jnp.float32), jnp.zeros(B, int)
F32 = jnp.float32


def synapse(n_in=7, n_out=4):
    return linear(n_in, n_out, 0, F32)


def layers(*neurons, edges=()):
    """A stack of Linear and neuron, 4 units each."""
    modules = []
    for index, neuron in enumerate(neurons):
        modules += [synapse(4 if index else 7), neuron]
    return connect(modules, edges)


def under(rule, *modules, edges=(), x=X, labels=LABELS, loss=cross_entropy, **options):
    """A gradient of a stack of some modules, or of a model that is none."""
    model = modules[0] if len(modules) == 1 and not isinstance(modules[0], list) else connect(modules[0], edges)
    return gradients(model, loss, x, labels, rule=rule, **options)


def per_unit():
    return LIF(decay=np.linspace(0.5, 0.9, 4))


class Doubled(LIF):
    """Its outputs over time are not those of its step."""

    def outputs(self, membranes):
        return 2 * super().outputs(membranes)


class Whole(Neuron):
    """A neuron in one piece."""

    def __call__(self, carry, inputs):
        return 0.9 * carry + inputs, carry


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


def rngs():
    return nnx.Rngs(0)


def function_edge():
    return connect([synapse(), LIF()], [Edge(1, 0, synapse=lambda x: x)])


def late(n=6):
    return Delay(n, 3, delays=Trainable(np.full(n, 0.5)))


HIDDEN = [synapse(7, 6), LIF()]
STACKS = {
    "no stack": (OSTL(), lambda: LIF(), "OSTL got LIF, expected a stack made by connect"),
    "no neuron": (OTTT(), lambda: connect([synapse()]), "OTTT got a stack without neurons, expected at least one"),
    "another cell": (SLTT(), lambda: connect([nnx.LSTMCell(7, 4, rngs=rngs()), LI()]), r"SLTT .*got LSTMCell as module 0"),
    "LTC": (OTPE(), lambda: connect([LTC(4, rngs=rngs()), synapse(4), LI()]), r"got LTC as module 0.*Use rule=RTRL\(\)"),
    "outputs of its own": (
        EProp(), lambda: connect([synapse(), connect([Doubled()])]),
        "got a Doubled as module 1, whose class replaces outputs of Neuron.*let integrate and fire, or __call__, do the same",
    ),
    "draws": (
        PPProp(), lambda: connect([synapse(), LIF(), nnx.Dropout(0.5, rngs=rngs()), synapse(4), LIF()]),
        r"got an nnx.Dropout as module 2.*Use slax_neurons\.Dropout",
    ),
    "draws behind": (
        STLLR(), lambda: connect([synapse(), LIF(), nnx.Dropout(0.5, rngs=rngs())]),
        r"got an nnx.Dropout as module 2.*Use slax_neurons\.Dropout",
    ),
    "changes below": (
        OSTL(), lambda: connect([nnx.BatchNorm(7, use_bias=False, use_scale=False, rngs=rngs()), synapse(), LIF()]),
        r"got a BatchNorm as module 0, which changes its own variables when called.*Call model\.eval\(\)",
    ),
    "norm between": (
        OSTL(recurrence=True), lambda: connect([synapse(), nnx.BatchNorm(4, rngs=rngs()), LIF()]),
        r"got Linear as module 0, followed by BatchNorm.*wrap the synapse: slax_neurons\.RunningNorm",
    ),
    "masked Conv": (
        OSTL(),
        lambda: connect([lambda x: x[:, :, None], nnx.Conv(1, 4, (3,), mask=jnp.ones((3, 1, 4)), rngs=rngs()), LIF()]),
        r"got Conv as module 1, followed by LIF.*use slax_neurons\.Masked",
    ),
    "not before a neuron": (
        OSTL(), lambda: connect([Standardized(synapse()), lambda x: x, LIF()]),
        r"got Standardized as module 0, followed by Function.*Use rule=RTRL\(\)",
    ),
    "synapse of an edge": (
        OSTL(), lambda: connect([synapse(), LIF()], [Edge(1, 0, synapse=nnx.BatchNorm(4, rngs=rngs()))]),
        "got BatchNorm as the synapse of the edge from 1 to 0.*RunningNorm",
    ),
    "edge from a current": (
        OSTL(), lambda: connect([synapse(), LIF(), synapse(4), LIF()], [Edge(0, 2)], rngs=rngs()),
        "reads the current of a neuron within the step.*Let it begin at the neuron",
    ),
    "edge to a function": (
        OSTL(), lambda: connect([lambda x: x, synapse(), LIF()], [Edge(2, 0, synapse=synapse(4, 7))]),
        "the edge from 2 to 0, which does not end at a Linear or Conv right before a neuron.*Let it end there",
    ),
    "delay behind": (
        OSTL(), lambda: connect([*HIDDEN, synapse(6, 6), LI(), late()]), "as module 4, which is not right before the synapse",
    ),
    "delay before a function": (
        OSTL(), lambda: connect([*HIDDEN, late(), lambda x: x, synapse(6), LI()]), r"as module 2, .*, or fix its delays",
    ),
    "edge from a delay": (
        OSTL(), lambda: connect([*HIDDEN, late(), synapse(6), LI()], [Edge(2, 0, 1, synapse(6, 6))]),
        "an edge that begins at module 2, a Delay",
    ),
    "delay and recurrence": (
        OSTL(recurrence=True), lambda: connect([late(7), *HIDDEN, synapse(6), LI()], [Edge(2, 1, 1, synapse(6, 6))]),
        r"which it does not follow. Use OSTL\(\), or RTRL\(\)",
    ),
    "recurrence over layers": (
        OSTL(recurrence=True), lambda: layers(LIF(), LIF(), edges=[Edge(3, 0, synapse=synapse(4))]),
        r"takes edges from a layer to itself, got one from another layer\. Use OSTL\(\)",
    ),
    "BRF": (OTTT(), lambda: layers(BRF(), LIF()), "OTTT filters the inputs of a layer.*got BRF.*Use OSTL"),
    "decays": (ApproximateOTPE(), lambda: layers(per_unit(), LIF()), r"got a LIF with one per neuron, of shape \[4\].*OSTL"),
    "thresholds": (
        DECOLLE(rngs=rngs()), lambda: layers(LIF(threshold=Trainable(np.ones(4))), LIF()), r"one per neuron, of shape \[4\]",
    ),
    "own spikes": (
        OTTT(), lambda: layers(OwnSpikes(), LIF()),
        "OTTT got a OwnSpikes that declares `linear = True`, .* unless they come from a SpikingNeuron.*Use OSTL",
    ),
    "quadratic": (ApproximateOTPE(), lambda: layers(Quadratic(), LIF()), "derivatives of `integrate` or `fire` depend on its"),
    "deaf": (OTTT(), lambda: layers(Deaf(), LIF()), "got a Deaf that declares .*, or its current reaches nothing"),
    "other membrane": (
        OTTT(), lambda: layers(OtherMembrane(), LIF()),
        "OTTT needs a neuron whose membranes have the structure of its state, got a OtherMembrane.*Use OSTL",
    ),
    "one piece": (PPProp(), lambda: layers(Whole(), LIF()), "PPProp needs a neuron that defines .*got Whole.*Use OSTL"),
    "neuron of pp-prop": (PPProp(), lambda: layers(LIF(decay=Trainable(0.9))), r"PPProp is not .* a LIF that has some\. Fix"),
    "neuron of S-TLLR": (STLLR(), lambda: layers(LIF(decay=Trainable(0.9))), r"STLLR is not .* a LIF that has some\. Fix"),
    "secondary of no spikes": (
        STLLR(secondary=LIF().spike_fn), lambda: layers(LI(), LIF()), r"STLLR\(secondary=...\) .* got a LI\. Leave it out",
    ),
    "no decay above": (OTPE(), lambda: layers(LIF(), per_unit()), "OTPE sums .* got a LIF .* Give one: output_decay=0.9"),
    "BRF above": (EProp(), lambda: layers(LIF(), BRF()), "EProp sums .* got a BRF .* Give one: output_decay=0.9"),
    "nothing above": (
        [OSTL(), ApproximateOTPE()], lambda: layers(LIF(), LIF()),
        "ApproximateOTPE sums .* got the last layer of a stack, a LIF, .* such as OSTL.*output_decay=0.9",
    ),
    "too few rules": ([OSTL()], lambda: layers(LIF(), LI()), "Got 1 rules for a stack of 2 layers, expected one rule for each"),
    "random over a function": (
        EProp(route=Random(rngs=rngs())), function_edge,
        r"Random replaces each kernel .* Function, .*Give the edge a Linear or Conv, or use route=Symmetric\(\)",
    ),
    "matrices of another model": (
        EProp(route=Adaptive(layers(LIF()), rngs=rngs())), lambda: layers(LIF(), LIF()),
        r"Adaptive got a layer 1 with kernels .*\(4, 4\).* Adaptive\(model, rngs",
    ),
    "no cell": (RTRL(), synapse, "RTRL got Linear, expected a cell"),
    "no numbers in the carry": (RTRL(), lambda: connect([synapse()]), "a carry without numbers"),
    "masks of each step": (RTRL(), lambda: connect([LIF(), Dropout(0.5, mask="step", rngs=rngs())]), r'Dropout\(mask="step"\)'),
    "draws in RTRL": (SnAp(), lambda: connect([LIF(), nnx.Dropout(0.5, rngs=rngs())]), "changes .*rngs.* when called"),
    "statistics in RTRL": (RTRL(), lambda: connect([LIF(), nnx.BatchNorm(7, rngs=rngs())]), r"model\.eval\(\)"),
    "a class": (OTPE, lambda: layers(LIF()), r"Got the class OTPE as the rule.*Make one: rule=OTPE\(\)"),
    "a name": ("otpe", lambda: layers(LIF()), r"Got 'otpe' as the rule, .*By name: rule=RULES\['otpe'\]\.make\(\)"),
    "an empty list": ([], lambda: layers(LIF()), r"Got \[\] as the rule"),
    "a mixed list": ([OTPE(), BPTT()], lambda: layers(LIF(), LIF()), "a list of rules for layers with one for each layer"),
    "no rule": (None, lambda: layers(LIF()), "Got None as the rule"),
    "options": (
        BPTT(),
        lambda: connect([nnx.Conv(1, 2, (3, 3), strides=[2, 2], rngs=rngs()), LIF()]),
        r"Got strides=\[2, 2\], expected hashable values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_that_a_rule_does_not_treat(name):
    rule, make, match = STACKS[name]
    x = jnp.ones((T, B, 4, 4, 1), F32) if name == "options" else X
    with pytest.raises((TypeError, ValueError), match=f"(?s){match}"):
        under(rule, make(), x=x)


def test_neighbors_of_what_is_refused_work():
    for rule, model in (
        (OTPE(output_decay=0.9), layers(LIF(), BRF())),
        ([OSTL(), OTPE(output_decay=0.9)], layers(LIF(), LIF())),
        ([OSTL(), OTTT()], layers(per_unit(), LIF())),
        (OSTL(), layers(Whole(), LIF())),
        (OSTL(route=Local(rngs=rngs())), layers(per_unit(), LIF())),
        (OSTL(route=Direct(rngs=rngs())), function_edge()),
        (STLLR(), layers(LI(), LIF())),
    ):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(under(rule, model)))


def test_pieces_of_tbptt_as_long_as_the_window_take_what_changes_itself():
    norm = connect([synapse(), LIF(), nnx.BatchNorm(4, rngs=rngs())])
    loss = train_online(norm, optimizer(norm), cross_entropy, X, LABELS, rule=TBPTT(steps=T), window=T)
    assert np.isfinite(loss)


def model():
    return layers(LIF(), LI())


def optimizer(of):
    return nnx.Optimizer(of, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)


def half(outputs, targets):
    return squared_error(outputs[..., :2], targets)


def nested():
    return connect([connect([synapse(), nnx.BatchNorm(4, rngs=rngs()), LIF()]), synapse(4), LI()])


TRACKS = jnp.zeros((T, B, 4), F32)
CALLS = {
    "no batch": (lambda: under(BPTT(), model(), x=X[:, 0]), r"\[2, 7\], expected \[T, B, features...\]"),
    "no steps": (lambda: under(BPTT(), model(), x=X[:0]), "a sequence of 0 steps"),
    "no samples": (lambda: under(OSTL(), model(), x=X[:, :0], labels=LABELS[:0]), "a batch of 0 samples, expected at l"),
    "features": (lambda: under(OSTL(), model(), x=X[..., :6]), "Linear, expects 7 features"),
    "features in a nested stack": (
        lambda: under(
            OSTL(), connect([connect([synapse(), LIF()]), synapse(5, 3), LI()]),
            carry=connect([connect([synapse(), LIF()]), synapse(4, 3), LI()]).initialize_carry((B, 7)),
        ),
        "Module 2 of the stack, Linear, expects 5 features",
    ),
    "carry": (lambda: under(OSTL(), model(), carry=((),)), "a carry of 1 for 4 modules"),
    "kind of carry": (
        lambda: under(OSTL(), model(), carry=list(model().initialize_carry((B, 7)))), "a carry of list for 4 modules"
    ),
    "batch of the carry": (lambda: under(OSTL(), model(), carry=model().initialize_carry((2, 7))), r"carry of float32\[2, 4\]"),
    "window": (lambda: under(BPTT(), model(), window=0), "window of 0 steps, expected at least 1"),
    "few targets": (lambda: under(BPTT(), model(), labels=LABELS[:2]), r"targets of shape \[2\] for inputs of 2 steps and 3"),
    "targets of two meanings": (
        lambda: under(BPTT(), model(), x=X[:, :T], labels=jnp.zeros((T, T, 4)), loss=squared_error),
        r"shape \[2, 2, 4\] for 2 steps and 2 samples.*PerStep\(.*PerSequence\(",
    ),
    "per step": (lambda: under(BPTT(), model(), labels=PerStep(LABELS)), r"targets of shape \[3\] for inputs of 2 steps"),
    "per sequence": (
        lambda: under(BPTT(), model(), labels=PerSequence(jnp.zeros((T, B), int))), r"shape \[2, 3\] for inputs of 2 steps"
    ),
    "one loss": (lambda: under(BPTT(), model(), loss=lambda y, t: y.mean()), r"loss_fn made \[\] of the outputs \[3, 4\]"),
    "loss of each output": (lambda: under(OSTL(), model(), loss=lambda y, t: y), r"expected one loss per sample, \[3\]"),
    "two losses": (lambda: under(OSTL(), model(), loss=lambda y, t: (y, t)), "made tuple of the outputs"),
    "loss of a sequence": (
        lambda: under(OSTL(), model(), loss=SequenceLoss(lambda y, t: y.mean())), r"SequenceLoss made .* expected one loss per"
    ),
    "mask of a sequence": (
        lambda: under(OSTL(), model(), loss=SequenceLoss(lambda y, t: cross_entropy(y[-1], t)), mask=jnp.ones((T, B), bool)),
        "expected that it takes one as a third argument",
    ),
    "outputs of integers": (
        lambda: under(BPTT(), connect([synapse(), LIF(), lambda x: x.astype(int)]), loss=lambda y, t: y.sum(-1)),
        "expected floating-point numbers: a loss has a gradient",
    ),
    "mask without a true entry": (lambda: under(BPTT(), model(), mask=np.zeros((T, B), bool)), "a mask without a single true"),
    "shape of the mask": (lambda: under(BPTT(), model(), mask=np.ones((B, T), bool)), r"mask of bool\[3, 2\], expected bool"),
    "rule without its name": (
        lambda: inspect.unwrap(gradients)(model(), cross_entropy, X, LABELS, OSTL()),
        r"Got a OSTL as the mask, expected .* is given by name, such as rule=OTPE\(\)",
    ),
    "shape of projected targets": (
        lambda: under(OSTL(route=Target(rngs=rngs())), model(), labels=TRACKS[..., :2], loss=half),
        r"got targets \[.*2\] for outputs \[.*4\], expected labels, or numbers.*Use route=Direct",
    ),
    "structure of projected targets": (
        lambda: under(
            OSTL(route=Target(rngs=rngs())), model(), labels={"a": TRACKS}, loss=lambda y, t: squared_error(y, t["a"])
        ),
        "got targets in the structure .* for outputs in the structure.*Use route=Direct",
    ),
    "sequence online": (
        lambda: train_online(model(), optimizer(model()), SequenceLoss(lambda y, t: y[-1, :, 0]), X, LABELS, rule=OSTL()),
        "train_online got a SequenceLoss, expected the loss of one step.*Use train_offline",
    ),
    "no optimizer": (lambda: train_offline(model(), optax.sgd(0.1), cross_entropy, X, LABELS), "as the optimizer, expected"),
    "optimizer of another model": (
        lambda: train_offline(model(), optimizer(layers(LI())), cross_entropy, X, LABELS), "whose state does not fit"
    ),
    "pieces of TBPTT": (
        lambda: train_online(
            (norm := connect([synapse(), LIF(), nnx.BatchNorm(4, rngs=rngs())])), optimizer(norm), cross_entropy,
            jnp.ones((4, B, 7), F32), LABELS, rule=TBPTT(steps=2), window=4,
        ),
        "Use window=2, or call model.eval()",
    ),
    "penalties": (lambda: under(OSTL(), model(), penalties=firing_rate(0.1)), "expected a list of penalties"),
    "penalty without neurons": (
        lambda: under(BPTT(), nnx.LSTMCell(7, 4, rngs=rngs()), penalties=[firing_rate(0.1)]), "without layers of neurons"
    ),
    "penalty without spikes": (lambda: under(OSTL(), layers(LI()), penalties=[firing_rate(0.1)]), r"layers of spiking neurons"),
    "layer of a penalty before the first": (
        lambda: under(OSTL(), model(), penalties=[firing_rate(0.1, layers=(-1,))]), "for layer -1 of a model with 2 layers"
    ),
    "layer of a penalty": (
        lambda: under(OSTL(), model(), penalties=[firing_rate(0.1, layers=(2,))]), "for layer 2 of a model with 2 layers"
    ),
    "loss of a penalty": (
        lambda: under(OSTL(), model(), penalties=[Penalty(lambda y: y.sum())]), "one loss per sample.*of_mean=True"
    ),
    "penalty of a mean": (
        lambda: under(OSTL(), model(), penalties=[Penalty(lambda y: y, of_mean=True)]), "the mean over time and batch, exp"
    ),
    "penalty of a nested stack": (
        lambda: under(BPTT(), nested(), penalties=[firing_rate(0.1)]), "reads a layer of a nested stack.*model.eval"
    ),
    "rate": (lambda: firing_rate(1.5), r"firing_rate got target=1.5, expected spikes per step"),
    "decay of pp-prop": (lambda: PPProp(decay=1 - 1e-9), r"PPProp got decay=.*, expected a number in \[0, 1\)"),
    "decay of S-TLLR": (lambda: STLLR(lambda_pre=1.1), r"STLLR got lambda_pre=1.1, expected a number in \[0, 1\]"),
    "steps of SnAp": (lambda: SnAp(n=0), "n=0, expected at least 1"),
    "steps of TBPTT": (lambda: TBPTT(steps=0), "steps=0, expected at least 1"),
    "DECOLLE": (lambda: DECOLLE(), r"got no rngs\. Give them: DECOLLE\(rngs=nnx\.Rngs\(0\)\)"),
    "draws of a rule": (lambda: RULES["uoro"].make(), r"draws random numbers, got no rngs\. Give them: make\(rngs="),
    "model of a rule": (
        lambda: RULES["e_prop_adaptive"].make(rngs=rngs()), r"learns a matrix .*got no model\. Give it: make\(rngs="
    ),
    "adaptive over a function": (lambda: Adaptive(function_edge(), rngs=rngs()), "Adaptive replaces .* Give the edge"),
    "adaptive without a stack": (lambda: Adaptive(LIF(), rngs=rngs()), "Adaptive got LIF, expected a stack made by connect"),
    "name of a rule": (lambda: RULES["opte"], r"expected one of: bptt, tbptt, .*Did you mean 'otpe'"),
    "source of a user's rule": (lambda: cite(type("Mine", (OTPE,), {})()), "got a Mine, expected a name in RULES"),
    "lengths": (lambda: valid_steps(jnp.array([1.0]), 3), r"valid_steps got lengths of float.*, expected an integer for each"),
    "long lengths": (lambda: valid_steps(np.array([4]), 3), "got lengths from 4 to 4 for 3 steps"),
    "probability": (lambda: random_steps(jax.random.key(0), 0.0, 3, 2), r"got probability=0.0, expected a number in \(0, 1\]"),
    "targets of squares": (lambda: squared_error(jnp.ones((B, 2)), jnp.zeros(B, int)), "Make targets from labels with"),
    "order of accuracy": (lambda: accuracy(LABELS, jnp.ones((T, B, 4))), "The outputs come first"),
    "labels per step": (lambda: accuracy(jnp.ones((T, B, 4)), jnp.zeros((T, B), int)), "For labels per step write a metric"),
    "one-hot labels": (lambda: under(BPTT(), model(), labels=jnp.eye(4)[LABELS]), "expected integers 0 to 3, not one-hot"),
    "large labels": (lambda: cross_entropy(jnp.ones((B, 4)), jnp.array([0, 4, 1])), "got labels from 0 to 4, expected 0 to 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_served(name):
    call, match = CALLS[name]
    with pytest.raises((TypeError, ValueError, KeyError), match=f"(?s){match}"):
        call()
