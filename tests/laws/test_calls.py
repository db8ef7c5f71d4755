"""What a call of `gradients` is given and does: targets, masks, losses of sequences, transformations of JAX around it."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_rules as sr
from laws.table import LABELS, LI, WINDOW, B, T, X, lif
from slax_neurons import unroll
from stacks import deviation, furthest, inputs, pair

LENGTHS = np.array([9, 2, 5])
EXACT = 1e-12


def made(name, model):
    return sr.RULES[name].make(rngs=nnx.Rngs(5), model=model)


def net(fixed=False, dtype=jnp.float64):
    return pair([7, 6, 4], [lif(fixed=fixed), LI | {"fixed": fixed}], edges=[(0, 0, 1)], dtype=dtype).model


def run(model, x=X, targets=LABELS, rule=None, loss=sr.cross_entropy, window=WINDOW, **options):
    rule = {} if rule is None else {"rule": rule}
    return sr.gradients(model, loss, jnp.asarray(x), targets, window=window, **rule, **options)


def outputs_of(model, x=X):
    return unroll(model, model.initialize_carry(x.shape[1:]), jnp.asarray(x))[1]


# ------------------------------------------------------------------------------------------------- means, targets and masks


def test_masks_are_the_steps_of_their_lengths():
    mask = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]])
    for lengths in ([3, 0, 1], jnp.array([3, 0, 1]), np.array([3, 0, 1], np.uint8)):
        np.testing.assert_array_equal(sr.valid_steps(lengths, 3), mask)
        np.testing.assert_array_equal(sr.last_step(lengths, 3), [[0, 0, 1], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("rule", [sr.BPTT(), sr.OSTL()], ids=["bptt", "ostl"])
def test_a_mask_under_jit_may_have_no_true_entry(rule):
    """Then nothing is learned. A window in which nothing counts passes its traces on: the loss at the end is exact above."""
    model = net()
    found = jax.jit(lambda mask: run(model, mask=mask, rule=rule))
    assert not any(leaf.any() for leaf in jax.tree.leaves(found(jnp.zeros((T, B), bool))))
    mask = sr.last_step(LENGTHS, T)
    ours, exact = found(mask), run(model, mask=mask)
    assert furthest(ours[1]["modules"][2], exact[1]["modules"][2]) < EXACT
    one = run(model, mask=mask, rule=sr.TBPTT(steps=1))
    assert deviation(one[1]["modules"][2]["kernel"][...], exact[1]["modules"][2]["kernel"][...]) > 0.1


@pytest.mark.parametrize("rule", [sr.BPTT(), sr.OSTL()], ids=["bptt", "ostl"])
def test_a_sequence_loss_gets_the_mask_and_missing_may_be_nan(rule):
    """Under windows the outputs come in pieces; the loss of the whole sequence has the gradient of autodiff."""
    model, targets = net(), np.zeros((T, B, 4))
    targets[2, 1] = np.nan
    mask = np.ones((T, B), bool)
    mask[:, 1] = False

    def mean(y, t, mask):
        return jnp.mean((y - t) ** 2, axis=(0, 2)) * 2

    found = run(model, targets=jnp.asarray(targets), rule=rule, loss=sr.SequenceLoss(mean), mask=jnp.asarray(mask))
    expected, gradient = nnx.jit(nnx.value_and_grad(lambda m: (outputs_of(m)[:, [0, 2]] ** 2).mean() * 2))(model)
    assert float(found[0]) == pytest.approx(float(expected), rel=1e-12)
    assert furthest(found[1]["modules"][2], gradient["modules"][2]) < EXACT


def test_marked_targets_are_what_they_say():
    """With as many steps as samples nothing else says which of the two they are; a tree under one mark is one of them."""
    model, x, rng = net(), X[:B], np.random.default_rng(0)
    labels, tracks = jnp.asarray(rng.integers(0, 4, (B, B))), jnp.asarray(rng.normal(size=(B, B, 4)))
    outputs = nnx.jit(outputs_of)(model, x)
    two = sr.TBPTT(steps=2)  # windows of two steps
    step = run(model, x, sr.PerStep(labels), two)[0]
    assert step == pytest.approx(float(sr.cross_entropy(outputs, labels).mean()), rel=1e-12)
    sequence = run(model, x, sr.PerSequence(LABELS), two)[0]
    assert sequence == pytest.approx(float(sr.cross_entropy(outputs, jnp.asarray(LABELS)).mean()), rel=1e-12)

    def both(y, t):
        return sr.cross_entropy(y, t["a"]) + sr.squared_error(y, t["b"])

    track = run(model, x, sr.PerStep({"a": labels, "b": tracks}), two, both)[0]
    assert track == pytest.approx(float(step + jnp.mean((outputs - tracks) ** 2)), rel=1e-12)


def test_a_flax_cell_needs_no_key():
    cell = nnx.LSTMCell(7, 4, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    zero = cell.initialize_carry((B, 7), nnx.Rngs(1))
    drawn = jax.tree.map(lambda c: jnp.asarray(np.random.default_rng(2).normal(size=c.shape)), zero)
    assert furthest(run(cell), run(cell, carry=zero)) == 0
    assert furthest(run(cell), run(cell, carry=drawn)) > 1e-3


# --------------------------------------------------------------------------------------------------- transformations around


@pytest.mark.parametrize("name", ["e_prop_adaptive", "uoro"])
def test_gradient_is_the_same_under_transformations(name):
    models = [net(fixed=True) for _ in range(2)]
    models[1].modules[0].kernel[...] *= 0.9
    graphdef, _ = nnx.split(models[0])
    xs = jnp.stack([jnp.asarray(X), inputs(T, B, 7, 1)])
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(model) for model in models))

    @jax.jit
    @jax.vmap
    def gradient(state, x):
        model = nnx.merge(graphdef, state)
        return run(model, x, rule=made(name, model))

    found = gradient(states, xs)
    for index, model in enumerate(models):
        expected = run(model, xs[index], rule=made(name, model))
        assert furthest(jax.tree.map(lambda leaf, index=index: leaf[index], found), expected) < 1e-11
    jitted = nnx.jit(lambda model, rule: run(model, xs[1], rule=rule))
    assert furthest(jitted(models[1], made(name, models[1])), expected) < 1e-11


# ------------------------------------------------------------------------------------------------------------- the registry


@pytest.mark.parametrize("name", sr.RULES)
def test_a_rule_is_made_by_its_name_and_cited_as_its_name_is(name):
    """FPTT is in the optimizer, and HYPR is another name of a rule, so that their rules do not tell them."""
    entry, model = sr.RULES[name], net(fixed=True)
    rule = entry.make(rngs=nnx.Rngs(0), model=model)
    assert bool(jax.tree.leaves(nnx.state(rule, nnx.Param))) == (name in ("e_prop_adaptive", "opzo"))
    same = {"fptt": "bptt", "hypr": "ostl"}.get(name, name)
    assert sr.cite(name).startswith("@") and sr.cite(rule) == sr.cite(same)
