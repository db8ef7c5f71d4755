"""A stack that is written and read is the same stack, number by number, also through a file."""

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx

from slax_neurons import IF, LI, LIF, CuBaLIF, Delay, Dropout, Edge, Trainable, connect, unroll
from slax_neurons.nir import AvgPool2d, Flatten, Scale, SumPool2d, Zeros, from_nir, to_nir

T, B, DT = 12, 3, 7e-4
RNGS = nnx.Rngs(0)


def linear(n_in, n_out, *, gain=3.0, **options):
    layer = nnx.Linear(n_in, n_out, rngs=RNGS, bias_init=nnx.initializers.normal(0.1), **options)
    layer.kernel[...] *= gain
    return layer


def conv(n_in, n_out, size, **options):
    layer = nnx.Conv(n_in, n_out, size, rngs=RNGS, bias_init=nnx.initializers.normal(0.1), **options)
    layer.kernel[...] *= 3
    return layer


def written_and_read(model, shape, path, **options):
    nir.write(path, to_nir(model, dt=DT, input_shape=shape, **options))
    return from_nir(nir.read(path), dt=DT, param_dtype=jnp.float32)


def spikes(*shape):
    return jax.random.bernoulli(jax.random.key(0), 0.4, (T, B, *shape)).astype(jnp.float32)


def run(model, x):
    return unroll(model, model.initialize_carry(x.shape[1:]), x)[1]


def numbers(module):
    """What a module computes with: its weights, and its neuron's parameters as they are used for 1 and for N features."""
    if isinstance(module, Delay):
        return {"delays": np.asarray(module.delays.value)}
    found = {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.Param))}
    if hasattr(module, "threshold") or hasattr(module, "decay"):
        found = {}
        for name in ("threshold", "decay", "synapse_decay"):
            if hasattr(module, name):
                parameter = getattr(module, name)
                width = next((leaf.shape for leaf in jax.tree.leaves(nnx.state(parameter))), ()) or (2,)
                found[name] = np.broadcast_to(np.asarray(parameter(jnp.zeros(width)), np.float32), width)
    return found


def assert_same(ours, theirs):
    assert [type(module) for module in ours.modules] == [type(module) for module in theirs.modules]
    for index in range(len(theirs.modules)):  # in their order, which is that of the sum
        ours_in, theirs_in = ([edge for edge in model.edges if edge.receiver == index] for model in (ours, theirs))
        assert [(edge.sender, edge.steps) for edge in ours_in] == [(edge.sender, edge.steps) for edge in theirs_in]
    for a, b in zip(ours.modules, theirs.modules, strict=True):
        assert getattr(a, "reset", None) == getattr(b, "reset", None)
        mine, other = numbers(a), numbers(b)
        assert mine.keys() == other.keys()
        jax.tree.map(np.testing.assert_array_equal, mine, other)


RANDOM = np.random.default_rng(0)
NEURONS = {
    "lif": lambda n: LIF(),
    "lif, per neuron": lambda n: LIF(
        decay=RANDOM.uniform(0.01, 0.999, n), threshold=RANDOM.uniform(-0.1, 1, n), reset="zero"
    ),
    "lif, trainable": lambda n: LIF(
        decay=Trainable(RANDOM.uniform(0.1, 0.9, n)), threshold=Trainable(0.3), reset="none"
    ),
    "lif, slow and fast": lambda n: LIF(decay=np.resize([1 - 1e-7, 0.9999, 1e-3, 1e-6], n)),
    "if": lambda n: IF(threshold=RANDOM.uniform(0.1, 2, n)),
    "if, no reset": lambda n: IF(threshold=3.0, reset="none"),
    "cuba": lambda n: CuBaLIF(
        synapse_decay=RANDOM.uniform(0.1, 0.9, n), decay=Trainable(RANDOM.uniform(0.1, 0.9, n)), reset="zero"
    ),
    "cuba, no reset": lambda n: CuBaLIF(
        synapse_decay=0.123, decay=0.456, threshold=RANDOM.uniform(1, 2, n), reset="none"
    ),
    "li": lambda n: LI(decay=RANDOM.uniform(0.1, 0.9, n)),
}


@pytest.mark.parametrize("integration", ["exponential", "euler"])
@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron_comes_back_bit_by_bit(neuron, integration, tmp_path):
    model = connect([linear(6, 9), NEURONS[neuron](9), linear(9, 4, use_bias=False), LI()])
    back = written_and_read(model, (6,), tmp_path / "a.nir", integration=integration)
    assert_same(back, model)
    x = spikes(6)
    outputs = run(model, x)
    assert outputs.any()
    np.testing.assert_array_equal(run(back, x), outputs)


def test_one_number_comes_back_as_one_number_and_one_per_neuron_as_that(tmp_path):
    model = connect([linear(6, 9), LIF(decay=0.9, threshold=np.linspace(0.1, 1, 9))])
    neuron = written_and_read(model, (6,), tmp_path / "a.nir").modules[1]
    assert neuron.decay.number == pytest.approx(0.9, rel=1e-15)
    assert neuron.threshold.constant.shape == (9,)
    trainable = from_nir(nir.read(tmp_path / "a.nir"), dt=DT, trainable=True).modules[1]
    assert [leaf.shape for leaf in jax.tree.leaves(nnx.state(trainable, nnx.Param))] == [(), (9,)]


def test_float64_comes_back_too(x64):
    layer = nnx.Linear(6, 9, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    neuron = LIF(decay=RANDOM.uniform(0.1, 0.999, 9), threshold=RANDOM.uniform(0.1, 1, 9), param_dtype=jnp.float64)
    graph = to_nir(connect([layer, neuron]), dt=DT, input_shape=(6,))
    back = from_nir(graph, dt=DT, param_dtype=jnp.float64)
    np.testing.assert_array_equal(back.modules[0].kernel[...], layer.kernel[...])
    np.testing.assert_array_equal(back.modules[1].threshold.constant[...], neuron.threshold.constant[...])
    np.testing.assert_allclose(back.modules[1].decay.constant[...], neuron.decay.constant[...], rtol=1e-14)


def thresholds(*shape):
    return RANDOM.uniform(0.1, 1, shape)


CONVOLUTIONS = {
    "2d": ((7, 5, 2), [conv(2, 3, (3, 3), padding="SAME"), LIF(threshold=thresholds(7, 5, 3))]),
    "2d, per channel": ((7, 5, 2), [conv(2, 3, (3, 3), padding="VALID"), LIF(threshold=thresholds(3))]),
    "2d, strides": ((7, 6, 2), [conv(2, 3, (3, 3), strides=(2, 1), padding=((1, 1), (0, 0))), LIF()]),
    "2d, even kernel": ((7, 5, 2), [conv(2, 3, (4, 4), padding="SAME"), LIF()]),
    "2d, dilation": ((9, 8, 2), [conv(2, 3, (3, 3), kernel_dilation=2, padding=1), LIF()]),
    "2d, no bias": ((7, 5, 2), [conv(2, 3, (3, 3), use_bias=False), LIF()]),
    "1d": ((11, 2), [conv(2, 3, 3, padding="SAME"), LIF(threshold=thresholds(11, 3))]),
    "1d, strides": ((11, 2), [conv(2, 3, 3, strides=2, kernel_dilation=2, padding=2), LIF()]),
    "pools and flatten": (
        (8, 6, 2),
        [conv(2, 3, (3, 3)), LIF(), SumPool2d(2), AvgPool2d(2, 1, 1), Flatten(), linear(5 * 4 * 3, 4), LI()],
    ),
    "flatten in part": ((4, 3, 2), [Flatten(1), IF(), Flatten(), Scale(RANDOM.normal(size=24)), linear(24, 4), LI()]),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_pools_and_flatten_come_back(name, tmp_path):
    shape, modules = CONVOLUTIONS[name]
    model = connect(modules)
    back = written_and_read(model, shape, tmp_path / "a.nir")
    assert_same(back, model)
    x = spikes(*shape)
    np.testing.assert_array_equal(run(back, x), run(model, x))


@pytest.mark.parametrize(
    "layer",
    [
        conv(2, 3, (3, 2), padding="VALID"),
        conv(2, 4, (3, 3), feature_group_count=2),
        conv(2, 3, (3, 5), padding="SAME"),
    ],
    ids=["not square", "groups", "not square, same"],
)
def test_what_nir_checks_wrongly_comes_back_without_its_check(layer, tmp_path):
    """nir 1.0.8 takes a kernel for square and counts the channels of one group."""
    model = connect([layer, LIF()])
    nir.write(tmp_path / "a.nir", to_nir(model, dt=DT, input_shape=(7, 6, 2)))
    back = from_nir(nir.read(tmp_path / "a.nir", type_check=False), dt=DT)
    assert_same(back, model)
    x = spikes(7, 6, 2)
    np.testing.assert_array_equal(run(back, x), run(model, x))


DELAYS = Trainable(np.array([0.0, 1.0, 5.0, 2.0, 2.0, 7.0]))
DELAYED = {
    "first": ((6,), [Delay(6, 9, delays=DELAYS), linear(6, 9), LIF()], None),
    "between": ((6,), [linear(6, 6), LIF(), Delay(6, 7, delays=DELAYS), linear(6, 4), LI()], None),
    "last": ((6,), [linear(6, 6), LIF(), Delay(6, 7, delays=DELAYS)], None),
    "right before a neuron": ((6,), [linear(6, 6), Delay(6, 7, delays=DELAYS), LIF(), linear(6, 4), LI()], None),
    "none at all": ((6,), [Delay(6, 3, delays=0.0), linear(6, 9), LIF()], None),
    "images": (
        (5, 4, 6),
        [
            Delay(6, 7, delays=DELAYS),
            conv(6, 3, (3, 3)),
            LIF(),
            Delay(3, 2, delays=[0.0, 2.0, 1.0]),
            Flatten(),
            linear(60, 2),
        ],
        None,
    ),
    "recurrent": ((6,), [linear(6, 6), LIF(), Delay(6, 7, delays=DELAYS), linear(6, 4), LI()], [(2, 0)]),
    "two senders": (
        (6,),
        [linear(6, 6), LIF(), Delay(6, 7, delays=DELAYS), linear(6, 6), LIF(), linear(6, 4), LI()],
        [(1, 3), (2, 5)],
    ),
}


@pytest.mark.parametrize("name", DELAYED)
def test_delays_of_whole_steps_come_back(name, tmp_path):
    shape, modules, wires = DELAYED[name]
    receivers = {index: module.out_features for index, module in enumerate(modules) if isinstance(module, nnx.Linear)}
    edges = [Edge(sender, receiver, synapse=linear(6, receivers[receiver])) for sender, receiver in wires or []]
    model = connect(modules, edges)
    back = written_and_read(model, shape, tmp_path / "a.nir")
    assert_same(back, model)
    x = spikes(*shape)
    outputs = run(model, x)
    assert outputs.any()
    np.testing.assert_array_equal(run(back, x), outputs)
    pairs = [(a, b) for a, b in zip(model.modules, back.modules, strict=True) if isinstance(a, Delay)]
    for ours, theirs in pairs:
        assert theirs.max_delay == ours.max_delay
        np.testing.assert_array_equal(theirs.delays.value, ours.delays.value)
        assert not jax.tree.leaves(nnx.state(theirs, nnx.Param))
    trainable = from_nir(nir.read(tmp_path / "a.nir"), dt=DT, trainable=True)
    cells = [module for module in trainable.modules if isinstance(module, Delay)]
    assert len(cells) == len(pairs) > 0
    assert all(jax.tree.leaves(nnx.state(cell, nnx.Param)) for cell in cells)


def inhibition():
    """Neurons 1 excite 3, which inhibit them, and each other."""
    return [linear(6, 9), LIF(), linear(9, 5), CuBaLIF(threshold=0.5), linear(5, 4), LI()]


def nested():
    inner = connect([linear(6, 9), LIF(), linear(9, 6), IF()], [Edge(3, 0, synapse=linear(6, 9))])
    return [linear(6, 6), LIF(), inner, linear(6, 4), LI()]


identity = jax.nn.identity
RECURRENT = {
    "a layer feeds itself": ([linear(6, 9), LIF(), linear(9, 4), LI()], [Edge(1, 0, synapse=linear(9, 9))]),
    "back to an earlier layer": (inhibition(), [Edge(3, 0, synapse=linear(5, 9))]),
    "all at once, feedback first": (
        inhibition(),
        [
            Edge(3, 2, synapse=linear(5, 5, use_bias=False)),
            Edge(1, 4, synapse=linear(9, 4)),
            Edge(1, 0, synapse=linear(9, 9)),
            Edge(3, 0, synapse=linear(5, 9)),
        ],
    ),
    "skip": (inhibition(), [Edge(1, 4, synapse=linear(9, 4))]),
    "residual": ([linear(6, 9), LIF(), linear(9, 9), LIF(), linear(9, 4), LI()], [Edge(1, 2, synapse=identity)]),
    "feedback without a synapse": ([linear(6, 9), LIF(), linear(9, 4), LI()], [Edge(1, 0, synapse=identity)]),
    "no reset": ([linear(6, 9), LIF(reset="none"), linear(9, 4), LI()], [Edge(1, 0, synapse=linear(9, 9))]),
    "synapse of two modules": (
        inhibition(),
        [Edge(3, 0, synapse=nnx.Sequential(linear(5, 5), linear(5, 9)))],
    ),
    "into the last module": ([linear(6, 9), LIF(), linear(9, 4)], [Edge(1, 2, synapse=linear(9, 4))]),
    "two branches": (
        [identity, linear(6, 9), LIF(), Zeros((5,)), CuBaLIF(), linear(5, 4), LI()],
        [Edge(0, 3, synapse=linear(6, 5)), Edge(2, 5, synapse=linear(9, 4))],
    ),
    "input further on": ([identity, linear(6, 9), LIF(), linear(9, 4), LI()], [Edge(0, 3, synapse=linear(6, 4))]),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_edges_come_back(name, tmp_path):
    modules, edges = RECURRENT[name]
    model = connect(modules, edges)
    back = written_and_read(model, (6,), tmp_path / "a.nir")
    assert_same(back, model)
    x = spikes(6)
    outputs, carry = run(model, x), model.initialize_carry((B, 6))
    assert outputs.any()
    assert jax.tree.structure(back.initialize_carry((B, 6))) == jax.tree.structure(carry)
    np.testing.assert_array_equal(run(back, x), outputs)


def test_nested_stacks_come_back_as_one(tmp_path):
    model = connect(nested(), [Edge(2, 0, synapse=linear(6, 6))])
    back = written_and_read(model, (6,), tmp_path / "a.nir")
    assert [type(module).__name__ for module in back.modules] == ["Linear", "LIF"] * 2 + [
        "Linear",
        "IF",
        "Linear",
        "LI",
    ]
    assert sorted((edge.sender, edge.receiver) for edge in back.edges) == [(5, 0), (5, 2)]
    x = spikes(6)
    np.testing.assert_array_equal(run(back, x), run(model, x))


def test_dropout_that_is_off_is_not_written(tmp_path):
    model = connect([linear(6, 9), LIF(), Dropout(0.5, rngs=nnx.Rngs(0)), linear(9, 4), LI()])
    model.eval()
    back = written_and_read(model, (6,), tmp_path / "a.nir")
    assert len(back.modules) == 4
    np.testing.assert_array_equal(run(back, spikes(6)), run(model, spikes(6)))
