"""The table of a stack's modules: shapes, states and parameters are those of the stack when it runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import ALIF, LIF, Dropout, Edge, Summary, Trainable, connect, summary

B = 3


def rngs():
    return nnx.Rngs(0)


def everything():
    inner = connect(
        [nnx.Linear(6, 5, rngs=rngs()), ALIF(decay=Trainable(0.9), threshold=np.ones(5))], {0: [1]}, rngs=rngs()
    )
    return connect(
        [
            nnx.Conv(2, 4, (3, 3), rngs=rngs()),
            functools.partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2)),
            lambda x: x.reshape(x.shape[0], -1),
            nnx.Linear(24, 6, rngs=rngs()),
            LIF(),
            Dropout(0.5, rngs=rngs()),
            inner,
            nnx.LSTMCell(5, 3, rngs=rngs()),
            lambda x: {"a": x, "b": x[:, 0]},
        ],
        [Edge(4, 3, delay=7), Edge(6, 3, synapse=nnx.Linear(5, 6, use_bias=False, rngs=rngs()))],
        rngs=rngs(),
    )


def test_the_table_of_a_stack():
    lines = [
        "module      type      output           states                                parameters",
        "0           Conv      [3, 4, 6, 4]                                                   76",
        "1           max_pool  [3, 2, 3, 4]                                                    0",
        "2           <lambda>  [3, 24]                                                         0",
        "3           Linear    [3, 6]                                                        150",
        "4           LIF       [3, 6]           [3, 6], 7 steps of output                      0",
        "5           Dropout   [3, 6]           [3, 6]                                         0",
        "6           Connect   [3, 5]           1 step of output                              66",
        "6.0         Linear    [3, 5]                                                         35",
        "6.1         ALIF      [3, 5]           u [3, 5], a [3, 5], 1 step of output           1",
        "6.1 -> 6.0  Linear    [3, 5]           1 step late                                   30",
        "7           LSTMCell  [3, 3]           0 [3, 3], 1 [3, 3]                           108",
        "8           <lambda>  a [3, 3], b [3]                                                 0",
        "4 -> 3      Linear    [3, 6]           7 steps late                                  42",
        "6 -> 3      Linear    [3, 6]           1 step late                                   30",
        "total                                                                               472",
    ]
    assert str(summary(everything(), (B, 4, 6, 2))).splitlines() == lines


def test_shapes_and_numbers_are_those_of_the_stack():
    model = everything()
    found = summary(model, (B, 4, 6, 2))
    assert isinstance(found, Summary)
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    carry = model.initialize_carry((B, 4, 6, 2), nnx.Rngs(0))
    outputs = model.outputs(carry, jnp.ones((1, B, 4, 6, 2)))[1]
    rows = {row.name: row for row in found.modules}
    for index, output in enumerate(outputs[:-1]):
        assert rows[str(index)].output == str(list(output.shape[1:]))


def test_shared_parameters_are_counted_once():
    layer = nnx.Linear(4, 4, rngs=rngs())
    found = summary(connect([layer, LIF(), layer]), (B, 4))
    assert [row.parameters for row in found.modules] == [20, 0, 20]
    assert found.parameters == 20


def test_an_edge_within_the_step_and_large_numbers():
    model = connect(
        [nnx.Linear(4, 1000, rngs=rngs()), LIF(), nnx.Linear(1000, 1000, rngs=rngs())], {2: [1]}, rngs=rngs()
    )
    last, total = str(summary(model, (B, 4))).splitlines()[-2:]
    assert last.split() == ["1", "->", "2", "Linear", "[3,", "1000]", "within", "the", "step", "1,001,000"]
    assert total.split() == ["total", "2,007,000"]


def test_nothing_is_changed_and_nothing_computed():
    """No random stream moves on, and a batch of any size costs nothing."""
    model = connect([nnx.Linear(4, 4, rngs=rngs()), Dropout(0.5, rngs=rngs()), nnx.BatchNorm(4, rngs=rngs()), LIF()])
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.Not(nnx.RngKey)))
    assert summary(model, (10**12, 4)).modules[-1].output == "[1000000000000, 4]"
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model, nnx.Not(nnx.RngKey)), before)


class Noisy(nnx.SimpleCell):
    """Starts from a state that it draws with a stream of its own."""

    def __init__(self):
        super().__init__(4, 4, rngs=rngs())
        self.noise = nnx.Rngs(0)

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jax.random.normal(self.noise(), input_shape)


def test_a_cell_that_draws_its_first_state_is_left_as_it_is():
    model = connect([Noisy()])
    assert str(summary(model, (B, 4))).splitlines()[1].split() == ["0", "Noisy", "[3,", "4]", "[3,", "4]", "36"]
    assert model.modules[0].noise.default.count[...] == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: summary(LIF(), (B, 4)), TypeError, r"summary got LIF, expected a stack. Make one: connect\(\[...\]\)"),
        (lambda: summary(connect([LIF()]), (4,)), ValueError, r"an input_shape of \[4\], expected \[B, features...\], one"),
        (
            lambda: summary(connect([nnx.Linear(5, 2, rngs=rngs())]), (B, 4)),
            ValueError,
            r"Module 0 of the stack, Linear, expects 5 features in the last axis, got inputs of shape \[3, 4\]",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()
