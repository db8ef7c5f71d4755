"""NIR: what is read is what an independent simulator makes of a graph, and what is written comes back number by number."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx
from nir_simulator import simulate

from slax_neurons import IF, LI, LIF, CuBaLIF, Delay, Dropout, Edge, Standardized, Trainable, connect, unroll
from slax_neurons.nir import AvgPool2d, Flatten, Scale, SumPool2d, from_nir, to_nir

T, B, N, DT = 30, 3, 6, 1e-3
RANDOM = np.random.default_rng(1)
DATA = Path(__file__).parent / "data"
ZEROS = np.zeros(N)

pytestmark = pytest.mark.filterwarnings("ignore:to_nir got a neuron with reset")


def uniform(low, high, *shape):
    return RANDOM.uniform(low, high, shape or (N,))


def weights(*shape):
    return RANDOM.normal(size=shape) / 2


def affine(n_in, n_out=N):
    return nir.Affine(3 * weights(n_out, n_in), RANDOM.normal(size=n_out) / 10)


def lif(*shape, **changes):
    v_leak = uniform(-0.2, 0.2, *shape)
    values = {"tau": uniform(3e-3, 2e-2, *shape), "r": uniform(0.5, 3, *shape), "v_leak": v_leak, "v_reset": v_leak}
    return nir.LIF(**(values | {"v_threshold": uniform(0.3, 0.6, *shape)} | changes))


def cuba(**changes):
    v_leak = uniform(-0.2, 0.2)
    values = {"tau_syn": uniform(2e-3, 8e-3), "tau_mem": uniform(3e-3, 2e-2), "r": uniform(0.5, 3), "v_leak": v_leak}
    values |= {"v_threshold": uniform(0.3, 0.5), "v_reset": v_leak, "w_in": uniform(0.5, 2)}
    return nir.CubaLIF(**(values | changes))


def li(*shape, **changes):
    values = {"tau": uniform(3e-3, 2e-2, *shape), "r": uniform(-1, 2, *shape), "v_leak": np.zeros(shape or N)}
    return nir.LI(**(values | changes))


def graph_of(nodes, links=None, *, n_in=5, n_out=N):
    """in -> nodes -> out in a chain, or chains of links."""
    ends = {"in": nir.Input({"input": np.atleast_1d(n_in)}), "out": nir.Output({"output": np.atleast_1d(n_out)})}
    chains = [["in", *nodes, "out"]] if links is None else [chain.split() for chain in links.split(", ")]
    return nir.NIRGraph(ends | nodes, [edge for chain in chains for edge in itertools.pairwise(chain)])


def run(model, x):
    """Outputs with the channels first, of inputs with the channels first."""
    x = jnp.asarray(np.moveaxis(x, 2, -1) if x.ndim > 3 else x)
    y = np.asarray(jax.jit(lambda x: unroll(model, model.initialize_carry(x.shape[1:]), x)[1])(x))
    return np.moveaxis(y, -1, 2) if y.ndim > 3 else y


class Graph(NamedTuple):
    """Nodes, the links between them, sizes, options of `from_nir`, and what modules they become where that is a question."""

    nodes: dict[str, Any]
    links: str | None = None
    n_in: Any = 5
    n_out: Any = N
    options: Any = None
    kinds: list[str] | None = None


def firing(neuron, integration, reset="zero"):
    """With a gain and a leak per neuron, and a read-out that has both as well."""
    nodes = {"w": affine(5), "n": neuron, "v": affine(N, 4), "li": li(4)}
    return Graph(nodes, n_out=4, options={"dt": 4e-4, "integration": integration, "reset": reset})


def spatial(node, n_in, n_out):
    return Graph({"s": node, "n": lif(*n_out, v_leak=np.zeros(n_out), v_reset=np.zeros(n_out))}, None, n_in, n_out)


def conv2d(**changes):
    geometry = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": weights(3)}
    return nir.Conv2d((7, 6), **({"weight": weights(3, 2, 3, 3)} | geometry | changes))


def wired(neurons, synapses, links):
    nodes = {name: lif() for name in neurons.split()}
    return Graph(nodes | {name: nir.Linear(RANDOM.normal(0.3, 1.0, (N, N))) for name in synapses.split()}, links, N)


TALL = (3, 5, 4)
ALIKE = {"r": np.broadcast_to(uniform(1, 2, 3, 1, 1), TALL), "tau": np.full(TALL, 5e-3)}
WITHOUT_BIAS = {"bias": np.zeros(3), "metadata": {"slax_bias": 0}}
WIRED = {
    "inhibition": wired("e i", "we wei wie", "in we e wei i wie e out"),
    "two branches with feedback between them": wired(
        "a b c", "wa wb wac wbc wab wba", "in wa a, in wb b, a wab b wba a, a wac c, b wbc c, c out"
    ),
    "a synapse that two neurons read, and one that reads two": wired(
        "a b c", "w wab v", "in w a wab b, w b v c out, a v"
    ),
    "two synapses from one neuron to one": wired("a b", "wa w1 w2 w3", "in wa a w1 b out, a w2 b, a w3 b"),
    "input beside the chain, outputs that add up": wired("a b", "wa wb skip", "in wa a wb b out, in skip b, a out"),
}
GRAPHS = WIRED | {
    "lif to v_leak": firing(lif(), "exponential"),
    "lif by subtraction": firing(lif(v_leak=ZEROS), "exponential", "subtract"),
    "lif without a reset": firing(lif(), "euler", "none"),
    "if": firing(nir.IF(uniform(50, 200), uniform(0.3, 1), uniform(-0.4, 0.2)), "euler"),
    "cuba to v_leak": firing(cuba(), "exponential"),
    "cuba by subtraction": firing(cuba(v_leak=ZEROS), "euler", "subtract"),
    "conv2d": spatial(conv2d(stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 7, 6), (3, 4, 2)),
    "conv1d": spatial(nir.Conv1d(9, weights(3, 2, 3), 2, 1, 1, 1, weights(3)), (2, 9), (3, 5)),
    "scale": spatial(nir.Scale(weights(2, 3, 4)), (2, 3, 4), (2, 3, 4)),
    # Read-outs whose gain cannot go into the weights, or only into some.
    "no weights": Graph({"li": li()}, n_in=N, kinds=["Scale", "LI"]),
    "no bias": Graph({"w": nir.Linear(weights(N, 5)), "li": li()}, kinds=["Linear", "LI"]),
    "per channel": Graph({"c": conv2d(**WITHOUT_BIAS), "li": li(*TALL, **ALIKE)},
                         None, (2, 7, 6), TALL, kinds=["Conv", "LI"]),
    "in space": Graph({"c": conv2d(**WITHOUT_BIAS), "li": li(*TALL)},
                      None, (2, 7, 6), TALL, kinds=["Conv", "Scale", "LI"]),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_read_is_what_the_simulator_makes_of_it(name, x64):
    """Channels come first in NIR and last here; gains go into weights where they can. Any wiring is written, too."""
    nodes, links, n_in, n_out, options, kinds = GRAPHS[name]
    graph, x = graph_of(nodes, links, n_in=n_in, n_out=n_out), 2 * uniform(-0.3, 1, T, B, *np.atleast_1d(n_in))
    options = {"dt": DT, "integration": "exponential"} | (options or {})
    model = from_nir(graph, param_dtype=jnp.float64, **options)
    options["order"] = [name for name, node in nodes.items() if hasattr(node, "r")]
    theirs = simulate(graph, x, **options)
    np.testing.assert_allclose(run(model, x), theirs, rtol=1e-9, atol=1e-12)
    assert np.abs(theirs - simulate(graph, 0 * x, **options)).max() > 0.01
    assert kinds in (None, [type(module).__name__ for module in model.modules])
    if name in WIRED:
        again = from_nir(to_nir(model, dt=DT, input_shape=(N,)), dt=DT, param_dtype=jnp.float64)
        assert_same(again, model, rtol=1e-12)


def test_nested_graphs_are_opened_and_delays_are_whole_steps():
    steps = RANDOM.integers(0, 9, 5)
    ends = {"i": nir.Input({"input": np.array([5])}), "o": nir.Output({"output": np.array([N])})}
    parts = {"d": nir.Delay((DT * steps).astype(np.float32)), "w": affine(5), "n": lif()}
    inner = nir.NIRGraph(ends | parts, list(itertools.pairwise(["i", *parts, "o"])))
    read = {"v": affine(N, 4), "li": li(4)}
    graphs = (graph_of(nodes | read, n_out=4) for nodes in ({"net": inner}, parts))
    nested, flat = (from_nir(graph, dt=DT, trainable=True) for graph in graphs)
    assert_same(nested, flat)
    assert flat.modules[0].delays.value[0].tolist() == steps.tolist()
    assert len(jax.tree.leaves(nnx.state(flat, nnx.Param))) == 1 + 2 + 2 + 2 + 1


def test_pools_are_sums_and_means_of_their_windows():
    """By hand, of 5 r + c at row r and column c, over 2 by 3 with zeros left and right."""
    sums = [[20 * r + 12, 30 * r + 27, 20 * r + 24] for r in range(3)]
    geometry = {"kernel_size": np.array([2, 3]), "stride": np.array([1, 2]), "padding": np.array([0, 1])}
    for kind, expected in ((nir.SumPool2d, sums), (nir.AvgPool2d, np.divide(sums, 6))):
        model = from_nir(graph_of({"pool": kind(**geometry)}, n_in=(1, 4, 5), n_out=(1, 3, 3)), dt=DT)
        found = run(model, np.arange(20.0, dtype=np.float32).reshape(1, 1, 1, 4, 5))
        np.testing.assert_allclose(found[0, 0, 0], expected, rtol=1e-6)


def test_neurons_fire_above_their_threshold_as_in_nir():
    """Whole numbers reach the threshold exactly."""
    graph = graph_of({"n": nir.IF(r=np.ones(1), v_threshold=np.array([2.0]))}, n_in=1, n_out=1)
    assert run(from_nir(graph, dt=1.0), np.ones((7, 1, 1), np.float32)).ravel().tolist() == [0, 0, 1, 0, 0, 1, 0]


# ------------------------------------------------------------------------------------------------------ round trip

RNGS = nnx.Rngs(0)


def linear(n_in, n_out, **options):
    layer = nnx.Linear(n_in, n_out, rngs=RNGS, bias_init=nnx.initializers.normal(0.1), **options)
    layer.kernel[...] *= 3
    return layer


def conv(n_in, n_out, size, **options):
    layer = nnx.Conv(n_in, n_out, size, rngs=RNGS, bias_init=nnx.initializers.normal(0.1), **options)
    layer.kernel[...] *= 3
    return layer


def stack(neuron, n=9):
    return [linear(6, n), neuron, linear(n, 4, use_bias=False), LI(decay=uniform(0.1, 0.9, 4))]


def inhibition():
    """Neurons 1 excite 3, which inhibit them, and each other."""
    return [linear(6, 9), LIF(), linear(9, 5), CuBaLIF(threshold=0.5), linear(5, 4), LI()]


def flattened():
    return [Flatten(), Scale(weights(60)), linear(60, 4), LI()]


DELAYS = Trainable(np.array([0.0, 1.0, 5.0, 2.0, 2.0, 7.0]))
MODELS = {
    "lif": (6, stack(LIF(decay=uniform(0.01, 0.999, 9), threshold=uniform(-0.1, 1, 9), reset="zero")), []),
    "lif, slow and fast": (6, stack(LIF(decay=np.resize([1 - 1e-7, 0.9999, 1e-3, 1e-6], 9))), []),
    "if": (6, stack(IF(threshold=uniform(0.1, 2, 9))), []),
    "cuba": (6, stack(CuBaLIF(synapse_decay=uniform(0.1, 0.9, 9), decay=Trainable(0.6), reset="zero")), []),
    "2d, strides": ((7, 6, 2), [conv(2, 3, (3, 3), strides=(2, 1), padding=((1, 1), (0, 0))), LIF()], []),
    "2d, even kernel": ((7, 5, 2), [conv(2, 3, (4, 4), padding="SAME"), LIF(threshold=uniform(0.1, 1, 7, 5, 3))], []),
    "1d": ((11, 2), [conv(2, 3, 3, strides=2, kernel_dilation=2, padding=2), LIF()], []),
    "pools and flatten": ((8, 6, 2), [conv(2, 3, (3, 3)), LIF(), SumPool2d(2), AvgPool2d(2, 1, 1), *flattened()], []),
    "recurrent delays": (6, [linear(6, 6), LIF(), Delay(6, 9, delays=DELAYS), linear(6, 4)], [(2, 0, linear(6, 6))]),
    "all at once, feedback first": (
        6,
        inhibition(),
        [(3, 2, linear(5, 5, use_bias=False)), (1, 4, linear(9, 4)), (1, 0, linear(9, 9)), (3, 0, linear(5, 9))],
    ),
    "synapse of two modules": (6, inhibition(), [(3, 0, nnx.Sequential(linear(5, 5), linear(5, 9)))]),
}


def values(module):
    """What a module computes with: weights, and parameters of neurons as they are used."""
    if isinstance(module, nnx.Sequential):
        return {(index, *key): value for index, part in enumerate(module.layers) for key, value in values(part).items()}
    names = ("threshold", "decay", "synapse_decay", "delays")
    found = {name: np.asarray(getattr(module, name).value) for name in names if hasattr(module, name)}
    for name in ("kernel", "bias", "scale"):
        if getattr(module, name, None) is not None:
            found[name] = np.asarray(getattr(module, name)[...])
    return {(name,): value for name, value in found.items()}


SETTINGS = ("reset", "max_delay", "kernel_size", "feature_group_count", "stride", "start", "end", "shape")


def assert_same(ours, theirs, rtol=0.0):
    """The same modules and edges with the same numbers, bit by bit in float32, so that they compute the same."""
    pairs = list(zip(ours.modules, theirs.modules, strict=True))
    for index in range(len(pairs)):  # edges in their order, which is that of the sum
        mine, others = (list(model.edges_into(index)) for model in (ours, theirs))
        assert [(edge.sender, edge.steps) for edge, _ in mine] == [(edge.sender, edge.steps) for edge, _ in others]
        pairs += [(a, b) for (_, a), (_, b) in zip(mine, others, strict=True)]
    for a, b in pairs:
        assert type(a) is type(b)
        assert [getattr(a, name, None) for name in SETTINGS] == [getattr(b, name, None) for name in SETTINGS]
        mine, other = values(a), values(b)
        assert mine.keys() == other.keys()
        for key, value in other.items():
            both = np.broadcast_arrays(*(np.asarray(v, np.float64 if rtol else np.float32) for v in (mine[key], value)))
            np.testing.assert_allclose(*both, rtol=rtol, err_msg=str(key))


@pytest.mark.parametrize("integration", ["exponential", "euler"])
@pytest.mark.parametrize("name", MODELS)
def test_a_stack_comes_back_bit_by_bit_through_a_file(name, integration, tmp_path):
    shape, modules, edges = MODELS[name]
    shape = (shape,) if isinstance(shape, int) else shape
    model = connect(modules, [Edge(sender, receiver, synapse=synapse) for sender, receiver, synapse in edges])
    nir.write(tmp_path / "a.nir", to_nir(model, dt=7e-4, input_shape=shape, integration=integration))
    back = from_nir(nir.read(tmp_path / "a.nir"), dt=7e-4)
    assert_same(back, model)


def test_effective_weights_are_written_and_dropout_that_is_off_is_not():
    inner = connect([linear(6, 9), LIF()], [Edge(1, 0, synapse=linear(9, 9))])
    model = connect([Standardized(linear(6, 6)), LIF(), inner, Dropout(0.5, rngs=nnx.Rngs(0)), linear(9, 4)])
    model.eval()
    back = from_nir(to_nir(model, dt=DT, input_shape=(6,)), dt=DT)
    assert [type(module).__name__ for module in back.modules] == ["Linear", "LIF", "Linear", "LIF", "Linear"]
    np.testing.assert_array_equal(back.modules[0].kernel[...], model.modules[0].effective()[0])
    assert [(edge.sender, edge.receiver) for edge in back.edges] == [(3, 2)]


NAMES = sorted(path.stem for path in DATA.glob("*.nir"))


@pytest.mark.parametrize("name", NAMES)
def test_graphs_of_other_frameworks_run_here_as_there(name):
    """Against their recorded outputs, see data/README.md; another step, integration or reset is seen."""
    with np.load(DATA / f"{name}.npz") as file:
        recorded = dict(file)
    reset = "subtract" if name == "snntorch_subtract" else "zero"
    options = {"dt": float(recorded["dt"]), "integration": "euler", "reset": reset}
    graph, x = nir.read(DATA / f"{name}.nir"), np.asarray(recorded["inputs"], np.float32)
    theirs, bound = recorded["outputs"], 2e-6 if name.startswith("norse") else 0
    np.testing.assert_allclose(run(from_nir(graph, **options), x), theirs, rtol=0, atol=bound)
    if name in ("norse_chain", "slax_chain"):
        for change in ({"dt": 0.7 * options["dt"]}, {"integration": None}):
            same = np.allclose(run(from_nir(graph, **options | change), x), theirs, atol=2e-6)
            assert same == (name == "slax_chain" and "integration" in change)  # which says it itself
