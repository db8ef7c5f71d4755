"""Laws that hold for each rule in the table: a new line there is tested here."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import Connect, connect, unroll
from slax_rules import RULES, Ruled, cross_entropy, gradients, local_losses, train_online
from stacks import deviation, inputs, pair

T, B = 6, 3
LABELS = np.array([0, 3, 2])
SAME = 1e-11
EDGES = [(0, 0, 1), (1, 0, 1)]
OWN_EDGES = [(0, 0, 1)]

# Rules whose cell is the plain one, where the window or the optimiser is the rule; those that draw random numbers; that of
# which the outputs are not the model's; those that carry all influence of a layer, of which there is one size.
PLAIN = {"bptt", "tbptt", "fptt"}
RANDOM = {"uoro"}
OTHER_OUTPUTS = {"decolle"}
each = pytest.mark.parametrize("name", RULES)
in_the_cell = pytest.mark.parametrize("name", [name for name in RULES if name not in PLAIN])
deterministic = pytest.mark.parametrize("name", [name for name in RULES if name not in RANDOM])


class Subject(NamedTuple):
    """A model, the cell under the rule, and the loss of the cell's outputs."""

    model: Connect
    cell: nnx.RNNCellBase
    loss: object


def subject(name, *, edges=(), dtype=jnp.float32, n_in=5, fixed=True):
    """A layer of LIF and a read-out that integrates. The neurons have no parameters, which pp-prop takes none of."""
    neurons = [
        {"kind": "lif", "decay": 0.8, "threshold": 0.7, "fixed": fixed},
        {"kind": "li", "decay": 0.9, "fixed": fixed},
    ]
    model = pair([n_in, 4, 4], neurons, edges=list(edges), dtype=dtype).model
    return under(name, model, n_in)


def under(name, model, n_in=5):
    given = {"rngs": nnx.Rngs(3), "input_shape": (n_in,), "n_outputs": 4}
    cell = RULES[name].wrap(model, **{option: given[option] for option in RULES[name].options})
    return Subject(model, cell, local_losses(cross_entropy) if name in OTHER_OUTPUTS else cross_entropy)


def edges_of(name):
    return OWN_EDGES if name == "ostl_with_recurrence" else EDGES


@functools.cache
def program(loss):
    """One program for each rule, shape of input and length of window; `scale` multiplies the loss."""

    def scaled(cell, scale, x, labels, window):
        return gradients(cell, lambda y, t: scale * loss(y, t), x, labels, window=window)

    return nnx.jit(scaled, static_argnames="window")


def run(name, subject, x, window=None, *, scale=1.0, labels=LABELS):
    window = RULES[name].window if window is None else window
    return program(subject.loss)(subject.cell, jnp.asarray(scale, x.dtype), x, labels, window=window)[1]


def furthest(ours, theirs):
    return max(deviation(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def paths(cell):
    return [path for path, _ in nnx.to_flat_state(nnx.state(cell, nnx.Param))]


@each
def test_every_line_of_the_table_is_complete(name):
    rule = RULES[name]
    for field in dataclasses.fields(rule):
        if field.type in (str, "str"):
            text = getattr(rule, field.name)
            assert text.strip() == text, field.name
            assert text, field.name
    assert rule.exact == (name in ("bptt", "rtrl"))


@each
def test_parameters_are_those_of_the_model_at_the_same_paths(name):
    model, cell, _ = subject(name, edges=edges_of(name))
    assert paths(cell) == paths(model)
    for mine, plain in zip(*(jax.tree.leaves(nnx.state(c, nnx.Param)) for c in (cell, model)), strict=True):
        assert mine is plain
    before = cell.modules[0].kernel[...] if isinstance(cell, Connect) else None
    model.modules[0].kernel[...] = model.modules[0].kernel[...] + 1
    if before is not None:
        np.testing.assert_array_equal(cell.modules[0].kernel[...], before + 1)


@pytest.mark.parametrize("wired", [False, True], ids=["chain", "edges"])
def test_rule_leaves_forward_pass_unchanged(wired, optimised):
    """Bit for bit, for all rules whose outputs are the model's."""
    compiled = nnx.jit(lambda cell, x: unroll(cell, cell.initialize_carry(x.shape[1:]), x, chunk=T)[1])
    x = inputs(T, B, 5, dtype=jnp.float32)
    for name in RULES.keys() - PLAIN - OTHER_OUTPUTS:
        model, cell, _ = subject(name, edges=edges_of(name) if wired else ())
        outputs = compiled(model, x)
        assert outputs.any()
        np.testing.assert_array_equal(compiled(cell, x), outputs, err_msg=name)


@deterministic
def test_gradient_is_a_linear_function_of_the_loss_in_the_structure_of_the_parameters(name, x64):
    """Also: the first kernel gets none from silence, and the order of samples is of no account."""
    one = subject(name, edges=edges_of(name), dtype=jnp.float64)
    x = inputs(T, B, 5)
    gradient, parameters = run(name, one, x), nnx.state(one.model, nnx.Param)
    assert jax.tree.structure(gradient) == jax.tree.structure(parameters)
    for mine, parameter in zip(jax.tree.leaves(gradient), jax.tree.leaves(parameters), strict=True):
        assert (mine.shape, mine.dtype) == (parameter.shape, parameter.dtype)
        assert mine.any()
    assert furthest(run(name, one, x, scale=3.0), jax.tree.map(lambda g: 3 * g, gradient)) < SAME
    order = np.array([2, 0, 1])
    assert furthest(run(name, one, x[:, order], labels=LABELS[order]), gradient) < SAME
    silent = run(name, one, jnp.zeros_like(x))
    assert not silent["modules"][0]["kernel"][...].any()
    assert silent["modules"][0]["bias"][...].any()


@in_the_cell
def test_gradient_is_the_same_for_every_window(name, x64):
    x = inputs(T, B, 5)
    edges, fixed = edges_of(name), name == "pp_prop"
    ones, pieces = (run(name, subject(name, edges=edges, dtype=jnp.float64, fixed=fixed), x, K) for K in (1, 4))
    assert furthest(pieces, ones) < SAME


@pytest.mark.parametrize("name", [name for name in RULES if name not in PLAIN | RANDOM])
def test_steps_online_at_constant_parameters_sum_to_the_deferred_gradient(name, x64):
    """T15 of the rules: an optimiser that adds gradients up and moves nothing."""
    _, cell, loss = subject(name, edges=edges_of(name), dtype=jnp.float64, fixed=name == "pp_prop")
    adds_up = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda gradient, so_far, params: (
            jax.tree.map(jnp.zeros_like, gradient),
            jax.tree.map(jnp.add, so_far, gradient),
        ),
    )
    optimizer = nnx.Optimizer(cell, adds_up, wrt=nnx.Param)
    x = inputs(T, B, 5)
    nnx.jit(train_online, static_argnames=("loss_fn", "window"))(cell, optimizer, loss, x, LABELS, window=2)
    deferred = nnx.jit(gradients, static_argnames=("loss_fn", "window"))(cell, loss, x, LABELS, window=2)[1]
    summed = jax.tree.map(lambda total: total * 2 / T, jax.tree.leaves(nnx.state(optimizer.opt_state)))
    assert furthest(summed, deferred) < SAME


@pytest.mark.parametrize("name", [name for name in RULES if name not in PLAIN | RANDOM | {"pp_prop"}])
def test_layer_without_synapse_is_the_neuron_on_its_inputs(name, x64):
    """A LIF that reads the inputs themselves: its gradients are those of a layer whose kernel is the identity.

    Not for pp-prop, which has none for parameters of a neuron, nor UORO, whose draws are other ones.
    """
    neuron = {"kind": "lif", "decay": 0.8, "threshold": 0.7}
    model = pair([5, 5, 4], [neuron, {"kind": "li"}], dtype=jnp.float64, use_bias=False).model
    model.modules[0].kernel[...] = jnp.eye(5)
    x = inputs(T, B, 5)
    ours, theirs = (run(name, under(name, one), x)["modules"] for one in (connect(model.modules[1:]), model))
    assert furthest([ours[index] for index in ours], [theirs[index + 1] for index in ours]) < SAME


@pytest.mark.parametrize("name", [name for name in RULES if name not in OTHER_OUTPUTS])
def test_sequence_of_one_step_is_bptt(name, x64):
    one = subject(name, edges=edges_of(name), dtype=jnp.float64, fixed=name == "pp_prop")
    x = inputs(1, B, 5)
    exact = run("bptt", one._replace(cell=one.model), x)
    assert furthest(run(name, one, x), exact) < SAME


def test_memory_does_not_grow_with_time(optimised):
    """XLA's temporaries of 4 and of 16 windows, for all rules that work layer by layer."""
    cells = {name: subject(name) for name in RULES}
    for name, (_, cell, loss) in cells.items():
        if isinstance(cell, Ruled):
            assert temporaries(cell, loss, 4) == temporaries(cell, loss, 16), name


def temporaries(cell, loss, windows):
    graphdef, state = nnx.split(cell)

    @jax.jit
    def gradient(state, x):
        return gradients(nnx.merge(graphdef, state), loss, x, jnp.asarray(LABELS), window=8)[1]

    return gradient.lower(state, jnp.zeros((8 * windows, B, 5))).compile().memory_analysis().temp_size_in_bytes


@in_the_cell
def test_stock_rnn_runs_the_cell(name):
    """Step by step, with the outputs of whole windows up to the order of summation."""
    cell = subject(name).cell
    x = inputs(T, B, 5, dtype=jnp.float32)
    outputs = nnx.RNN(cell, time_major=True)(x)
    expected = unroll(cell, cell.initialize_carry(x.shape[1:]), x)[1]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@each
def test_jit_traces_once(name):
    """A second call with other numbers compiles nothing."""
    one = subject(name)
    traced = 0

    @nnx.jit
    def gradient(cell, x):
        nonlocal traced
        traced += 1
        return gradients(cell, one.loss, x, jnp.asarray(LABELS), window=RULES[name].window)[1]

    for seed in range(2):
        gradient(one.cell, inputs(T, B, 5, seed, jnp.float32))
    assert traced == 1
