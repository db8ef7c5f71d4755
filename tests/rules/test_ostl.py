"""OSTL against the oracle's eligibility recursion, step by step, and against BPTT where the two must and must not agree."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from slax_neurons import LI, LIF, Neuron, Trainable, connect, unroll
from slax_rules import OSTL, Ruled, cross_entropy, gradients, ostl
from stacks import deviation, gradients_of, inputs, linear, pair, worst

T, B = 10, 3  # two windows of 5, so that one program serves both
LABELS = jnp.array([0, 3, 2])
RESETS = list(itertools.product(("subtract", "zero", "none"), (False, True)))
LAST = [{"kind": "lif", "reset": reset, "stop_reset_gradient": stop} for reset, stop in RESETS] + [{"kind": "li"}]


def lif(**options):
    return {"kind": "lif", "decay": 0.8, "threshold": 0.7, **options}


def ids(neuron):
    return "-".join(str(value) for value in neuron.values())


jitted = nnx.jit(gradients, static_argnames=("loss_fn", "window"))


def ours(model, window=None, steps=T):
    return gradients_of(model, jitted(model, cross_entropy, inputs(steps, B, 7), LABELS, window=window)[1])


def theirs(rule, layers, steps=T):
    return rule(layers, inputs(steps, B, 7), oracle.softmax_cross_entropy(LABELS)).gradients


@pytest.mark.parametrize("last", LAST, ids=ids)
def test_plain_cell_equals_bptt_of_the_oracle(last, x64):
    model, layers = pair([7, 6, 4], [lif(), last])
    assert worst(ours(model), theirs(oracle.bptt, layers)) < 1e-12


@pytest.mark.parametrize("window", [1, 3, 5])
def test_plain_cell_with_a_window_equals_tbptt_of_the_oracle(window, x64):
    model, layers = pair([7, 6, 4], [lif(), lif()])
    expected = oracle.tbptt(layers, inputs(T, B, 7), oracle.softmax_cross_entropy(LABELS), window).gradients
    assert worst(ours(model, window), expected) < 1e-12


@pytest.mark.parametrize("last", LAST[:1] + LAST[-1:], ids=ids)
def test_last_layer_is_exact_in_float32(last):
    model, _ = pair([7, 6, 4], [lif(), last], dtype=jnp.float32)
    x = inputs(T, B, 7, dtype=jnp.float32)
    online, exact = (jitted(m, cross_entropy, x, LABELS, window=w)[1] for m, w in ((ostl(model), 5), (model, None)))
    assert worst(gradients_of(model, online)[-1:], gradients_of(model, exact)[-1:]) < 1e-5


@pytest.mark.parametrize("only", LAST, ids=ids)
def test_one_layer_is_exact(only, x64):
    model, _ = pair([7, 4], [only])
    assert worst(ours(ostl(model), 5), ours(model)) < 1e-9


@pytest.mark.parametrize(("window", "jit"), [(1, nnx.jit), (5, lambda f: f)])
def test_forward_pass_is_bitwise_that_of_the_plain_cell(window, jit, x64, optimised):
    model, _ = pair([7, 6, 4], [lif(reset="zero"), {"kind": "li"}])
    x = inputs(T, B, 7)

    def run(model, x):
        return unroll(model, model.initialize_carry(x.shape[1:]), x, chunk=window)

    plain, ruled = jit(run)(model, x), jit(run)(ostl(model), x)
    np.testing.assert_array_equal(plain[1], ruled[1])
    for state, after in zip(plain[0][1::2], ruled[0].plain[1::2], strict=True):
        np.testing.assert_array_equal(state, after)


def test_forward_pass_under_the_gradient_is_bitwise_that_of_the_plain_cell(x64, optimised):
    """The loss of `gradients` comes from the forward pass that the custom reverse pass keeps its numbers from."""
    model, _ = pair([7, 6, 4], [lif(), {"kind": "li"}])
    x = inputs(T, B, 7)
    assert gradients(ostl(model), cross_entropy, x, LABELS, window=T)[0] == jitted(model, cross_entropy, x, LABELS)[0]


def test_autodiff_through_the_stock_rnn_is_the_same_gradient(x64):
    """Every step is a window, and no gradient passes from one to the next but through the rule."""
    model, layers = pair([7, 6, 4], [lif(), lif()])

    def loss(cell):
        return jnp.mean(cross_entropy(nnx.RNN(cell, time_major=True)(inputs(T, B, 7)), LABELS))

    assert worst(gradients_of(model, nnx.grad(loss)(ostl(model))), theirs(oracle.ostl, layers)) < 1e-12


def test_a_loss_on_the_last_state_reaches_the_block(x64):
    """The cotangent of the carry counts: exact for one layer, whatever the windows before."""
    model, _ = pair([7, 4], [lif()])

    def loss(cell):
        carry, _ = unroll(cell, cell.initialize_carry((B, 7)), inputs(T, B, 7), chunk=5)
        return sum(
            jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(carry.plain if isinstance(cell, Ruled) else carry)
        )

    assert worst(gradients_of(model, nnx.grad(loss)(ostl(model))), gradients_of(model, nnx.grad(loss)(model))) < 1e-12


@pytest.mark.parametrize("decay", [0.8, np.linspace(0.5, 0.9, 4)], ids=["number", "array"])
def test_synapse_without_bias_and_fixed_parameters(decay, x64):
    synapse = nnx.Linear(7, 4, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    model = connect([synapse, LIF(decay=decay, threshold=0.3, param_dtype=jnp.float64)])
    x = inputs(T, B, 7)
    exact, online = (jitted(m, cross_entropy, x, LABELS, window=w)[1] for m, w in ((model, None), (ostl(model), 5)))
    assert jax.tree.structure(online) == jax.tree.structure(nnx.state(model, nnx.Param))
    assert deviation(online["modules"][0]["kernel"][...], exact["modules"][0]["kernel"][...]) < 1e-12


def test_shared_synapse_gets_the_sum_of_both_places(x64):
    shared = linear(5, 5, 0)
    modules = [LIF(decay=d, threshold=0.5, param_dtype=jnp.float64) for d in (0.7, 0.9)]
    twice = connect([shared, modules[0], shared, modules[1]])
    apart = connect([shared, modules[0], linear(5, 5, 0), modules[1]])
    x = inputs(T, B, 5)
    both = jitted(ostl(twice), cross_entropy, x, LABELS, window=5)[1]["modules"][0]["kernel"][...]
    each = jitted(ostl(apart), cross_entropy, x, LABELS, window=5)[1]["modules"]
    assert deviation(both, each[0]["kernel"][...] + each[2]["kernel"][...]) < 1e-12


def test_bfloat16_currents_from_float32_weights():
    """Mixed precision: weights and their gradients in float32, everything that runs in bfloat16."""
    synapse = nnx.Linear(7, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model = connect([synapse, LI(param_dtype=jnp.bfloat16)])
    with jax.numpy_dtype_promotion("standard"):
        x = inputs(T, B, 7, dtype=jnp.bfloat16)
        exact, online = (
            gradients(m, cross_entropy, x, LABELS, window=w)[1] for m, w in ((model, None), (ostl(model), 5))
        )
    for mine, reference in zip(jax.tree.leaves(online), jax.tree.leaves(exact), strict=True):
        assert mine.dtype == jnp.float32
        assert deviation(mine, reference) < 0.05


BAD_WINDOWS = [
    (lambda cell: ((), jnp.zeros((B, 4))), (T, B, 7), "not a RuledCarry of 1 layers"),
    (lambda cell: cell.initialize_carry((B, 7)) * 2, (T, B, 7), "not a RuledCarry of 1 layers"),
    (lambda cell: cell.initialize_carry((B, 7)), (T, B, 6), "Linear, expects 7 features"),
    (lambda cell: cell.initialize_carry((2, 7)), (T, B, 7), r"carry of float32\[2, 4\]"),
    (lambda cell: cell.initialize_carry((B, 7)), (T, 7), r"expected \[T, B, features"),
]


@pytest.mark.parametrize(("carry", "shape", "message"), BAD_WINDOWS)
def test_bad_input_of_a_ruled_cell_is_an_error(carry, shape, message):
    cell = ostl(connect([linear(7, 4, 0, jnp.float32), LIF()]))
    with pytest.raises(ValueError, match=message):
        unroll(cell, carry(cell), jnp.zeros(shape))


def test_the_error_counts_modules_as_in_a_stack_written_out():
    cell = ostl(connect([connect([linear(7, 4, 0, jnp.float32), LIF()]), linear(5, 3, 0, jnp.float32), LI()]))
    whole = ostl(connect([linear(7, 4, 0, jnp.float32), LIF(), linear(4, 3, 0, jnp.float32), LI()]))
    with pytest.raises(ValueError, match="Module 2 of the stack, Linear, expects 5 features"):
        unroll(cell, whole.initialize_carry((B, 7)), jnp.zeros((T, B, 7)))


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
    exact = jitted(model, cross_entropy, x, LABELS)[1]["modules"]
    online = jitted(ostl(model), cross_entropy, x, LABELS, window=window)[1]["modules"]
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
        TypeError, match="traces the parameters of a Linear or Conv right before a neuron, got Linear as module 1"
    ):
        ostl(model)
    only = connect([lambda x: 2 * x, LIF(decay=Trainable(0.6), threshold=Trainable(0.5), param_dtype=jnp.float64)])
    exact, online = (jitted(m, cross_entropy, x, LABELS, window=w)[1] for m, w in ((only, None), (ostl(only), 5)))
    for mine, reference in zip(jax.tree.leaves(online), jax.tree.leaves(exact), strict=True):
        assert deviation(mine, reference) < 1e-12


def test_nesting_changes_nothing(x64):
    flat, _ = pair([7, 6, 5, 4], [lif(), lif(), {"kind": "li"}])
    modules = list(flat.modules)
    nested = connect([modules[0], connect([modules[1], connect(modules[2:4]), modules[4]]), modules[5]])
    x = inputs(T, B, 7)
    expected = jax.tree.leaves(jitted(ostl(flat), cross_entropy, x, LABELS, window=5)[1])
    got = jitted(ostl(nested), cross_entropy, x, LABELS, window=5)[1]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(nnx.state(nested, nnx.Param))]
    assert [path for path, _ in jax.tree_util.tree_leaves_with_path(got)] == paths
    for mine, reference in zip(jax.tree.leaves(got), expected, strict=True):
        assert deviation(mine, reference) < 1e-12


def test_a_block_under_the_rule_in_a_plain_stack(x64):
    """Mixed rules: the ruled block cuts its own past, the block above keeps its exact gradient."""
    model, _ = pair([7, 6, 4], [lif(), lif()])
    first, second = connect(list(model.modules)[:2]), list(model.modules)[2:]
    x = inputs(T, B, 7)
    _, mixed = jitted(connect([ostl(first), *second]), cross_entropy, x, LABELS)
    exact = ours(model)
    assert deviation(mixed["modules"][1]["kernel"][...], exact[1]["kernel"]) < 1e-12
    # Above, BPTT carries the signal through time, so the first layer sees more than under OSTL for the whole.
    assert deviation(mixed["modules"][0]["modules"][0]["kernel"][...], exact[0]["kernel"]) < 1e-12


def test_the_ruled_cell_shares_its_parameters():
    model, _ = pair([7, 4], [lif()], dtype=jnp.float32)
    ruled = ostl(model)
    assert ruled.modules[0].kernel is model.modules[0].kernel
    plain, mine = (jax.tree_util.tree_leaves_with_path(nnx.state(cell, nnx.Param)) for cell in (model, ruled))
    assert [path for path, _ in plain] == [path for path, _ in mine]


@pytest.mark.parametrize("by_block", [False, True])
def test_memory_does_not_grow_with_time(by_block, optimised):
    model = pair([7, 6, 4], [lif(), lif()], dtype=jnp.float32).model
    layers = [connect(list(model.modules)[:2]), connect(list(model.modules)[2:])]
    graphdef, state = nnx.split(connect([ostl(layer) for layer in layers]) if by_block else ostl(model))

    @jax.jit
    def gradient(state, x):
        return gradients(nnx.merge(graphdef, state), cross_entropy, x, LABELS)[1]

    def temporaries(steps):
        return gradient.lower(state, jnp.zeros((steps, B, 7))).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(4 * OSTL.default_window) == temporaries(16 * OSTL.default_window)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(), "OSTL got LIF, expected a stack made by connect"),
        (lambda: connect([linear(7, 4, 0, jnp.float32)]), "a stack without neurons"),
        (
            lambda: connect([nnx.LSTMCell(7, 4, rngs=nnx.Rngs(0)), LI()]),
            "treats element-wise neurons, got LSTMCell as module 0",
        ),
        (
            lambda: connect([linear(7, 4, 0, jnp.float32), nnx.LayerNorm(4, rngs=nnx.Rngs(0)), LIF()]),
            "got Linear as module 0, followed by LayerNorm",
        ),
        (
            lambda: connect([nnx.LoRALinear(7, 4, lora_rank=2, rngs=nnx.Rngs(0)), LIF()]),
            "got LoRALinear as module 0",
        ),
        (lambda: ostl(connect([linear(7, 4, 0, jnp.float32), LIF()])), "under OSTL already"),
        (lambda: connect([ostl(connect([linear(7, 4, 0, jnp.float32), LIF()])), LI()]), "under OSTL already"),
    ],
)
def test_what_the_rule_cannot_treat_is_an_error(make, message):
    with pytest.raises(TypeError, match=message):
        ostl(make())


def test_rules_of_equal_options_are_equal():
    assert OSTL() == OSTL()
