"""SnAp-n: what it keeps, where it is exact and where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from slax_neurons import ALIF, BRF, AdLIF, CuBaLIF, Trainable, connect
from slax_rules import BPTT, RTRL, SnAp, cross_entropy, gradients
from slax_rules.influence.influence import state_space
from stacks import deviation, gradients_of, inputs, linear, pair, worst

T, B, K = 12, 3, 3  # four windows in one scan: one program for all
LABELS = jnp.array([0, 3, 2])
SIGNAL = oracle.softmax_cross_entropy(LABELS)
SELF = [(0, 0, 1)]


def lif(**options):
    return {"kind": "lif", "decay": 0.8, "threshold": 0.7, **options}


def run(model, rule, window=None):
    return gradients(model, cross_entropy, inputs(T, B, 7), LABELS, rule=rule, window=window)[1]


@pytest.mark.parametrize(
    ("edges", "n", "exact"),
    [([], 1, True), (SELF, 1, False), (SELF, 2, True), ([(0, 0, 1), (1, 0, 2)], 2, False)],
    ids=str,
)
def test_snap_is_rtrl_with_what_n_steps_reach(edges, n, exact, x64):
    model, layers = pair([7, 6, 4], [lif(surrogate="arctan"), {"kind": "li"}], edges=edges)
    ours = gradients_of(model, run(model, SnAp(n=n), K))
    assert worst(ours, oracle.snap(layers, inputs(T, B, 7), SIGNAL, n=n).gradients) < 1e-11
    off = worst(ours, gradients_of(model, run(model, BPTT())))
    assert off < 1e-11 if exact else off > 0.1


NEURONS = {
    "CuBaLIF": lambda: CuBaLIF(threshold=0.7, param_dtype=jnp.float64),
    "ALIF": lambda: ALIF(threshold=0.7, param_dtype=jnp.float64),
    "AdLIF": lambda: AdLIF(threshold=0.7, param_dtype=jnp.float64),
    "symplectic AdLIF": lambda: AdLIF(threshold=0.7, form="symplectic", param_dtype=jnp.float64),
    "BRF": lambda: BRF(param_dtype=jnp.float64),
    "trained ALIF": lambda: ALIF(threshold=0.7, adaptation_decay=Trainable(0.7), beta=0.3, param_dtype=jnp.float64),
    "trained AdLIF": lambda: AdLIF(threshold=0.7, a=Trainable(0.5), b=Trainable(0.6), param_dtype=jnp.float64),
}


@pytest.mark.parametrize("name", NEURONS)
def test_one_step_does_not_reach_a_state_by_way_of_another(name, x64):
    """One layer of neurons with two states: SnAp-2 is exact for all, SnAp-1 is not where a parameter reaches one state only
    through the other: the weights of BRF, by 40 %, and the parameters of an adaptation."""
    model = connect([linear(7, 4, 0), NEURONS[name]()])
    x = inputs(20, B, 7)
    exact, one, two = (
        gradients(model, cross_entropy, x, LABELS, rule=rule)[1]["modules"] for rule in (BPTT(), SnAp(1), SnAp(2))
    )
    assert furthest(two, exact) < 1e-11
    if name == "BRF":
        assert abs(deviation(one[0]["kernel"][...], exact[0]["kernel"][...]) - 0.4) < 0.01
    else:
        assert furthest(one[0], exact[0]) < 1e-11
    if name.startswith("trained"):
        assert furthest(one[1], exact[1]) > 0.05


def furthest(ours, theirs):
    return max(deviation(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


class Ring(nnx.RNNCellBase):
    """Each unit sees itself one place before: h_t = tanh(x W + P h_{t-1} / 2), P a shift."""

    def __init__(self):
        self.weights = nnx.Param(jax.random.normal(jax.random.key(0), (7, 5), jnp.float64))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros((input_shape[0], 5), jnp.float64)

    def __call__(self, carry, inputs):
        h = jnp.tanh(inputs @ self.weights[...] + jnp.roll(carry, 1, axis=1) / 2)
        return h, h


def test_snap_of_a_ring_is_the_masked_recursion(x64):
    """Parameters of one array that reach states of other colors, and of how many."""
    model, x, shift = Ring(), np.asarray(inputs(T, B, 7)), np.roll(np.eye(5), 1, axis=0)
    h, J, expected = np.zeros((B, 5)), np.zeros((B, 5, 7, 5)), 0
    for t in range(T):
        h = np.tanh(x[t] @ np.asarray(model.weights[...]) + h @ shift.T / 2)
        J = np.einsum("hk,bkij->bhij", shift / 2, J) + np.einsum("bi,hj->bhij", x[t], np.eye(5))
        J = J * (1 - h**2)[:, :, None, None]
        expected = expected + np.einsum("bh,bhij->ij", SIGNAL(t, h)[1] / (T * B), J)
        J = J * (np.eye(5) + shift)[None, :, None]  # n = 2: the own unit and the next
    assert deviation(run(model, SnAp(n=2), K)["weights"][...], expected) < 1e-12


def test_snap_is_the_same_for_every_window(x64):
    model, _ = pair([7, 6, 4], [lif(), {"kind": "li"}], edges=SELF)
    reference = gradients_of(model, run(model, SnAp(), K))
    for window in (1, T):
        assert worst(gradients_of(model, run(model, SnAp(), window)), reference) < 1e-12


def test_snap_keeps_of_a_recurrent_layer_one_unit_for_each_weight():
    model = pair([7, 6, 4], [lif(fixed=True), {"kind": "li", "fixed": True}], edges=SELF, dtype=jnp.float32).model
    # Membrane and last output of its own unit, and the read-outs.
    assert kept_by(SnAp(), model) == [(B, 2 + 4, 7, 6), (B, 1, 6, 4), (B, 2 + 4, 6, 6)]
    assert kept_by(RTRL(), model) == [(B, 12 + 4, 7, 6), (B, 1, 6, 4), (B, 12 + 4, 6, 6)]


def kept_by(rule, model):
    """The shapes of what is kept of each kernel."""
    influence = rule.initialize_influence(state_space(model, (B, 7)), model.initialize_carry((B, 7)))
    return [leaf.shape for leaf in influence if leaf.ndim == 4]


def test_snap_refuses_no_steps():
    with pytest.raises(ValueError, match="n=0, expected at least 1"):
        SnAp(n=0)
