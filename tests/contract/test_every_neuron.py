"""Laws that hold for each neuron in the table, with its default options: a new line there is tested here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from slax_neurons import NEURONS, connect, unroll
from slax_rules import RULES, cross_entropy, gradients, ostl
from stacks import deviation, gradients_of, inputs, linear, pair, worst

T, B, N = 10, 3, 4
LABELS = jnp.array([0, 3, 2])
neurons = pytest.mark.parametrize("kind", NEURONS)


def currents():
    return jax.random.normal(jax.random.key(0), (T, B, N)) + 0.3


def run(neuron, x, **options):
    return unroll(neuron, neuron.initialize_carry(x.shape[1:]), x, **options)


@neurons
def test_carry_has_the_shape_of_the_input_and_starts_at_rest(kind):
    for leaf in jax.tree.leaves(NEURONS[kind]().initialize_carry((B, 2, N))):
        assert leaf.shape == (B, 2, N)
        assert not leaf.any()


@neurons
def test_unroll_equals_the_stock_rnn(kind, x64, optimised):
    neuron = NEURONS[kind](param_dtype=jnp.float64)
    theirs = nnx.RNN(neuron, time_major=True, return_carry=True)(currents())
    for chunk in (1, 3, None):
        jax.tree.map(np.testing.assert_array_equal, run(neuron, currents(), chunk=chunk), theirs)


@neurons
def test_units_do_not_see_each_other(kind, x64):
    """The Jacobian of all outputs by all currents is zero across samples and units."""
    neuron = NEURONS[kind](param_dtype=jnp.float64)
    jacobian = jax.jacobian(lambda x: run(neuron, x)[1])(currents())
    across = np.array(jacobian).reshape(T, B * N, T, B * N)
    assert across.any()
    across[:, np.arange(B * N), :, np.arange(B * N)] = 0
    assert not across.any()


@neurons
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_kept(kind, dtype):
    carry, outputs = run(NEURONS[kind](param_dtype=dtype), currents().astype(dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, outputs))} == {jnp.dtype(dtype)}


@neurons
def test_ostl_is_exact_where_the_neuron_is_the_last_layer(kind, x64):
    model = connect([linear(7, N, 0), NEURONS[kind](param_dtype=jnp.float64)])
    exact = gradients(model, cross_entropy, inputs(T, B, 7), LABELS)[1]
    online = gradients(ostl(model), cross_entropy, inputs(T, B, 7), LABELS, window=5)[1]
    assert max(jax.tree.leaves(jax.tree.map(deviation, online, exact))) < 1e-11


@pytest.mark.parametrize("name", RULES)
def test_every_rule_leaves_paths_and_forward_pass_unchanged(name, x64, optimised):
    model = pair([7, 5, N], [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}]).model
    cell = RULES[name].wrap(model)
    assert jax.tree.structure(nnx.state(cell, nnx.Param)) == jax.tree.structure(nnx.state(model, nnx.Param))
    x = inputs(T, B, 7)
    np.testing.assert_array_equal(run(cell, x, chunk=5)[1], run(model, x, chunk=5)[1])


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_exact_in_a_sequence_of_one_step(name, x64):
    model = pair([7, 5, N], [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}]).model
    x, rule = inputs(1, B, 7), RULES[name]
    exact = gradients(model, cross_entropy, x, LABELS)[1]
    ours = gradients(rule.wrap(model), cross_entropy, x, LABELS, window=rule.window)[1]
    assert max(jax.tree.leaves(jax.tree.map(deviation, ours, exact))) < 1e-12


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_what_the_oracle_calls_so(name, x64):
    """Wrapping and window of the table's line, over a sequence of many steps."""
    model, layers = pair([7, 5, N], [{"kind": "lif", "threshold": 0.7}, {"kind": "lif", "threshold": 0.7}])
    rule, x = RULES[name], inputs(T, B, 7)
    ours = gradients(rule.wrap(model), cross_entropy, x, LABELS, window=rule.window)[1]
    theirs = getattr(oracle, name)(layers, x, oracle.softmax_cross_entropy(LABELS)).gradients
    assert worst(gradients_of(model, ours), theirs) < 1e-12
