"""RTRL, SnAp and UORO on what the oracle has not: any cell, noise, and what is kept of each parameter."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from laws.table import F64, LABELS, LI, B, T, X, lif
from slax_neurons import LI as Integrator
from slax_neurons import LIF, SURROGATES, Delay, Dropout, Trainable, connect
from slax_rules import RTRL, UORO, SnAp, cross_entropy, gradients
from slax_rules.engine.influence import state_space
from stacks import deviation, furthest, gradients_of, linear, pair, worst

K = 3
SIGNAL = oracle.softmax_cross_entropy(LABELS)


def run(model, rule=None, window=None, x=X, **options):
    rule = {} if rule is None else {"rule": rule}
    return gradients(model, cross_entropy, jnp.asarray(x), LABELS, window=window, **rule, **options)[1]


class Own(nnx.RNNCellBase):
    """A cell of a user: a choice and a loop within the step, a number that is not trained, a counter that samples share."""

    def __init__(self):
        draws = np.random.default_rng(0)
        self.weights = nnx.Param(jnp.asarray(draws.normal(size=(7, 4))))
        self.recurrent = nnx.Param(jnp.asarray(draws.normal(size=(4, 4))))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"step": jnp.zeros((), jnp.int32), "h": jnp.zeros((input_shape[0], 4), jnp.float64)}

    def __call__(self, carry, inputs):
        drive = inputs @ self.weights[...] + carry["h"] @ self.recurrent[...]
        h = jnp.where(drive > 0, jnp.tanh(drive), 0.1 * drive) / (1 + carry["step"].astype(drive.dtype) / 10)
        h, _ = jax.lax.scan(lambda h, gain: (gain * jnp.roll(h, 1, axis=1), None), h, jnp.array([0.5, 0.9]))
        return {"step": carry["step"] + 1, "h": h}, h


def dropped():
    """Masks of a sequence, which the carry holds."""
    hidden = [linear(7, 6, 0), LIF(threshold=0.5, **F64), Dropout(0.5, rngs=nnx.Rngs(0))]
    return connect([*hidden, linear(6, 4, 1), Integrator(**F64)])


def late():
    """Delays with Gaussian weights, a loop of which nothing is known."""
    delay = Delay(7, 3, delays=Trainable(np.linspace(0, 3, 7)), width=0.6, **F64)
    return connect([delay, linear(7, 4, 0), LIF(threshold=0.5, **F64)])


CELLS = {
    "LSTMCell in a stack": lambda: connect(
        [nnx.LSTMCell(7, 5, rngs=nnx.Rngs(0), **F64), linear(5, 4, 0), Integrator(**F64)]
    ),
    "own": Own,
    "Dropout": dropped,
    "Gaussian delays": late,
}


@pytest.mark.parametrize("cell", CELLS)
def test_rtrl_is_bptt_of_any_cell(cell):
    model = CELLS[cell]()
    carry = model.initialize_carry((B, 7), nnx.Rngs(1))
    exact = run(model, carry=carry)
    assert all(leaf.any() for leaf in jax.tree.leaves(exact))
    assert furthest(run(model, RTRL(), K, carry=carry), exact) < 1e-11


# ------------------------------------------------------------------------------------------------------------------- reach


class Ring(nnx.RNNCellBase):
    """Each unit sees itself one place before: h_t = tanh(x W + P h_{t-1} / 2), P a shift."""

    def __init__(self):
        self.weights = nnx.Param(jnp.asarray(np.random.default_rng(0).normal(size=(7, 5))))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros((input_shape[0], 5), jnp.float64)

    def __call__(self, carry, inputs):
        h = jnp.tanh(inputs @ self.weights[...] + jnp.roll(carry, 1, axis=1) / 2)
        return h, h


def test_snap_of_a_ring_is_the_masked_recursion():
    """Parameters of one array that reach states of other colors, and of how many."""
    model, x, shift = Ring(), np.asarray(X), np.roll(np.eye(5), 1, axis=0)
    h, J, expected = np.zeros((B, 5)), np.zeros((B, 5, 7, 5)), 0
    for t in range(T):
        h = np.tanh(x[t] @ np.asarray(model.weights[...]) + h @ shift.T / 2)
        J = np.einsum("hk,bkij->bhij", shift / 2, J) + np.einsum("bi,hj->bhij", x[t], np.eye(5))
        J = J * (1 - h**2)[:, :, None, None]
        expected = expected + np.einsum("bh,bhij->ij", SIGNAL(t, h)[1] / (T * B), J)
        J = J * (np.eye(5) + shift)[None, :, None]  # n = 2: the own unit and the next
    assert deviation(run(model, SnAp(n=2), K)["weights"][...], expected) < 1e-12


def kept_by(rule, model):
    """The shapes of what is kept of each kernel."""
    influence = rule.init_influence(state_space(model, (B, 7)), model.initialize_carry((B, 7)))
    return [leaf.shape for leaf in influence if leaf.ndim == 4]


def test_snap_keeps_one_unit_for_each_recurrent_weight():
    fixed = {"fixed": True}
    model = pair([7, 6, 4], [lif(**fixed), LI | fixed], edges=[(0, 0, 1)]).model
    # Membrane and last output of its own unit, and the read-outs.
    assert kept_by(SnAp(), model) == [(B, 2 + 4, 7, 6), (B, 1, 6, 4), (B, 2 + 4, 6, 6)]
    assert kept_by(RTRL(), model) == [(B, 12 + 4, 7, 6), (B, 1, 6, 4), (B, 12 + 4, 6, 6)]


def test_reach_does_not_depend_on_numbers():
    """A boxcar's derivative is zero nearly everywhere, and a path all the same."""
    reached = []
    for surrogate in ("fast_sigmoid", "boxcar"):
        neuron = LIF(spike_fn=SURROGATES[surrogate](), **F64)
        model = connect([linear(7, 6, 0), neuron, linear(6, 4, 1), neuron], {0: [1]}, rngs=nnx.Rngs(0))
        reached.append([reach.reached.sum() for reach in state_space(model, (B, 7)).coloring(1)])
    assert reached[0] == reached[1]


# -------------------------------------------------------------------------------------------------------------------- UORO


def test_uoro_is_the_textbook_with_the_same_noise(monkeypatch):
    fixed = {"fixed": True}
    model, layers = pair([7, 6, 4], [lif(**fixed), LI | fixed])
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (T, B, 10))
    monkeypatch.setattr(sys.modules[UORO.__module__], "noise", lambda key, step, shape, dtype: jnp.asarray(signs)[step])

    def loss(outputs, labels):  # a function of its own, whose program nothing else uses
        return cross_entropy(outputs, labels)

    ours = gradients(model, loss, jnp.asarray(X), LABELS, rule=UORO(rngs=nnx.Rngs(0)), window=K)[1]
    assert worst(gradients_of(model, ours), oracle.uoro(layers, X, SIGNAL, noise=signs).gradients) < 1e-11


def test_each_call_draws_other_noise_and_the_same_seed_the_same():
    model, rule = pair([7, 3, 4], [lif(), LI]).model, UORO(rngs=nnx.Rngs(0))
    one, two, again = (run(model, each, K) for each in (rule, rule, UORO(rngs=nnx.Rngs(0))))
    assert furthest(one, two) > 0.01
    assert furthest(one, again) == 0
    single = X[:1]
    assert furthest(run(model, rule, 1, single), run(model, None, None, single)) < 1e-12
