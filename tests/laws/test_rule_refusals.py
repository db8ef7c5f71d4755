"""What rules and calls refuse: the type of the error, and the word in it that tells what to change. One example each."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import BRF, LI, LIF, LRU, Delay, Dropout, Edge, Standardized, Trainable, connect
from stacks import linear

# As users run it, so that the packages' own errors are seen.
pytestmark = pytest.mark.usefixtures("no_shape_checks")

T, B = 2, 3
X, LABELS = jnp.ones((T, B, 7), jnp.float32), jnp.zeros(B, int)
F32, SEQUENCE = jnp.float32, sr.SequenceLoss


def synapse(n_in=7, n_out=4):
    return linear(n_in, n_out, 0, F32)


def layers(*neurons, edges=()):
    """A stack of Linear and neuron, 4 units each."""
    return connect([part for i, neuron in enumerate(neurons) for part in (synapse(4 if i else 7), neuron)], edges)


def model():
    return layers(LIF(), LI())


HALF = jnp.bfloat16
IN_HALF = (
    lambda: connect([linear(7, 4, 0, HALF), LI(param_dtype=HALF)]),
    lambda: nnx.GRUCell(7, 4, dtype=HALF, rngs=rngs()),
)


def rngs():
    return nnx.Rngs(0)


def under(rule, modules=None, *edges, x=X, labels=LABELS, loss=sr.cross_entropy, **options):
    """A gradient of a list of modules with edges, or of a model."""
    stack = connect(modules, edges) if isinstance(modules, list) else model() if modules is None else modules
    return sr.gradients(stack, loss, x, labels, rule=rule, **options)


class NoSlope(LIF):
    """Makes spikes without a surrogate gradient."""

    linear = True

    def fire(self, membrane):
        return membrane, (membrane > 1).astype(membrane.dtype)


def per_unit():
    return LIF(decay=np.linspace(0.5, 0.9, 4))


def late(n=6):
    return Delay(n, 3, delays=Trainable(np.full(n, 0.5)))


def norm(n=4, **options):
    return nnx.BatchNorm(n, **options, rngs=rngs())


def between(module):
    return [synapse(), module, LIF()]


def masked():
    return [lambda x: x[:, :, None], nnx.Conv(1, 4, (3,), mask=jnp.ones((3, 1, 4)), rngs=rngs()), LIF()]


def behind_norm():
    return connect([synapse(), LIF(), norm()])


def optimizer(of):
    return nnx.Optimizer(of, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)


def online(model, x=X, loss=sr.cross_entropy, **options):
    return sr.train_online(model, optimizer(model), loss, x, LABELS, **options)


def opzo(modules, rule=None):
    return sr.OPZO(connect([*modules, LI()]), rule or sr.OTTT(), rngs=rngs())


HIDDEN, PLAIN, TRACKS = [synapse(7, 6), LIF()], {"use_bias": False, "use_scale": False}, jnp.zeros((T, B, 2), F32)
ONTO_FUNCTION, RECURRENT = Edge(1, 0, synapse=lambda x: x), sr.OSTL(recurrence=True)
TYPE_ERRORS = [
    (lambda: under(sr.SLTT(), [nnx.LSTMCell(7, 4, rngs=rngs()), LI()]), "LSTMCell as module 0"),
    (lambda: under(sr.PPProp(), [*HIDDEN, nnx.Dropout(0.5, rngs=rngs()), synapse(6), LIF()]), r"slax_neurons\.Dropout"),
    (lambda: under(sr.OSTL(), [norm(7, **PLAIN), synapse(), LIF()]), r"model\.eval\(\)"),
    (lambda: under(RECURRENT, between(norm())), "RunningNorm"),
    (lambda: under(sr.OSTL(), masked()), "Masked"),
    (lambda: under(sr.OSTL(), [Standardized(synapse()), synapse(4), LIF()]), "Standardized as module 0"),
    (lambda: under(sr.OTTT(), between(lambda x: jnp.maximum(x, 0))), "Move it after"),
    (lambda: under(sr.OSTL(), between(lambda x: x + 1)), "linear map"),
    (lambda: under(sr.OSTL(), between(lambda x: x - x.mean(0, keepdims=True))), "linear map"),
    (lambda: under(sr.SLTT(), between(lambda x: x * jnp.arange(x.shape[-1], dtype=x.dtype)[None])), "linear map"),
    (lambda: under(sr.OSTL(), [*HIDDEN, synapse(6), LIF()], Edge(0, 2, synapse=synapse(6))), "begin at the neuron"),
    (lambda: under(sr.OSTL(), [lambda x: x, synapse(), LIF()], Edge(2, 0, synapse=synapse(4, 7))), "Let it end there"),
    (lambda: under(sr.OSTL(), [*HIDDEN, synapse(6, 6), LI(), late()]), "learned delays"),
    (lambda: under(RECURRENT, [late(7), *HIDDEN], Edge(2, 1, 1, synapse(6, 6))), "RTRL"),
    (lambda: under(RECURRENT, [*HIDDEN, synapse(6), LI()], Edge(3, 0, 1, synapse(4, 6))), "another layer"),
    (lambda: under(sr.OTTT(), layers(BRF(), LIF())), "linear except"),
    (lambda: under(sr.OTTT(), layers(NoSlope(), LIF())), r"self\.spike"),
    (lambda: under(sr.OTTT(), [synapse(), LRU()]), "several currents.*OSTL"),
    (lambda: under(sr.ApproximateOTPE(), layers(per_unit(), LIF())), "for each neuron"),
    (lambda: under(sr.PPProp(), layers(LIF(decay=Trainable(0.9)))), "Trainable"),
    (lambda: under(sr.STLLR(secondary=LIF().spike_fn), layers(LI(), LIF())), "Leave secondary out"),
    (lambda: under(sr.OTPE(), layers(LIF(), per_unit())), "output_decay=0.9"),
    (lambda: under(sr.EProp(route=sr.Random(rngs=rngs())), [synapse(), LIF()], ONTO_FUNCTION), r"route=Symmetric\(\)"),
    (lambda: under(sr.EProp(route=sr.Adaptive(layers(LIF()), rngs=rngs()))), r"Adaptive\(model"),
    (lambda: sr.PerLayer([sr.OTPE(), sr.BPTT()]), "for each layer"),
    (lambda: under(sr.OSTL(route=sr.Target(rngs=rngs())), labels=TRACKS, loss=lambda y, t: y[..., 0]), "route=Direct"),
    (lambda: online(model(), loss=SEQUENCE(lambda y, t: y[-1, :, 0])), "train_offline"),
    (lambda: under(sr.OSTL(), layers(LI()), penalties=[sr.firing_rate(0.1)]), "spiking neurons"),
    (sr.UORO, r"rngs=nnx\.Rngs\(0\)"),
    (lambda: opzo([synapse()], sr.PerLayer([sr.OTTT()])), "one rule for all"),
    (lambda: under(sr.NodePerturbation(rngs=rngs()), [*HIDDEN, synapse(6)]), "after the last neuron"),
    (lambda: under(sr.NodePerturbation(rngs=rngs()), layers(LIF(decay=Trainable(0.9)))), "Trainable"),
    *(
        (lambda make=make: sr.certified_gradient(make(), sr.cross_entropy, X, LABELS, rule=sr.SketchedRTRL(1)), "half pre")
        for make in IN_HALF
    ),
    (lambda: under(sr.KFRTRL(rngs=rngs()), [synapse(), LIF(decay=Trainable(0.9))]), "got the parameter modules/1"),
    (lambda: under(sr.KFRTRL(rngs=rngs()), [(twice := synapse(7, 7)), LIF(), twice, LI()]), "calls with 2 inputs"),
    (lambda: opzo([synapse(), LRU(), synapse(8)]), "LRU above the first"),
    (lambda: opzo([synapse()], sr.DECOLLE(rngs=rngs())), "without another route"),
    (lambda: under(opzo([*HIDDEN, synapse(6)]), layers(LIF(), LI())), r"\[\(4, 4\)\], expected \[\(6, 4\)\]"),
    (lambda: sr.BPTT(10), r"True or False\. .* TBPTT\(K\)"),
]  # fmt: skip
VALUE_ERRORS = [
    (lambda: under(sr.PerLayer([sr.OSTL()])), "1 rules .* 2 layers"),
    (lambda: under(sr.RTRL(), [LIF(), Dropout(0.5, per="step", rngs=rngs())]), "Dropout"),
    (lambda: under(sr.SnAp(), [LIF(), nnx.Dropout(0.5, rngs=rngs())]), "when called"),
    (lambda: online(behind_norm(), jnp.ones((4, B, 7), F32), rule=sr.TBPTT(2), window=4), "window=2"),
    (lambda: under(sr.BPTT(), x=X[:0]), "0 steps"),
    (lambda: under(sr.BPTT(), x=X[:, :T], labels=jnp.zeros((T, T))), r"PerStep\(.*PerSequence\("),
    (lambda: under(sr.BPTT(), labels=LABELS == 0), r"labels of bool.*labels\.astype\(int\)"),
    (lambda: under(sr.OSTL(), loss=lambda y, t: y), "one loss per sample"),
    (lambda: under(sr.BPTT(), mask=np.zeros((T, B), bool)), "a single true"),
    (lambda: under(sr.BPTT(), mask=np.ones((B, T), bool)), r"mask\.T"),
    (lambda: sr.train_offline(model(), optimizer(layers(LI())), sr.cross_entropy, X, LABELS), "does not fit"),
    (lambda: under(sr.OSTL(), penalties=[sr.firing_rate(0.1, layers=(-1,))]), "layer -1"),
    (lambda: under(sr.OSTL(), penalties=[sr.Penalty(lambda y: y.sum())]), "of_mean=True"),
    (lambda: under(sr.OSTL(), penalties=[sr.Penalty(lambda y: y, of_mean=True)]), "one number"),
    (lambda: under(sr.BPTT(), loss=lambda y, t: sr.cross_entropy(y.sum(0), t)), "give a SequenceLoss"),
    (lambda: sr.valid_steps(np.array([4]), 3), "from 4 to 4"),
    (lambda: sr.accuracy(jnp.ones((T, B, 4)), jnp.zeros((T, B), int)), "per step"),
    (lambda: sr.squared_error(jnp.ones((B, 2)), jnp.zeros(B, int)), "not labels"),
]  # fmt: skip
ALL = {TypeError: TYPE_ERRORS, ValueError: VALUE_ERRORS}


@pytest.mark.parametrize(("kind", "call", "word"), [(kind, *one) for kind, ones in ALL.items() for one in ones])
def test_what_cannot_be_served_is_told_with_the_cure(kind, call, word):
    with pytest.raises(kind, match=word):
        call()


def test_tbptt_in_pieces_of_the_window_takes_a_batch_norm():
    assert np.isfinite(online(behind_norm(), rule=sr.TBPTT(steps=T), window=T))
