"""Stacks whose last module puts out a tree of arrays, as two read-outs, and what may not be one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Edge, complexity, connect, health, unroll
from slax_neurons.building_blocks import apply_rows
from stacks import deviation, inputs, linear

T, B = 9, 3


class Heads(nnx.Module):
    """Two read-outs."""

    def __init__(self, n_in):
        self.one, self.other = linear(n_in, 2, 5), linear(n_in, 4, 6)

    def __call__(self, x):
        return {"one": self.one(x), "other": (self.other(x), x[:, 0])}


def layers(*last):
    return [linear(7, 6, 0), LIF(param_dtype=jnp.float64), *last]


STACKS = {
    "a chain": lambda: connect(layers(Heads(6))),
    "a recurrent layer below": lambda: connect(layers(Heads(6)), {0: [1]}, rngs=nnx.Rngs(1)),
    "in a nested stack": lambda: connect([connect(layers()), connect([linear(6, 6, 2), Heads(6)])]),
}


def plain(model, x):
    """The stack without its heads, and then these."""
    heads = model.modules[-1]
    if isinstance(heads, Heads):
        below = unroll(connect_like(model), model.initialize_carry((B, 7))[:-1], x)[1]
    else:
        below = heads.modules[0](unroll(model.modules[0], model.modules[0].initialize_carry((B, 7)), x)[1])
        heads = heads.modules[1]
    rows = below.reshape(T * B, 6)
    return jax.tree.map(lambda y: y.reshape(T, B, *y.shape[1:]), heads(rows))


def connect_like(model):
    edges = [Edge(edge.sender, edge.receiver, synapse=s) for edge, s in zip(model.edges, model.synapses, strict=True)]
    return connect(list(model.modules)[:-1], edges)


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("options", [{}, {"chunk": 1}, {"chunk": 4}, {"chunk": 4, "remat": True}], ids=str)
def test_each_leaf_is_that_of_the_module_alone(name, options, x64):
    model, x = STACKS[name](), inputs(T, B, 7)
    outputs = unroll(model, model.initialize_carry((B, 7)), x, **options)[1]
    expected = plain(model, x)
    assert jax.tree.structure(outputs) == jax.tree.structure(expected)
    assert [leaf.shape for leaf in jax.tree.leaves(outputs)] == [(T, B, 2), (T, B, 4), (T, B)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), outputs, expected)


@pytest.mark.parametrize("name", STACKS)
def test_a_step_and_the_stock_rnn_give_the_same(name, x64):
    model, x = STACKS[name](), inputs(T, B, 7)
    carry, steps = model.initialize_carry((B, 7)), []
    expected = unroll(model, carry, x)
    stock = nnx.RNN(model, time_major=True, return_carry=True)(x)
    for x_t in x:
        carry, y = model(carry, x_t)
        steps.append(y)
    stepped = carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)
    for ours in (stock, stepped):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), ours, expected)


def test_gradients_of_all_heads_do_not_depend_on_the_chunk(x64):
    def loss(model, chunk):
        outputs = unroll(model, model.initialize_carry((B, 7)), inputs(T, B, 7), chunk=chunk)[1]
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(outputs))

    model = STACKS["a recurrent layer below"]()
    ours, theirs = nnx.grad(loss)(model, 2), nnx.grad(loss)(model, T)
    assert max(jax.tree.leaves(jax.tree.map(deviation, ours, theirs))) < 1e-11
    assert all(leaf.any() for leaf in jax.tree.leaves(theirs))


def test_the_outputs_of_all_modules_have_the_tree_last(x64):
    model, x = STACKS["a recurrent layer below"](), inputs(T, B, 7)
    outputs = model.outputs(model.initialize_carry((B, 7)), x)[1]
    assert isinstance(outputs[-1], dict)
    np.testing.assert_array_equal(outputs[-1]["other"][1], outputs[1][..., 0])


def test_analyses_take_such_a_stack():
    model = connect([nnx.Linear(7, 6, rngs=nnx.Rngs(0)), LIF(threshold=0.3), lambda x: (x, -x)])
    x = inputs(T, B, 7, dtype=jnp.float32)
    assert health(model, x).layers[0].units == 6
    assert complexity(model, x).dense == T * 42


def test_rows_of_every_leaf_are_checked():
    def rows(module):
        return lambda: apply_rows(module, jnp.ones((T, B, 4)))

    assert jax.tree.map(jnp.shape, apply_rows(lambda x: [x, x[:, :2]], jnp.ones((T, B, 4)))) == [(T, B, 4), (T, B, 2)]
    for call, made in (
        (rows(lambda x: {"good": x, "bad": x.sum(0)}), r"\[4\], \[27, 4\]"),
        (rows(lambda x: (x, 1.0)), r"\[27, 4\], \[\]"),
        (rows(lambda x: None), "nothing"),
    ):
        with pytest.raises(ValueError, match=rf"made {made} of 27 rows, expected one row of output for each row"):
            call()


@pytest.mark.parametrize(
    ("modules", "edges", "index"),
    [
        ([lambda x: {"a": x}, LI()], None, 0),
        ([connect([lambda x: (x, x)]), LI()], None, 0),
        ([jnp.tanh, lambda x: [x]], [Edge(0, 1, synapse=jnp.tanh)], 1),
        ([jnp.tanh, lambda x: [x]], [Edge(1, 0, synapse=jnp.tanh)], 1),
        ([jnp.tanh, lambda x: [x]], [Edge(1, 1, synapse=jnp.tanh)], 1),
    ],
)
def test_a_tree_that_something_reads_or_adds_to_is_an_error(modules, edges, index):
    model = connect(modules, edges)
    with pytest.raises(
        TypeError, match=rf"Module {index} of the stack outputs a \w+, expected an array, .* the last module"
    ):
        model.initialize_carry((B, 4))


def test_it_is_an_error_for_a_carry_of_another_stack_too():
    model, x = connect([lambda x: {"a": x}, LI()]), jnp.ones((T, B, 4))
    carry = connect([jnp.tanh, LI()]).initialize_carry((B, 4))
    for run in (lambda: unroll(model, carry, x), lambda: model(carry, x[0])):
        with pytest.raises(TypeError, match="Module 0 of the stack outputs a dict, expected an array"):
            run()
    model = connect([jnp.tanh, lambda x: [x]], [Edge(0, 1, synapse=jnp.tanh)])
    with pytest.raises(TypeError, match="Module 1 of the stack outputs a list, expected an array"):
        unroll(model, ((), ()), x)
    model = connect([jnp.tanh, jnp.tanh], [Edge(0, 1, synapse=lambda x: [x])])
    with pytest.raises(TypeError, match="edge"):
        unroll(model, ((), ()), x)
