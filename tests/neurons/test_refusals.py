"""What cannot be is an error that says what to do: one example for each."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx
from test_stacks import Counts, Declares

import slax_neurons as sn
from slax_neurons import BRF, IF, LI, LIF, AdLIF, Delay, Edge, Masked, Trainable, complexity, connect, health
from slax_neurons.building_blocks import apply_rows
from slax_neurons.nir import Zeros, from_nir, to_nir

T, B, N = 5, 3, 4
X = jnp.ones((T, B, N))
V, TE = ValueError, TypeError
RNGS = nnx.Rngs(0)
identity = jax.nn.identity


def linear(n_in=N, n_out=N):
    return nnx.Linear(n_in, n_out, rngs=RNGS)


def conv(**options):
    return nnx.Conv(2, 3, (3, 3), rngs=RNGS, **options)


def with_reset(reset):
    neuron = LIF()
    neuron.reset = reset
    return neuron


def run(model, x=X, carry=None, **options):
    return sn.unroll(model, model.initialize_carry(x.shape[1:]) if carry is None else carry, x, **options)


def pair(edges, *more, **options):
    return connect([linear(), LIF(), *more], edges, **options)


class Opaque(sn.Neuron):
    """Its membrane cannot be told from its carry, and it spikes without a spike function."""

    spikes, threshold = True, 1.0

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"v": jnp.zeros(input_shape)}

    def __call__(self, carry, inputs):
        return {"v": 0.5 * carry["v"] + inputs}, 0 * inputs


def subclass(base, name="__call__"):
    return type("Own", (base,), {name: lambda self, *inputs: inputs})


class Own(sn.Synapse):
    def __init__(self, kernel, bias=None):
        self.kernel, self.bias = nnx.Param(kernel), bias

    def effective(self):
        return self.kernel[...], self.bias


def init(neuron, shape=(100, N), *, rate=0.1, **options):
    return sn.fluctuation_driven(neuron, rate=rate, **options)(jax.random.key(0), shape)


SAYS = Declares(nnx.Variable)
CASES = [
    (lambda: LIF(decay=1.0), V, r"LIF decay got 1., expected numbers inside \(0.0, 1.0\)"),
    (lambda: LIF(decay=Trainable(float(np.float32(0.99999994)))), V, "in the form that is trained, expected .* Use a wider"),
    (lambda: LIF().replace(reset="soft"), V, "LIF got reset='soft', expected one of 'subtract', 'zero', 'none'"),
    (lambda: BRF().replace(spike_fn="atan"), V, "BRF got spike_fn='atan', expected .* boxcar.* Did you mean 'arctan'"),
    (lambda: sn.LTC(N, spike_fn=sn.arctan, rngs=RNGS), TE, r"LTC got spike_fn=.function arctan.* Call it: spike_fn=arctan"),
    (lambda: sn.AdEx(spike_fn=sn.Surrogate), TE, "AdEx got spike_fn=.class .* Call it: spike_fn=Surrogate"),
    (lambda: sn.Surrogate("arctan"), TE, r"derivative='arctan', expected a function of x\..* LIF\(spike_fn='arctan'\)"),
    (lambda: LIF(tau=1.0), TE, r"LIF got tau, expected decay, threshold, .* is decay=time_constant\(tau, dt=dt\) here"),
    (lambda: sn.ALIF(beta="x"), TE, "ALIF beta got 'x', expected a number or an array of numbers"),
    (lambda: LIF().replace(tau=3.0), TE, "LIF.replace got tau, which LIF does not have, expected .*spike_fn, decay"),
    (lambda: LIF().replace(param_dtype=jnp.float16), V, r"that it keeps, expected another .*: LIF\(param_dtype=...\)"),
    (lambda: sn.AdEx().replace(gain=-1.0), V, r"got another gain, which the constructor checks, .* one: AdEx\(gain=...\)"),
    (lambda: BRF().replace(dt=0.1), V, "BRF got another dt, on which the range of omega .* one: BRF"),
    (lambda: BRF(dt=0.0), V, "BRF got dt=0.0, expected a number > 0"),
    (lambda: AdLIF(form="euler"), V, "form='euler', expected one of 'additive', 'symplectic'"),
    (lambda: AdLIF(q=120.0), V, "q=120.0, expected none for form='additive'. Leave it out"),
    (lambda: AdLIF().replace(form="symplectic"), V, "got another form, on which the meaning of a and b .* one: AdLIF"),
    (lambda: run(LIF(decay=np.full(3, 0.5))), V, r"LIF decay has shape \(3,\), expected one .*: \(4,\)"),
    (lambda: run(LIF(), carry=jnp.zeros((2, N))), V, r"carry of float32\[2, 4\] for a current of float32\[3, 4\]"),
    (lambda: LIF().membrane((jnp.ones(2),)), TE, r"carry is a tuple, .* Define LIF.membrane\(carry\)"),
    (lambda: sn.time_constant([1.0, 1e-5], dt=1.0), V, r"with a decay in \(0, 1\)"),
    (lambda: sn.time_constant(20e-3, dt=1.0), UserWarning, "forgets within a step. Give both in the same unit"),
    (lambda: run(with_reset("sub")), V, "LIF got reset='sub', expected one of 'subtract'"),
    (lambda: setattr(LIF(), "decay", 1.5), V, "LIF decay"),
    (lambda: setattr(LIF(), "param_dtype", jnp.float16), V, "LIF got another param_dtype"),
    (lambda: sn.time_constant(20.0, dt=1e-3), UserWarning, "a 10,000th of the time constant. Give both in the same unit"),
    (lambda: sn.Surrogate(lambda x, w: w * x, (jnp.ones(3),)), TE, "got options .*, expected numbers|'options'"),
    (lambda: jax.grad(sn.Surrogate(lambda x: x.astype(jnp.bfloat16)))(1.0), TE, "expected the same shape and dtype"),
    *((functools.partial(make, **{name: 0.0}), V, f"{make.__name__} got {name}=0.0, expected a number > 0")
      for make in sn.SURROGATES.values() for name in inspect.signature(make).parameters
      if (make, name) != (sn.multi_gaussian, "height")),
    (lambda: sn.SURROGATES["multi_gaussian"](height=-0.1), V, "height=-0.1, expected a number >= 0"),
    (lambda: connect([]), V, "connect got no modules"),
    (lambda: connect(LIF()), TE, r"connect got one LIF, expected a list"),
    (lambda: connect([LIF]), TE, r"the class LIF as module 0, .* Make one: LIF\(...\)"),
    (lambda: connect([LIF(), 3]), TE, "connect got int as module 1, expected a cell"),
    (lambda: connect([nnx.RNN(LIF())]), TE, "an nnx.RNN as module 0"),
    (lambda: pair({1: [0]}), TE, "from 0 to 1, into LIF, expected a receiver without a carry"),
    (lambda: pair({5: [1]}), V, "from 1 to 5 with module 5 as its receiver, expected one .*, 0 to 1"),
    (lambda: pair({0: []}), TE, r"\[\] as the senders of module 0, expected a list"),
    (lambda: pair({"0": [1]}, rngs=RNGS), TE, "an edge with '0' as its receiver, expected the index of a module"),
    (lambda: subclass(sn.Connect), TE, "class Own that replaces __call__ of Connect, .* write a cell that holds the stack"),
    (lambda: subclass(sn.Connect, "unroll"), TE, "class Own that replaces unroll of Connect"),
    (lambda: subclass(sn.Synapse), TE, r"class Own that replaces __call__ of Synapse, expected effective\(\) alone"),
    (lambda: connect([nnx.Sequential(linear(), LIF())]), TE, "nnx.Sequential with a cell in it as module 0, .* keep the cell"),
    (lambda: pair([(0, 1)]), TE, r"got \(0, 1\) as an edge, expected \{receiver: \[senders\]\}"),
    (lambda: pair([Edge(1, 0, delay=0)]), V, "with delay=0, expected at least 1"),
    (lambda: pair([Edge(1, 0, delay=2.5)]), TE, "with delay=2.5, expected a whole number of steps"),
    (lambda: pair([Edge(1, 0), Edge(1, 0, delay=1)], rngs=RNGS), V, "the edge from 1 to 0 twice"),
    (lambda: pair([Edge(1, 0, synapse=LIF())]), TE, "LIF as the synapse of the edge from 1 to 0, expected no carry"),
    (lambda: pair({0: [1]}), TE, r"the edge from 1 to 0 without rngs, expected it to make the synapse\. Pass"),
    (lambda: pair({0: [2]}, jnp.tanh, rngs=RNGS), TE, "without the number of output features of module 2"),
    (lambda: connect([jnp.tanh, LIF()], {0: [1]}, rngs=RNGS), TE, "only a Linear or Conv can be copied for it, not a Function"),
    (lambda: connect([Masked(linear(), np.ones((N, N))), LIF()], {0: [1]}, rngs=RNGS), TE, "whose weights fit its own"),
    (lambda: run(pair([Edge(2, 0, synapse=identity)], linear(N, 2))), V, r"of shapes \[3, 4\], \[3, 2\] for mod"),
    *((lambda module=module, shape=shape: connect([module, LIF()]).initialize_carry(shape), V,
       rf"inputs of shape .* per step for module 0 .*, {type(module).__name__}, expected {axes} axes: samples, .* of space")
      for module, shape, axes in ((nnx.Conv(N, 2, (3,), rngs=RNGS), (B, N), 3), (conv(), (B, 5, 2), 4),
                                  (nnx.ConvTranspose(N, 2, (3,), rngs=RNGS), (B, N), 3),
                                  (Masked(conv(), np.ones((3, 3, 2, 3))), (B, 5, 2), 4))),
    (lambda: connect([linear(), LIF(decay=np.full((B, N), 0.5))]).initialize_carry((B, N)), V,
     r"LIF decay has shape \(3, 4\) for inputs of \(3, 4\) per step, expected one .*\(4,\). A parameter is the same for all s"),
    (lambda: run(pair({0: [1]}, rngs=RNGS), X, carry=pair({0: [1]}, rngs=RNGS).initialize_carry((2, N))), V,
     "edges of 3, 2 samples for module 0, .* the carry is of another batch"),
    (lambda: LIF()(jnp.zeros((B, N)), X[0]) and LIF().check_carry(jnp.zeros((B, N)), X[0].astype(int)), V,
     r"a current of int.*, expected floating-point numbers. Cast the inputs: inputs.astype\('float32'\)"),
    (lambda: pair(None).initialize_carry((B, 6)), V, r"\[3, 6\] per step for module 0 .*, Linear, expected 4 features"),
    (lambda: pair(None).initialize_carry(B), TE, r"Connect got 3 as a shape, expected \(B, features...\)"),
    (lambda: run(pair(None), carry=((),)), V, "Got a carry of 1 for 2 modules"),
    (lambda: run(LIF(), X[0], carry=X[0]), V, r"expected \[T, B, features...\] with time first"),
    (lambda: run(LIF(), X.tolist(), carry=X[0]), TE, r"Got a list as inputs, .* Make it: jnp.asarray\(inputs\)"),
    (lambda: run(LIF(), X[:0]), V, "a sequence of 0 steps"),
    (lambda: run(LIF(), X[:, :0]), V, "a batch of 0 samples"),
    (lambda: run(LIF(), chunk=0), V, "length of 0 steps"),
    (lambda: apply_rows(lambda x: x.sum(0, keepdims=True), X), V, r"Got \[1, 4\] from .* for 15 rows, .* may not mix samples"),
    (lambda: connect([lambda x: {"a": x}, LI()]).initialize_carry((B, N)), TE, "Got a dict from module 0 of the stack"),
    (lambda: connect([lambda x: [x], LI()])(((), X[0]), X[0]), TE, "Got a list from module 0 of the stack"),
    (lambda: connect([nnx.BatchNorm(N, rngs=RNGS)])(((),), X[0]), V, r"Use unroll, or call model.eval"),
    (lambda: run(pair([Edge(2, 0, synapse=linear())], nnx.BatchNorm(N, rngs=RNGS))), V, "its own variables, inside a cycle"),
    (lambda: run(connect([SAYS, LIF()]), remat=True), V, "remat=True for a model with a module that changes its own"),
    *((functools.partial(call, connect([Counts(nnx.Variable), LIF()])), V, "that declares it. Put mutates_state = True into")
      for call in (lambda m: run(m, chunk=3), lambda m: jax.jit(lambda x: run(m, x))(X), lambda m: health(m, X, chunk=3),
                   lambda m: complexity(m, X, chunk=3))),
    (lambda: jax.jit(lambda x: run(connect([SAYS, LIF()]), x))(X), Exception, "Cannot mutate Variable"),  # Flax's own
    (lambda: Delay(0, 5), V, "in_features=0, expected at least 1"),
    (lambda: Delay(3, 5, width=0.0), V, "width=0.0, expected a number of steps > 0, or None"),
    (lambda: Delay(3, 5, delays=[1.0, 2.0]), V, r"shape \[2\], expected a number, \[3\] or \[1, 3\]"),
    (lambda: Delay(3, 5, delays=1.0, rngs=RNGS), V, "got delays and rngs, expected one of them. Give rngs if"),
    (lambda: Delay(3, 5).unroll(jnp.ones((5, B, 3)), X), V, r"inputs of shape \[3, 4\] per step, expected 3 features"),
    (lambda: Delay(N, 5).unroll(X[:4], X), V, r"a carry of float32\[4, 3, 4\], expected float32\[5, 3, 4\]"),
    (lambda: sn.Dropout(1.0, rngs=RNGS), V, r"rate=1.0, expected a number in \[0, 1\)"),
    (lambda: sn.Dropout(0.5, per="unit", rngs=RNGS), V, "per='unit', expected one of 'step', 'sequence'"),
    (lambda: sn.BlockDiagonal(12, 7, 4, rngs=RNGS), V, "expected multiples of groups=4"),
    (lambda: Masked(LIF(), 1), TE, r"Masked got LIF, expected a Linear, a Conv without a mask, or a module"),
    (lambda: Masked(linear(7), np.ones((4, 7))), V, r"a mask of shape \[4, 7\] for a kernel of shape \[7, 4\]"),
    (lambda: Masked(linear(), np.full((N, N), 0.3)), V, "mask of float.* with other entries than 0 and 1, .*mask > threshold"),
    (lambda: Masked.random(linear(), 0.01, rngs=RNGS), V, r"density=0.01 for a kernel of 16 weights, which leaves none"),
    (lambda: Masked.random(linear(), 0.0, rngs=RNGS), V, r"density=0\.0, expected a number in \(0, 1\]"),
    (lambda: sn.Standardized(linear(1)), V, "got one weight into each output, .* expected at least two"),
    (lambda: sn.Standardized(linear(), eps=0.0), V, r"Standardized got eps=0\.0, expected a number > 0"),
    (lambda: sn.LowRank(linear(7), 5), V, "rank=5 for a kernel of 7 by 4, expected from 1 to 4"),
    (lambda: sn.LowRank(Masked(linear(), np.ones((N, N))), 2), TE, r"got Masked.*Quantized\(LowRank"),
    (lambda: sn.Quantized(linear(), 9), V, "bits=9, expected 2 to 8"),
    (lambda: sn.RunningNorm(linear(), momentum=1.0), V, r"momentum=1\.0, expected a number in \[0, 1\)"),
    (lambda: sn.RunningNorm(linear(), eps=np.nan), V, "RunningNorm got eps=nan, expected a number > 0"),
    (lambda: Own(jnp.ones((3, 3, 2, 4)))(jnp.ones((1, 5, 5, 2))), V, r"expected \[in, out\]\. A convolution names"),
    (lambda: Own(jnp.ones((3, 2)), jnp.ones(3))(jnp.ones((1, 3))), V, r"bias of \[3\] from Own.effective\(\), expected \[2\]"),
    (lambda: sn.Synapse().effective(), NotImplementedError, r"Synapse .* expected effective\(\) -> \(kernel"),
    (lambda: complexity(LIF(), X), TE, r"got LIF, expected a stack. Make one: connect\(\[...\]\)"),
    (lambda: complexity(connect([connect([nnx.GRUCell(N, 3, rngs=RNGS)])]), X), TE, "got GRUCell as module 0.0, expected"),
    (lambda: complexity(pair([Edge(1, 0, synapse=nnx.Einsum("ab,bc->ac", (N, N), rngs=RNGS))]), X), TE,
     "got Einsum as the synapse of the edge from 1 to 0, expected"),
    (lambda: complexity(connect([nnx.Conv(N, 10**5, (1,), use_bias=False, kernel_init=huge, rngs=RNGS)]),
                        jnp.ones((1, 1, 10**4, N))), V, r"2\^31 operations in a step"),
    (lambda: health(connect([LI()]), X), V, "without a spiking layer, expected a neuron that spikes"),
    (lambda: health(connect([LIF()]), X, mask=np.ones((T, 2), bool)), V, r"a mask of bool\[5, 2\], expected bool\[5, 3\]"),
    (lambda: health(connect([LIF()]), X, mask=np.zeros((T, B), bool)), V, "a mask without a true entry"),
    (lambda: health(connect([LIF(), LIF()]), X.at[1, 0, 2].set(jnp.nan)), V, "currents into 0 LIF of which 1 are NaN"),
    (lambda: health(connect([Opaque()]), X), TE, "Opaque.replace got spike_fn, which Opaque does not have"),
    (lambda: sn.summary(connect([LIF()]), (N,)), V, r"an input_shape of \[4\], expected \[B, features...\], one"),
    (lambda: sn.summary(connect([LIF()]), X), TE, r"summary got an array of shape \[5, 3, 4\] as a shape, expected that of"),
    (lambda: init(LIF(), rate=1.0), V, r"rate=1.0, expected a probability per step in \(0, 1\)"),
    (lambda: init(LIF(), xi=np.nan), V, "xi=nan, expected a number > 0"),
    (lambda: init(LIF(), share=1.1), V, r"share=1.1, expected a number in \(0, 1\]"),
    (lambda: init(IF(), steps=0), V, "steps=0, expected at least 1"),
    (lambda: init(IF()), V, r"IF whose membrane does not forget an impulse .* fluctuation_driven\(..., steps=100\)"),
    (lambda: init(LI()), V, r"a LI, expected a threshold .* threshold=1.0"),
    (lambda: init(LIF(threshold=0.0)), V, "a LIF whose threshold is 0 above rest, expected"),
    (lambda: init(LIF(threshold=1e-4), threshold=1.0), V, "LIF that fires at rest or after a current of 0.00024"),
    (lambda: init(LIF(), (5,)), V, r"a kernel of shape \(5,\), expected \[..., in, out\]"),
    (lambda: init(LIF), TE, "got the class LIF"),
    (lambda: init(Opaque()), TE, "Opaque whose carry is a dict, expected an array or a NamedTuple"),
]  # fmt: skip


def huge(key, shape, dtype):
    """No memory is needed for it: an abstract value would do."""
    return jnp.zeros(shape, dtype)


def graph(nodes, edges=None):
    names = ["in", *nodes, "out"]
    ends = {"in": nir.Input({"input": np.array([N])}), "out": nir.Output({"output": np.array([N])})}
    edges = [pair.split() for pair in edges.split(", ")] if edges else itertools.pairwise(names)
    return nir.NIRGraph(ends | nodes, [tuple(pair) for pair in edges], type_check=False)


def full(kind, **values):
    return kind(**{name: np.full(N, value) for name, value in values.items()})


def lif(**changes):
    return full(nir.LIF, **({"tau": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0} | changes))


def cuba(**changes):
    values = {"tau_syn": 0.01, "tau_mem": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "w_in": 1.0}
    return full(nir.CubaLIF, **(values | changes))


def node(**nodes):
    return lambda: from_nir(graph(nodes), dt=1e-3)


def wired(edges, **nodes):
    return lambda: from_nir(graph(nodes, edges), dt=1e-3)


def written(*modules, edges=(), shape=(N,)):
    return lambda: to_nir(connect(list(modules), list(edges)), dt=1e-3, input_shape=shape)


w, threshold, one = nir.Linear(np.ones((N, N))), nir.Threshold(np.ones(N)), np.ones(N)
inner = nir.NIRGraph({"a": nir.Input({"input": np.array([N])}), "y": nir.Output([N]), "z": nir.Output([N])},
                     [("a", "y"), ("a", "z")])  # fmt: skip
CASES += [
    (node(d=nir.Delay(np.array([0.0, 1e-3, 1.5e-3]))), V, "'d', Delay, with delays between .*, expected whole steps"),
    (node(d=nir.Delay(np.array(1.0))), V, "'d', Delay, with one delay for any number"),
    (node(d=nir.Delay(np.arange(12.0).reshape(3, 2, 2))), V, "'d', Delay, with delays that differ within a channel"),
    (wired("in v, v n, in d, d w, w n, n out", d=nir.Delay(one), v=w, w=w, n=lif()), V, "with a delayed signal over an edge"),
    (node(i=nir.I(one)), V, "Got node 'i', I, expected nodes that can be read: .* Use an LI"),
    (node(c=nir.CubaLI(one, one, one, one)), V, "'c', CubaLI, expected nodes that can be read: .* two LI"),
    (node(w=w, t=threshold), V, "'t', Threshold, expected nodes that can be read: .*Use an IF"),
    (wired("in w, x w, w out", x=nir.Input({"input": np.array([N])}), w=w), V, "a graph with 2 nodes Input, expected one"),
    (wired("in w, v w, w out", w=w, v=w), V, "node 'v', Linear, not reached"),
    (wired("in w, w v, w out", w=w, v=w), V, "node 'v', Linear, without a way to the Output"),
    (wired("in w, w v, v w, w out", w=w, v=w), V, "node 'v', Linear, in a cycle without a neuron"),
    (wired("in p, p out, in c, c q, c r, q out, r out", p=lif(), q=lif(), r=lif(),
           c=nir.Conv1d(None, np.ones((3, 2, 3)), 1, 0, 1, 1, one)), V, "'c', Conv1d, without an input type"),
    (lambda: from_nir(nir.NIRGraph({"w": w}, [], type_check=False), dt=1e-3), V, "a graph with 0 nodes Input"),
    (node(inner=inner), V, "node 'inner', NIRGraph, with 2 nodes Output"),
    (node(w=nir.Linear(np.ones((2, N, N)))), V, r"'w', Linear, with a weight of shape \(2, 4, 4\)"),
    (node(c=nir.Conv1d(8, np.ones((3, 2, 3)), 2, "same", 1, 1, np.ones(3))), V, "with padding 'same' and a stride"),
    (node(n=lif(r=-1.0)), V, "'n', LIF, with a gain of -.*, expected a resistance"),
    (node(n=cuba(v_leak=0.1)), V, "'n', CubaLIF, with a v_leak other than v_reset"),
    (lambda: from_nir(graph({"n": lif()}), dt=0.0), V, "Got dt=0.0, expected the length of a step"),
    (lambda: from_nir(graph({"n": lif()}), dt=1e-3, integration="heun"), V, "expected one of 'exponential', 'euler'"),
    (lambda: from_nir(graph({"n": lif()}), dt=1e-3, reset="soft"), V, "reset='soft', expected one of 'subtract'"),
    (lambda: from_nir(graph({"n": lif()}), dt=0.01, integration="euler"), V, "for dt=0.01 and integration=.*: LIF decay got 0"),
    (lambda: from_nir(lif(), dt=1e-3), TE, r"from_nir got LIF, expected a nir\.NIRGraph"),
    (written(linear(), sn.ALIF()), TE, "Got module 1 of the stack, ALIF, expected what has a node"),
    (written(linear(), connect([LIF(), jnp.tanh])), TE, "module 1.1 .* expected what has a node"),
    (written(linear(), LIF(), edges=[Edge(1, 0, delay=2, synapse=linear())]), V, "1 to 0, with a delay of 2 steps"),
    (written(identity, linear(), LIF(), Zeros((N,)), LIF(), linear(), edges=[
        Edge(0, 3, synapse=linear()), Edge(4, 1, synapse=linear()), Edge(2, 5, synapse=linear())]), V, "no late edges"),
    (written(identity, edges=[Edge(0, 0, synapse=identity)]), V, "cycle without a neuron"),
    (written(linear(), LIF(), identity, linear(), edges=[Edge(1, 2, synapse=identity)]), V, "two paths without a module"),
    (written(linear(), shape=N), TE, r"to_nir got 4 as a shape, expected that of one sample in one step, such as \(64,\)"),
    (written(linear(), shape=np.array([6])), V, r"\[6\] per step for module 0 of the stack, Linear, expected 4 features"),
    (written(Delay(N, 4, delays=[0.0, 1.0, 1.5, 2.0])), V, r"fractions of a step, .* copy with .rounded\(\) delays"),
    (written(Delay(N, 4, width=0.5)), V, "with a Gaussian kernel"),
    (written(Delay(N, 4, groups=2)), V, r"makes 2 copies of its inputs, .* use Delay\(8, 4\)"),
    (written(nnx.Linear(2, 3, rngs=RNGS), shape=(6, 6, 2)), V, "Linear, for features of shape"),
    (written(conv(padding="REFLECT"), shape=(6, 6, 2)), V, "with padding='REFLECT'"),
    (written(conv(padding=((0, 1), (1, 1))), shape=(6, 6, 2)), V, "pads .* expected both sides equally"),
    (written(conv(mask=jnp.ones((3, 3, 2, 3))), shape=(6, 6, 2)), V, "with a mask or an input_dilation"),
    (written(nnx.Conv(2, 3, (3, 3, 3), rngs=RNGS), shape=(6, 6, 2)), V, "Conv, with 3 spatial axes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "match"), CASES, ids=[case[2][:50] for case in CASES])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_it_is_an_error_that_says_what_to_do(call, error, match, no_shape_checks):
    with pytest.raises(error, match=match):
        call()
