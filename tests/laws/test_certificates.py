"""Sketched RTRL and its bound, and KF-RTRL: their laws on cells of any kind, and the numbers of the authors' code."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from laws.table import F64, LABELS, X, case
from slax_neurons import LIF, Edge, connect
from slax_rules import BPTT, KFRTRL, RTRL, SketchedRTRL, SnAp, certified_gradient, cross_entropy, gradients, sparsity
from slax_rules.engine.influence import state_space
from stacks import deviation, furthest, linear

EXACT, STATES, EXACTLY = 1e-12, 6, BPTT()
CELL = {"dtype": jnp.float64, **F64}
AUTHORS = np.load(Path(__file__).parent.parent / "references" / "sketched_rtrl.npz")


def tanh(**options):
    return nnx.SimpleCell(7, STATES, rngs=nnx.Rngs(0), **CELL | options)


def spiking():
    """A recurrent layer of spiking neurons: two states for each unit, the membrane and the last output."""
    neuron = LIF(threshold=0.5, **F64)
    return connect([linear(7, 3, 0), neuron], [Edge(1, 0, synapse=linear(3, 3, 1))])


def tied():
    """Two layers and an edge of one kernel."""
    synapses = [linear(7, 7, seed) for seed in range(3)]
    for synapse in synapses[1:]:
        synapse.kernel = synapses[0].kernel
    own = [synapses[0], LIF(threshold=0.5, **F64), synapses[1], LIF(threshold=0.5, **F64)]
    return connect(own, [Edge(1, 0, synapse=synapses[2])])


class Partly(nnx.RNNCellBase):
    """Some weights reach one group of units, and the others both."""

    def __init__(self):
        draws = np.random.default_rng(0)
        self.weights = nnx.Param(jnp.asarray(draws.normal(size=(7, 3))))
        self.recurrent = nnx.Param(jnp.asarray(draws.normal(size=(6, 6)) / 3))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros((input_shape[0], 6), jnp.float64)

    def __call__(self, carry, inputs):
        weights = self.weights[...]
        drives = jnp.concatenate([inputs @ weights, inputs[:, :3] @ weights[:3]], axis=1)
        carry = jnp.tanh(drives + carry @ self.recurrent[...])
        return carry, carry


def run(model, rule=EXACTLY, x=X, loss=cross_entropy, targets=LABELS % 3, **options):
    return gradients(model, loss, jnp.asarray(x), jnp.asarray(targets), rule=rule, **options)[1]


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


RANKS = (0, 2, STATES)


def bounded(rank):
    return SketchedRTRL(rank, bound=nnx.Param(jnp.zeros(())))


def carried(model, rules, x, see):
    """What `see` makes of the influence that each rule carries after each step."""
    space, carry = state_space(model, x.shape[1:]), model.initialize_carry(x.shape[1:], nnx.Rngs(0))

    def step(carry, now):
        state, old = carry
        new = [rule.advance(space, state, now[None], traces) for rule, traces in zip(rules, old, strict=True)]
        return (space.run(state, now[None])[0], new), [see(space, *pair) for pair in zip(rules, new, strict=True)]

    start = carry, [rule.init_influence(space, carry) for rule in rules]
    return jax.jit(lambda: jax.lax.scan(step, start, jnp.asarray(x))[1])()


def dense(space, rule, influence):
    """The influence of one sample as a matrix [H, P], and its bound, if it has one."""
    rows = jax.vmap(lambda row: rule.contract(space, row[None], influence))(
        jnp.eye(STATES, dtype=jax.tree.leaves(space.params)[0].dtype)
    )
    bound = jnp.sqrt(jnp.linalg.norm(influence.cover[0], 2)) if isinstance(rule, SketchedRTRL) else None
    return jnp.concatenate([leaf.reshape(STATES, -1) for leaf in rows], axis=1), bound


def sizes(matrices):
    return np.linalg.norm(matrices, 2, axis=(1, 2))


@pytest.mark.parametrize("cell", [tanh, spiking, Partly])
def test_sketch_leads_from_snap_to_rtrl_and_its_bound_is_never_below_the_error(cell):
    rules = [RTRL(), SnAp(), *map(bounded, RANKS)]
    (exact, _), (snap, _), *found = carried(cell(), rules, X[:, :1], dense)
    assert deviation(found[0][0], snap) < EXACT and deviation(found[-1][0], exact) < EXACT
    errors, true = [sizes(exact - of) for of, _ in found], sizes(exact)
    assert all((error <= bound).all() for error, (_, bound) in zip(errors, found, strict=True))
    assert (found[-1][1][:3] < 1e-5 * true[:3]).all()  # what it adds for rounding, before it grows
    assert errors[0][-1] > 1.5 * errors[1][-1] and errors[0][-1] > 1e-3 * true[-1]
    for error, (_, bound) in zip(errors[:2], found, strict=False):
        first = np.flatnonzero(error > 1e-5 * true)[0]  # the first cut is the only part of the error
        assert bound[first] < 1.001 * error[first]


def test_bound_is_that_of_the_oracle():
    here, rule, seen = case("sketched_rtrl", "linear last"), oracle.SketchedRTRL(1), []
    step = rule.step
    rule.step = lambda *arguments: seen.append(step(*arguments)) or seen[-1]
    oracle.run(rule, here.layers, here.inputs, oracle.softmax_cross_entropy(LABELS))
    (found,) = carried(here.model, [bounded(1)], here.inputs, lambda space, rule, influence: influence.cover)
    expected = np.array([bound for (*_, bound), _ in seen])[..., rule.read, :][..., rule.read]
    assert deviation(*map(np.linalg.eigvalsh, (found, expected))) < 1e-5  # the states are in another order


def test_bound_holds_in_float32():
    rules = [RTRL(), *map(bounded, RANKS)]
    model = tanh(dtype=jnp.float32, param_dtype=jnp.float32)
    (exact, _), *found = carried(model, rules, X[:, :1].astype(np.float32), dense)
    assert all((sizes(exact - of) <= bound).all() for of, bound in found)
    assert (found[-1][1][3:] > 3e-4 * sizes(exact)[3:]).all() and (found[-1][1] < 3e-3 * sizes(exact)).all()


def test_gradient_differs_by_at_most_its_bound_under_any_option():
    model, rule, precisions = spiking(), SketchedRTRL(1), set()
    carry = jax.tree.map(lambda leaf: leaf + 0.1, model.initialize_carry(X.shape[1:]))
    mask = jnp.asarray(np.arange(len(X))[:, None] < np.array([12, 7, 9]))
    options = {"mask": mask, "window": 5, "penalties": [sparsity(1.0)], "carry": carry}

    def loss(outputs, labels):
        precisions.add(jax.config.jax_default_matmul_precision)
        return cross_entropy(outputs, labels)

    value, exact = gradients(model, cross_entropy, X, LABELS % 3, **options)
    found = certified_gradient(model, loss, X, LABELS % 3, rule=rule, **options)
    again = run(model, rule, **options)
    assert furthest(found.gradient, again) < EXACT and abs(found.loss / value - 1) < EXACT and precisions == {"highest"}
    error = norm(jax.tree.map(jnp.subtract, again, exact))
    assert 0.01 * found.bound < error <= found.bound
    in_windows = certified_gradient(model, loss, X, LABELS % 3, rule=rule, **options | {"window": 4})
    assert abs(in_windows.bound / found.bound - 1) < EXACT
    pairs = zip(jax.tree.leaves(again), jax.tree.leaves(exact), strict=True)
    cosine = sum(np.sum(a * b) for a, b in pairs) / (norm(again) * norm(exact))
    least = jax.jit(lambda found: found.cosine)(found)
    assert abs(least - np.sqrt(1 - (found.bound / norm(again)) ** 2)) < EXACT and 0 < least <= cosine
    assert found._replace(bound=jnp.asarray(1.01 * norm(again))).cosine == -1
    assert found._replace(gradient=jax.tree.map(lambda leaf: 1e200 * leaf, again)).cosine == -1  # its norm overflows
    small = certified_gradient(model, lambda *step: 1e-200 * cross_entropy(*step), X, LABELS % 3, rule=rule)
    assert abs(1e200 * small.bound / certified_gradient(model, loss, X, LABELS % 3, rule=rule).bound - 1) < EXACT


# ------------------------------------------------------------------------------------------------------------ KF-RTRL


def with_signs(monkeypatch, signs):
    """Signs [T, B], a program of its own."""
    noise = lambda key, step, shape, dtype: jnp.asarray(signs, dtype)[step]  # noqa: E731
    monkeypatch.setattr(sys.modules[KFRTRL.__module__], "noise", noise)
    return lambda outputs, labels: cross_entropy(outputs, labels)


@pytest.mark.parametrize("cell", [tanh, spiking, tied])
def test_mean_over_all_signs_is_rtrl(cell, monkeypatch):
    """Every sample has the same inputs, and one of the eight ways to draw the signs of three steps."""
    signs = 1 - 2 * (np.arange(8)[None] >> np.arange(4)[:, None] & 1)
    model, x = cell(), np.repeat(X[:4, :1], 8, axis=1)
    loss = with_signs(monkeypatch, signs)
    options = {"x": x, "targets": np.zeros(8, int), "loss": loss}
    exact, rule = run(model, **options), KFRTRL(rngs=nnx.Rngs(0))
    assert furthest(run(model, rule, window=3, **options), exact) < EXACT
    only = jnp.asarray(np.arange(8) == 1)[None] & np.ones((4, 1), bool)
    assert furthest(run(model, rule, mask=only, **options), run(model, mask=only, **options)) > 0.01
    two = jnp.asarray(np.arange(4) < 2)[:, None] & only
    assert furthest(run(model, rule, mask=two, **options), run(model, mask=two, **options)) < EXACT


# -------------------------------------------------------------------------------------------------------- the authors' code


class Delayed(nnx.RNNCellBase):
    """Their network, whose outputs are the states before the step: the gradient is that of their J after the step before."""

    def __init__(self):
        kernel = AUTHORS["kernel"]
        self.linear = nnx.Linear(*kernel[:-1].shape, rngs=nnx.Rngs(0), **CELL)
        self.linear.kernel[...], self.linear.bias[...] = kernel[:-1], kernel[-1]

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros((input_shape[0], self.linear.out_features))

    def __call__(self, carry, inputs):
        return jnp.tanh(self.linear(jnp.concatenate([carry, inputs], axis=1))), carry


def owed(outputs, targets):
    return (outputs * targets).sum(axis=1)


@pytest.mark.parametrize("name", ["0", "2", "5", "kf"])
def test_numbers_of_the_authors_code(name, monkeypatch):
    with_signs(monkeypatch, AUTHORS["signs"])
    rule = KFRTRL(rngs=nnx.Rngs(0)) if name == "kf" else SketchedRTRL(int(name))
    delta, x = (
        np.pad(AUTHORS[array], [side, (0, 0), (0, 0)]) for array, side in (("delta", (1, 0)), ("inputs", (0, 1)))
    )
    model = Delayed()
    if name == "kf":
        found = run(model, rule, x=x, loss=owed, targets=delta)
    else:
        _, found, bound = certified_gradient(model, owed, x, delta, rule=rule)
        (covers,) = carried(model, [bounded(rule.rank)], x, lambda space, rule, influence: influence.cover)
        through = np.sqrt(np.einsum("tbh,tbhk,tbk->tb", delta[1:], covers[:-1], delta[1:]))
        assert abs(bound / through.sum() * x[..., 0].size - 1) < EXACT
        norms, theirs = np.sqrt(np.trace(covers[:-1], axis1=2, axis2=3))[1:], AUTHORS[f"{name}/bound"][1:]
        assert name == "5" or ((norms < 1.000001 * theirs).all() and (norms[-1] < 0.8 * theirs[-1]).all())
    ours = len(x) * np.concatenate([found["linear"]["kernel"][...], found["linear"]["bias"][...][None]])
    assert deviation(ours, AUTHORS[f"{name}/gradient"]) < EXACT
