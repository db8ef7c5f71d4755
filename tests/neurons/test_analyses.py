"""Counts, health, summary and initialization against hand counts and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_neurons as sn
from oracle import Convolution
from slax_neurons import ALIF, LI, LIF, LTC, NEURONS, Edge, Trainable, complexity, connect, fluctuation_driven, health
from slax_neurons.initialization import response_energy

T, B = 6, 3


def spikes(*shape):
    return (np.random.default_rng(0).random((T, B, *shape)) < 0.4).astype(np.float32)


def sparse(layer):
    """The layer with about 0.3 of its weights set to zero."""
    keep = np.random.default_rng(0).random(layer.kernel.shape) >= 0.3
    layer.kernel[...] = layer.kernel[...] * jnp.asarray(keep, jnp.float32)
    return layer


def linear(n_in, n_out, seed=0, **options):
    return nnx.Linear(n_in, n_out, rngs=nnx.Rngs(seed), **options)


def outputs_of(model, x):
    run = jax.jit(lambda x: model.outputs(model.initialize_carry(x.shape[1:]), x)[1])
    return list(map(np.asarray, run(jnp.asarray(x))))


# -------------------------------------------------------------------------------------------------------------- counts


def operations(matrix, x, connections=None):
    """(MACs, ACs, dense) of all samples and steps, for inputs [T, B, ...] and a matrix of weights [I, N]."""
    effective = ((x != 0).reshape(len(x), -1, len(matrix)) @ (matrix != 0).astype(int)).sum((1, 2))
    binary = np.isin(x, (-1, 0, 1)).reshape(len(x), -1).all(1)  # of the step, for the entire batch
    dense = x.shape[0] * x.shape[1] * (matrix.size if connections is None else connections)
    return np.array([effective[~binary].sum(), effective[binary].sum(), dense])


def counted(found):
    return np.array([found.effective_macs, found.effective_acs, found.dense]) * B


def updates_of(neuron, currents):
    """How many membranes change, all of them counted in the first step."""
    carry = neuron.initialize_carry(currents.shape[1:])
    updates = jax.tree.leaves(carry)[0].size
    advance = jax.jit(lambda carry, current: neuron(carry, current))
    for step, current in enumerate(currents):
        before = np.asarray(getattr(carry, "u", carry))
        carry, _ = advance(carry, current)
        updates += step > 0 and int(np.sum(before != np.asarray(getattr(carry, "u", carry))))
    return updates


def test_counts_of_a_stack_with_edges_are_those_of_matrices():
    """A late edge, a skip edge, a real input, a membrane and a read-out; nested and in chunks the same."""
    edges = [Edge(1, 0, delay=2, synapse=sparse(linear(5, 5, 2, use_bias=False))), Edge(1, 4, synapse=linear(5, 3, 3))]
    made = [sparse(linear(7, 5)), LIF(threshold=0.4), linear(5, 4, 1), ALIF(threshold=0.3), linear(4, 3, 4), LI()]
    model, x = connect(made, edges), spikes(7)
    x[2, 1, 3], x[3, 0, 0] = 0.5, -1  # MACs of its step for the whole batch; -1 is a spike
    found, outputs = complexity(model, jnp.asarray(x)), outputs_of(model, x)
    late = np.concatenate([np.zeros((2, B, 5), np.float32), outputs[1][:-2]])
    pairs = [(made[0], x), (made[2], outputs[1]), (made[4], outputs[3]), (edges[0].synapse, late)]
    pairs = [(np.asarray(layer.kernel[...]), y) for layer, y in [*pairs, (edges[1].synapse, outputs[1])]]
    np.testing.assert_array_equal(counted(found), sum(operations(*pair) for pair in pairs))
    assert min(found.effective_macs, found.effective_acs) > 0
    assert found.membrane_updates * B == sum(updates_of(made[i], outputs[i - 1]) for i in (1, 3, 5))
    kernels = np.concatenate([kernel.ravel() for kernel, _ in pairs])
    fired = np.concatenate([outputs[1].ravel(), outputs[3].ravel()])
    assert found.connection_sparsity == np.mean(kernels == 0) > 0
    assert found.activation_sparsity == pytest.approx(np.mean(fired == 0))
    assert found.footprint == 4 * (kernels.size + 5 + 4 + 3 + 3)
    assert complexity(connect([connect(made, edges)]), jnp.asarray(x), chunk=4) == found
    rest = complexity(connect([linear(7, 5, use_bias=False), LIF()]), jnp.zeros((T, B, 7)))
    assert (rest.membrane_updates, rest.activation_sparsity, rest.effective_acs) == (5, 1, 0)


@pytest.mark.parametrize(("strides", "padding", "groups"), [((1, 1), "SAME", 1), ((2, 1), "VALID", 2)])
def test_counts_of_convolutions_and_masks_are_those_of_their_matrices(strides, padding, groups):
    """Each tap inside the image is a connection; padding is none. A masked connection is one of weight zero."""
    options = {"strides": strides, "padding": padding, "feature_group_count": groups}
    plain = lambda **more: nnx.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), **options, **more)  # noqa: E731
    conv, x = sparse(plain()), spikes(5, 4, 2)
    kernel = np.asarray(conv.kernel[...])
    entries = Convolution((5, 4, 2), strides, padding, groups).entries(kernel.shape)
    expected = operations(np.where(entries < 0, 0, kernel.ravel()[entries]), x, (entries >= 0).sum())
    for layer in (conv, plain(mask=jnp.asarray(kernel != 0, jnp.float32)), sn.Masked(plain(), kernel != 0)):
        np.testing.assert_array_equal(counted(complexity(connect([layer]), jnp.asarray(x))), expected)


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_has_membranes_and_those_with_spikes_activations(name):
    neuron = NEURONS[name]() if name != "ltc" else LTC(4, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(0.5, 2, (T, B, 4)).astype(np.float32) * {"brf": 400, "adlif": 4}.get(name, 1)
    x[:, 0] = 0  # a sample that stays at rest, where the neuron lets it
    found, expected = complexity(connect([neuron]), jnp.asarray(x)), 0
    assert found.membrane_updates * B == updates_of(neuron, x)
    made = outputs_of(connect([neuron]), x)[0]
    assert found.activation_sparsity == (None if not neuron.spikes else pytest.approx(np.mean(made == 0)))
    carry = neuron.initialize_carry((B, 4))
    for current in x if name == "ltc" else ():  # its gates are synapses of current and states
        for gate, state in ((neuron.membrane_gate, carry.u), (neuron.adaptation_gate, carry.b)):
            inputs = np.concatenate([current, np.asarray(state)], -1)[None]
            expected = expected + operations(np.asarray(gate.kernel[...]), inputs)
        carry, _ = neuron(carry, jnp.asarray(current))
    np.testing.assert_array_equal(counted(found), expected)


def test_counts_are_exact_beyond_32_bits_and_in_half_precision_and_bytes_are_those_stored():
    found = complexity(connect([linear(1200, 1200)]), jnp.ones((50, 30, 1200)))
    assert found.dense * 30 == found.effective_acs * 30 == 50 * 30 * 1200**2 > 2**31
    layer = linear(7, 1000, param_dtype=jnp.bfloat16, kernel_init=nnx.initializers.ones)
    assert complexity(connect([layer]), jnp.ones((T, B, 7), jnp.bfloat16)).effective_acs == T * 7000
    shared = linear(5, 5, param_dtype=jnp.bfloat16, dtype=jnp.float32)
    modules = [nnx.BatchNorm(5, use_running_average=True, rngs=nnx.Rngs(0)), shared]
    modules += [LIF(decay=Trainable(np.full(5, 0.9)), threshold=np.ones(5)), jax.nn.relu, shared, LIF()]
    assert complexity(connect(modules), jnp.asarray(spikes(5))).footprint == 4 * 4 * 5 + 2 * (25 + 5) + 4 * (5 + 5)
    blocks = sn.BlockDiagonal(12, 8, 4, rngs=nnx.Rngs(0))
    found = complexity(connect([blocks]), jnp.asarray(spikes(12)))
    np.testing.assert_array_equal(counted(found), operations(np.asarray(blocks.effective()[0]), spikes(12), 4 * 3 * 2))
    assert found.footprint == 4 * (4 * 3 * 2 + 8)
    late = connect([sn.Delay(8, 5, delays=Trainable(1.5)), linear(8, 4), LIF()])
    assert complexity(late, jnp.asarray(spikes(8))).effective_macs > 0  # a spike behind a fraction of a step is none


# -------------------------------------------------------------------------------------------------------------- health


def test_rates_dead_and_saturated_units_are_counted():
    """Units that never fire, once, at all steps but one, and always; a mask leaves steps out."""
    x = np.zeros((10, 2, 4), np.float32)
    x[3, 1, 1] = x[:, :, 2:] = 1
    x[7, 0, 2] = 0
    model, rates = connect([LIF(decay=0.1, reset="zero")]), [0, 1 / 20, 19 / 20, 1]
    only = health(model, jnp.asarray(x)).layers[0]
    assert (only.units, only.rate, only.dead, only.saturated) == (4, np.mean(rates), 1 / 4, 2 / 4)
    assert only.quantiles == tuple(np.quantile(rates, [0, 0.25, 0.5, 0.75, 1]))
    mask = np.ones((10, 2), bool)
    mask[6:, 0] = False
    masked = health(model, jnp.asarray(x), mask=mask, chunk=3).layers[0]
    assert masked.quantiles == tuple(np.quantile([0, 1 / 16, 1, 1], [0, 0.25, 0.5, 0.75, 1]))


OPTIONS = {"decay": 0.8, "spike_fn": sn.fast_sigmoid(5.0)}
MARGINS = {
    "cuba": (sn.CuBaLIF(synapse_decay=0.5, reset="zero", **OPTIONS), lambda c, i: 0.8 * c.u + 0.5 * c.i + i - 1),
    "alif": (ALIF(beta=2.0, stop_reset_gradient=True, **OPTIONS), lambda c, i: 0.8 * c.u + i - 1 - 2 * c.a),
}


@pytest.mark.parametrize("kind", MARGINS)
def test_support_is_where_the_surrogate_keeps_its_share_of_the_peak(kind):
    """Whatever leads from the current to the membrane: from the distance to the threshold by hand."""
    cell, margin = MARGINS[kind]
    x = jnp.asarray(2 * np.random.default_rng(0).normal(0.3, 1, (40, B, 4)), jnp.float32)
    carry, distances = cell.initialize_carry((B, 4)), []
    for current in x:
        distances.append(np.abs(margin(carry, current)))
        carry, _ = cell(carry, current)
    near = np.mean(np.stack(distances) <= (1 / np.sqrt(0.01) - 1) / 5)
    assert health(connect([cell]), x).layers[0].support == pytest.approx(near, abs=1e-6)
    assert 0.02 < near < 0.98
    box = jnp.asarray([[[0.2, 0.9, 1.1, 1.9]]])
    assert health(connect([LIF(spike_fn=sn.boxcar(width=0.5))]), box).layers[0].support == 1 / 2
    assert health(connect([LIF(spike_fn=sn.Surrogate(jnp.zeros_like))]), box).layers[0].support == 0


def test_layers_of_nested_and_recurrent_stacks_are_reported_one_by_one():
    inner = connect([linear(5, 4), ALIF(threshold=0.2), linear(4, 2), LI()])
    model = connect([linear(7, 5), LIF(threshold=0.3), inner], {0: [1]}, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1, (T, B, 7)), jnp.float32)
    report = health(model, x, chunk=4)
    assert [layer.name for layer in report.layers] == ["1 LIF", "2.1 ALIF"]
    fired = outputs_of(model, x)[1]
    assert report.layers[0].rate == pytest.approx(fired.mean())
    assert report.layers[1].rate == pytest.approx(outputs_of(inner, fired)[1].mean())


def test_a_batch_norm_in_training_is_measured_on_all_steps_together_and_left_unchanged():
    norm, neuron = nnx.BatchNorm(7, use_fast_variance=False, rngs=nnx.Rngs(0)), LIF(threshold=0.6)
    x = np.random.default_rng(0).normal(np.arange(T)[:, None, None], 1, (T, B, 7)).astype(np.float32)
    normed = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    fired = outputs_of(connect([neuron]), normed)[0]
    assert health(connect([norm, neuron]), jnp.asarray(x), chunk=2).layers[0].rate == pytest.approx(fired.mean())
    assert 0 < fired.mean() < 1 and not norm.mean[...].any()


# ------------------------------------------------------------------------------------------------------------- summary


def test_the_table_of_a_stack():
    """Nothing is computed: a batch of any size costs nothing."""
    rngs = nnx.Rngs(0)
    inner = connect([linear(6, 5), ALIF(decay=Trainable(0.9), threshold=np.ones(5))], {0: [1]}, rngs=rngs)
    modules = [nnx.Conv(2, 4, (3, 3), rngs=rngs), lambda x: x.reshape(x.shape[0], -1), linear(96, 6), LIF(), inner]
    found = sn.summary(connect(modules, [Edge(3, 2, delay=7)], rngs=rngs), (3, 4, 6, 2))
    text = str(found).splitlines()
    assert " ".join(text[4].split()) == "3 LIF [3, 6] [3, 6], 7 steps of output 0"
    assert [int(line.split()[-1]) for line in text[1:]] == [76, 0, 582, 0, 66, 35, 1, 30, 42, 766]
    shared = linear(4, 4)
    found = sn.summary(connect([shared, LIF(), shared]), (10**12, 4))
    assert ([row.parameters for row in found.modules], found.parameters) == ([20, 0, 20], 20)


# ------------------------------------------------------------------------------------------------------ initialization


def kernel_of(neuron, *shape, **options):
    return np.asarray(fluctuation_driven(neuron, **options)(jax.random.key(0), shape), np.float64)


@pytest.mark.parametrize(("dtype", "steps"), [("float32", None), ("bfloat16", None), ("float32", 1), ("float32", 300)])
def test_the_energy_of_the_response_is_a_geometric_sum(dtype, steps):
    neuron = LIF(decay=np.array([0.5, 0.995]), param_dtype=dtype)
    used, long = np.asarray(neuron.decay.value, float), steps or 10**6
    expected = (1 - used ** (2 * long)) / (1 - used**2)
    np.testing.assert_allclose(response_energy(neuron, np.full(2, 2.0**-12), steps), expected, rtol=1e-3)


def test_weights_follow_the_closed_form_for_each_neurons_threshold_and_decay():
    """Its mean and variance, with shares that add up."""
    n, rate, share = 4000, 0.2, 0.4
    decays, thresholds = np.linspace(0.3, 0.9, 50), np.linspace(2.0, 0.5, 50)
    weights = kernel_of(LIF(decay=decays, threshold=thresholds), n, 50, rate=rate, xi=2.0, share=share)
    variance = share * (thresholds / 2.0) ** 2 * (1 - decays**2) / (n * rate * (1 - rate))
    assert np.abs(weights.mean(0) / np.sqrt(variance / n)).max() < 4.5
    np.testing.assert_allclose(weights.var(0), variance, rtol=5 * np.sqrt(2 / n))
    same = {"rate": 0.1, "xi": 2.0, "steps": 9}
    read_out = kernel_of(LI(decay=0.8), 5, 2, 4, threshold=2.0, **same)
    flat = kernel_of(LIF(decay=Trainable(0.8), threshold=2.0), 10, 4, **same)
    np.testing.assert_allclose(read_out.reshape(10, 4), flat, rtol=1e-5)
    integrator = kernel_of(sn.IF(), 3000, 20, rate=0.1, xi=2.0, steps=30)
    assert integrator.var() == pytest.approx(0.25 / (3000 * 0.09 * 30), rel=0.05)
