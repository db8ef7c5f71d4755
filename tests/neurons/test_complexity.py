"""Counts of a stack are those of loops over steps, samples, inputs and outputs."""

import dataclasses
import functools
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import ALIF, LI, LIF, LTC, NEURONS, Dropout, Edge, Neuron, Trainable, complexity, connect
from slax_neurons.analysis.complexity import Complexity, _count

counting = sys.modules[complexity.__module__]
T, B = 6, 3


def spikes(*shape, rate=0.4, seed=0):
    return (np.random.default_rng(seed).random((T, B, *shape)) < rate).astype(np.float32)


def sparse(layer, share=0.3, seed=0):
    """The layer with this share of its weights set to zero."""
    keep = np.random.default_rng(seed).random(layer.kernel.shape) >= share
    layer.kernel[...] = layer.kernel[...] * jnp.asarray(keep, jnp.float32)
    return layer


def linear(n_in, n_out, seed=0, **options):
    return nnx.Linear(n_in, n_out, rngs=nnx.Rngs(seed), **options)


def outputs_of(model, x):
    made = model.outputs(model.initialize_carry(x.shape[1:]), jnp.asarray(x))[1]
    return [np.asarray(output) for output in made]


def by_step(x, of_sample):
    """Operations of all samples and steps, as (MACs, ACs, dense); `of_sample` makes (effective, dense) of one input."""
    macs = acs = dense = 0
    for inputs in x:
        effective = [of_sample(sample) for sample in inputs]
        binary = all(value in (-1, 0, 1) for value in inputs.ravel())
        acs, macs = (acs + binary * sum(e for e, _ in effective)), (macs + (not binary) * sum(e for e, _ in effective))
        dense += sum(d for _, d in effective)
    return np.array([macs, acs, dense])


def of_linear(layer, x):
    kernel = np.asarray(layer.kernel[...])

    def of_sample(sample):
        pairs = list(itertools.product(range(kernel.shape[0]), range(kernel.shape[1])))
        return sum(bool(sample[i] != 0 and kernel[i, o] != 0) for i, o in pairs), len(pairs)

    return by_step(x, of_sample)


def updates_of(neuron, currents):
    """How many membranes change, all of them counted in the first step."""
    carry, updates = neuron.initialize_carry(currents.shape[1:]), currents[0].size
    for step, current in enumerate(currents):
        before = np.asarray(getattr(carry, "u", carry))
        carry, _ = neuron(carry, jnp.asarray(current))
        updates += step > 0 and int(np.sum(before != np.asarray(getattr(carry, "u", carry))))
    return updates


def operations(found):
    return np.array([found.effective_macs, found.effective_acs, found.dense]) * B


def test_counts_of_a_chain_are_those_of_loops():
    first, second = sparse(linear(7, 5)), sparse(linear(5, 4, 1), 0.5)
    model, x = connect([first, LIF(threshold=0.5), second, ALIF(threshold=0.4), linear(4, 2), LI()]), spikes(7)
    found, made = complexity(model, jnp.asarray(x)), outputs_of(model, x)
    expected = of_linear(first, x) + of_linear(second, made[1]) + of_linear(model.modules[4], made[3])
    np.testing.assert_array_equal(operations(found), expected)
    kernels = [np.asarray(model.modules[index].kernel[...]).ravel() for index in (0, 2, 4)]
    assert found.connection_sparsity == np.mean(np.concatenate(kernels) == 0) > 0
    fired = np.concatenate([made[1].ravel(), made[3].ravel()])
    assert found.activation_sparsity == pytest.approx(np.mean(fired == 0))
    assert 0 < np.mean(fired) < 1
    assert found.membrane_updates * B == sum(updates_of(model.modules[i], made[i - 1]) for i in (1, 3, 5))
    assert found.footprint == 4 * (7 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2)
    assert found.effective_macs == 0 and found.n_steps == T


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "SAME"},
        {"padding": "VALID", "strides": 2, "use_bias": False},
        {"padding": ((0, 1), (2, 1)), "kernel_dilation": 2, "feature_group_count": 2},
    ],
    ids=str,
)
def test_counts_of_a_convolution_are_those_of_loops(options):
    """Each tap inside the image is a connection; padding is none."""
    conv, x = sparse(nnx.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), **options)), spikes(5, 4, 2)
    found = complexity(connect([conv]), jnp.asarray(x))
    kernel, spread, stride = np.asarray(conv.kernel[...]), options.get("kernel_dilation", 1), options.get("strides", 1)
    groups = options.get("feature_group_count", 1)
    pads = {"SAME": ((1, 1), (0, 1)), "VALID": ((0, 0), (0, 0))}.get(options["padding"], options["padding"])
    reach = [spread * (size - 1) for size in kernel.shape[:2]]
    sites = [range(-low, x.shape[2 + i] + high - reach[i], stride) for i, (low, high) in enumerate(pads)]

    def of_sample(sample):
        effective = dense = 0
        for row, column, tap_row, tap_column, out in itertools.product(*sites, range(3), range(2), range(4)):
            place = row + spread * tap_row, column + spread * tap_column
            if not (0 <= place[0] < 5 and 0 <= place[1] < 4):
                continue
            for channel in range(2 // groups):
                source = channel + (2 // groups) * (out // (4 // groups))
                dense += 1
                effective += bool(sample[(*place, source)] != 0 and kernel[tap_row, tap_column, channel, out] != 0)
        return effective, dense

    np.testing.assert_array_equal(operations(found), by_step(x, of_sample))
    assert operations(found)[2] > operations(found)[1] > 0


def test_a_masked_connection_is_one_of_weight_zero():
    mask = (np.arange(3 * 2 * 2 * 4) % 3 > 0).reshape(3, 2, 2, 4).astype(np.float32)
    masked, zeroed = (nnx.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), mask=which) for which in (jnp.asarray(mask), None))
    zeroed.kernel[...] = zeroed.kernel[...] * mask
    x = jnp.asarray(spikes(5, 4, 2))
    ours, theirs = complexity(connect([masked]), x), complexity(connect([zeroed]), x)
    assert dataclasses.replace(ours, footprint=theirs.footprint) == theirs  # the mask is stored
    assert ours.dense > ours.effective_acs > 0


def test_edges_are_synapses_with_what_their_sender_sent():
    """A recurrent edge, late by 2, and a skip edge; in a stack of its own the same."""
    edges = [
        Edge(1, 0, delay=2, synapse=sparse(linear(5, 5, 2, use_bias=False))),
        Edge(1, 4, synapse=sparse(linear(5, 3, 3))),
    ]

    def made():
        return [linear(7, 5), LIF(threshold=0.4), linear(5, 4, 1), LIF(threshold=0.3), linear(4, 3, 4), LI()], edges

    model, x = connect(*made()), spikes(7)
    found, outputs = complexity(model, jnp.asarray(x)), outputs_of(model, x)
    late = np.concatenate([np.zeros((2, B, 5), np.float32), outputs[1][:-2]])
    pairs = [(model.modules[0], x), (model.modules[2], outputs[1]), (model.modules[4], outputs[3])]
    pairs += [(edges[0].synapse, late), (edges[1].synapse, outputs[1])]
    np.testing.assert_array_equal(operations(found), sum(of_linear(*pair) for pair in pairs))
    assert found.membrane_updates * B == sum(updates_of(model.modules[i], outputs[i - 1]) for i in (1, 3, 5))
    kernels = np.concatenate([np.asarray(layer.kernel[...]).ravel() for layer, _ in pairs])
    assert found.connection_sparsity == np.mean(kernels == 0)
    assert found.footprint == 4 * (kernels.size + 5 + 4 + 3 + 3)
    assert complexity(connect([connect(*made())]), jnp.asarray(x)) == found


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_has_membranes_and_those_with_spikes_activations(name):
    kind = NEURONS[name]
    neuron = kind() if issubclass(kind, Neuron) else kind(4, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(0.5, 2, (T, B, 4)).astype(np.float32) * {"brf": 400, "adlif": 4}.get(name, 1)
    x[:, 0] = 0  # a sample that stays at rest, where the neuron lets it
    found = complexity(connect([neuron]), jnp.asarray(x))
    assert found.membrane_updates * B == updates_of(neuron, x)
    if name == "li":
        assert found.activation_sparsity is None
    else:
        made = outputs_of(connect([neuron]), x)[0]
        assert found.activation_sparsity == pytest.approx(np.mean(made == 0))
        assert 0 < found.activation_sparsity < 1
    if name != "ltc":
        assert (found.footprint, found.dense, found.connection_sparsity) == (0, 0, None)


def test_gates_of_ltc_are_synapses_of_its_current_and_states():
    cell, x = LTC(4, threshold=0.0, rngs=nnx.Rngs(0)), spikes(4) * 3
    found, carry, expected = complexity(connect([cell]), jnp.asarray(x)), cell.initialize_carry((B, 4)), 0
    for current in x:
        for gate, state in ((cell.membrane_gate, carry.u), (cell.adaptation_gate, carry.b)):
            expected = expected + of_linear(gate, np.concatenate([current, np.asarray(state)], -1)[None])
        carry, _ = cell(carry, jnp.asarray(current))
    np.testing.assert_array_equal(operations(found), expected)
    assert found.footprint == 4 * 2 * (8 * 4 + 4)


@pytest.mark.parametrize(
    ("value", "is_binary"), [(-1.0, True), (0.5, False), (2.0, False), (np.nan, False), (np.inf, False)]
)
def test_one_input_that_is_no_spike_makes_macs_of_its_step_for_the_whole_batch(value, is_binary):
    layer, x = linear(7, 5), spikes(7)
    x[2, 1, 3] = value
    found = complexity(connect([layer]), jnp.asarray(x))
    np.testing.assert_array_equal(operations(found), of_linear(layer, x))
    assert found.effective_macs * B == (0 if is_binary else 5 * np.count_nonzero(x[2]))


def test_membranes_at_rest_are_updated_in_the_first_step_only():
    model = connect([linear(7, 5, use_bias=False), LIF()])
    found = complexity(model, jnp.zeros((T, B, 7)))
    assert (found.membrane_updates, found.activation_sparsity, found.effective_acs) == (5, 1, 0)
    assert found.dense == T * 7 * 5


def test_footprint_is_the_bytes_of_all_that_is_stored():
    """Trainable or fixed arrays, statistics, half precision; no numbers of the program, no random state, and once if shared."""
    rngs, shared = nnx.Rngs(0), linear(5, 5, param_dtype=jnp.bfloat16, dtype=jnp.float32)
    modules = [
        nnx.BatchNorm(5, use_running_average=True, rngs=rngs),
        *(shared, LIF(decay=Trainable(np.full(5, 0.9)), threshold=np.ones(5))),
        *(Dropout(0.5, rngs=rngs), shared, LIF(decay=0.8), jax.nn.relu),
    ]
    found = complexity(connect(modules), jnp.asarray(spikes(5)))
    assert found.footprint == 4 * 4 * 5 + 2 * (25 + 5) + 4 * (5 + 5)
    assert found.dense == T * 2 * 25


def test_the_chunk_changes_nothing_and_a_step_is_its_share():
    model, x = connect([linear(7, 5), LIF(threshold=0.4)], {0: [1]}, rngs=nnx.Rngs(0)), jnp.asarray(spikes(7))
    whole = complexity(model, x)
    assert complexity(model, x, chunk=1) == complexity(model, x, chunk=4) == whole
    step = whole.per_step()
    assert step.n_steps == 1
    assert (step.effective_acs, step.dense, step.membrane_updates) == (
        whole.effective_acs / T,
        whole.dense / T,
        whole.membrane_updates / T,
    )
    assert (step.footprint, step.activation_sparsity) == (whole.footprint, whole.activation_sparsity)
    assert step.per_step() == step


def test_counts_beyond_32_bits_are_exact():
    x = jnp.ones((50, 30, 1200))
    found = complexity(connect([linear(1200, 1200)]), x)
    assert found.dense * 30 == found.effective_acs * 30 == 50 * 30 * 1200**2 > 2**31


def test_sums_of_a_layer_and_of_layers_are_those_of_python():
    """Beyond 2^31 in one step: JAX has no int64 here."""
    numbers = np.random.default_rng(0).integers(0, 2**31, (4, 2, 3, 5, 7), np.int32)
    numbers[0, 0, 0], numbers[0, 0, 1] = 2**31 - 1, 0
    layers = [counting._sum(jnp.asarray(layer)) for layer in numbers]
    high, low = functools.reduce(counting._plus, layers)
    assert (high.shape, high.dtype, low.dtype) == ((2, 3), jnp.int32, jnp.int32)
    exact = numbers.astype(object).sum((0, 3, 4))
    np.testing.assert_array_equal(np.asarray(high).astype(object) * 2**30 + np.asarray(low), exact)
    assert counting._total((np.asarray(high), np.asarray(low))) == exact.sum()


def test_a_network_of_more_than_2_to_31_operations_in_a_step_is_counted(monkeypatch):
    """Each input stands for one with 2^29 + 1 outputs."""

    def fan_out(synapse, connected, inputs):
        return jnp.full((1, 1, *inputs.shape[2:]), 2**29 + 1, jnp.int32)

    monkeypatch.setattr(counting, "_fan_out", fan_out)
    model, x = connect([linear(11, 13), LIF(), linear(13, 3)]), spikes(11)
    found, fired = complexity(model, jnp.asarray(x), chunk=4), outputs_of(model, x)[1]
    assert found.dense == T * (11 + 13) * (2**29 + 1)
    assert found.effective_acs * B == (np.count_nonzero(x) + np.count_nonzero(fired)) * (2**29 + 1)
    x[:] = 2
    assert complexity(connect([linear(11, 13)]), jnp.asarray(x)).effective_macs == T * 11 * (2**29 + 1)


def test_half_precision_counts_exactly(x64):
    """More connections than bfloat16 can count; and float64 works."""
    layer = linear(7, 1000, param_dtype=jnp.bfloat16, kernel_init=nnx.initializers.ones)
    assert complexity(connect([layer]), jnp.ones((T, B, 7), jnp.bfloat16)).effective_acs == T * 7000
    layer = linear(7, 5, param_dtype=jnp.float64)
    model = connect([layer, LIF(param_dtype=jnp.float64)])
    assert complexity(model, jnp.ones((T, B, 7), jnp.float64)).footprint == 8 * (35 + 5)


def test_a_model_that_changes_itself_is_left_as_it_is_and_one_that_is_built_twice_traced_once():
    def built():
        return connect([linear(7, 5), nnx.BatchNorm(5, rngs=nnx.Rngs(0)), LIF(threshold=0.4)])

    model, x = built(), jnp.asarray(spikes(7))
    before, found = jax.tree.map(np.asarray, nnx.state(model)), complexity(model, x, chunk=2)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)
    traced = _count._cache_size()
    assert complexity(built(), x, chunk=2) == found
    assert _count._cache_size() == traced
    assert found.activation_sparsity == pytest.approx(np.mean(outputs_of(model, x)[2] == 0))


class Odd(Neuron):
    """A neuron whose membrane has no name."""

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"v": jnp.zeros(input_shape)}

    def __call__(self, carry, inputs):
        return {"v": carry["v"] + inputs}, inputs


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: complexity(LIF(), jnp.zeros((T, B, 4))),
            TypeError,
            r"got LIF, expected a stack. Make one: connect\(\[...\]\)",
        ),
        (lambda: complexity(connect([LIF()]), jnp.zeros((T, 4))), ValueError, r"expected \[T, B, features...\]"),
        (lambda: complexity(connect([LIF()]), jnp.zeros((0, B, 4))), ValueError, "a sequence of 0 steps"),
        (lambda: complexity(connect([LIF()]), jnp.zeros((T, 0, 4))), ValueError, "a batch of 0 samples"),
        (lambda: complexity(connect([LIF()]), jnp.zeros((T, B, 4)), chunk=0), ValueError, "a length of 0 steps"),
        (
            lambda: complexity(connect([connect([nnx.GRUCell(4, 3, rngs=nnx.Rngs(0))])]), jnp.zeros((T, B, 4))),
            TypeError,
            "got GRUCell as module 0.0, and does not know how its weights are used. Expected Linear, Conv or BlockDiagonal",
        ),
        (
            lambda: complexity(
                connect([linear(4, 4), LIF()], [Edge(1, 0, synapse=nnx.Einsum("ab,bc->ac", (4, 4), rngs=nnx.Rngs(0)))]),
                jnp.zeros((T, B, 4)),
            ),
            TypeError,
            "got Einsum as the synapse of the edge from 1 to 0",
        ),
        (
            lambda: complexity(connect([Odd()]), jnp.zeros((T, B, 4))),
            TypeError,
            "Odd whose carry is a dict, expected an array",
        ),
    ],
)
def test_what_cannot_be_counted_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numbers_are_plain():
    found = complexity(connect([linear(7, 5), LIF()]), jnp.asarray(spikes(7)))
    assert isinstance(found, Complexity)
    assert {type(value) for value in vars(found).values()} == {int, float}
