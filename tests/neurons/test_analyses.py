"""Counts, health, summary and initialization against loops and closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import (
    ALIF,
    IF,
    LI,
    LIF,
    LTC,
    NEURONS,
    BlockDiagonal,
    CuBaLIF,
    Delay,
    Dropout,
    Edge,
    Health,
    LayerHealth,
    Masked,
    Neuron,
    Surrogate,
    Trainable,
    arctan,
    boxcar,
    complexity,
    connect,
    fast_sigmoid,
    fluctuation_driven,
    health,
    summary,
    unroll,
)
from slax_neurons.initialization import impulse_moments

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
    return [np.asarray(y) for y in model.outputs(model.initialize_carry(x.shape[1:]), jnp.asarray(x))[1]]


# -------------------------------------------------------------------------------------------------------------- counts


def by_step(x, of_sample):
    """Operations of all samples and steps, as (MACs, ACs, dense); `of_sample` makes (effective, dense) of one input."""
    total = np.zeros(3, np.int64)
    for inputs in x:
        effective = sum(of_sample(sample)[0] for sample in inputs)
        binary = all(value in (-1, 0, 1) for value in inputs.ravel())
        total += (effective * (not binary), effective * binary, sum(of_sample(sample)[1] for sample in inputs))
    return total


def of_linear(layer, x):
    kernel = np.asarray(layer.kernel[...])
    return by_step(x, lambda sample: (int(((sample != 0)[:, None] & (kernel != 0)).sum()), kernel.size))


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


def test_counts_of_a_stack_with_edges_are_those_of_loops():
    """A late edge, a skip edge, a real input, a membrane and a read-out; nested and in chunks the same."""
    edges = [
        Edge(1, 0, delay=2, synapse=sparse(linear(5, 5, 2, use_bias=False))),
        Edge(1, 4, synapse=sparse(linear(5, 3, 3))),
    ]

    def made():
        return [sparse(linear(7, 5)), LIF(threshold=0.4), linear(5, 4, 1), ALIF(threshold=0.3), linear(4, 3, 4), LI()]

    model, x = connect(made(), edges), spikes(7)
    x[2, 1, 3], x[3, 0, 0] = 0.5, -1  # MACs of its step for the whole batch; -1 is a spike
    found, outputs = complexity(model, jnp.asarray(x)), outputs_of(model, x)
    late = np.concatenate([np.zeros((2, B, 5), np.float32), outputs[1][:-2]])
    pairs = [(model.modules[0], x), (model.modules[2], outputs[1]), (model.modules[4], outputs[3])]
    pairs += [(edges[0].synapse, late), (edges[1].synapse, outputs[1])]
    np.testing.assert_array_equal(operations(found), sum(of_linear(*pair) for pair in pairs))
    assert min(found.effective_macs, found.effective_acs) > 0
    assert found.membrane_updates * B == sum(updates_of(model.modules[i], outputs[i - 1]) for i in (1, 3, 5))
    kernels = np.concatenate([np.asarray(layer.kernel[...]).ravel() for layer, _ in pairs])
    fired = np.concatenate([outputs[1].ravel(), outputs[3].ravel()])
    assert found.connection_sparsity == np.mean(kernels == 0) > 0
    assert found.activation_sparsity == pytest.approx(np.mean(fired == 0))
    assert found.footprint == 4 * (kernels.size + 5 + 4 + 3 + 3)
    assert complexity(connect([connect(made(), edges)]), jnp.asarray(x), chunk=4) == found
    step = found.per_step()
    assert (step.n_steps, step.dense, step.membrane_updates) == (1, found.dense / T, found.membrane_updates / T)
    rest = complexity(connect([linear(7, 5, use_bias=False), LIF()]), jnp.zeros((T, B, 7)))
    assert (rest.membrane_updates, rest.activation_sparsity, rest.effective_acs) == (5, 1, 0)


@pytest.mark.parametrize(
    "options",
    [{"padding": "SAME"}, {"padding": ((0, 1), (2, 1)), "kernel_dilation": 2, "feature_group_count": 2, "strides": 2}],
    ids=str,
)
def test_counts_of_a_convolution_are_those_of_loops(options):
    """Each tap inside the image is a connection; padding is none. A masked connection is one of weight zero."""
    conv, x = sparse(nnx.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), **options)), spikes(5, 4, 2)
    kernel, spread, stride = np.asarray(conv.kernel[...]), options.get("kernel_dilation", 1), options.get("strides", 1)
    groups = options.get("feature_group_count", 1)
    pads = ((1, 1), (0, 1)) if options["padding"] == "SAME" else options["padding"]
    reach = [spread * (size - 1) for size in kernel.shape[:2]]
    sites = [range(-low, x.shape[2 + i] + high - reach[i], stride) for i, (low, high) in enumerate(pads)]

    def of_sample(sample):
        effective = dense = 0
        for row, column, tap_row, tap_column, out in itertools.product(*sites, range(3), range(2), range(4)):
            place = row + spread * tap_row, column + spread * tap_column
            if 0 <= place[0] < 5 and 0 <= place[1] < 4:
                for channel in range(2 // groups):
                    source = channel + (2 // groups) * (out // (4 // groups))
                    dense += 1
                    effective += bool(sample[(*place, source)] != 0 and kernel[tap_row, tap_column, channel, out] != 0)
        return effective, dense

    np.testing.assert_array_equal(operations(complexity(connect([conv]), jnp.asarray(x))), by_step(x, of_sample))
    if groups == 1:
        mask = jnp.asarray(kernel != 0)
        masked = [nnx.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), mask=mask.astype(jnp.float32), **options)]
        masked += [Masked(nnx.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), **options), mask)]
        for layer in masked:
            np.testing.assert_array_equal(
                operations(complexity(connect([layer]), jnp.asarray(x))), by_step(x, of_sample)
            )


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_has_membranes_and_those_with_spikes_activations(name):
    neuron = NEURONS[name]() if name != "ltc" else LTC(4, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(0.5, 2, (T, B, 4)).astype(np.float32) * {"brf": 400, "adlif": 4}.get(name, 1)
    x[:, 0] = 0  # a sample that stays at rest, where the neuron lets it
    found = complexity(connect([neuron]), jnp.asarray(x))
    assert found.membrane_updates * B == updates_of(neuron, x)
    made = outputs_of(connect([neuron]), x)[0]
    assert found.activation_sparsity == (None if name == "li" else pytest.approx(np.mean(made == 0)))
    if name != "ltc":
        assert (found.footprint, found.dense, found.connection_sparsity) == (0, 0, None)
        return
    carry, expected = neuron.initialize_carry((B, 4)), 0  # its gates are synapses of current and states
    for current in x:
        for gate, state in ((neuron.membrane_gate, carry.u), (neuron.adaptation_gate, carry.b)):
            expected = expected + of_linear(gate, np.concatenate([current, np.asarray(state)], -1)[None])
        carry, _ = neuron(carry, jnp.asarray(current))
    np.testing.assert_array_equal(operations(found), expected)


def test_counts_are_exact_beyond_32_bits_and_in_half_precision_and_bytes_are_those_stored():
    found = complexity(connect([linear(1200, 1200)]), jnp.ones((50, 30, 1200)))
    assert found.dense * 30 == found.effective_acs * 30 == 50 * 30 * 1200**2 > 2**31
    layer = linear(7, 1000, param_dtype=jnp.bfloat16, kernel_init=nnx.initializers.ones)
    assert complexity(connect([layer]), jnp.ones((T, B, 7), jnp.bfloat16)).effective_acs == T * 7000
    rngs, shared = nnx.Rngs(0), linear(5, 5, param_dtype=jnp.bfloat16, dtype=jnp.float32)
    modules = [nnx.BatchNorm(5, use_running_average=True, rngs=rngs), shared]
    modules += [LIF(decay=Trainable(np.full(5, 0.9)), threshold=np.ones(5)), Dropout(0.5, rngs=rngs), shared, LIF()]
    found = complexity(connect(modules), jnp.asarray(spikes(5)))
    assert found.footprint == 4 * 4 * 5 + 2 * (25 + 5) + 4 * (5 + 5)
    blocks = connect([BlockDiagonal(12, 8, 4, rngs=rngs), LIF()])
    conv = nnx.Conv(12, 8, (1,), feature_group_count=4, rngs=rngs)
    grouped = connect([lambda x: x[:, None], conv, lambda x: x[:, 0], LIF()])
    ours, theirs = (complexity(model, jnp.asarray(spikes(12))) for model in (blocks, grouped))
    assert (ours.dense, ours.effective_acs, ours.footprint) == (theirs.dense, theirs.effective_acs, theirs.footprint)
    late = connect([Delay(8, 5, delays=Trainable(1.5)), linear(8, 4), LIF()])
    assert complexity(late, jnp.asarray(spikes(8))).effective_macs > 0  # a spike behind a fraction of a step is none


# -------------------------------------------------------------------------------------------------------------- health


def test_rates_dead_and_saturated_units_are_counted():
    """Units that never fire, once, at all steps but one, and always; a mask leaves steps out; a carry goes on."""
    x = np.zeros((10, 2, 4), np.float32)
    x[3, 1, 1] = x[:, :, 2:] = 1
    x[7, 0, 2] = 0
    model, rates = connect([LIF(decay=0.1, reset="zero")]), [0, 1 / 20, 19 / 20, 1]
    only = health(model, jnp.asarray(x)).layers[0]
    assert (only.units, only.rate, only.dead, only.saturated) == (4, np.mean(rates), 1 / 4, 2 / 4)
    assert only.quantiles == tuple(np.quantile(rates, [0, 0.25, 0.5, 0.75, 1]))
    for saturation, share in ((0.05, 3 / 4), (0.06, 2 / 4), (0.96, 1 / 4)):
        assert health(model, jnp.asarray(x), saturation=saturation).layers[0].saturated == share
    mask = np.ones((10, 2), bool)
    mask[6:, 0] = False
    masked = health(model, jnp.asarray(x), mask=mask, chunk=3).layers[0]
    assert masked.quantiles == tuple(np.quantile([0, 1 / 16, 1, 1], [0, 0.25, 0.5, 0.75, 1]))
    going_on = health(model, jnp.asarray(x[:1] * 0), carry=(jnp.full((2, 4), 20.0),)).layers[0]
    assert going_on.rate == 1


def ltc_margin(cell, carry, current):
    tau_m, tau_a = (
        jax.nn.sigmoid(gate(jnp.concatenate([current, state], -1)))
        for gate, state in ((cell.membrane_gate, carry.u), (cell.adaptation_gate, carry.b))
    )
    b = tau_a * carry.b + (1 - tau_a) * carry.s
    return (1 - tau_m) * carry.u + tau_m * current - cell.threshold - cell.beta * b


SURROGATE = fast_sigmoid(5.0)
MARGINS = {
    "cuba": (CuBaLIF(synapse_decay=0.5, decay=0.8, spike_fn=SURROGATE, reset="zero"),
             lambda _, c, current: 0.8 * c.u + 0.5 * c.i + current - 1),
    "alif": (ALIF(decay=0.8, beta=2.0, spike_fn=SURROGATE, stop_reset_gradient=True),
             lambda _, c, current: 0.8 * c.u + current - 1 - 2 * c.a),
    "ltc": (LTC(4, spike_fn=SURROGATE, rngs=nnx.Rngs(0)), ltc_margin),
}  # fmt: skip


@pytest.mark.parametrize("kind", MARGINS)
def test_support_is_where_the_surrogate_keeps_its_share_of_the_peak(kind):
    """Whatever leads from the current to the membrane: from the distance to the threshold by hand."""
    cell, margin = MARGINS[kind]
    x = jnp.asarray(2 * np.random.default_rng(0).normal(0.3, 1, (40, B, 4)), jnp.float32)
    for level in (0.01, 0.25):
        reach, carry, near = (1 / np.sqrt(level) - 1) / 5, cell.initialize_carry((B, 4)), []
        for current in x:
            near.append(np.abs(margin(cell, carry, current)) <= reach)
            carry, _ = cell(carry, current)
        found = health(connect([cell]), x, support_level=level).layers[0].support
        assert found == pytest.approx(np.mean(near), abs=1e-6)
        assert 0.02 < found < 0.98
    box = jnp.asarray([[[0.2, 0.9, 1.1, 1.9]]])
    assert health(connect([LIF(spike_fn=boxcar(width=0.5))]), box).layers[0].support == 1 / 2
    assert health(connect([LIF(spike_fn=Surrogate(jnp.zeros_like))]), box).layers[0].support == 0


def test_layers_of_nested_and_recurrent_stacks_are_reported_one_by_one():
    inner = connect([linear(5, 4), ALIF(threshold=0.2), linear(4, 2), LI()])
    model = connect([linear(7, 5), LIF(threshold=0.3), inner], {0: [1]}, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1, (T, B, 7)), jnp.float32)
    report = health(model, x, chunk=4)
    assert [layer.name for layer in report.layers] == ["1 LIF", "2.1 ALIF"]
    fired = outputs_of(model, x)[1]
    assert report.layers[0].rate == pytest.approx(fired.mean())
    assert report.layers[1].rate == pytest.approx(outputs_of(inner, fired)[1].mean())


def layer(name="1 LIF", rate=0.1, dead=0.0, saturated=0.0, support=0.5):
    return LayerHealth(name, 100, rate, (0.0, 0.05, 0.1, 0.2, 0.4), dead, saturated, support)


def test_the_report_is_a_table_and_says_which_layers_are_sick_and_what_helps():
    report = Health((layer(), layer("3.11 CuBaLIF", dead=0.5, saturated=0.5, support=0.05)))
    assert report.healthy
    assert str(report).splitlines() == [
        "layer         units   rate    min   25 %   50 %   75 %    max  dead  saturated  support",
        "1 LIF           100  0.100  0.000  0.050  0.100  0.200  0.400   0 %        0 %     50 %",
        "3.11 CuBaLIF    100  0.100  0.000  0.050  0.100  0.200  0.400  50 %       50 %      5 %",
    ]
    for sick in ({"dead": 0.6}, {"saturated": 0.6}, {"support": 0.04}):
        report = Health((layer(), layer("3 LIF", **sick), layer("5 LIF", **sick)))
        (problem,) = report.layers[1].problems
        assert not report.healthy and report.layers[0].problems == ()
        assert problem.endswith(next(iter(sick)))
        assert str(report).splitlines()[-1].startswith(f"{problem}, in 3 LIF, 5 LIF: ")


# ------------------------------------------------------------------------------------------------------------- summary


def test_the_table_of_a_stack():
    """Nothing is computed: no random stream moves on, and a batch of any size costs nothing."""
    rngs = nnx.Rngs(0)
    inner = connect([linear(6, 5), ALIF(decay=Trainable(0.9), threshold=np.ones(5))], {0: [1]}, rngs=rngs)
    modules = [nnx.Conv(2, 4, (3, 3), rngs=rngs), lambda x: x.reshape(x.shape[0], -1), linear(96, 6), LIF()]
    modules += [Dropout(0.5, rngs=rngs), inner, nnx.LSTMCell(5, 3, rngs=rngs), lambda x: {"a": x, "b": x[:, 0]}]
    edges = [Edge(3, 2, delay=7), Edge(5, 2, synapse=linear(5, 6, use_bias=False)), Edge(0, 1, synapse=modules[1])]
    model = connect(modules, edges, rngs=rngs)
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.Not(nnx.RngKey)))
    found = summary(model, (B, 4, 6, 2))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model, nnx.Not(nnx.RngKey)), before)
    assert str(found).splitlines() == [
        "module      type      output           states                                parameters",
        "0           Conv      [3, 4, 6, 4]                                                   76",
        "1           <lambda>  [3, 96]                                                         0",
        "2           Linear    [3, 6]                                                        582",
        "3           LIF       [3, 6]           [3, 6], 7 steps of output                      0",
        "4           Dropout   [3, 6]           [3, 6]                                         0",
        "5           Connect   [3, 5]           1 step of output                              66",
        "5.0         Linear    [3, 5]                                                         35",
        "5.1         ALIF      [3, 5]           u [3, 5], a [3, 5], 1 step of output           1",
        "5.1 -> 5.0  Linear    [3, 5]           1 step late                                   30",
        "6           LSTMCell  [3, 3]           0 [3, 3], 1 [3, 3]                           108",
        "7           <lambda>  a [3, 3], b [3]                                                 0",
        "3 -> 2      Linear    [3, 6]           7 steps late                                  42",
        "5 -> 2      Linear    [3, 6]           1 step late                                   30",
        "0 -> 1      <lambda>  [3, 96]          within the step                                0",
        "total                                                                               904",
    ]
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    shared = linear(4, 4)
    found = summary(connect([shared, LIF(), shared]), (10**12, 4))
    assert ([row.parameters for row in found.modules], found.parameters) == ([20, 0, 20], 20)


# ------------------------------------------------------------------------------------------------------ initialization


def kernel_of(neuron, *shape, **options):
    return np.asarray(fluctuation_driven(neuron, **options)(jax.random.key(0), shape), np.float64)


@pytest.mark.parametrize("decay", [0.5, 0.995])
def test_moments_of_the_response_are_geometric_sums(decay):
    for dtype, steps in ((jnp.float32, None), (jnp.bfloat16, None), (jnp.float32, 1), (jnp.float32, 300)):
        neuron = LIF(decay=np.full(3, decay), param_dtype=dtype)
        used, long = float(neuron.decay.constant[0]), 10**6 if steps is None else steps
        expected = [(1 - used**long) / (1 - used), (1 - used ** (2 * long)) / (1 - used**2)]
        for ours, theirs in zip(impulse_moments(neuron, np.full(3, 2.0**-12), steps), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3)


class Resting(Neuron):
    """A leaky integrator that rests at 0.9, where two runs may stay apart by a few roundings."""

    threshold = 1.0

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.full(input_shape, 0.9)

    def __call__(self, carry, inputs):
        u = 0.135 + 0.85 * carry + inputs
        return u, u


def test_weights_follow_the_closed_form_for_each_neurons_threshold_and_decay():
    """Its mean and variance, with shares that add up; the response of a neuron that rests elsewhere is a difference."""
    n, rate, share, mean = 4000, 0.2, 0.4, 0.2
    decays, thresholds = np.linspace(0.3, 0.9, 50), np.linspace(2.0, 0.5, 50)
    weights = kernel_of(LIF(decay=decays, threshold=thresholds), n, 50, rate=rate, xi=2.0, mean=mean, share=share)
    mu = share * mean * (1 - decays) / (n * rate)
    variance = share * ((thresholds - mean) / 2.0) ** 2 * (1 - decays**2) / (n * rate * (1 - rate)) - mu**2
    assert np.abs((weights.mean(0) - mu) / np.sqrt(variance / n)).max() < 4.5
    np.testing.assert_allclose(weights.var(0), variance, rtol=5 * math.sqrt(2 / n))
    conv = kernel_of(LIF(decay=decays, threshold=thresholds), 5, 8, 100, 50, rate=rate, xi=2.0)
    np.testing.assert_allclose(conv.reshape(n, 50).var(0), (thresholds / 2) ** 2 * (1 - decays**2) / (n * 0.16),
                               rtol=5 * math.sqrt(2 / n))  # fmt: skip
    for ours, theirs in zip(
        impulse_moments(Resting(), np.full(1, 2.0**-12), None), (1 / 0.15, 1 / 0.2775), strict=True
    ):
        assert ours == pytest.approx(theirs, rel=1e-2)
    same = {"rate": 0.1, "xi": 2.0, "steps": 9}
    read_out = kernel_of(LI(decay=0.8), 5, 4, threshold=2.0, **same)
    np.testing.assert_array_equal(read_out, kernel_of(LIF(decay=0.8, threshold=2.0), 5, 4, **same))
    integrator = kernel_of(IF(), 3000, 20, rate=0.1, xi=2.0, steps=30)
    assert integrator.var() == pytest.approx(0.25 / (3000 * 0.09 * 30), rel=0.05)


def test_each_layer_of_a_deep_net_fires_where_flax_leaves_the_last_ones_dead():
    def rates(kernel_init):
        rngs = nnx.Rngs(0)
        pairs = [(nnx.Linear(80, 80, kernel_init=kernel_init, rngs=rngs), LIF()) for _ in range(5)]
        model = connect([module for pair in pairs for module in pair])
        x = (np.random.default_rng(1).random((60, 16, 80)) < 0.05).astype(np.float32)
        return [float(y.mean()) for y in outputs_of(model, x)[1::2]]

    usual, ours = rates(nnx.nn.linear.default_kernel_init), rates(fluctuation_driven(LIF(), rate=0.05))
    assert usual[0] > 0 and usual[-2:] == [0, 0]
    assert all(0.05 / 4 < rate < 0.05 * 8 for rate in ours)


class Trace(Neuron):
    """A user's neuron in the simplest style: states by name, and a membrane that is none of the names we know."""

    spikes, threshold = True, 1.0

    def __init__(self):
        super().__init__()
        self.spike_fn = arctan()

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"v": jnp.zeros(input_shape), "count": jnp.zeros(input_shape)}

    def __call__(self, carry, inputs):
        v = 0.5 * carry["v"] + inputs
        spikes = self.spike_fn(v - 1)
        return {"v": v - spikes, "count": carry["count"] + spikes}, spikes

    def membrane(self, carry):
        return carry["v"]


def test_analyses_take_a_users_neuron_at_its_word():
    model, x = connect([Trace()]), jnp.full((T, B, 4), 0.8)
    outputs = unroll(model, model.initialize_carry((B, 4)), x)[1]
    assert 0 < outputs.mean() < 1
    assert health(model, x).layers[0].rate == pytest.approx(float(outputs.mean()))
    found = complexity(model, x)
    assert found.activation_sparsity == pytest.approx(float(1 - outputs.mean()))
    assert found.membrane_updates > 0
    same = {"rate": 0.1}
    np.testing.assert_array_equal(kernel_of(Trace(), 20, 4, **same), kernel_of(LIF(decay=0.5), 20, 4, **same))
    made = jax.jit(lambda key: fluctuation_driven(LIF(decay=Trainable(0.5)), **same)(key, (30, 5)))(jax.random.key(0))
    np.testing.assert_allclose(made, kernel_of(LIF(decay=0.5), 30, 5, **same), rtol=1e-5)  # made inside a trace
    for dtype in (jnp.bfloat16, jnp.float16):
        assert fluctuation_driven(LIF(param_dtype=dtype), **same)(jax.random.key(0), (30, 5), dtype).dtype == dtype
