"""RTRL, SnAp and UORO on what the oracle has not: any cell, noise, and what is kept of each parameter.

Estimates from noise are without error over an orthonormal basis of directions, and in the mean over all signs.
"""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
import slax_rules as sr
from laws.table import F64, LABELS, LI, OWN, SPIKES, B, T, X, lif
from slax_neurons import LI as Integrator
from slax_neurons import LIF, SURROGATES, connect
from slax_rules.engine.influence import state_space
from slax_rules.engine.noise import noise_of_layers
from stacks import deviation, furthest, gradients_of, linear, pair, worst

K, EXACT = 3, 1e-12
LAYERS = [lif(), LI]
FIXED = [layer | {"fixed": True} for layer in LAYERS]
SIGNAL = oracle.softmax_cross_entropy(LABELS)


def run(model, rule=None, window=None, x=X, **options):
    rule = {} if rule is None else {"rule": rule}
    return sr.gradients(model, sr.cross_entropy, jnp.asarray(x), LABELS, window=window, **rule, **options)[1]


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


CELLS = {
    "LSTMCell in a stack": lambda: connect(
        [nnx.LSTMCell(7, 5, rngs=nnx.Rngs(0), **F64), linear(5, 4, 0), Integrator(**F64)]
    ),
    "own": Own,
}


@pytest.mark.parametrize("cell", CELLS)
def test_rtrl_is_bptt_of_any_cell(cell):
    model = CELLS[cell]()
    carry = model.initialize_carry((B, 7), nnx.Rngs(1))
    exact = run(model, carry=carry)
    assert all(leaf.any() for leaf in jax.tree.leaves(exact))
    assert furthest(run(model, sr.RTRL(), K, carry=carry), exact) < 1e-11


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
    assert deviation(run(model, sr.SnAp(n=2), K)["weights"][...], expected) < 1e-12


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
    model, layers = pair([7, 6, 4], FIXED)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (T, B, 10))
    draw(monkeypatch, sr.UORO.__module__, jnp.asarray(signs))
    ours = sr.gradients(model, own_loss(), jnp.asarray(X), LABELS, rule=sr.UORO(rngs=nnx.Rngs(0)), window=K)[1]
    assert worst(gradients_of(model, ours), oracle.uoro(layers, X, SIGNAL, noise=signs).gradients) < 1e-11


def test_each_call_draws_other_noise_and_the_same_seed_the_same():
    model, rule = pair([7, 3, 4], [lif(), LI]).model, sr.UORO(rngs=nnx.Rngs(0))
    one, two, again = (run(model, each, K) for each in (rule, rule, sr.UORO(rngs=nnx.Rngs(0))))
    assert furthest(one, two) > 0.01
    assert furthest(one, again) == 0
    single = X[:1]
    assert furthest(run(model, rule, 1, single), run(model, None, None, single)) < 1e-12


# ------------------------------------------------------------------------------------------------------------ noise


def basis(n):
    """Random orthonormal directions, of a length at which their mean is their sum."""
    return n**0.5 * np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]


def signs(n):
    return np.array([*itertools.product([-1.0, 1.0], repeat=n)])


def draw(monkeypatch, module, numbers):
    """Let a module have these numbers in place of its noise, by step or by the index of an array of parameters."""
    monkeypatch.setattr(sys.modules[module], "noise", lambda key, index, *_: numbers[index])


def own_loss():
    """A function of its own, whose program nothing else uses."""
    return lambda outputs, labels: sr.cross_entropy(outputs, labels)


def error(model, x, rule, window):
    """How far the gradient is from BPTT's; a penalty of a mean over time makes signals of a first pass."""
    batch = model, own_loss(), jnp.asarray(x, float), jnp.zeros(x.shape[1], int)
    penalties = [sr.firing_rate(0.1, 2.0, layers=(0,))]
    one, exact = (
        sr.gradients(*batch, window=window, penalties=penalties, **options)[1] for options in ({"rule": rule}, {})
    )
    return furthest(one, exact)


@pytest.mark.parametrize(("directions", "network", "window"), [
    (basis, lambda: pair([7, 3, 4], LAYERS, edges=OWN), 2),
    (signs, lambda: pair([2, 2, 2], FIXED, use_bias=False), None),
])  # fmt: skip
def test_forward_gradients_add_up_to_the_gradient(directions, network, window, monkeypatch):
    model = network().model
    shapes = [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = np.split(directions(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
    drawn = [jnp.asarray(part.reshape(-1, *shape)) for part, shape in zip(parts, shapes, strict=True)]
    draw(monkeypatch, sr.ForwardGradient.__module__, drawn)
    rule = sr.ForwardGradient(len(parts[0]), rngs=nnx.Rngs(0))
    assert error(model, SPIKES[:4, :2, : model.modules[0].in_features], rule, window) < EXACT


@pytest.mark.parametrize(("directions", "window"), [(basis, 2), (signs, None)])
def test_node_perturbations_add_up_to_the_gradient(directions, window, monkeypatch):
    """Each sample is the same sequence, with a direction of its own for all units and steps."""
    steps, units = 3, 2 + 2
    drawn = directions(steps * units)
    draw(monkeypatch, "slax_rules.engine.noise", jnp.asarray(drawn.reshape(-1, steps, units).swapaxes(0, 1)))
    model = pair([7, 2, 2], FIXED, edges=OWN).model
    x = np.repeat(SPIKES[:steps, :1, :7], len(drawn), axis=1)
    assert error(model, x, sr.NodePerturbation(rngs=nnx.Rngs(0)), window) < EXACT


def learned(monkeypatch, network, drawn, **options):
    """A model, and the matrices of OPZO after an update at a rate of 1, in the mean over the signs that are drawn."""
    model = network.model
    rule = sr.OPZO(model, rngs=nnx.Rngs(0))
    draw(monkeypatch, "slax_rules.engine.noise", jnp.asarray(np.stack(drawn)))
    x = jnp.asarray(np.repeat(SPIKES[: len(drawn), :1, :2], len(drawn[0]), axis=1), float)
    optimizer = nnx.Optimizer((model, rule), optax.sgd(1.0), wrt=nnx.Param)
    kernels = [np.asarray(module.kernel[...]) for module in model.modules[2::2]]
    sr.train_offline(model, optimizer, own_loss(), x, jnp.zeros(len(drawn[0]), int), rule=rule, **options)
    return kernels, [matrix[...] for matrix in rule.matrices]


def test_matrices_that_noise_has_learned_are_the_product_of_the_weights_above(monkeypatch):
    """Of a network without spikes, in windows and behind a mask."""
    network, drawn = pair([2, 3, 2, 2], [LI | {"fixed": True}] * 3), signs(3 + 2)
    mask = jnp.ones((3, len(drawn)), bool).at[0].set(False)
    (one, two), matrices = learned(monkeypatch, network, [0 * drawn, drawn[::-1], drawn], mask=mask, window=2)
    assert all(deviation(m, w) < EXACT for m, w in zip(matrices, (one @ two, two), strict=True))


def test_noise_is_on_what_a_spiking_layer_sends(monkeypatch):
    """Below a read-out the mean is its kernel, whatever the slope of the spikes."""
    kernels, matrices = learned(monkeypatch, pair([2, 3, 2], FIXED), [signs(3), signs(3)[::-1]])
    assert deviation(matrices[0], kernels[0]) < EXACT


def test_the_signs_of_steps_layers_and_units_are_independent():
    """And those of a window are the ones that a longer window has at its steps."""
    key, shapes = jax.random.key(0), [(50, 8), (50, 8), (50, 2, 2)]
    drawn = noise_of_layers(key, jnp.int32(0), 6, shapes, jnp.float32)
    assert [one.shape for one in drawn] == [(6, *shape) for shape in shapes]
    every = np.concatenate([np.moveaxis(np.reshape(one, (6, 50, -1)), 1, 0).reshape(50, -1) for one in drawn], axis=1)
    assert np.all(every**2 == 1)
    other = np.abs(np.corrcoef(every.T) - np.eye(every.shape[1]))
    assert other.max() < 0.7 and other.mean() < 0.15  # 1 / sqrt(50) = 0.14
    later = noise_of_layers(key, jnp.int32(4), 2, shapes, jnp.float32)
    assert all(np.array_equal(one, whole[4:]) for one, whole in zip(later, drawn, strict=True))
