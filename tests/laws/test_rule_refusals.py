"""What rules and the loop do not treat is an error that says what came, what is taken, and what to do: one example each."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from slax_rules.layerwise.jacobians import has_separate_units
from slax_rules.layerwise.passes import as_rule

import slax_rules as sr
from slax_neurons import (
    BRF,
    LI,
    LIF,
    Delay,
    Dropout,
    Edge,
    Neuron,
    Standardized,
    Trainable,
    arctan,
    connect,
)
from stacks import linear

# As users run it, so that the packages' own errors are seen.
pytestmark = pytest.mark.usefixtures("no_shape_checks")

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


def under(rule, *modules, edges=(), x=X, labels=LABELS, loss=sr.cross_entropy, **options):
    """A gradient of a stack of some modules, or of a model that is none."""
    model = modules[0] if len(modules) == 1 and not isinstance(modules[0], list) else connect(modules[0], edges)
    return sr.gradients(model, loss, x, labels, rule=rule, **options)


def per_unit():
    return LIF(decay=np.linspace(0.5, 0.9, 4))


class Whole(Neuron):
    """A neuron in one piece."""

    def __call__(self, carry, inputs):
        return 0.9 * carry + inputs, carry


class Drawing(LIF):
    """Draws random numbers from a stream of its own in each step."""

    def __init__(self):
        super().__init__()
        self.rngs = nnx.Rngs(0).noise.fork()

    def integrate(self, carry, inputs):
        return super().integrate(carry, inputs) + jax.random.normal(self.rngs(), inputs.shape)


class OneKey(Whole):
    """Has one random key for all samples."""

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return super().initialize_carry(input_shape), jax.random.key(0)

    def __call__(self, carry, inputs):
        state, output = super().__call__(carry[0], inputs)
        return (state, carry[1]), output


class Faster(LIF):
    """Decays by another factor than its `membrane_decay`."""

    def integrate(self, carry, inputs):
        return 0.3 * carry + inputs


class Floor(LIF):
    """Its membrane decays as LIF's, above a floor."""

    def integrate(self, carry, inputs):
        return jnp.maximum(super().integrate(carry, inputs), -1.0)


class InOnePiece(LIF):
    """Defines its step alone."""

    def __call__(self, carry, inputs):
        return self.spike(0.9 * carry + inputs)


class Counting(LIF):
    """Counts in its carry, where its units have a number each."""

    def integrate(self, carry, inputs):
        assert inputs.shape[-1] == 4
        return super().integrate(carry, inputs)


class NoSlope(LIF):
    """Makes spikes without a surrogate gradient."""

    def fire(self, membrane):
        return membrane, (membrane > 1).astype(membrane.dtype)


class OwnSpikes(Neuron):
    """Says that it is linear, and makes its spikes by itself, where no rule can leave them out."""

    linear = True

    def integrate(self, carry, inputs):
        return 0.9 * carry + inputs

    def fire(self, membrane):
        spikes = arctan()(membrane - 1)
        return membrane - spikes, spikes


class Mix(LIF):
    """The first unit inhibits all others."""

    def integrate(self, carry, inputs):
        return super().integrate(carry, inputs) - 0.5 * carry[..., :1]


class MixBySpikes(LIF):
    """Each spike of a sample lowers all membranes; its surrogate gradient is zero at most membranes."""

    def fire(self, membrane):
        carry, spikes = super().fire(membrane)
        return carry - 0.1 * spikes.sum(-1, keepdims=True), spikes


class MixSamples(LIF):
    """A sample depends on the others of its batch."""

    def integrate(self, carry, inputs):
        return super().integrate(carry, inputs) - 0.5 * carry.mean(0)[None]


class Detached(LIF):
    """Its units inhibit each other by a number that has no derivative, which no rule follows."""

    def integrate(self, carry, inputs):
        return super().integrate(carry, inputs) - jax.lax.stop_gradient(carry.mean(-1, keepdims=True))


class Quadratic(OwnSpikes):
    """Says that it is linear, and forgets the faster the higher its membrane is."""

    def integrate(self, carry, inputs):
        return 0.9 * carry - 0.1 * carry**2 + inputs

    def fire(self, membrane):
        return membrane, membrane


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
STACKS = [
    (sr.OSTL(), lambda: LIF(), "OSTL got LIF, expected a stack made by connect"),
    (sr.OTTT(), lambda: connect([synapse()]), r"OTTT got a stack without neurons, expected at least one .* Use rule=BPTT\(\)"),
    (sr.SLTT(), lambda: connect([nnx.LSTMCell(7, 4, rngs=rngs()), LI()]), r"SLTT .*got LSTMCell as module 0"),
    (sr.PPProp(), lambda: connect([synapse(), LIF(), nnx.Dropout(0.5, rngs=rngs()), synapse(4), LIF()]),
     r"got an nnx.Dropout as module 2.*Use slax_neurons\.Dropout"),
    (sr.OSTL(), lambda: connect([nnx.BatchNorm(7, use_bias=False, use_scale=False, rngs=rngs()), synapse(), LIF()]),
     r"got BatchNorm as module 0, which changes its own variables when called.*Call model\.eval\(\)"),
    (sr.OSTL(recurrence=True), lambda: connect([synapse(), nnx.BatchNorm(4, rngs=rngs()), LIF()]),
     r"got Linear as module 0, followed by BatchNorm.*wrap the synapse: slax_neurons\.RunningNorm"),
    (sr.OSTL(), lambda: connect([lambda x: x[:, :, None], nnx.Conv(1, 4, (3,), mask=jnp.ones((3, 1, 4)), rngs=rngs()), LIF()]),
     r"got Conv as module 1, followed by LIF.*use slax_neurons\.Masked"),
    (sr.OSTL(), lambda: connect([Standardized(synapse()), synapse(4), LIF()]),
     r"got Standardized as module 0, followed by Linear.*Use rule=BPTT\(\), or RTRL\(\) for a small model"),
    (sr.OTTT(), lambda: connect([synapse(), lambda x: jnp.maximum(x, 0), LIF()]),
     "got Function between the Linear and the neuron of layer 0.*Move it after the neuron"),
    (sr.OTPE(), lambda: connect([synapse(), lambda x: x - x.mean(axis=-1, keepdims=True), LIF()]), "the same for each feature"),
    (sr.OSTL(), lambda: connect([synapse(), lambda x: x + 1, LIF()]), "expected a linear map"),
    (sr.OSTL(), lambda: connect([synapse(), lambda x: x * jnp.arange(4, dtype=F32)[None], LIF()]), "the same for each feature"),
    (sr.OSTL(), lambda: connect([synapse(), Dropout(0.5, rngs=rngs()), LIF()]), "followed by Dropout.*Move it after"),
    (sr.OSTL(), lambda: connect([synapse(), Drawing()]), r"Drawing as module 1, which draws.*docs/neurons\.md, Noise"),
    (sr.BPTT(), lambda: connect([synapse(), Drawing()]), r"Drawing that draws random numbers.*docs/neurons\.md, Noise"),
    (sr.RTRL(), lambda: connect([synapse(), OneKey()]), r"key in its carry that samples share.*random\.split\(key, batch\)"),
    (sr.OSTL(), lambda: connect([synapse(), LIF()], [Edge(1, 0, synapse=nnx.BatchNorm(4, rngs=rngs()))]),
     "got BatchNorm as the synapse of the edge from 1 to 0.*RunningNorm"),
    (sr.OSTL(), lambda: connect([synapse(), LIF(), synapse(4), LIF()], [Edge(0, 2)], rngs=rngs()),
     "reads the current of a neuron within the step.*Let it begin at the neuron"),
    (sr.OSTL(), lambda: connect([lambda x: x, synapse(), LIF()], [Edge(2, 0, synapse=synapse(4, 7))]),
     "the edge from 2 to 0, which does not end at a Linear or Conv right before a neuron.*Let it end there"),
    (sr.OSTL(), lambda: connect([*HIDDEN, synapse(6, 6), LI(), late()]),
     "as module 4, which is not right before the synapse"),
    (sr.OSTL(), lambda: connect([*HIDDEN, late(), synapse(6), LI()], [Edge(2, 0, 1, synapse(6, 6))]),
     "an edge that begins at module 2, a Delay"),
    (sr.OSTL(recurrence=True), lambda: connect([late(7), *HIDDEN, synapse(6), LI()], [Edge(2, 1, 1, synapse(6, 6))]),
     r"since it does not follow their paths. Use OSTL\(\), or RTRL\(\)"),
    (sr.OSTL(recurrence=True), lambda: layers(LIF(), LIF(), edges=[Edge(3, 0, synapse=synapse(4))]),
     r"got an edge from another layer, expected .* to itself\. Use OSTL\(\)"),
    (sr.OTTT(), lambda: layers(BRF(), LIF()), r"OTTT got BRF, expected a neuron that is linear.*Use OTPE\(\) or OSTL"),
    (sr.ApproximateOTPE(), lambda: layers(per_unit(), LIF()),
     r"got LIF with a parameter for each neuron, of shape \[4\].*OSTL"),
    (sr.OTTT(), lambda: layers(OwnSpikes(), LIF()),
     "OTTT got OwnSpikes that declares `linear = True`, .* unless a SpikingNeuron makes them.*or OSTL"),
    (sr.ApproximateOTPE(), lambda: layers(Quadratic(), LIF()), "expected derivatives of `integrate` and `fire` that do not"),
    (sr.OTTT(), lambda: layers(OtherMembrane(), LIF()),
     "OTTT got OtherMembrane with membranes of the structure .*expected the structure of its state.*or OSTL"),
    *((rule, lambda neuron=neuron: layers(neuron), f"got {type(neuron).__name__}, whose units see each other, .*rule=BPTT")
      for rule, neuron in ((sr.OTTT(), Mix()), (sr.OSTL(), MixBySpikes(spike_fn="boxcar")), (sr.EProp(), MixSamples()))),
    (sr.PPProp(), lambda: layers(Whole(), LIF()), "PPProp got Whole, expected a neuron that defines .*or OSTL"),
    (sr.PPProp(), lambda: layers(LIF(decay=Trainable(0.9))), r"PPProp got LIF with trained parameters, .*\. Leave Trainable"),
    (sr.STLLR(), lambda: layers(LIF(decay=Trainable(0.9))), r"STLLR got LIF with trained parameters, .*\. Leave Trainable"),
    (sr.STLLR(secondary=LIF().spike_fn), lambda: layers(LI(), LIF()),
     r"STLLR got secondary=... for LI, .*\. Leave secondary out"),
    (sr.OTPE(), lambda: layers(LIF(), per_unit()), "OTPE got LIF as the next layer, .* Give a decay: output_decay=0.9"),
    *((rule, lambda: layers(LIF(), Faster(decay=0.9)), "got Faster as the next layer, whose membrane does not decay by")
      for rule in (sr.OTPE(), sr.EProp(), sr.ApproximateOTPE())),
    (sr.OTTT(), lambda: layers(NoSlope(), LIF()), r"NoSlope, whose output has no derivative .* self.spike\(membrane\)"),
    ([sr.OSTL(), sr.ApproximateOTPE()], lambda: layers(LIF(), LIF()),
     "ApproximateOTPE got the last layer of a stack, LIF, .* such as OSTL.*output_decay=0.9"),
    ([sr.OSTL()], lambda: layers(LIF(), LI()), "Got 1 rules for a stack of 2 layers, expected one rule for each"),
    (sr.EProp(route=sr.Random(rngs=rngs())), function_edge,
     r"Random got an edge with Function, .*Give the edge a Linear or Conv, or use route=Symmetric\(\)"),
    (sr.EProp(route=sr.Adaptive(layers(LIF()), rngs=rngs())), lambda: layers(LIF(), LIF()),
     r"Adaptive got kernels of .*\(4, 4\).* in layer 1, expected .* Adaptive\(model, rngs"),
    (sr.RTRL(), synapse, "RTRL got Linear, expected a cell"),
    (sr.RTRL(), lambda: connect([synapse()]), "a carry without numbers"),
    (sr.RTRL(), lambda: connect([LIF(), Dropout(0.5, per="step", rngs=rngs())]), r'Dropout\(per="step"\)'),
    (sr.SnAp(), lambda: connect([LIF(), nnx.Dropout(0.5, rngs=rngs())]), "changes .*rngs.* when called"),
    (sr.OTPE, lambda: layers(LIF()), r"Got the class OTPE as the rule.*Make one: rule=OTPE\(\)"),
    ([sr.OTPE(), sr.BPTT()], lambda: layers(LIF(), LIF()), "a list of rules for layers with one for each layer"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "make", "match"), STACKS)
def test_a_stack_that_a_rule_does_not_treat(rule, make, match):
    with pytest.raises((TypeError, ValueError), match=f"(?s){match}"):
        under(rule, make())


def test_neighbors_of_what_is_refused_are_treated():
    for rule, model in (
        (sr.OTPE(output_decay=0.9), layers(LIF(), BRF())),
        ([sr.OSTL(), sr.OTPE(output_decay=0.9)], layers(LIF(), LIF())),
        *(
            (rule, layers(LIF(), neuron))
            for rule in (sr.OTPE(), sr.EProp())
            for neuron in (Floor(), InOnePiece(), Counting())
        ),
        ([sr.OSTL(), sr.OTTT()], layers(per_unit(), LIF())),
        (sr.OSTL(), layers(Whole(), LIF())),
        (sr.OSTL(route=sr.Local(rngs=rngs())), layers(per_unit(), LIF())),
        (sr.OSTL(route=sr.Direct(rngs=rngs())), function_edge()),
        (sr.STLLR(), layers(LI(), LIF())),
    ):
        as_rule(rule).plan(model, (7,))
    assert has_separate_units(Detached(), jnp.zeros((B, 4)))


@dataclasses.dataclass(frozen=True)
class Returns(sr.SLTT):
    """Changes what a rule returns for a layer."""

    change: Any = None

    def window(self, layer, window, traces, signal):
        return self.change(*super().window(layer, window, traces, signal))


@dataclasses.dataclass(frozen=True)
class Sends(sr.Route):
    """Changes what a route returns."""

    matrices: Any = None
    sent: Any = None
    skips_layers = True

    def kernels(self, layer):
        return super().kernels(layer) if self.matrices is None else self.matrices

    def signal(self, layer, outputs, teaching):
        return outputs if self.sent is None else self.sent(outputs)


def without(name):
    return lambda g, traces: (
        g._replace(synapses=tuple({n: v for n, v in d.items() if n != name} for d in g.synapses)),
        traces,
    )


def by_name(change):
    return lambda g, traces: (
        g._replace(synapses=tuple({n: change(v) for n, v in d.items()} for d in g.synapses)),
        traces,
    )


RETURNED = [
    (lambda g, traces: None, r"Returns.window for layer 1 returned NoneType, expected a LayerGradient and the traces"),
    (lambda g, traces: g, r"returned (\w+, )+\w+, expected a LayerGradient and the traces"),
    (lambda g, traces: (g._replace(synapses=g.synapses[0]), traces), "returned dict as gradients of synapses"),
    (without("bias"), r"layer 1 returned synapses of shapes \[\{'kernel': \(4, 4\)\}\], expected .*'bias': \(4,\)"),
    (by_name(lambda v: v[None]), r"synapses of shapes .*\(1, 4\).*, expected"),
    (
        lambda g, traces: (g._replace(neuron=(jnp.ones(()),)), traces),
        r"neuron of shapes \[\(\)\], expected the shapes \[\]",
    ),
    (
        lambda g, traces: (g._replace(current_cotangent=g.current_cotangent[:, :1]), traces),
        r"shapes \(2, 1, 4\), expected",
    ),
    (lambda g, traces: (g, jnp.ones(3)), r"returned the traces float\d\d\[3\], expected arrays like the traces before"),
]


@pytest.mark.parametrize(("change", "match"), RETURNED)
def test_a_rule_that_returns_something_else_is_named_with_the_layer(change, match):
    with pytest.raises((TypeError, ValueError), match=match):
        under(Returns(change), layers(LIF(), LI()))


@pytest.mark.parametrize(
    ("route", "match"),
    [
        (
            Sends(sent=lambda outputs: outputs[..., :2]),
            r"Sends.signal for layer 0 .*\[2, 3, 2\], expected",
        ),
        (Sends(matrices=()), "Sends.kernels for layer 1 returned list, expected a list with None or an array"),
    ],
)
def test_a_route_that_returns_something_else_is_named_with_the_layer(route, match):
    with pytest.raises(ValueError, match=match):
        under(sr.SLTT(route=route), layers(LIF(), LI()))


def behind_norm():
    return connect([synapse(), LIF(), nnx.BatchNorm(4, rngs=rngs())])


def test_pieces_of_tbptt_as_long_as_the_window_take_what_changes_itself():
    norm = behind_norm()
    loss = sr.train_online(norm, optimizer(norm), sr.cross_entropy, X, LABELS, rule=sr.TBPTT(steps=T), window=T)
    assert np.isfinite(loss)


def model():
    return layers(LIF(), LI())


def optimizer(of):
    return nnx.Optimizer(of, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)


def half(outputs, targets):
    return sr.squared_error(outputs[..., :2], targets)


def on_a(outputs, targets):
    return sr.squared_error(outputs, targets["a"])


def in_stack(n):
    return connect([connect([synapse(), LIF()]), synapse(n, 3), LI()])


def nested():
    return connect([connect([synapse(), nnx.BatchNorm(4, rngs=rngs()), LIF()]), synapse(4), LI()])


TRACKS, LONG, NO_PADDING = jnp.zeros((T, B, 4), F32), jnp.ones((4, B, 7), F32), jnp.ones((T, B), bool)
CALLS = [
    (lambda: under(sr.BPTT(), connect([nnx.Conv(1, 2, (3, 3), strides=[2, 2], rngs=rngs()), LIF()]), x=X[..., None, None]),
     r"Got strides=\[2, 2\], expected hashable values"),
    (lambda: under(sr.BPTT(), model(), x=X[:, 0]), r"\[2, 7\], expected \[T, B, features...\]"),
    (lambda: under(sr.BPTT(), model(), x=X[:0]), "a sequence of 0 steps"),
    (lambda: under(sr.OSTL(), model(), x=X[:, :0], labels=LABELS[:0]), "a batch of 0 samples, expected at l"),
    (lambda: under(sr.OSTL(), in_stack(5), carry=in_stack(4).initialize_carry((B, 7))),
     "for module 2 of the stack, Linear, expected 5 features"),
    (lambda: under(sr.OSTL(), model(), carry=((),)), "a carry of 1 for 4 modules"),
    (lambda: under(sr.OSTL(), model(), carry=model().initialize_carry((2, 7))), r"carry of float32\[2, 4\]"),
    (lambda: under(sr.BPTT(), model(), window=0), "window of 0 steps, expected at least 1"),
    (lambda: under(sr.BPTT(), model(), labels=LABELS[:2]), r"targets of shape \[2\] for inputs of 2 steps and 3"),
    (lambda: under(sr.BPTT(), model(), x=X[:, :T], labels=jnp.zeros((T, T, 4)), loss=sr.squared_error),
     r"shape \[2, 2, 4\] for 2 steps and 2 samples.*PerStep\(.*PerSequence\("),
    (lambda: under(sr.BPTT(), model(), labels=sr.PerStep(LABELS)), r"targets of shape \[3\] for inputs of 2 steps"),
    (lambda: under(sr.OSTL(), model(), loss=lambda y, t: y), r"expected one loss per sample, \[3\]"),
    (lambda: under(sr.OSTL(), model(), loss=lambda y, t: y.sum(-1) > 0), "losses of bool, which have no gradient"),
    (lambda: under(sr.OSTL(), model(), loss=sr.SequenceLoss(lambda y, t: y.mean())),
     r"SequenceLoss made .* expected one loss per"),
    (lambda: under(sr.OSTL(), model(), loss=sr.SequenceLoss(lambda y, t: sr.cross_entropy(y[-1], t)), mask=NO_PADDING),
     "expected that it takes one as a third argument"),
    (lambda: under(sr.BPTT(), connect([synapse(), LIF(), lambda x: x.astype(int)]), loss=lambda y, t: y.sum(-1)),
     "expected floating-point numbers: a loss has a gradient"),
    (lambda: under(sr.BPTT(), model(), mask=np.zeros((T, B), bool)), "a mask without a single true"),
    (lambda: under(sr.BPTT(), model(), mask=np.ones((B, T), bool)), r"mask of bool\[3, 2\], expected bool.* Give mask.T"),
    (lambda: inspect.unwrap(sr.gradients)(model(), sr.cross_entropy, X, LABELS, sr.OSTL()),
     r"Got OSTL as the mask, expected .* is given by name, such as rule=OTPE\(\)"),
    (lambda: under(sr.OSTL(route=sr.Target(rngs=rngs())), model(), labels=TRACKS[..., :2], loss=half),
     r"got targets \[.*2\] for outputs \[.*4\], expected labels, or numbers.*Use route=Direct"),
    (lambda: under(sr.OSTL(route=sr.Target(rngs=rngs())), model(), labels={"a": TRACKS}, loss=on_a),
     "got targets in the structure .* for outputs in the structure.*Use route=Direct"),
    (lambda: sr.train_online(model(), optimizer(model()), sr.SequenceLoss(lambda y, t: y[-1, :, 0]), X, LABELS, rule=sr.OSTL()),
     "train_online got a SequenceLoss, expected the loss of one step.*Use train_offline"),
    (lambda: sr.train_offline(model(), optax.sgd(0.1), sr.cross_entropy, X, LABELS), "as the optimizer, expected"),
    (lambda: sr.train_offline(model(), optimizer(layers(LI())), sr.cross_entropy, X, LABELS), "whose state does not fit"),
    (lambda: sr.train_online(net := behind_norm(), optimizer(net), sr.cross_entropy, LONG, LABELS, rule=sr.TBPTT(2), window=4),
     "Use window=2, or call model.eval()"),
    (lambda: under(sr.OSTL(), model(), penalties=sr.firing_rate(0.1)), "expected a list of penalties"),
    (lambda: under(sr.BPTT(), nnx.LSTMCell(7, 4, rngs=rngs()), penalties=[sr.firing_rate(0.1)]), "without layers of neurons"),
    (lambda: under(sr.OSTL(), layers(LI()), penalties=[sr.firing_rate(0.1)]), r"layers of spiking neurons"),
    (lambda: under(sr.OSTL(), model(), penalties=[sr.firing_rate(0.1, layers=(-1,))]),
     "for layer -1 of a model with 2 layers"),
    (lambda: under(sr.OSTL(), model(), penalties=[sr.Penalty(lambda y: y.sum())]), "one loss per sample.*of_mean=True"),
    (lambda: under(sr.OSTL(), model(), penalties=[sr.Penalty(lambda y: y, of_mean=True)]),
     "the mean over time and batch, exp"),
    (lambda: under(sr.BPTT(), nested(), penalties=[sr.firing_rate(0.1)]), "reads a layer of a nested stack.*model.eval"),
    (lambda: sr.firing_rate(1.5), r"firing_rate got target=1.5, expected spikes per step"),
    (lambda: sr.PPProp(decay=1 - 1e-9), r"PPProp got decay=.*, expected a number in \[0, 1\)"),
    (lambda: sr.STLLR(lambda_pre=1.1), r"STLLR got lambda_pre=1.1, expected a number in \[0, 1\]"),
    (lambda: sr.FixedBases("triangle"), """waveform='triangle', expected "square" or "sine\""""),
    (lambda: sr.SnAp(n=0), "n=0, expected at least 1"),
    (lambda: sr.TBPTT(steps=0), "steps=0, expected at least 1"),
    *((make, f"{make.__name__} got no rngs, expected random streams. Give them: ") for make in (sr.UORO, sr.Random)),
    (lambda: sr.DECOLLE(), r"got no rngs, .* Give them: DECOLLE\(rngs=nnx\.Rngs\(0\)\)"),
    (lambda: sr.RULES["uoro"].make(), r"draws random numbers, got no rngs\. Give them: make\(rngs="),
    (lambda: sr.RULES["e_prop_adaptive"].make(rngs=rngs()), r"learns a matrix .*got no model\. Give it: make\(rngs="),
    (lambda: sr.Adaptive(LIF(), rngs=rngs()), "Adaptive got LIF, expected a stack made by connect"),
    (lambda: sr.RULES["opte"], r"expected one of: bptt, tbptt, .*Did you mean 'otpe'"),
    (lambda: sr.cite(type("Mine", (sr.OTPE,), {})()), "got Mine, expected a name in RULES"),
    (lambda: sr.valid_steps(jnp.array([1.0]), 3), r"valid_steps got lengths of float.*, expected an integer for each"),
    (lambda: sr.valid_steps(np.array([4]), 3), "got lengths from 4 to 4 for 3 steps"),
    (lambda: sr.random_steps(jax.random.key(0), 0.0, 3, 2), r"got probability=0.0, expected a number in \(0, 1\]"),
    (lambda: sr.squared_error(jnp.ones((B, 2)), jnp.zeros(B, int)), "Make targets from labels with"),
    (lambda: sr.accuracy(LABELS, jnp.ones((T, B, 4))), "The outputs come first"),
    (lambda: sr.accuracy(jnp.ones((T, B, 4)), jnp.zeros((T, B), int)), "For labels per step write a metric"),
    (lambda: under(sr.BPTT(), model(), labels=jnp.eye(4)[LABELS]), "expected integers 0 to 3, not one-hot"),
    (lambda: sr.cross_entropy(jnp.ones((B, 4)), jnp.array([0, 4, 1])), "got labels from 0 to 4, expected 0 to 3"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "match"), CALLS)
def test_a_call_that_cannot_be_served(call, match):
    with pytest.raises((TypeError, ValueError, KeyError), match=f"(?s){match}"):
        call()
