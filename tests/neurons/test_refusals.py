"""What cannot be is an error of the right type that names the cure: one example for each."""

import itertools

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx
from test_stacks import Counts, Declares

import slax_neurons as sn
from slax_neurons import LIF, Delay, Edge, Masked, complexity, connect, health
from slax_neurons.nir import Zeros, from_nir, to_nir

T, B, N = 5, 3, 4
X = jnp.ones((T, B, N))
V, TE = ValueError, TypeError
RNGS = nnx.Rngs(0)
SAYS = Declares(nnx.Variable)
identity = jax.nn.identity


def linear(n_in=N, n_out=N):
    return nnx.Linear(n_in, n_out, rngs=RNGS)


def conv(**options):
    return nnx.Conv(2, 3, (3, 3), rngs=RNGS, **options)


def run(model, x=X, carry=None, **options):
    return sn.unroll(model, model.initialize_carry(x.shape[1:]) if carry is None else carry, x, **options)


def pair(edges, *more, **options):
    return connect([linear(), LIF(), *more], edges, **options)


CASES = [
    (lambda: LIF(threshold="1"), TE, "LIF threshold got the text '1', expected a number"),
    (lambda: LIF().replace(reset="soft"), V, "expected one of 'subtract', 'zero', 'none'"),
    (lambda: run(pair({0: [1]}, rngs=RNGS), X, carry=pair({0: [1]}, rngs=RNGS).initialize_carry((2, N))), V, "same batch"),
    (lambda: sn.time_constant([1.0, 1e-5], dt=1.0), V, r"with a decay in \(0, 1\)"),
    (lambda: pair({1: [0]}), TE, "into a cell, LIF. Let it end at the Linear"),
    (lambda: pair({0: [1]}), TE, "Pass rngs"),
    (lambda: connect([jnp.tanh, LIF()], {0: [1]}, rngs=RNGS), TE, "a Linear or Conv to copy .* than a Function"),
    (lambda: run(pair([Edge(2, 0, synapse=identity)], linear(N, 2))), V, r"\[3, 4\], \[3, 2\] .* the same shape"),
    (lambda: run(pair([Edge(1, 0, synapse=linear(3))])), V, r"\[3, 4\] .* on the edge 1 -> 0 .* expected 3 features"),
    (lambda: run(pair([Edge(2, 0, synapse=linear())], nnx.BatchNorm(N, rngs=RNGS))), V, "inside a cycle"),
    (lambda: run(connect([SAYS, LIF()]), remat=True), V, "remat=True, which calls modules twice"),
    (lambda: run(connect([Counts(nnx.Variable), LIF()]), chunk=3), V, "Put mutates_state = True into"),
    (lambda: type("Own", (sn.Synapse,), {"__call__": lambda self, x: x}), TE, r"Define effective\(\) alone"),
    (lambda: Masked(linear(), np.full((N, N), 0.3)), V, "mask > threshold"),
    (lambda: sn.LowRank(Masked(linear(), np.ones((N, N))), 2), TE, r"Quantized\(LowRank"),
    (lambda: health(connect([LIF(), LIF()]), X.at[1, 0, 2].set(jnp.nan)), V, "into 0 LIF of which 1 are NaN"),
    (lambda: LIF(decay=[[0.5] * N] * B).initialize_carry((B, N)), V, "the same for all samples"),
    (lambda: run(LIF(), carry=jnp.zeros((1, N))), V, r"carry of float32\[1, 4\] for a current of float32\[3, 4\]"),
    (lambda: sn.time_constant(20e-3, dt=1.0), UserWarning, "in the same unit"),
    (lambda: complexity(connect([connect([nnx.GRUCell(N, 3, rngs=RNGS)])]), X), TE, "GRUCell as module 0.0"),
]  # fmt: skip


def graph(nodes, edges=None):
    names = ["in", *nodes, "out"]
    ends = {"in": nir.Input({"input": np.array([N])}), "out": nir.Output({"output": np.array([N])})}
    edges = [pair.split() for pair in edges.split(", ")] if edges else itertools.pairwise(names)
    return nir.NIRGraph(ends | nodes, [tuple(pair) for pair in edges], type_check=False)


def read(edges=None, options=None, **nodes):
    return lambda: from_nir(graph(nodes, edges), **{"dt": 1e-3} | (options or {}))


def written(*modules, edges=(), shape=(N,)):
    return lambda: to_nir(connect(list(modules), list(edges)), dt=1e-3, input_shape=shape)


w, one = nir.Linear(np.ones((N, N))), np.ones(N)
lif = nir.LIF(tau=0.01 * one, r=one, v_leak=0 * one, v_threshold=one)
DELAY = nir.Delay(np.array([0.0, 1e-3, 1.5e-3]))
SAME = nir.Conv1d(8, np.ones((3, 2, 3)), 2, "same", 1, 1, np.ones(3))
SAMES = [Edge(0, 3, synapse=linear()), Edge(4, 1, synapse=linear()), Edge(2, 5, synapse=linear())]
CASES += [
    (read(d=DELAY), V, "'d', Delay, .* not whole steps"),
    (read("in v, v n, in d, d w, w n, n out", d=nir.Delay(one), v=w, w=w, n=lif), V, "a Delay on an edge"),
    (read(c=SAME), V, "padding 'same' and a stride"),
    (written(linear(), connect([sn.ALIF()])), TE, "module 1.0 .* ALIF, expected what has a node"),
    (lambda: to_nir(connect([LIF()]), dt=-1e-3, input_shape=(N,)), V, "dt=-0.001, expected a number of seconds above 0"),
    (lambda: from_nir(to_nir(connect([LIF()]), dt=1e-3, input_shape=(N,)), dt=1e-4), V, "with dt=0.001: take the same"),
    (written(linear(), LIF(), edges=[Edge(1, 0, delay=2, synapse=linear())]), V, "delay of 2 steps"),
    (written(identity, linear(), LIF(), Zeros((N,)), LIF(), linear(), edges=SAMES), V, "no late edges"),
    (written(linear(), LIF(), identity, linear(), edges=[Edge(1, 2, synapse=identity)]), V, "two paths"),
    (written(Delay(N, 4, delays=[0.0, 1.0, 1.5, 2.0])), V, r".rounded\(\) delays"),
    (written(conv(padding=((0, 1), (1, 1))), shape=(6, 6, 2)), V, "the same on both sides"),
    (read("in w, v w, w out", w=w, v=w), V, "'v', Linear, not reached"),
    (read(n=nir.LIF(tau=0.01 * one, r=-one, v_leak=0 * one, v_threshold=one)), V, "with a gain of -"),
    (written(conv(mask=jnp.ones((3, 3, 2, 3))), shape=(6, 6, 2)), V, "with a mask"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "match"), CASES, ids=[case[2][:50] for case in CASES])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:to_nir got a neuron with reset")
def test_it_is_an_error_that_says_what_to_do(call, error, match, no_shape_checks):
    with pytest.raises(error, match=match):
        call()
