"""What cannot be expressed is an error that names the node or module, and NIR's library is needed here only."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx

from slax_neurons import ALIF, LIF, CuBaLIF, Delay, Dropout, Edge, connect
from slax_neurons.nir import Zeros, from_nir, to_nir

N = 3
RNGS = nnx.Rngs(0)


def linear(n_in=N, n_out=N):
    return nnx.Linear(n_in, n_out, rngs=RNGS)


def conv(**options):
    return nnx.Conv(2, 3, (3, 3), rngs=RNGS, **options)


def graph(nodes, edges=None):
    """in -> nodes -> out, or any edges."""
    names = ["in", *nodes, "out"]
    everything = {"in": nir.Input({"input": np.array([N])}), **nodes, "out": nir.Output({"output": np.array([N])})}
    edges = list(itertools.pairwise(names)) if edges is None else edges
    return nir.NIRGraph(everything, edges, type_check=False)


def lif(**changes):
    values = {"tau": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0} | changes
    return nir.LIF(**{name: np.full(N, value) for name, value in values.items()})


def cuba(**changes):
    values = {"tau_syn": 0.01, "tau_mem": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "w_in": 1.0} | changes
    return nir.CubaLIF(**{name: np.full(N, value) for name, value in values.items()})


def weight(*shape):
    return np.ones(shape, np.float32)


def li():
    return nir.LI(np.full(N, 0.01), np.ones(N), np.zeros(N))


w = nir.Linear(weight(N, N))
GRAPHS = {
    "delays between two steps": (
        graph({"d": nir.Delay(np.array([0.0, 1e-3, 1.5e-3]))}),
        r"Node 'd', Delay, has delays between 0 and 0.0015, expected whole steps of dt=.* round them",
    ),
    "negative delay": (graph({"d": nir.Delay(np.array([0.0, 1.0, -1.0]))}), r"delays between -1 and 1, .* >= 0"),
    "one delay for all": (graph({"d": nir.Delay(np.array(1.0))}), "Node 'd', Delay, has one delay for any number"),
    "delays in space": (
        graph({"d": nir.Delay(np.arange(12.0).reshape(3, 2, 2))}),
        "Node 'd', Delay, has delays that differ within a channel",
    ),
    "a delay beside the chain": (
        graph(
            {"d": nir.Delay(np.ones(N)), "v": w, "w": w, "n": lif()},
            [("in", "v"), ("v", "n"), ("in", "d"), ("d", "w"), ("w", "n"), ("n", "out")],
        ),
        "Node 'n', LIF, gets a delayed signal over an edge in addition to the chain, .* Edge",
    ),
    "integrator": (graph({"i": nir.I(np.ones(N))}), "Node 'i', I, cannot be expressed: .* Use an LI"),
    "cuba li": (
        graph({"c": nir.CubaLI(np.ones(N), np.ones(N), np.ones(N), np.ones(N))}),
        "Node 'c', CubaLI, cannot be expressed: .* two LI",
    ),
    "threshold": (
        graph({"w": w, "t": nir.Threshold(np.ones(N))}),
        "Node 't', Threshold, cannot be expressed: .*after an I",
    ),
    "membrane that two read": (
        graph(
            {"m": li(), "t": nir.Threshold(np.ones(N)), "w": w},
            [("in", "m"), ("m", "t"), ("m", "w"), ("t", "out"), ("w", "out")],
        ),
        "Node 't', Threshold, cannot be expressed",
    ),
    "two inputs": (
        graph({"x": nir.Input({"input": np.array([N])}), "w": w}, [("in", "w"), ("x", "w"), ("w", "out")]),
        "Node 'x', Input, cannot be expressed: there is one already",
    ),
    "two outputs": (
        graph({"w": w, "y": nir.Output({"output": np.array([N])})}, [("in", "w"), ("w", "y"), ("w", "out")]),
        "Node 'out', Output, cannot be expressed: there is one already",
    ),
    "no way in": (graph({"w": w, "v": w}, [("in", "w"), ("v", "w"), ("w", "out")]), "Node 'v', Linear, is not reached"),
    "no way out": (
        graph({"w": w, "v": w}, [("in", "w"), ("w", "v"), ("w", "out")]),
        "Node 'v', Linear, does not reach",
    ),
    "no neuron in a cycle": (
        graph({"w": w, "v": w}, [("in", "w"), ("w", "v"), ("v", "w"), ("w", "out")]),
        "Node 'v', Linear, is part of a cycle without a neuron",
    ),
    "an edge twice": (graph({"w": w}, [("in", "w"), ("in", "w"), ("w", "out")]), "Duplicate edge"),
    "an edge to nowhere": (graph({"w": w}, [("in", "w"), ("w", "lost"), ("w", "out")]), "'lost' which does not exist"),
    "nested with two outputs": (
        graph(
            {
                "inner": nir.NIRGraph(
                    {"a": nir.Input({"input": np.array([N])}), "w": w, "y": nir.Output([N]), "z": nir.Output([N])},
                    [("a", "w"), ("w", "y"), ("w", "z")],
                )
            }
        ),
        "Node 'inner', NIRGraph, has 2 nodes Output",
    ),
    "a batch of weights": (
        graph({"w": nir.Linear(weight(2, N, N))}),
        r"Node 'w', Linear, has a weight of shape \(2, 3, 3\)",
    ),
    "same and strides": (
        graph({"c": nir.Conv1d(8, weight(3, 2, 3), 2, "same", 1, 1, weight(3))}),
        "Node 'c', Conv1d, has padding 'same' and a stride",
    ),
    "negative resistance": (graph({"n": lif(r=-1.0)}), "Node 'n', LIF, has a resistance .* not positive"),
    "negative input weight": (graph({"n": cuba(w_in=-1.0)}), "Node 'n', CubaLIF, has a resistance or input weight"),
    "negative tau": (graph({"n": lif(tau=-1.0)}), "Node 'n', LIF, "),
    "cuba with another leak": (graph({"n": cuba(v_leak=0.1)}), "Node 'n', CubaLIF, has a v_leak other than v_reset"),
    "leak without a bias": (
        graph({"n": lif(v_leak=0.1)}),
        "Node 'n', LIF, needs a constant current, .*an Affine right before",
    ),
    "leak after a neuron": (graph({"m": lif(), "n": lif(v_leak=0.1)}), "Node 'n', LIF, needs a constant current"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_that_cannot_be_read_is_an_error_that_names_the_node(name):
    graph, message = GRAPHS[name]
    with pytest.raises(ValueError, match=message):
        from_nir(graph, dt=1e-3)


OPTIONS = [
    ({"dt": 0.0}, ValueError, "Got dt=0.0, expected the length of a step"),
    ({"dt": 1e-3, "integration": "heun"}, ValueError, "integration='heun', expected one of 'exponential', 'euler'"),
    ({"dt": 1e-3, "reset": "soft"}, ValueError, "reset='soft', expected one of 'subtract'"),
    (
        {"dt": 0.01, "integration": "euler"},
        ValueError,
        "Node 'n', LIF, makes no neuron with dt=0.01 and integration='euler'",
    ),
    ({"dt": 1e-12}, ValueError, "Node 'n', LIF, makes no neuron .* wider param_dtype"),
]


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS)
def test_bad_option_is_an_error(options, error, message):
    with pytest.raises(error, match=message):
        from_nir(graph({"n": lif()}), **options)


def test_something_else_than_a_graph_is_an_error():
    with pytest.raises(TypeError, match=r"from_nir got LIF, expected a nir\.NIRGraph"):
        from_nir(lif(), dt=1e-3)


def stack(*modules, edges=None):
    return connect(list(modules), edges)


identity = jax.nn.identity
MODELS = {
    "no stack": (lambda: LIF(), TypeError, r"to_nir got LIF, expected a stack. Make one: connect"),
    "neuron that NIR has not": (lambda: stack(linear(), ALIF()), TypeError, "Module 1 of the stack, ALIF, has no node"),
    "a function": (lambda: stack(jnp.tanh, LIF()), TypeError, "Module 0 of the stack, .* has no node"),
    "nested": (
        lambda: stack(linear(), stack(LIF(), nnx.LayerNorm(N, rngs=RNGS))),
        TypeError,
        "Module 1.1 .* LayerNorm",
    ),
    "dropout that is on": (
        lambda: stack(linear(), Dropout(0.5, rngs=nnx.Rngs(0))),
        TypeError,
        "Module 1 of the stack, Dropout, has no node",
    ),
    "synapse": (
        lambda: stack(linear(), LIF(), edges=[Edge(1, 0, synapse=jnp.tanh)]),
        TypeError,
        "synapse of the edge from 1 to 0, .* has no node",
    ),
    "delay": (
        lambda: stack(linear(), LIF(), edges=[Edge(1, 0, delay=2, synapse=linear())]),
        ValueError,
        "edge from 1 to 0, has a delay of 2 steps",
    ),
    "delay of a skip": (
        lambda: stack(linear(), LIF(), linear(), LIF(), edges=[Edge(1, 2, delay=1, synapse=linear())]),
        ValueError,
        "edge from 1 to 2, has a delay of 1 steps",
    ),
    "late without a cycle": (
        lambda: stack(
            *(identity, linear(), LIF(), Zeros((N,)), LIF(), linear()),
            edges=[Edge(0, 3, synapse=linear()), Edge(4, 1, synapse=linear()), Edge(2, 5, synapse=linear())],
        ),
        ValueError,
        "read one step late and leads from lif_4 to affine_4_to_1, but NIR has no late edges",
    ),
    "late on its own": (
        lambda: stack(linear(), edges=[Edge(0, 0, synapse=linear())]),
        ValueError,
        "part of a cycle without a neuron",
    ),
    "late identity on its own": (
        lambda: stack(identity, edges=[Edge(0, 0, synapse=identity)]),
        ValueError,
        "cycle without a neuron",
    ),
    "the same twice": (
        lambda: stack(linear(), LIF(), identity, linear(), edges=[Edge(1, 2, synapse=identity)]),
        ValueError,
        "two paths without a module from lif_1 to affine_3",
    ),
    "late sender with edges of its own": (
        lambda: stack(
            linear(),
            LIF(),
            linear(),
            LIF(),
            identity,
            edges=[Edge(1, 4, synapse=identity), Edge(4, 0, synapse=linear())],
        ),
        ValueError,
        "read one step late and leads from lif_1 to affine_4_to_0",
    ),
    "delays between two steps": (
        lambda: stack(linear(), LIF(), Delay(N, 4, delays=[0.0, 1.0, 1.5])),
        ValueError,
        r"Module 2 of the stack, Delay, has delays that are fractions of a step, .* copy with .rounded\(\) delays",
    ),
    "Gaussian delays": (
        lambda: stack(Delay(N, 4, width=0.5)),
        ValueError,
        r"Delay, has a Gaussian kernel, .* .rounded\(\)",
    ),
    "delays in groups": (
        lambda: stack(Delay(N, 4, groups=2)),
        ValueError,
        r"Delay, makes 2 copies of its inputs, .* copies in a Linear before it, and use Delay\(6, 4\)",
    ),
    "Linear on images": (lambda: stack(nnx.Linear(2, 3, rngs=RNGS)), ValueError, "Linear, gets features of shape"),
    "Conv with reflection": (
        lambda: stack(conv(padding="REFLECT")),
        ValueError,
        "Module 0 .* Conv, has padding='REFLECT'",
    ),
    "Conv with other sides": (lambda: stack(conv(padding=((0, 1), (1, 1)))), ValueError, "pads .* both sides equally"),
    "Conv with a mask": (
        lambda: stack(conv(mask=jnp.ones((3, 3, 2, 3)))),
        ValueError,
        "has a mask or an input_dilation",
    ),
    "Conv in three dimensions": (
        lambda: stack(nnx.Conv(2, 3, (3, 3, 3), rngs=RNGS)),
        ValueError,
        "Conv, has 3 spatial axes",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_that_cannot_be_written_is_an_error_that_names_the_module(name):
    make, error, message = MODELS[name]
    shape = (6, 6, 2) if "Conv" in name or "images" in name else (N,)
    with pytest.raises(error, match=message):
        to_nir(make(), dt=1e-3, input_shape=shape)


def test_parameter_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match="CuBaLIF threshold has shape"):
        to_nir(connect([linear(), CuBaLIF(threshold=np.ones(4))]), dt=1e-3, input_shape=(N,))


def test_the_package_is_there_without_nir_and_says_what_to_install():
    program = (
        "import sys\n"
        "import slax_neurons\n"
        "assert not any(name.split('.')[0] in ('nir', 'h5py') for name in sys.modules)\n"
        "sys.modules['nir'] = None\n"
        "from slax_neurons.nir import to_nir, from_nir\n"
        "for call in (lambda: to_nir(slax_neurons.connect([slax_neurons.LIF()]), dt=1, input_shape=(2,)),\n"
        "             lambda: from_nir(None, dt=1)):\n"
        "    try:\n"
        "        call()\n"
        "    except ImportError as error:\n"
        "        assert \"pip install 'slax-neurons[nir]'\" in str(error)\n"
        "    else:\n"
        "        sys.exit('no error')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
