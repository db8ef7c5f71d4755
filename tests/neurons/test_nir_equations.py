"""What is read from a graph is what its equations say, as an independent simulator has them."""

import itertools

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx

from nir_simulator import simulate
from slax_neurons import LIF, Delay, unroll
from slax_neurons.nir import from_nir, to_nir

T, B, N = 40, 3, 8
RANDOM = np.random.default_rng(1)


def uniform(low, high, *shape):
    return RANDOM.uniform(low, high, shape or (N,))


def graph_of(nodes, edges=None):
    """A graph of nodes by name, in a chain unless edges are given; the input is one number per feature."""
    names = list(nodes)
    edges = list(itertools.pairwise(names)) if edges is None else edges
    return nir.NIRGraph(nodes, edges)


def affine(n_in, n_out):
    return nir.Affine(RANDOM.normal(size=(n_out, n_in)), RANDOM.normal(size=n_out) / 10)


def input_node(*shape):
    return nir.Input({"input": np.array(shape)})


def output_node(*shape):
    return nir.Output({"output": np.array(shape)})


def chain(*nodes, n_in=5, n_out=N):
    nodes = {f"node {index}": node for index, node in enumerate(nodes)}
    return graph_of({"in": input_node(n_in), **nodes, "out": output_node(n_out)})


def drive(*shape):
    return RANDOM.uniform(-0.3, 1.0, (T, B, *shape))


def run(model, x, carry=None):
    """Outputs with the channels first, of inputs with the channels first."""
    x = jnp.asarray(np.moveaxis(x, 2, -1) if x.ndim > 3 else x)
    y = unroll(model, model.initialize_carry(x.shape[1:]) if carry is None else carry, x)[1]
    return np.moveaxis(y, -1, 2) if y.ndim > 3 else np.asarray(y)


def read(graph, **options):
    return from_nir(graph, param_dtype=jnp.float64, **options)


def lif(**changes):
    v_leak = uniform(-0.2, 0.2)
    values = {
        "tau": uniform(3e-3, 2e-2),
        "r": uniform(0.5, 3.0),
        "v_leak": v_leak,
        "v_threshold": uniform(0.3, 0.6),
        "v_reset": v_leak,
    }
    return nir.LIF(**values | changes)


def cuba(**changes):
    v_leak = uniform(-0.2, 0.2)
    values = {
        "tau_syn": uniform(2e-3, 8e-3),
        "tau_mem": uniform(3e-3, 2e-2),
        "r": uniform(0.5, 3.0),
        "v_leak": v_leak,
        "v_threshold": uniform(0.3, 0.5),
        "v_reset": v_leak,
        "w_in": uniform(0.5, 2.0),
    }
    return nir.CubaLIF(**values | changes)


def li(n=N):
    return nir.LI(tau=uniform(3e-3, 2e-2, n), r=uniform(-1.0, 2.0, n), v_leak=uniform(-0.5, 0.5, n))


ZEROS = np.zeros(N)
FIRING = {
    "lif to v_leak": ("zero", lambda: lif()),
    "lif to elsewhere": ("zero", lambda: lif(v_reset=uniform(-0.4, 0.2))),
    "lif by subtraction": ("subtract", lambda: lif()),
    "lif without a reset": ("none", lambda: lif()),
    "if": ("zero", lambda: nir.IF(r=uniform(50, 200), v_threshold=uniform(0.3, 1), v_reset=uniform(-0.4, 0.2))),
    "if by subtraction": ("subtract", lambda: nir.IF(r=uniform(50, 200), v_threshold=uniform(0.3, 1))),
    "cuba to v_leak": ("zero", lambda: cuba()),
    "cuba by subtraction": ("subtract", lambda: cuba(v_leak=ZEROS)),
    "cuba without a reset": ("none", lambda: cuba()),
}


@pytest.mark.parametrize(("integration", "dt"), [("exponential", 7e-4), ("euler", 3e-4)])
@pytest.mark.parametrize("name", FIRING)
def test_every_neuron_fires_as_its_equations_say(name, integration, dt, x64):
    """With a gain and a leak per neuron, and a read-out that has both as well."""
    reset, node = FIRING[name]
    graph, x = chain(affine(5, N), node(), affine(N, 4), li(4), n_out=4), drive(5) * 3
    ours = run(read(graph, dt=dt, integration=integration, reset=reset), x)
    theirs = simulate(graph, x, dt=dt, integration=integration, reset=reset, order=["node 1", "node 3"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    silent = simulate(graph, x * 0, dt=dt, integration=integration, reset=reset, order=["node 1", "node 3"])
    assert np.abs(theirs - silent).max() > 0.01


def test_one_value_for_all_neurons_is_read_as_that(x64):
    """norse writes its default parameters so, in graphs that NIR's own check refuses."""
    values = {"tau": 5e-3, "r": 2.0, "v_leak": 0.1, "v_threshold": 0.4, "v_reset": 0.1}
    one, many = (nir.LIF(**{name: np.full(shape, value) for name, value in values.items()}) for shape in ((), (N,)))
    first, x = affine(5, N), drive(5)
    nodes = {"in": input_node(5), "first": first, "lif": one, "out": output_node(N)}
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False)
    ours = read(graph, dt=1e-3)
    assert isinstance(ours.modules[1].threshold.number, float)
    np.testing.assert_array_equal(run(ours, x), run(read(chain(first, many), dt=1e-3), x))


def test_weights_stay_as_they_are_before_a_neuron_that_fires():
    weight = RANDOM.normal(size=(N, 5)).astype(np.float32)
    model = from_nir(chain(nir.Linear(weight), lif()), dt=1e-3)
    np.testing.assert_array_equal(model.modules[0].kernel[...], weight.T)
    assert len(model.modules) == 2


@pytest.mark.parametrize("integration", ["exponential", "euler"])
def test_gain_of_a_read_out_without_weights_before_it_is_a_module(integration, x64):
    node, x = li(), drive(N)
    node.v_leak = ZEROS
    graph = chain(node, n_in=N)
    model = read(graph, dt=1e-3, integration=integration)
    assert [type(module).__name__ for module in model.modules] == ["Scale", "LI"]
    theirs = simulate(graph, x, dt=1e-3, integration=integration, order=["node 0"])
    np.testing.assert_allclose(run(model, x), theirs, rtol=1e-12)


def test_a_membrane_that_starts_at_v_leak_is_a_carry(x64):
    """norse has it so; here a membrane starts where its reset leads, unless the carry says something else."""
    node, x = lif(v_reset=uniform(-0.4, -0.3)), drive(5)
    graph = chain(affine(5, N), node)
    model = read(graph, dt=1e-3)
    gain = node.r * -np.expm1(-1e-3 / node.tau)
    start = jnp.broadcast_to((node.v_leak - node.v_reset) / gain, (B, N))
    theirs = simulate(graph, x, dt=1e-3, integration="exponential", order=["node 1"], start={"node 1": node.v_leak})
    np.testing.assert_array_equal(run(model, x, carry=((), start)), theirs)
    assert not np.array_equal(run(model, x), theirs)


def test_a_step_of_half_the_length_takes_the_root_of_the_decay():
    node = lif()
    graph = chain(affine(5, N), node)

    def decay(dt, integration):
        neuron = from_nir(graph, dt=dt, integration=integration).modules[1]
        return np.asarray(neuron.decay.constant[...], np.float64)

    np.testing.assert_allclose(decay(5e-4, "exponential") ** 2, decay(1e-3, "exponential"), rtol=1e-6)
    np.testing.assert_allclose(1 - decay(5e-4, "euler"), (1 - decay(1e-3, "euler")) / 2, rtol=1e-5)
    np.testing.assert_allclose(decay(1e-3, "exponential"), np.exp(-1e-3 / node.tau), rtol=1e-6)


def test_neurons_fire_above_their_threshold_as_in_nir():
    """Whole numbers reach the threshold exactly."""
    node = nir.IF(r=np.ones(1), v_threshold=np.array([2.0]))
    graph = chain(node, n_in=1, n_out=1)
    x = np.ones((7, 1, 1), np.float32)
    ours = run(from_nir(graph, dt=1.0), x)
    np.testing.assert_array_equal(ours, simulate(graph, x, dt=1.0, integration="euler", order=["node 0"]))
    assert ours.ravel().tolist() == [0, 0, 1, 0, 0, 1, 0]


def test_membrane_and_threshold_are_a_neuron_without_reset(x64):
    thresholds, x = uniform(0.1, 0.4), drive(5)
    membrane = li()
    membrane.r = np.abs(membrane.r)
    graph = chain(affine(5, N), membrane, nir.Threshold(thresholds))
    model = read(graph, dt=1e-3)
    assert [type(module) for module in model.modules][1:] == [LIF]
    assert model.modules[1].reset == "none"
    theirs = simulate(graph, x, dt=1e-3, integration="exponential", order=["node 1"], start={"node 1": membrane.v_leak})
    np.testing.assert_array_equal(run(model, x), theirs)


def lif_of(*shape):
    return nir.LIF(
        tau=uniform(3e-3, 2e-2, *shape),
        r=uniform(1, 4, *shape),
        v_leak=np.zeros(shape),
        v_threshold=uniform(0.3, 0.6, *shape),
    )


def weights(*shape):
    return RANDOM.normal(size=shape) / 2


SPATIAL = {
    "conv2d": (
        (2, 7, 6),
        [nir.Conv2d((7, 6), weights(3, 2, 3, 3), (2, 1), (1, 0), (1, 2), 1, weights(3)), lif_of(3, 4, 2)],
    ),
    "conv2d, same": (
        (2, 7, 6),
        [nir.Conv2d((7, 6), weights(3, 2, 4, 4), 1, "same", 1, 1, weights(3)), lif_of(3, 7, 6)],
    ),
    "conv2d, valid": (
        (2, 7, 6),
        [nir.Conv2d((7, 6), weights(3, 2, 3, 3), 1, "valid", 1, 1, weights(3)), lif_of(3, 5, 4)],
    ),
    "conv1d": ((2, 9), [nir.Conv1d(9, weights(3, 2, 3), 2, 1, 1, 1, weights(3)), lif_of(3, 5)]),
    "sum": ((2, 8, 6), [nir.SumPool2d(np.array([2, 3]), np.array([2, 3]), np.array([0, 0])), lif_of(2, 4, 2)]),
    "average": ((2, 8, 6), [nir.AvgPool2d(np.array([3, 3]), np.array([1, 2]), np.array([1, 1])), lif_of(2, 8, 3)]),
    "flatten": ((2, 3, 4), [nir.Flatten((2, 3, 4), 0, -1), nir.Linear(weights(N, 24)), lif_of(N)]),
    "flatten in part": ((2, 3, 4), [nir.Flatten((2, 3, 4), 1, 2), lif_of(2, 12)]),
    "flatten two of three": ((2, 3, 4), [nir.Flatten((2, 3, 4), 0, 1), lif_of(6, 4)]),
    "scale": ((2, 3, 4), [nir.Scale(weights(2, 3, 4)), lif_of(2, 3, 4)]),
}


@pytest.mark.parametrize("name", SPATIAL)
def test_channels_come_first_in_nir_and_last_here(name, x64):
    shape, (*synapses, neuron) = SPATIAL[name]
    nodes = {f"node {index}": node for index, node in enumerate([*synapses, neuron])}
    graph = graph_of({"in": input_node(*shape), **nodes, "out": output_node(*neuron.tau.shape)})
    x = drive(*shape) * 2
    theirs = simulate(graph, x, dt=1e-3, integration="exponential", order=[f"node {len(synapses)}"])
    np.testing.assert_array_equal(run(read(graph, dt=1e-3), x), theirs)
    assert 0.02 < theirs.mean() < 0.98


def test_gain_of_a_read_out_after_a_convolution_goes_into_its_kernel_if_it_is_one_per_channel(x64):
    """And its leak into the bias, which a convolution without one gets."""
    x = drive(2, 7, 6)
    convolution = nir.Conv2d((7, 6), weights(3, 2, 3, 3), 1, 0, 1, 1, np.zeros(3), metadata={"slax_bias": 0})
    r = np.broadcast_to(uniform(1, 2, 3, 1, 1), (3, 5, 4))
    for read_out, kinds in (
        (nir.LI(tau=np.full((3, 5, 4), 5e-3), r=r, v_leak=np.full((3, 5, 4), 0.2)), ["Conv", "LI"]),
        (nir.LI(tau=uniform(3e-3, 9e-3, 3, 5, 4), r=r, v_leak=np.zeros((3, 5, 4))), ["Conv", "Scale", "LI"]),
    ):
        graph = graph_of({"in": input_node(2, 7, 6), "a": convolution, "b": read_out, "out": output_node(3, 5, 4)})
        model = read(graph, dt=1e-3)
        assert [type(module).__name__ for module in model.modules] == kinds
        theirs = simulate(graph, x, dt=1e-3, integration="exponential", order=["b"])
        np.testing.assert_allclose(run(model, x), theirs, rtol=1e-9, atol=1e-12)


def neurons(*names):
    return {name: lif() for name in names}


def io():
    return {"in": input_node(N), "out": output_node(N)}


def synapses(*names):
    return {name: nir.Linear(RANDOM.normal(0.3, 1.0, (N, N))) for name in names}


GRAPHS = {
    "feedback": (
        {**io(), **neurons("a"), **synapses("wa", "waa")},
        [("in", "wa"), ("wa", "a"), ("a", "waa"), ("waa", "a"), ("a", "out")],
        ["a"],
    ),
    "feedback, listed first": (
        {**io(), **neurons("a"), **synapses("wa", "waa")},
        [("waa", "a"), ("a", "waa"), ("a", "out"), ("wa", "a"), ("in", "wa")],
        ["a"],
    ),
    "feedback without a synapse": (
        {**io(), **neurons("a"), **synapses("wa")},
        [("in", "wa"), ("wa", "a"), ("a", "a"), ("a", "out")],
        ["a"],
    ),
    "inhibition whose neurons nothing else reads": (
        {**io(), **neurons("e", "i"), **synapses("we", "wei", "wie")},
        [("in", "we"), ("we", "e"), ("e", "wei"), ("wei", "i"), ("i", "wie"), ("wie", "e"), ("e", "out")],
        ["e", "i"],
    ),
    "two branches": (
        {**io(), **neurons("a", "b", "c"), **synapses("wa", "wb", "wac", "wbc")},
        [
            *(("in", "wa"), ("in", "wb"), ("wa", "a"), ("wb", "b")),
            *(("a", "wac"), ("b", "wbc"), ("wac", "c"), ("wbc", "c"), ("c", "out")),
        ],
        ["a", "b", "c"],
    ),
    "two branches with feedback between them": (
        {**io(), **neurons("a", "b", "c"), **synapses("wa", "wb", "wac", "wbc", "wab", "wba")},
        [
            *(("in", "wa"), ("in", "wb"), ("wa", "a"), ("wb", "b"), ("a", "wab"), ("wab", "b"), ("b", "wba")),
            *(("wba", "a"), ("a", "wac"), ("b", "wbc"), ("wac", "c"), ("wbc", "c"), ("c", "out")),
        ],
        ["a", "b", "c"],
    ),
    "two that excite each other, and one before them": (
        {**io(), **neurons("e", "a", "b"), **synapses("we", "wea", "web", "wab", "wba")},
        [
            *(("in", "we"), ("we", "e"), ("e", "wea"), ("e", "web"), ("wea", "a"), ("web", "b")),
            *(("a", "wab"), ("wab", "b"), ("b", "wba"), ("wba", "a"), ("a", "out"), ("b", "out")),
        ],
        ["e", "a", "b"],
    ),
    "two edges into a neuron beside the chain, which needs a current": (
        {**io(), **neurons("e", "a"), "b": lif(v_reset=uniform(-0.6, -0.4)), **synapses("we", "wea", "web", "wb")},
        [
            *(("in", "we"), ("we", "e"), ("e", "wea"), ("wea", "a"), ("e", "web"), ("web", "b"), ("in", "wb")),
            *(("wb", "b"), ("a", "out"), ("b", "out")),
        ],
        ["e", "a", "b"],
    ),
    "a synapse that two neurons read": (
        {**io(), **neurons("a", "b"), **synapses("w", "wab")},
        [("in", "w"), ("w", "a"), ("w", "b"), ("a", "wab"), ("wab", "b"), ("b", "out")],
        ["a", "b"],
    ),
    "a synapse that reads two neurons": (
        {**io(), **neurons("a", "b", "c"), **synapses("wa", "wb", "w")},
        [("in", "wa"), ("wa", "a"), ("a", "wb"), ("wb", "b"), ("a", "w"), ("b", "w"), ("w", "c"), ("c", "out")],
        ["a", "b", "c"],
    ),
    "two synapses from one neuron to one": (
        {**io(), **neurons("a", "b"), **synapses("wa", "w1", "w2", "w3")},
        [
            *(("in", "wa"), ("wa", "a"), ("a", "w1"), ("a", "w2"), ("a", "w3")),
            *(("w1", "b"), ("w2", "b"), ("w3", "b"), ("b", "out")),
        ],
        ["a", "b"],
    ),
    "input beside the chain": (
        {**io(), **neurons("a", "b"), **synapses("wa", "wb", "skip")},
        [("in", "wa"), ("wa", "a"), ("a", "wb"), ("wb", "b"), ("in", "skip"), ("skip", "b"), ("b", "out")],
        ["a", "b"],
    ),
    "outputs that add up": (
        {**io(), **neurons("a", "b"), **synapses("wa", "wb")},
        [("in", "wa"), ("wa", "a"), ("a", "wb"), ("wb", "b"), ("a", "out"), ("b", "out")],
        ["a", "b"],
    ),
    "three layers and all feedback": (
        {**io(), **neurons("a", "b", "c"), **synapses("wa", "wab", "wbc", "wca", "wcb", "wba")},
        [
            *(("in", "wa"), ("wa", "a"), ("a", "wab"), ("wab", "b"), ("b", "wbc"), ("wbc", "c"), ("c", "out")),
            *(("c", "wca"), ("wca", "a"), ("c", "wcb"), ("wcb", "b"), ("b", "wba"), ("wba", "a")),
        ],
        ["a", "b", "c"],
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_any_wiring_is_read(name, x64):
    nodes, edges, order = GRAPHS[name]
    graph, x = nir.NIRGraph(dict(nodes), list(edges), type_check=False), drive(N)
    theirs = simulate(graph, x, dt=1e-3, integration="exponential", order=order)
    np.testing.assert_array_equal(run(read(graph, dt=1e-3), x), theirs)
    assert 0.02 < theirs.mean() / theirs.max() < 0.98


@pytest.mark.parametrize("name", GRAPHS)
def test_any_wiring_that_is_read_is_written(name, x64):
    nodes, edges, _ = GRAPHS[name]
    model, x = read(nir.NIRGraph(dict(nodes), list(edges), type_check=False), dt=1e-3), drive(N)
    again = to_nir(model, dt=1e-3, input_shape=(N,))
    assert len(again.edges) == len(edges)
    np.testing.assert_array_equal(run(read(again, dt=1e-3), x), run(model, x))


def test_of_two_in_a_cycle_the_one_that_the_input_reaches_first_is_read_late(x64):
    """So e feeds i within the step and i feeds e one step late, and not the other way round."""
    nodes, edges, order = GRAPHS["inhibition whose neurons nothing else reads"]
    graph, x = nir.NIRGraph(dict(nodes), [*edges, ("i", "out")]), drive(N)
    ours = run(read(graph, dt=1e-3), x)
    for names, equal in ((order, True), (order[::-1], False)):
        theirs = simulate(graph, x, dt=1e-3, integration="exponential", order=names)
        assert np.array_equal(ours, theirs) == equal


def test_feedback_is_there_from_the_first_step_with_its_bias(x64):
    """As in snnTorch, where a synapse reads spikes that are zero before the first step."""
    nodes, edges, _ = GRAPHS["feedback"]
    nodes = nodes | {"waa": nir.Affine(np.zeros((N, N)), np.full(N, 10.0)), "wa": nir.Linear(np.eye(N))}
    graph = nir.NIRGraph(nodes, list(edges))
    assert run(read(graph, dt=1e-3), np.zeros((1, B, N))).all()


def test_nested_graphs_are_opened(x64):
    """As snnTorch and spyx write a recurrent layer, two deep."""
    nodes, edges, order = GRAPHS["feedback"]
    flat, x = nir.NIRGraph(dict(nodes), list(edges)), drive(N)
    inner = nir.NIRGraph(
        {"input": input_node(N), "lif": nodes["a"], "w_rec": nodes["waa"], "output": output_node(N)},
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )
    outer = nir.NIRGraph(
        {"input": input_node(N), "first": nodes["wa"], "layer": inner, "output": output_node(N)},
        [("input", "first"), ("first", "layer"), ("layer", "output")],
    )
    nested = nir.NIRGraph(
        {"input": input_node(N), "all": outer, "output": output_node(N)}, [("input", "all"), ("all", "output")]
    )
    theirs = simulate(flat, x, dt=1e-3, integration="exponential", order=order)
    np.testing.assert_array_equal(run(read(nested, dt=1e-3), x), theirs)


def test_what_is_read_can_be_trained(x64):
    graph, x = chain(affine(5, N), lif(), affine(N, 4), li(4), n_out=4), drive(5)
    fixed, trained = (read(graph, dt=1e-3, trainable=trainable) for trainable in (False, True))
    counts = [len(jax.tree.leaves(nnx.state(model, nnx.Param))) for model in (fixed, trained)]
    assert counts == [4, 4 + 2 + 1]
    np.testing.assert_allclose(run(trained, x), run(fixed, x), rtol=1e-9)


@pytest.mark.parametrize("dt", [7e-4, 1e-3])
def test_delays_are_those_of_the_simulator(dt, x64):
    """Of inputs and of spikes, in float32 as other frameworks write them, and within a cycle."""
    late = (dt * np.array([0, 3, 1, 50, 2])).astype(np.float32)
    later = dt * RANDOM.integers(0, 6, N)
    graph = graph_of(
        {
            "in": input_node(5),
            "first": nir.Delay(late),
            "w": affine(5, N),
            "n": lif(),
            "second": nir.Delay(later),
            "v": affine(N, 4),
            "li": li(4),
            "back": affine(N, N),
            "out": output_node(4),
        },
        [
            *itertools.pairwise(["in", "first", "w", "n", "second", "v", "li", "out"]),
            *itertools.pairwise(["second", "back", "n"]),
        ],
    )
    x = drive(5) * 3
    options = {"dt": dt, "integration": "exponential", "reset": "zero"}
    model = read(graph, **options)
    theirs = simulate(graph, x, order=["n", "li"], **options)
    np.testing.assert_allclose(run(model, x), theirs, rtol=1e-9, atol=1e-12)
    assert [module.max_delay for module in model.modules if isinstance(module, Delay)] == [
        50,
        int(np.round(later / dt).max()),
    ]
