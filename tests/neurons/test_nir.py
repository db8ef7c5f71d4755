"""NIR: what is read is what an independent simulator makes of a graph, and what is written comes back number by number."""

import itertools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx
from nir_simulator import simulate

from slax_neurons import IF, LI, LIF, CuBaLIF, Delay, Dropout, Edge, Standardized, Trainable, connect, unroll
from slax_neurons.nir import AvgPool2d, Flatten, Scale, SumPool2d, Zeros, from_nir, to_nir

T, B, N, DT = 30, 3, 6, 1e-3
RANDOM = np.random.default_rng(1)
DATA = Path(__file__).parent / "data"


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
    values = {"tau": uniform(3e-3, 2e-2, *shape), "r": uniform(-1, 2, *shape), "v_leak": uniform(-0.5, 0.5, *shape)}
    return nir.LI(**(values | changes))


def graph_of(nodes, edges=None, *, n_in=5, n_out=N, **options):
    """in -> nodes -> out in a chain, or any edges."""
    ends = {"in": nir.Input({"input": np.atleast_1d(n_in)}), "out": nir.Output({"output": np.atleast_1d(n_out)})}
    chain = list(itertools.pairwise(["in", *nodes, "out"]))
    return nir.NIRGraph(ends | nodes, chain if edges is None else edges, **options)


def run(model, x):
    """Outputs with the channels first, of inputs with the channels first."""
    x = jnp.asarray(np.moveaxis(x, 2, -1) if x.ndim > 3 else x)
    y = run_rows(model, x)
    return np.moveaxis(y, -1, 2) if y.ndim > 3 else y


def run_rows(model, x):
    return np.asarray(jax.jit(lambda x: unroll(model, model.initialize_carry(x.shape[1:]), x)[1])(x))


ZEROS = np.zeros(N)
FIRING = {
    "lif to v_leak": ("zero", "exponential", lif),
    "lif to elsewhere": ("zero", "euler", lambda: lif(v_reset=uniform(-0.4, 0.2))),
    "lif by subtraction": ("subtract", "exponential", lif),
    "lif without a reset": ("none", "euler", lif),
    "if": ("zero", "euler", lambda: nir.IF(uniform(50, 200), uniform(0.3, 1), uniform(-0.4, 0.2))),
    "cuba to v_leak": ("zero", "exponential", cuba),
    "cuba by subtraction": ("subtract", "euler", lambda: cuba(v_leak=ZEROS)),
}


@pytest.mark.parametrize("name", FIRING)
def test_every_neuron_fires_as_its_equations_say(name, x64):
    """With a gain and a leak per neuron, and a read-out that has both as well."""
    reset, integration, make = FIRING[name]
    graph = graph_of({"w": affine(5), "n": make(), "v": affine(N, 4), "li": li(4)}, n_out=4)
    x = 3 * uniform(-0.3, 1, T, B, 5)
    options = {"dt": 4e-4, "integration": integration, "reset": reset}
    theirs = simulate(graph, x, order=["n", "li"], **options)
    np.testing.assert_allclose(
        run(from_nir(graph, param_dtype=jnp.float64, **options), x), theirs, rtol=1e-9, atol=1e-12
    )
    assert np.abs(theirs - simulate(graph, 0 * x, order=["n", "li"], **options)).max() > 0.01


SPATIAL = {
    "conv2d": ((2, 7, 6), nir.Conv2d((7, 6), weights(3, 2, 3, 3), (2, 1), (1, 0), (1, 2), 1, weights(3)), (3, 4, 2)),
    "same": ((2, 7, 6), nir.Conv2d((7, 6), weights(3, 2, 4, 4), 1, "same", 1, 1, weights(3)), (3, 7, 6)),
    "conv1d": ((2, 9), nir.Conv1d(9, weights(3, 2, 3), 2, 1, 1, 1, weights(3)), (3, 5)),
    "average": ((2, 8, 6), nir.AvgPool2d(np.array([3, 3]), np.array([1, 2]), np.array([1, 1])), (2, 8, 3)),
    "flatten in part": ((2, 3, 4), nir.Flatten((2, 3, 4), 1, 2), (2, 12)),
    "scale": ((2, 3, 4), nir.Scale(weights(2, 3, 4)), (2, 3, 4)),
}


@pytest.mark.parametrize("name", SPATIAL)
def test_channels_come_first_in_nir_and_last_here(name, x64):
    shape, node, out = SPATIAL[name]
    graph = graph_of({"s": node, "n": lif(*out, v_leak=np.zeros(out), v_reset=np.zeros(out))}, n_in=shape, n_out=out)
    x = 2 * uniform(-0.3, 1, T, B, *shape)
    theirs = simulate(graph, x, dt=DT, integration="exponential", order=["n"])
    np.testing.assert_array_equal(run(from_nir(graph, dt=DT, param_dtype=jnp.float64), x), theirs)
    assert 0.01 < theirs.mean() < 0.98


def gains():
    """Read-outs whose gain or leak cannot go into the weights, or only into some."""
    conv = nir.Conv2d((7, 6), weights(3, 2, 3, 3), 1, 0, 1, 1, np.zeros(3), metadata={"slax_bias": 0})
    tall = (3, 5, 4)
    alike = {"r": np.broadcast_to(uniform(1, 2, 3, 1, 1), tall), "tau": np.full(tall, 5e-3)}
    return {
        "no weights": ({"li": li(v_leak=ZEROS)}, N, N, ["Scale", "LI"]),
        "no bias": ({"w": nir.Linear(weights(N, 5)), "li": li()}, 5, N, ["Linear", "LI"]),
        "per channel": ({"c": conv, "li": li(*tall, v_leak=np.full(tall, 0.2), **alike)}, (2, 7, 6), tall, ["Conv", "LI"]),
        "in space": ({"c": conv, "li": li(*tall, v_leak=np.zeros(tall))}, (2, 7, 6), tall, ["Conv", "Scale", "LI"]),
        "without a reset": ({"w": affine(5), "li": li(r=uniform(1, 2), v_leak=ZEROS), "t": nir.Threshold(uniform(0.1, 0.4))},
                            5, N, ["Linear", "LIF"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", gains())
def test_gains_go_into_weights_where_they_can(name, x64):
    nodes, n_in, n_out, kinds = gains()[name]
    graph, x = graph_of(nodes, n_in=n_in, n_out=n_out), uniform(-0.3, 1, T, B, *np.atleast_1d(n_in))
    model = from_nir(graph, dt=DT, param_dtype=jnp.float64)
    assert [type(module).__name__ for module in model.modules] == kinds
    theirs = simulate(graph, x, dt=DT, integration="exponential", order=["li"])
    np.testing.assert_allclose(run(model, x), theirs, rtol=1e-9, atol=1e-12)


def neurons(*names):
    return {name: lif() for name in names}


def synapses(*names):
    return {name: nir.Linear(RANDOM.normal(0.3, 1.0, (N, N))) for name in names}


def links(text):
    return [pair for chain in text.split(", ") for pair in itertools.pairwise(chain.split())]


GRAPHS = {
    "feedback without a synapse": (neurons("a") | synapses("wa"), "in wa a a, a out", "a"),
    "inhibition": (neurons("e", "i") | synapses("we", "wei", "wie"), "in we e wei i wie e out", "e i"),
    "two branches with feedback between them": (
        neurons("a", "b", "c") | synapses("wa", "wb", "wac", "wbc", "wab", "wba"),
        "in wa a, in wb b, a wab b wba a, a wac c, b wbc c, c out",
        "a b c",
    ),
    "two edges beside the chain, and a current": (
        neurons("e", "a") | {"b": lif(v_reset=uniform(-0.6, -0.4))} | synapses("we", "wea", "web", "wb"),
        "in we e wea a out, e web b, in wb b out",
        "e a b",
    ),
    "a synapse that two neurons read, and one that reads two": (
        neurons("a", "b", "c") | synapses("w", "wab", "v"),
        "in w a wab b, w b v c out, a v",
        "a b c",
    ),
    "two synapses from one neuron to one": (
        neurons("a", "b") | synapses("wa", "w1", "w2", "w3"),
        "in wa a w1 b out, a w2 b, a w3 b",
        "a b",
    ),
    "input beside the chain, outputs that add up": (
        neurons("a", "b") | synapses("wa", "wb", "skip"),
        "in wa a wb b out, in skip b, a out",
        "a b",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_any_wiring_is_read_and_written(name, x64):
    nodes, text, order = GRAPHS[name]
    graph, x = graph_of(nodes, links(text), n_in=N), uniform(-0.3, 1, T, B, N)
    model = from_nir(graph, dt=DT, param_dtype=jnp.float64)
    theirs = simulate(graph, x, dt=DT, integration="exponential", order=order.split())
    np.testing.assert_allclose(run(model, x), theirs, rtol=1e-9, atol=1e-12)
    assert 0.02 < theirs.mean() < 1.5
    assert_same(from_nir(to_nir(model, dt=DT, input_shape=(N,)), dt=DT, param_dtype=jnp.float64), model, rtol=1e-12)


def test_delays_and_nested_graphs_are_those_of_the_simulator(x64):
    late, later = (DT * RANDOM.integers(0, 9, n).astype(np.float32) for n in (5, N))
    inner = nir.NIRGraph(
        {
            "i": nir.Input({"input": np.array([5])}),
            "w": affine(5),
            "n": lif(),
            "o": nir.Output({"output": np.array([N])}),
        },
        [("i", "w"), ("w", "n"), ("n", "o")],
    )
    nodes = {"d": nir.Delay(late), "net": inner, "e": nir.Delay(later), "v": affine(N, 4), "li": li(4)}
    graph, x = graph_of(nodes, n_out=4), 3 * uniform(-0.3, 1, T, B, 5)
    flat = graph_of({"d": nodes["d"], "w": inner.nodes["w"], "n": inner.nodes["n"]} | {k: nodes[k] for k in ("e", "v", "li")},
                    n_out=4)  # fmt: skip
    model = from_nir(graph, dt=DT, param_dtype=jnp.float64)
    theirs = simulate(flat, x, dt=DT, integration="exponential", order=["n", "li"])
    np.testing.assert_allclose(run(model, x), theirs, rtol=1e-9, atol=1e-12)
    trainable = from_nir(graph, dt=DT, trainable=True)
    assert len(jax.tree.leaves(nnx.state(trainable, nnx.Param))) == 2 + 2 + 2 + 2 + 1


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


identity = jax.nn.identity
DELAYS = Trainable(np.array([0.0, 1.0, 5.0, 2.0, 2.0, 7.0]))
MODELS = {
    "lif": (6, stack(LIF(decay=uniform(0.01, 0.999, 9), threshold=uniform(-0.1, 1, 9), reset="zero")), []),
    "lif, slow and fast": (6, stack(LIF(decay=np.resize([1 - 1e-7, 0.9999, 1e-3, 1e-6], 9))), []),
    "lif, no reset": (6, stack(LIF(decay=Trainable(0.7), threshold=Trainable(0.3), reset="none")), []),
    "if": (6, stack(IF(threshold=uniform(0.1, 2, 9))), []),
    "cuba": (6, stack(CuBaLIF(synapse_decay=uniform(0.1, 0.9, 9), decay=Trainable(0.6), reset="zero")), []),
    "2d, strides": ((7, 6, 2), [conv(2, 3, (3, 3), strides=(2, 1), padding=((1, 1), (0, 0))), LIF()], []),
    "2d, even kernel": ((7, 5, 2), [conv(2, 3, (4, 4), padding="SAME"), LIF(threshold=uniform(0.1, 1, 7, 5, 3))], []),
    "2d, no bias": ((7, 5, 2), [conv(2, 3, (3, 3), use_bias=False), LIF(threshold=uniform(0.1, 1, 3))], []),
    "1d": ((11, 2), [conv(2, 3, 3, strides=2, kernel_dilation=2, padding=2), LIF()], []),
    "pools and flatten": (
        (8, 6, 2),
        [
            conv(2, 3, (3, 3)),
            LIF(),
            SumPool2d(2),
            AvgPool2d(2, 1, 1),
            Flatten(),
            Scale(weights(60)),
            linear(60, 4),
            LI(),
        ],
        [],
    ),
    "delays": (
        6,
        [Delay(6, 9, delays=DELAYS), linear(6, 6), LIF(), Delay(6, 7, delays=DELAYS), linear(6, 4), LI()],
        [],
    ),
    "recurrent delays": (6, [linear(6, 6), LIF(), Delay(6, 7, delays=DELAYS), linear(6, 4)], [(2, 0, linear(6, 6))]),
    "all at once, feedback first": (
        6,
        inhibition(),
        [(3, 2, linear(5, 5, use_bias=False)), (1, 4, linear(9, 4)), (1, 0, linear(9, 9)), (3, 0, linear(5, 9))],
    ),
    "residual": (6, [linear(6, 9), LIF(), linear(9, 9), LIF()], [(1, 2, identity)]),
    "feedback without a synapse": (6, [linear(6, 9), LIF(reset="none"), linear(9, 4)], [(1, 0, identity)]),
    "synapse of two modules": (6, inhibition(), [(3, 0, nnx.Sequential(linear(5, 5), linear(5, 9)))]),
    "two branches": (
        6,
        [identity, linear(6, 9), LIF(), Zeros((5,)), CuBaLIF(), linear(5, 4), LI()],
        [(0, 3, linear(6, 5)), (2, 5, linear(9, 4))],
    ),
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


@pytest.mark.parametrize(
    ("name", "integration"),
    [*((name, "exponential") for name in MODELS), ("lif", "euler"), ("cuba", "euler"), ("if", "euler")],
)
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
    recorded = np.load(DATA / f"{name}.npz")
    reset = "subtract" if name == "snntorch_subtract" else "zero"
    options = {"dt": float(recorded["dt"]), "integration": "euler", "reset": reset}
    graph, x = nir.read(DATA / f"{name}.nir"), np.asarray(recorded["inputs"], np.float32)
    x = jnp.asarray(np.moveaxis(x, 2, -1) if x.ndim > 3 else x)
    found = run_rows(from_nir(graph, **options), x)
    np.testing.assert_allclose(found, recorded["outputs"], rtol=0, atol=2e-6 if name.startswith("norse") else 0)
    if name in ("norse_chain", "slax_chain"):
        for change in ({"dt": 0.7 * options["dt"]}, {"integration": None}):
            same = np.allclose(run_rows(from_nir(graph, **options | change), x), recorded["outputs"], atol=2e-6)
            assert same == (name == "slax_chain" and "integration" in change)  # which says it itself


def test_the_package_is_there_without_nir_and_says_what_to_install():
    program = (
        "import sys, slax_neurons\n"
        "assert not any(name.split('.')[0] in ('nir', 'h5py') for name in sys.modules)\n"
        "sys.modules['nir'] = None\n"
        "from slax_neurons.nir import from_nir\n"
        "try:\n    from_nir(None, dt=1)\n"
        "except ImportError as error:\n    sys.exit(\"pip install 'slax-neurons[nir]'\" not in str(error))\n"
        "sys.exit('no error')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
