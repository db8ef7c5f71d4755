"""Estimates from noise: without error over an orthonormal basis of directions, and in the mean over all signs."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from laws.table import LI, SPIKES, lif
from slax_rules import OPZO, ForwardGradient, NodePerturbation, cross_entropy, firing_rate, gradients, train_offline
from slax_rules.engine.noise import noise_of_layers
from stacks import deviation, furthest, pair

EXACT = 1e-12
OWN = [(0, 0, 1)]  # the first layer is recurrent
LAYERS = [lif(), LI]
FIXED = [layer | {"fixed": True} for layer in LAYERS]


def basis(n):
    """Random orthonormal directions, of a length at which their mean is their sum."""
    return n**0.5 * np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]


def signs(n):
    return np.array([*itertools.product([-1.0, 1.0], repeat=n)])


def draw(monkeypatch, module, numbers):
    """Let a module have these numbers in place of its noise, by step or by the index of an array of parameters."""
    monkeypatch.setattr(sys.modules[module], "noise", lambda key, index, *_: numbers[index])


def error(model, x, rule, window):
    """How far the gradient is from BPTT's; a penalty of a mean over time makes signals of a first pass."""

    def loss(outputs, labels):  # a function of its own, whose program nothing else uses
        return cross_entropy(outputs, labels)

    batch = model, loss, jnp.asarray(x, float), jnp.zeros(x.shape[1], int)
    penalties = [firing_rate(0.1, 2.0, layers=(0,))]
    one, exact = (
        gradients(*batch, window=window, penalties=penalties, **options)[1] for options in ({"rule": rule}, {})
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
    draw(monkeypatch, ForwardGradient.__module__, drawn)
    rule = ForwardGradient(len(parts[0]), rngs=nnx.Rngs(0))
    assert error(model, SPIKES[:4, :2, : model.modules[0].in_features], rule, window) < EXACT


@pytest.mark.parametrize(("directions", "window"), [(basis, 2), (signs, None)])
def test_node_perturbations_add_up_to_the_gradient(directions, window, monkeypatch):
    """Each sample is the same sequence, with a direction of its own for all units and steps."""
    steps, units = 3, 2 + 2
    drawn = directions(steps * units)
    draw(monkeypatch, "slax_rules.engine.noise", jnp.asarray(drawn.reshape(-1, steps, units).swapaxes(0, 1)))
    model = pair([7, 2, 2], FIXED, edges=OWN).model
    x = np.repeat(SPIKES[:steps, :1, :7], len(drawn), axis=1)
    assert error(model, x, NodePerturbation(rngs=nnx.Rngs(0)), window) < EXACT


def learned(monkeypatch, network, drawn, **options):
    """A model, and the matrices of OPZO after an update at a rate of 1, in the mean over the signs that are drawn."""
    model = network.model
    rule = OPZO(model, rngs=nnx.Rngs(0))
    draw(monkeypatch, "slax_rules.engine.noise", jnp.asarray(np.stack(drawn)))
    x = jnp.asarray(np.repeat(SPIKES[: len(drawn), :1, :2], len(drawn[0]), axis=1), float)
    optimizer = nnx.Optimizer((model, rule), optax.sgd(1.0), wrt=nnx.Param)
    kernels = [np.asarray(module.kernel[...]) for module in model.modules[2::2]]
    loss = lambda y, t: cross_entropy(y, t)  # noqa: E731  # whose program nothing else uses
    train_offline(model, optimizer, loss, x, jnp.zeros(len(drawn[0]), int), rule=rule, **options)
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
