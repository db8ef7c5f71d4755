import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import ALIF, BRF, LI, LIF, LTC, AdLIF, CuBaLIF, boxcar, connect, fast_sigmoid, unroll
from slax_neurons.analysis.layer_health import _count, health
from slax_neurons.analysis.layer_health import Health, LayerHealth

T, B = 12, 3
SLOPE = 5.0
REACH = 9 / SLOPE  # 1 / (1 + slope |x|)^2 >= 1 % as long as |x| <= 9 / slope


def currents(*features, seed=0, steps=T):
    return jax.random.normal(jax.random.key(seed), (steps, B, *features)) + 0.3


def layers(report):
    """The numbers of each layer, without its name."""
    return [dataclasses.replace(layer, name="") for layer in report.layers]


def stack(*, nested=False, rngs=None):
    """Two layers that fire, and a read-out."""
    rngs = rngs or nnx.Rngs(0)
    first = [nnx.Linear(7, 5, rngs=rngs), LIF(threshold=0.3)]
    second = [nnx.Linear(5, 4, rngs=rngs), ALIF(threshold=0.2), nnx.Linear(4, 2, rngs=rngs), LI()]
    return connect([connect([*first, connect(second)])] if nested else [*first, *second])


def test_rates_dead_and_saturated_units_are_counted():
    """Four units: one that never fires, one that does once, one at all steps but one, one at every step."""
    x = np.zeros((10, 2, 4), np.float32)
    x[3, 1, 1] = x[:, :, 2:] = 1
    x[7, 0, 2] = 0
    only = health(connect([LIF(decay=0.1, reset="zero")]), jnp.asarray(x)).layers[0]
    rates = [0, 1 / 20, 19 / 20, 1]
    assert only.units == 4
    assert only.rate == np.mean(rates)
    assert only.quantiles == tuple(np.quantile(rates, [0, 0.25, 0.5, 0.75, 1]))
    assert (only.dead, only.saturated) == (1 / 4, 2 / 4)


@pytest.mark.parametrize(("saturation", "share"), [(0.05, 3 / 4), (0.06, 2 / 4), (0.96, 1 / 4)])
def test_saturation_is_a_share_of_the_steps(saturation, share):
    x = np.zeros((10, 2, 4), np.float32)
    x[3, 1, 1] = x[:, :, 2:] = 1
    x[7, 0, 2] = 0
    model = connect([LIF(decay=0.1, reset="zero")])
    assert health(model, jnp.asarray(x), saturation=saturation).layers[0].saturated == share


@pytest.mark.parametrize("level", [0.01, 0.25, 0.9])
def test_support_is_where_the_surrogate_keeps_that_share_of_its_peak(level):
    x = jnp.asarray(np.linspace(-3, 3, 999, dtype=np.float32))[None, None]
    reach = (1 / np.sqrt(level) - 1) / SLOPE
    for gamma in (0.3, 1.0, 20.0):
        surrogate = dataclasses.replace(fast_sigmoid(SLOPE), derivative=scaled(gamma))
        model = connect([LIF(threshold=1.0, spike_fn=surrogate)])
        expected = np.mean(np.abs(np.asarray(x, np.float64) - 1) <= reach)
        assert health(model, x, support_level=level).layers[0].support == pytest.approx(expected)


def scaled(gamma):
    return lambda x, slope: gamma / jnp.square(1 + slope * jnp.abs(x))


def test_a_surrogate_of_zero_gives_no_support():
    x = jnp.asarray([[[0.2, 0.9, 1.1, 1.9]]])
    assert health(connect([LIF(spike_fn=boxcar(width=0.5))]), x).layers[0].support == 1 / 2
    nothing = dataclasses.replace(boxcar(), derivative=lambda x, *_: jnp.zeros_like(x))
    assert health(connect([LIF(spike_fn=nothing)]), x).layers[0].support == 0


def ltc_margin(cell, carry, current):
    tau_m, tau_a = (
        jax.nn.sigmoid(gate(jnp.concatenate([current, state], -1)))
        for gate, state in ((cell.membrane_gate, carry.u), (cell.adaptation_gate, carry.b))
    )
    b = tau_a * carry.b + (1 - tau_a) * carry.s
    return (1 - tau_m) * carry.u + tau_m * current - cell.threshold - cell.beta * b


def brf_margin(cell, carry, current):
    damping = ((1 - 0.1**2) ** 0.5 - 1) / 0.01 - 1 - carry.q
    return carry.u + 0.01 * (damping * carry.u - 10 * carry.v + current) - 0.1 - carry.q


# The distance to the threshold at a step, from the state before it, by hand.
CELLS = {
    "LIF": (LIF(decay=0.8, spike_fn=fast_sigmoid(SLOPE)), lambda _, u, current: 0.8 * u + current - 1),
    "CuBaLIF": (
        CuBaLIF(synapse_decay=0.5, decay=0.8, spike_fn=fast_sigmoid(SLOPE), reset="zero"),
        lambda _, c, current: 0.8 * c.u + 0.5 * c.i + current - 1,
    ),
    "ALIF": (
        ALIF(decay=0.8, beta=2.0, spike_fn=fast_sigmoid(SLOPE), stop_reset_gradient=True),
        lambda _, c, current: 0.8 * c.u + current - 1 - 2 * c.a,
    ),
    "AdLIF": (
        AdLIF(decay=0.2, threshold=0.3, spike_fn=fast_sigmoid(SLOPE)),
        lambda _, c, current: 0.2 * c.u + 0.8 * (current - c.w) - 0.3,
    ),
    "BRF": (BRF(threshold=0.1, spike_fn=fast_sigmoid(SLOPE)), brf_margin),
    "LTC": (LTC(4, spike_fn=fast_sigmoid(SLOPE), rngs=nnx.Rngs(0)), ltc_margin),
}


@pytest.mark.parametrize("kind", CELLS)
def test_support_of_every_cell_is_that_of_its_distance_to_the_threshold(kind):
    """Whatever leads from the current to the membrane, a factor (1 - decay), a time step or a gate."""
    cell, margin = CELLS[kind]
    x = currents(4, steps=40) * (300 if kind == "BRF" else 2)
    carry, near = cell.initialize_carry((B, 4)), []
    for current in x:
        near.append(np.abs(margin(cell, carry, current)) <= REACH)
        carry, _ = cell(carry, current)
    assert 0.05 < np.mean(near) < 0.95
    assert health(connect([cell]), x).layers[0].support == pytest.approx(np.mean(near), abs=1e-6)


def test_rates_are_those_of_the_stack_and_others_are_left_out():
    model, x = stack(), currents(7)
    report = health(model, x)
    outputs = model.outputs(model.initialize_carry((B, 7)), x)[1]
    assert [layer.name for layer in report.layers] == ["1 LIF", "3 ALIF"]
    assert [layer.units for layer in report.layers] == [5, 4]
    for layer, index in zip(report.layers, (1, 3), strict=True):
        assert layer.rate == pytest.approx(float(outputs[index].mean()))
        assert 0 < layer.rate < 1


def test_nested_stacks_are_reported_layer_by_layer():
    x = currents(7)
    flat, nested = health(stack(), x), health(stack(nested=True), x)
    assert [layer.name for layer in nested.layers] == ["0.1 LIF", "0.2.1 ALIF"]
    assert layers(nested) == layers(flat)


@pytest.mark.parametrize("chunk", [1, 5, T, 100])
def test_the_chunk_changes_nothing(chunk):
    assert health(stack(), currents(7), chunk=chunk) == health(stack(), currents(7))


def test_without_jit_it_is_the_same_and_leaves_the_model_as_it_is():
    model = connect([nnx.BatchNorm(2, rngs=nnx.Rngs(0)), LIF(threshold=0.5)])
    x, before = currents(2, steps=3), jax.tree.map(np.asarray, nnx.state(model))
    compiled = health(model, x)
    with jax.disable_jit():
        assert health(model, x) == compiled
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)


def test_layers_of_a_recurrent_stack_see_what_comes_over_its_edges():
    """A delayed edge, a cycle, and a nested stack that is read late."""
    rngs = nnx.Rngs(0)
    inner = connect([nnx.Linear(5, 5, rngs=rngs), LIF(threshold=0.1)], {0: [1]}, rngs=rngs)
    model = connect([nnx.Linear(7, 5, rngs=rngs), LIF(threshold=0.1), inner], {0: [1, 2]}, rngs=rngs)
    x = currents(7)
    report = health(model, x, chunk=5)
    outputs = model.outputs(model.initialize_carry((B, 7)), x)[1]
    rates = [float(outputs[index].mean()) for index in (1, 2)]
    assert [layer.rate for layer in report.layers] == pytest.approx(rates)
    assert min(rates) > 0


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_padding_that_does_not_count_changes_nothing(chunk):
    """Of one sample, and of samples of different length: the mean of their numbers, weighted by their steps."""
    x, lengths = currents(7), np.array([T, 4, 7])
    mask = np.arange(T)[:, None] < lengths
    alone = [health(stack(nested=True), x[:length, i : i + 1]) for i, length in enumerate(lengths)]
    padded = health(stack(nested=True), x[:, 1:2], mask=mask[:, 1:2], chunk=chunk)
    assert padded == alone[1] != health(stack(nested=True), x[:, 1:2])
    together = health(stack(nested=True), x, mask=jnp.asarray(mask), chunk=chunk)
    for number, one in enumerate(together.layers):
        for name in ("rate", "support"):
            values = [getattr(each.layers[number], name) for each in alone]
            assert getattr(one, name) == pytest.approx(np.average(values, weights=lengths))
    assert health(stack(), x, mask=np.ones((T, B), bool)) == health(stack(), x)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (np.ones((B, T), bool), r"a mask of bool\[3, 12\], expected bool\[12, 3\], one entry for each step and sample"),
        (np.ones((T, B)), r"a mask of float64\[12, 3\], expected bool\[12, 3\]"),
        (np.zeros((T, B), bool), "a mask without a true entry, expected at least one step that counts"),
    ],
)
def test_a_mask_that_does_not_fit_is_an_error(mask, told, no_shape_checks):
    with pytest.raises(ValueError, match=told):
        health(stack(), currents(7), mask=mask)


def test_it_goes_on_from_a_carry():
    model, x = stack(), currents(7)
    carry, _ = unroll(model, model.initialize_carry((B, 7)), x[:5])
    first, rest, whole = health(model, x[:5]), health(model, x[5:], carry), health(model, x)
    for a, b, both in zip(first.layers, rest.layers, whole.layers, strict=True):
        for name in ("rate", "support"):
            assert 5 * getattr(a, name) + 7 * getattr(b, name) == pytest.approx(12 * getattr(both, name))
    assert health(model, x[5:]) != rest


def test_a_model_that_changes_itself_is_left_as_it_is():
    norm = nnx.BatchNorm(5, rngs=nnx.Rngs(0))
    model = connect([nnx.Linear(7, 5, rngs=nnx.Rngs(0)), norm, LIF(threshold=0.5)])
    x, before = currents(7), jax.tree.map(np.asarray, nnx.state(model))
    report = health(model, x, chunk=2)
    assert report == health(model, x, chunk=T)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)
    assert report.layers[0].rate == pytest.approx(float(unroll(model, model.initialize_carry((B, 7)), x)[1].mean()))


def test_units_of_a_convolution_are_its_sites_and_channels():
    conv = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0))
    assert health(connect([conv, LIF(threshold=0.1)]), currents(4, 5, 2)).layers[0].units == 4 * 5 * 3


def test_counts_are_exact_in_every_dtype():
    """More spikes than bfloat16 can count."""
    model = connect([LIF(threshold=0.5, param_dtype=jnp.bfloat16)])
    assert health(model, jnp.ones((400, B, 2), jnp.bfloat16), chunk=400).layers[0].rate == 1


def test_float64(x64):
    model = connect([LIF(param_dtype=jnp.float64)])
    assert 0 < health(model, currents(4)).layers[0].support < 1


def test_activity_is_kept_for_a_chunk_only():
    model, x = stack(), currents(7, steps=64)
    carry = model.initialize_carry((B, 7))
    text = str(jax.make_jaxpr(lambda x: _count(*nnx.split(model), carry, x, None, 0.01, 8))(x))
    assert f"[8,{B},5]" in text
    assert f"[64,{B},5]" not in text


def test_a_model_that_is_built_twice_is_traced_once():
    x = currents(7, steps=9)
    health(stack(), x)
    traced = _count._cache_size()
    health(stack(rngs=nnx.Rngs(1)), x)
    assert _count._cache_size() == traced


def layer(name="1 LIF", rate=0.1, dead=0.0, saturated=0.0, support=0.5):
    return LayerHealth(name, 100, rate, (0.0, 0.05, 0.1, 0.2, 0.4), dead, saturated, support)


@pytest.mark.parametrize(
    ("sick", "problem", "words"),
    [
        ({"dead": 0.6}, "dead", "never fire. Raise the weights .*=fluctuation_driven"),
        ({"saturated": 0.6}, "saturated", "fire at nearly every step. Lower the weights"),
        ({"support": 0.04}, "no support", "surrogate gradient is negligible .* Lower the spike function's slope"),
    ],
)
def test_report_says_which_layers_are_sick_and_what_helps(sick, problem, words):
    report = Health((layer(), layer("3 LIF", **sick), layer("5 LIF", **sick)))
    assert not report.healthy
    assert [each.problems for each in report.layers] == [(), (problem,), (problem,)]
    *table, hint = str(report).splitlines()
    assert len(table) == 4
    assert re.match(f"{problem}, in 3 LIF, 5 LIF: .*{words}", hint)


def test_report_of_a_healthy_stack_is_a_table_and_no_more():
    report = Health((layer(), layer("3.11 CuBaLIF", dead=0.5, saturated=0.5, support=0.05)))
    lines = str(report).splitlines()
    assert report.healthy
    assert lines == [
        "layer         units   rate    min   25 %   50 %   75 %    max  dead  saturated  support",
        "1 LIF           100  0.100  0.000  0.050  0.100  0.200  0.400   0 %        0 %     50 %",
        "3.11 CuBaLIF    100  0.100  0.000  0.050  0.100  0.200  0.400  50 %       50 %      5 %",
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: health(LIF(), currents(4)), TypeError, r"got LIF, expected a stack. Make one: connect\(\[...\]\)"),
        (
            lambda: health(connect([LI()]), currents(4)),
            ValueError,
            "without a spiking layer, expected a neuron that spikes",
        ),
        (lambda: health(connect([LIF()]), currents(4)[0]), ValueError, "expected \\[T, B, features...\\]"),
        (lambda: health(connect([LIF()]), currents(4), saturation=0.0), ValueError, "saturation=0.0, expected"),
        (lambda: health(connect([LIF()]), currents(4), support_level=1.5), ValueError, "support_level=1.5, expected"),
        (lambda: health(connect([LIF()]), currents(4), chunk=0), ValueError, "a length of 0 steps for a chunk"),
    ],
)
def test_what_cannot_be_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()
