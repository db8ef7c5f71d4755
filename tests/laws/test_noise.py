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
from slax_neurons import LI as Readout
from slax_neurons import LIF, LRU, Delay, connect
from slax_rules import (
    BPTT,
    DECOLLE,
    OPZO,
    OTTT,
    ForwardGradient,
    NodePerturbation,
    PerLayer,
    cross_entropy,
    firing_rate,
    gradients,
    train_offline,
)
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


def test_matrices_that_noise_has_learned_are_the_product_of_the_weights_above(monkeypatch):
    """In the mean over all signs of a network without spikes, after an update at a rate of 1, in windows and behind a mask."""
    model = pair([2, 3, 2, 2], [LI | {"fixed": True}] * 3).model
    rule, drawn = OPZO(model, rngs=nnx.Rngs(0)), signs(3 + 2)
    draw(monkeypatch, "slax_rules.engine.noise", jnp.asarray(np.stack([0 * drawn, drawn[::-1], drawn])))
    x, mask = np.repeat(SPIKES[:3, :1, :2], len(drawn), axis=1), np.ones((3, len(drawn)), bool)
    mask[0] = False
    one, two = (np.asarray(model.modules[index].kernel[...]) for index in (2, 4))
    optimizer = nnx.Optimizer((model, rule), optax.sgd(1.0), wrt=nnx.Param)
    batch = jnp.asarray(x, float), jnp.zeros(len(drawn), int), jnp.asarray(mask)
    train_offline(model, optimizer, lambda y, t: cross_entropy(y, t), *batch, rule=rule, window=2)
    assert all(deviation(m[...], w) < EXACT for m, w in zip(rule.matrices, (one @ two, two), strict=True))


def test_a_weight_mirror_learns_its_kernel():
    """From inputs of zero mean and unit covariance: an orthonormal basis and its negative."""
    linear, noise = pair([3, 2], [LI]).model.modules[0], np.concatenate([basis(3), -basis(3)])
    assert linear.bias[...].any()
    assert deviation(noise.T @ np.asarray(linear(jnp.asarray(noise))) / len(noise), linear.kernel[...]) < EXACT


def test_noise_is_on_what_a_spiking_layer_sends(monkeypatch):
    """Below a read-out the mean is its kernel, whatever the slope of the spikes."""
    model = pair([2, 3, 2], FIXED).model
    rule, drawn = OPZO(model, rngs=nnx.Rngs(0)), signs(3)
    draw(monkeypatch, "slax_rules.engine.noise", jnp.asarray(np.stack([drawn, drawn[::-1]])))
    x = np.repeat(SPIKES[:2, :1, :2], len(drawn), axis=1)
    optimizer = nnx.Optimizer((model, rule), optax.sgd(1.0), wrt=nnx.Param)
    expected = np.asarray(model.modules[2].kernel[...])
    train_offline(model, optimizer, cross_entropy, jnp.asarray(x, float), jnp.zeros(len(drawn), int), rule=rule)
    assert deviation(rule.matrices[0][...], expected) < EXACT


@pytest.mark.parametrize(
    ("modules", "rule", "message"),
    [
        (
            [nnx.Linear(3, 8, rngs=nnx.Rngs(0)), LRU(), nnx.Linear(8, 2, rngs=nnx.Rngs(0))],
            OTTT(),
            "OPZO got LRU above the first synapse",
        ),
        (
            [
                nnx.Linear(3, 4, rngs=nnx.Rngs(0)),
                LIF(),
                Delay(4, max_delay=2, delays=1.0),
                nnx.Linear(4, 2, rngs=nnx.Rngs(0)),
            ],
            OTTT(),
            "OPZO got Delay above the first synapse",
        ),
        (
            [nnx.Linear(3, 4, rngs=nnx.Rngs(0)), LIF(), nnx.Linear(4, 2, rngs=nnx.Rngs(0))],
            BPTT(),
            "OPZO got BPTT, expected one rule for all layers without another route",
        ),
        (
            [nnx.Linear(3, 2, rngs=nnx.Rngs(0))],
            DECOLLE(rngs=nnx.Rngs(0)),
            "OPZO got DECOLLE with the route Local, expected",
        ),
        (
            [nnx.Linear(3, 2, rngs=nnx.Rngs(0))],
            PerLayer([OTTT()]),
            "OPZO got PerLayer, expected one rule for all layers",
        ),
    ],
)
def test_what_noise_cannot_teach_is_refused(modules, rule, message):
    with pytest.raises(TypeError, match=message):
        OPZO(connect([*modules, Readout()]), rule, rngs=nnx.Rngs(0))


def test_a_model_in_which_kernels_do_not_meet_the_units_is_refused():
    def halves(x):
        return x[..., ::2] + x[..., 1::2]

    def model(units, *pool):
        linears = [nnx.Linear(3, units, rngs=nnx.Rngs(0)), nnx.Linear(units // (1 + len(pool)), 2, rngs=nnx.Rngs(1))]
        return connect([linears[0], LIF(), *pool, linears[1], Readout()])

    for made, used in ((model(8, halves), model(8, halves)), (model(4), model(8))):
        rule = OPZO(made, rngs=nnx.Rngs(0))
        with pytest.raises(
            TypeError, match=r"OPZO got .* are \[\(8, 2\)\], expected \[\(4, 2\)\], by .* Direct\(rngs=rngs\)"
        ):
            gradients(used, cross_entropy, jnp.ones((2, 1, 3)), jnp.zeros(1, int), rule=rule)


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
