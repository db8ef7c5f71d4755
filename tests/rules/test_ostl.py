"""OSTL against the oracle's eligibility recursion, step by step, and against BPTT where the two must and must not agree."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from slax_neurons import LI, LIF, Neuron, Trainable, connect, unroll
from slax_neurons.engine import StepSize, scan_chunks
from slax_rules import BPTT, OSTL, OTTT, TBPTT, cross_entropy, gradients
from slax_rules.layerwise.passes import as_rule
from stacks import deviation, gradients_of, inputs, linear, pair, worst

T, B = 10, 3  # two windows of 5, so that one program serves both
LABELS = jnp.array([0, 3, 2])
RESETS = list(itertools.product(("subtract", "zero", "none"), (False, True)))
LAST = [{"kind": "lif", "reset": reset, "stop_reset_gradient": stop} for reset, stop in RESETS] + [{"kind": "li"}]


def lif(**options):
    return {"kind": "lif", "decay": 0.8, "threshold": 0.7, **options}


def ids(neuron):
    return "-".join(str(value) for value in neuron.values())


EXACT = BPTT()


def found_by(rule, model, x, window=5):
    return gradients(model, cross_entropy, x, LABELS, rule=rule, window=window)[1]


def ours(model, rule=EXACT, window=5, steps=T):
    return gradients_of(model, found_by(rule, model, inputs(steps, B, 7), window))


def theirs(rule, layers, steps=T):
    return rule(layers, inputs(steps, B, 7), oracle.softmax_cross_entropy(LABELS)).gradients


@pytest.mark.parametrize("last", LAST, ids=ids)
def test_bptt_is_that_of_the_oracle(last, x64):
    model, layers = pair([7, 6, 4], [lif(), last])
    assert worst(ours(model), theirs(oracle.bptt, layers)) < 1e-12


@pytest.mark.parametrize("window", [1, 3, 5])
def test_tbptt_is_that_of_the_oracle(window, x64):
    """Whatever the window: it has steps of its own."""
    model, layers = pair([7, 6, 4], [lif(), lif()])
    expected = oracle.tbptt(layers, inputs(T, B, 7), oracle.softmax_cross_entropy(LABELS), window).gradients
    assert worst(ours(model, TBPTT(steps=window)), expected) < 1e-12


@pytest.mark.parametrize("last", LAST[:1] + LAST[-1:], ids=ids)
def test_last_layer_is_exact_in_float32(last):
    model, _ = pair([7, 6, 4], [lif(), last], dtype=jnp.float32)
    x = inputs(T, B, 7, dtype=jnp.float32)
    online, exact = (found_by(rule, model, x) for rule in (OSTL(), BPTT()))
    assert worst(gradients_of(model, online)[-1:], gradients_of(model, exact)[-1:]) < 1e-5


@pytest.mark.parametrize("only", LAST, ids=ids)
def test_one_layer_is_exact(only, x64):
    model, _ = pair([7, 4], [only])
    assert worst(ours(model, OSTL()), ours(model)) < 1e-9


@pytest.mark.parametrize("window", [1, 5])
def test_forward_pass_of_windows_is_bitwise_that_of_the_plain_cell(window, x64, optimized):
    model, _ = pair([7, 6, 4], [lif(reset="zero"), {"kind": "li"}])
    x, rule = inputs(T, B, 7), as_rule(OSTL())
    plan, carry = rule.plan(model, (7,)), model.initialize_carry((B, 7))
    start = rule.initialize(plan, model, carry, jax.ShapeDtypeStruct((B, 7), x.dtype))
    graphdef, params = nnx.split(model)

    @jax.jit
    def plain(params, x):
        return unroll(nnx.merge(graphdef, params), carry, x, chunk=window)

    @jax.jit
    def under(params, x):
        copy = nnx.merge(graphdef, params)

        def step(state, piece):
            heads, state = rule.forward(plan, copy, state, piece)
            return state, heads.outputs

        return scan_chunks(step, start, x, window)

    (end, outputs), (state, heads) = plain(params, x), under(params, x)
    np.testing.assert_array_equal(outputs, heads)
    jax.tree.map(np.testing.assert_array_equal, state.carries, end)


def test_forward_pass_under_the_gradient_is_bitwise_that_of_the_plain_cell(x64, optimized):
    model, _ = pair([7, 6, 4], [lif(), {"kind": "li"}])
    x = inputs(T, B, 7)
    ours, plain = (gradients(model, cross_entropy, x, LABELS, rule=rule, window=T)[0] for rule in (OSTL(), BPTT()))
    assert ours == plain


@pytest.mark.parametrize("decay", [0.8, np.linspace(0.5, 0.9, 4)], ids=["number", "array"])
def test_synapse_without_bias_and_fixed_parameters(decay, x64):
    synapse = nnx.Linear(7, 4, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    model = connect([synapse, LIF(decay=decay, threshold=0.3, param_dtype=jnp.float64)])
    x = inputs(T, B, 7)
    exact, online = (found_by(rule, model, x) for rule in (BPTT(), OSTL()))
    assert jax.tree.structure(online) == jax.tree.structure(nnx.state(model, nnx.Param))
    assert deviation(online["modules"][0]["kernel"][...], exact["modules"][0]["kernel"][...]) < 1e-12


def test_shared_synapse_gets_the_sum_of_both_places(x64):
    shared = linear(5, 5, 0)
    modules = [LIF(decay=d, threshold=0.5, param_dtype=jnp.float64) for d in (0.7, 0.9)]
    twice = connect([shared, modules[0], shared, modules[1]])
    apart = connect([shared, modules[0], linear(5, 5, 0), modules[1]])
    x = inputs(T, B, 5)
    both = found_by(OSTL(), twice, x)["modules"][0]["kernel"][...]
    each = found_by(OSTL(), apart, x)["modules"]
    assert deviation(both, each[0]["kernel"][...] + each[2]["kernel"][...]) < 1e-12


def test_bfloat16_currents_from_float32_weights():
    """Mixed precision: weights and their gradients in float32, everything that runs in bfloat16."""
    synapse = nnx.Linear(7, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model = connect([synapse, LI(param_dtype=jnp.bfloat16)])
    with jax.numpy_dtype_promotion("standard"):
        x = inputs(T, B, 7, dtype=jnp.bfloat16)
        exact, online = (found_by(rule, model, x) for rule in (BPTT(), OSTL()))
    for mine, reference in zip(jax.tree.leaves(online), jax.tree.leaves(exact), strict=True):
        assert mine.dtype == jnp.float32
        assert deviation(mine, reference) < 0.05


BAD_INPUT = [
    (lambda model: ((),), (T, B, 7), "a carry of 1 for 2 modules"),
    (lambda model: list(model.initialize_carry((B, 7))), (T, B, 7), "a carry of list for 2 modules"),
    (lambda model: model.initialize_carry((B, 7)) * 2, (T, B, 7), "a carry of 4 for 2 modules"),
    (lambda model: model.initialize_carry((B, 7)), (T, B, 6), "Linear, expects 7 features"),
    (lambda model: model.initialize_carry((2, 7)), (T, B, 7), r"carry of float32\[2, 4\]"),
    (lambda model: model.initialize_carry((B, 7)), (T, 7), r"expected \[T, B, features"),
]


@pytest.mark.parametrize(("carry", "shape", "message"), BAD_INPUT)
def test_bad_input_under_the_rule_is_an_error(carry, shape, message):
    model = connect([linear(7, 4, 0, jnp.float32), LIF()])
    with pytest.raises(ValueError, match=message):
        gradients(model, cross_entropy, jnp.zeros(shape), LABELS, rule=OSTL(), carry=carry(model))


def test_the_error_counts_modules_as_in_a_stack_written_out():
    first = [linear(7, 4, 0, jnp.float32), LIF()]
    model = connect([connect(first), linear(5, 3, 0, jnp.float32), LI()])
    carry = connect([connect(first), linear(4, 3, 0, jnp.float32), LI()]).initialize_carry((B, 7))
    with pytest.raises(ValueError, match="Module 2 of the stack, Linear, expects 5 features"):
        gradients(model, cross_entropy, jnp.zeros((T, B, 7)), LABELS, rule=OSTL(), carry=carry)


class TwoStates(Neuron):
    """A neuron of a user: a filtered current and an adapting threshold, coupled both ways, two states of two kinds."""

    def __init__(self):
        super().__init__(param_dtype=jnp.float64)
        self.rate = nnx.Param(jnp.array([0.3, 0.4, 0.5, 0.6], jnp.float64))
        self.gain = nnx.Param(jnp.array(0.7, jnp.float64))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"v": jnp.zeros(input_shape, jnp.float64), "w": jnp.zeros(input_shape, jnp.float64)}

    def __call__(self, carry, inputs):
        v = self.rate[...][None] * carry["v"] + self.gain * inputs - 0.3 * carry["w"]
        spikes = LIF().spike_fn(v - 0.5 - 0.2 * carry["w"])
        return {"v": v - spikes, "w": 0.9 * carry["w"] + 0.5 * spikes * v}, spikes


@pytest.mark.parametrize("window", [1, 5, T])
def test_any_element_wise_neuron_is_exact_as_last_layer(window, x64):
    hidden, _ = pair([7, 6], [lif()])
    model = connect([*hidden.modules, linear(6, 4, 1), TwoStates()])
    x = inputs(T, B, 7)
    exact = found_by(BPTT(), model, x)["modules"]
    online = found_by(OSTL(), model, x, window)["modules"]
    for index in (2, 3):
        for mine, reference in zip(jax.tree.leaves(online[index]), jax.tree.leaves(exact[index]), strict=True):
            assert deviation(mine, reference) < 1e-11
    assert deviation(online[0]["kernel"][...], exact[0]["kernel"][...]) > 0.1


def test_neuron_without_synapse_and_modules_without_parameters(x64):
    """A neuron on the bare input, a function between layers, a nested stack: all exact in the last block."""
    hidden = connect([LIF(decay=Trainable(0.6), threshold=Trainable(0.5), param_dtype=jnp.float64), linear(7, 6, 0)])
    model = connect(
        [hidden, lambda x: jnp.tanh(x), LIF(decay=Trainable(0.8), threshold=Trainable(0.3), param_dtype=jnp.float64)]
    )
    x = inputs(T, B, 7)
    with pytest.raises(
        TypeError,
        match=r"traces the parameters of a synapse \(Linear, Conv, .* right before a neuron, got Linear as module 1",
    ):
        found_by(OSTL(), model, x)
    only = connect([lambda x: 2 * x, LIF(decay=Trainable(0.6), threshold=Trainable(0.5), param_dtype=jnp.float64)])
    exact, online = (found_by(rule, only, x) for rule in (BPTT(), OSTL()))
    for mine, reference in zip(jax.tree.leaves(online), jax.tree.leaves(exact), strict=True):
        assert deviation(mine, reference) < 1e-12


def test_nesting_changes_nothing(x64):
    flat, _ = pair([7, 6, 5, 4], [lif(), lif(), {"kind": "li"}])
    modules = list(flat.modules)
    nested = connect([modules[0], connect([modules[1], connect(modules[2:4]), modules[4]]), modules[5]])
    x = inputs(T, B, 7)
    expected = jax.tree.leaves(found_by(OSTL(), flat, x))
    got = found_by(OSTL(), nested, x)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(nnx.state(nested, nnx.Param))]
    assert [path for path, _ in jax.tree_util.tree_leaves_with_path(got)] == paths
    for mine, reference in zip(jax.tree.leaves(got), expected, strict=True):
        assert deviation(mine, reference) < 1e-12


def test_memory_does_not_grow_with_time(optimized):
    graphdef, state = nnx.split(pair([7, 6, 4], [lif(), lif()], dtype=jnp.float32).model)

    @jax.jit
    def gradient(state, x):
        return gradients(nnx.merge(graphdef, state), cross_entropy, x, LABELS, rule=OSTL())[1]

    def temporaries(steps):
        return gradient.lower(state, jnp.zeros((steps, B, 7))).compile().memory_analysis().temp_size_in_bytes

    steps = OSTL().default_window(StepSize(4 * B * 7, 7))
    assert temporaries(4 * steps) == temporaries(16 * steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(), "OSTL got LIF, expected a stack made by connect"),
        (lambda: connect([linear(7, 4, 0, jnp.float32)]), "a stack without neurons"),
        (
            lambda: connect([nnx.LSTMCell(7, 4, rngs=nnx.Rngs(0)), LI()]),
            "handles element-wise neurons, got LSTMCell as module 0",
        ),
        (
            lambda: connect([linear(7, 4, 0, jnp.float32), nnx.LayerNorm(4, rngs=nnx.Rngs(0)), LIF()]),
            "got Linear as module 0, followed by LayerNorm",
        ),
        (
            lambda: connect([nnx.LoRALinear(7, 4, lora_rank=2, rngs=nnx.Rngs(0)), LIF()]),
            "got LoRALinear as module 0",
        ),
    ],
)
def test_what_the_rule_cannot_treat_is_an_error(make, message):
    with pytest.raises(TypeError, match=message):
        found_by(OSTL(), make(), jnp.zeros((T, B, 7)))


def test_rules_of_equal_options_are_equal():
    assert OSTL() == OSTL()
    assert OSTL() != OSTL(recurrence=True)
    assert hash(OSTL()) == hash(OSTL())


def test_default_windows_are_twice_the_width_within_bounds_of_memory_and_equally_long():
    def window(batch, width, steps, rule=OSTL):
        rngs = nnx.Rngs(0)
        model = connect([nnx.Linear(width, width, rngs=rngs), LIF()])
        return as_rule(rule()).offline_window(None, model, jnp.zeros((steps, batch, width)))

    assert window(32, 128, 1024) == 256  # as long as twice the width: arrays of 4 MB
    assert window(8, 128, 1024) == 1024  # arrays of less than 4 MB
    assert window(32, 512, 1024) == 256  # twice the width would have arrays of 64 MB
    assert window(64, 1024, 1024) == 128  # at least
    assert window(32, 128, 300) == 300 and window(32, 128, 1000) == 250
    assert window(32, 128, 1024, OTTT) == 64  # as of a chunk: arrays of about 1.5 MB
