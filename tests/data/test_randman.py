"""Random manifolds are those of the equation, samples lie on them, and upstream_randman draws what slax 0.0.1 drew.

`git show 66018c2:tests/nightly/data_sets/record_upstream_randman.py` wrote down the draws, with two versions of JAX.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import Manifolds, manifold_values, randman, random_manifolds, upstream_randman

KEY = random.key(0)
CASES = [dict(dim=1, alpha=2.5), dict(dim=3, alpha=3.0)]


def equation(manifolds, coordinates):
    """In float64 and plain loops, before the values are made to lie in [0, 1]: [P, C, N]."""
    a, w, p = (np.asarray(parameter, np.float64) for parameter in manifolds[:3])
    y = np.ones((*coordinates.shape[:2], *a.shape[3:]))
    for c, m in np.ndindex(a.shape[0], a.shape[2]):
        x = np.asarray(coordinates, float)[:, c, m, None, None]
        y[:, c] *= (a[c, :, m] * np.sin(2 * np.pi * (w[c, :, m] * x + p[c, :, m]))).sum(axis=1)
    return y


@pytest.mark.parametrize("case", CASES)
def test_values_and_bounds_are_those_of_the_equation(case, x64):
    manifolds, other = (random_manifolds(key, n_classes=4, n_units=50, **case) for key in (KEY, random.key(1)))
    points = np.random.default_rng(9).random((1000, 4, case["dim"]))
    y, (low, high) = equation(manifolds, points), map(np.asarray, manifolds[3:])
    standard = (y - low) / (high - low)
    values = jax.jit(manifold_values)(manifolds, jnp.asarray(points[:50]))
    np.testing.assert_allclose(values, standard[:50], rtol=0, atol=1e-12)
    # The extremes of 4,096 points leave out 2 in 4,097 of the values on average; 1,000 other points nearly reach them.
    assert 1e-4 < np.mean((standard < 0) | (standard > 1)) < 1.5e-3 and np.mean(np.ptp(standard, axis=0)) > 0.9
    i = np.arange(1, manifolds.amplitudes.shape[1] + 1).reshape(1, -1, 1, 1)
    amplitudes, frequencies, phases = map(np.asarray, manifolds[:3])
    parts = np.stack([amplitudes * ((i + 1.0) ** case["alpha"] + 1), frequencies / i, phases])
    assert parts.min() >= 0 and parts.max() <= 1
    each = parts.swapaxes(1, 2).reshape(3, i.size, -1)  # uniform in each harmonic
    for share in (0.25, 0.5, 0.75):
        error = 5 * np.sqrt(share * (1 - share) / each.shape[2])
        np.testing.assert_allclose(np.quantile(each, share, axis=2), share, rtol=0, atol=error)
    flat = parts.reshape(3, -1)
    np.testing.assert_allclose(np.corrcoef(flat), np.eye(3), atol=5 / np.sqrt(flat.shape[1]))
    assert len(np.unique(flat)) > 0.99 * flat.size and not np.isin(np.asarray(other.phases), flat[2]).any()


def test_samples_lie_on_the_manifold_of_their_class_and_uniformly():
    n_steps, x = 50, np.linspace(0, 1, 10_001)
    manifolds = random_manifolds(KEY, n_classes=4, n_units=20, dim=1)
    y = equation(manifolds, np.broadcast_to(x[:, None, None], (10_001, 4, 1)))
    low, high = map(np.asarray, manifolds[3:])
    table = np.clip(np.floor((y - low) / (high - low) * n_steps), 0, n_steps - 1)  # [P, C, N]
    draw = partial(randman, random.key(6), n_steps=n_steps, batch_size=200)
    spikes, labels = map(np.asarray, draw(manifolds))
    found, wrong = [], 0
    for steps, label in zip(spikes.argmax(axis=0), labels, strict=True):
        distance = np.abs(table - steps).max(axis=-1).min(axis=0)  # the worst unit, at the nearest point: [C]
        assert distance[label] <= 1 and np.all(np.delete(distance, label) > 3)
        differing = np.abs(table[:, label] - steps)
        found.append(x[differing.sum(axis=-1).argmin()])
        wrong += (differing != 0).sum(axis=-1).min()
    assert wrong < 20  # of 4,000: what the grid of the table misses
    assert np.abs(np.sort(found) - np.linspace(0, 1, 200)).max() < 0.138  # Kolmogorov-Smirnov, level 0.001
    few = jax.tree.map(lambda parameter: jnp.repeat(parameter[:1], 4, axis=0), manifolds)
    alike = np.asarray(draw(few)[0]).argmax(axis=0)
    assert len(np.unique(alike, axis=0)) > 150  # classes and samples have points of their own


def constant(y, n_classes=2):
    """Manifolds [C] whose coordinate is y [N] wherever the sample lies."""
    y = np.broadcast_to(np.asarray(y, np.float32), (n_classes, *np.shape(y)))
    waves = np.zeros((n_classes, 1, 2, *y.shape[1:]), np.float32)
    return Manifolds(*(jnp.asarray(parameter) for parameter in (waves, waves, waves, -y, 1 - y)))


def test_spikes_are_at_floor_of_y_times_steps_inside_the_window():
    y = np.array([0.0, 0.05, 0.15, 0.999, 1.0, 1.3, -1e-3, -0.4])
    step = np.array([0, 0, 1, 9, 9, 9, 0, 0])
    draw = partial(randman, KEY, constant(y), n_steps=10, batch_size=4)
    timed, rated = (np.asarray(draw(code=code)[0]) for code in ("time", "rate"))
    np.testing.assert_array_equal(timed, np.repeat((np.arange(10)[:, None] == step)[:, None], 4, axis=1))
    np.testing.assert_array_equal(rated.sum(axis=0), np.tile(step + 1, (4, 1)))


@pytest.mark.parametrize("batch_size", [34, 9])
def test_classes_are_balanced_in_random_order(batch_size):
    draw = jax.jit(jax.vmap(lambda key: randman(key, constant([0.5], 10), n_steps=3, batch_size=batch_size)[1]))
    orders = np.asarray(draw(random.split(KEY, 30)))
    counts = np.stack([np.bincount(order, minlength=10) for order in orders])
    assert np.ptp(counts, axis=1).max() <= 1 and (counts == counts.max(axis=1, keepdims=True)).any(axis=0).all()
    assert len(np.unique(orders, axis=0)) == 30
    assert batch_size == 9 or np.mean(orders[:, :-10] == orders[:, 10:]) < 0.2


RECORDS = dict(np.load(Path(__file__).parent / "upstream_randman.npz", allow_pickle=False))
NAMES = {"nb_classes": "n_classes", "nb_units": "n_units", "nb_steps": "n_steps", "nb_samples": "samples_per_class"}
NAMES |= {"dim_manifold": "dim", "batch_sz": "batch_size", "alpha": "alpha", "shuffle": "shuffle"}


@pytest.mark.parametrize("case", sorted(name.removesuffix("-about") for name in RECORDS if name.endswith("-about")))
def test_draws_are_those_of_slax(case):
    """In both ways to make random bits."""
    about = json.loads(str(RECORDS[f"{case}-about"]))
    options = {NAMES[name]: value for name, value in about["options"].items() if name != "time_encode"}
    code, shape = "time" if about["options"]["time_encode"] else "rate", about["shape"]
    theirs = np.unpackbits(RECORDS[f"{case}-spikes"])[: np.prod(shape)].reshape(shape)
    keys = random.key(about["seed"]), random.PRNGKey(100 + about["seed"])
    with jax.threefry_partitionable(about["partitionable"]):
        spikes, labels = map(np.asarray, upstream_randman(*keys, code=code, **options))
    np.testing.assert_array_equal(labels, RECORDS[f"{case}-labels"])
    differs = (spikes != theirs).any(axis=0)
    assert differs.sum() <= 1  # a value at the boundary of two steps, to the rounding of another compiler
    moved = spikes.argmax(axis=0) - theirs.argmax(axis=0) if code == "time" else spikes.sum(axis=0) - theirs.sum(axis=0)
    assert np.abs(moved[differs]).max(initial=0) <= 1
