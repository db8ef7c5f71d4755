"""Laws of the Randman task."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import Manifolds, randman, random_manifolds

N_STEPS = 50


@pytest.fixture(scope="module")
def draw():
    """Draws a batch of 64 samples of 30 units in 20 steps."""
    return partial(randman, manifolds=random_manifolds(random.key(0), n_units=30), n_steps=20, batch_size=64)


@pytest.fixture(scope="module")
def curves():
    """One-dimensional manifolds, and their spike steps at 10,001 points each in float64: [P, C, N]."""
    manifolds = random_manifolds(random.key(0), n_classes=4, n_units=20, dim=1)
    a, w, p, low, high = (np.asarray(parameter, np.float64) for parameter in manifolds)
    x = np.linspace(0, 1, 10_001)
    steps = np.empty((len(x), 4, 20), int)
    for c in range(4):
        angle = 2 * np.pi * (w[c, :, 0, 0] * x[:, None, None] + p[c, :, 0, 0])
        y = np.einsum("in,pin->pn", a[c, :, 0, 0], np.sin(angle))
        steps[:, c] = np.floor((y - low[c, 0]) / (high[c, 0] - low[c, 0]) * N_STEPS)
    return manifolds, x, np.clip(steps, 0, N_STEPS - 1).astype(np.int16)


def constant_manifolds(y, n_classes=2):
    """Manifolds [C] whose coordinate is y [S, N] wherever the sample lies."""
    y = np.broadcast_to(np.asarray(y, np.float32), (n_classes, *np.shape(y)))
    waves = np.zeros((n_classes, 1, 2, *y.shape[1:]), np.float32)
    return Manifolds(*(jnp.asarray(parameter) for parameter in (waves, waves, waves, -y, 1 - y)))


def draw_constant(y, code="time"):
    """Draws 100 samples of 40 units in 10 steps, of which all have the coordinate y."""
    manifolds = constant_manifolds(np.full((1, 40), y))
    return np.asarray(randman(random.key(0), manifolds, n_steps=10, batch_size=100, code=code)[0])


def steps_of(spikes):
    return np.argmax(np.asarray(spikes), axis=0).astype(np.int16)


def counts_of(spikes):
    return np.asarray(spikes).sum(axis=0)


# batch_size 4 has one sample per class: bounds taken from the batch would put them all at one end.
@pytest.mark.parametrize("batch_size", [4, 200])
def test_every_sample_lies_on_the_manifold_of_its_class_and_on_no_other(curves, batch_size):
    manifolds, _, table = curves
    for seed in range(3):  # the manifold is the same whatever the key of the samples
        spikes, labels = randman(random.key(seed), manifolds, n_steps=N_STEPS, batch_size=batch_size)
        for steps, label in zip(steps_of(spikes), np.asarray(labels), strict=True):
            distance = np.abs(table - steps).max(axis=-1).min(axis=0)  # worst unit, at the nearest point: [C]
            assert distance[label] <= 1
            assert np.all(np.delete(distance, label) > 3)


def test_most_spikes_are_at_the_very_step_of_the_equation(curves):
    manifolds, _, table = curves
    spikes, labels = randman(random.key(5), manifolds, n_steps=N_STEPS, batch_size=200)
    differing = [
        (table[:, label] != steps).sum(axis=-1).min()
        for steps, label in zip(steps_of(spikes), np.asarray(labels), strict=True)
    ]
    assert np.mean(differing) < 0.1  # of 20 units: only what the grid of the table misses


def test_samples_are_uniform_on_their_manifold(curves):
    manifolds, x, table = curves
    spikes, labels = randman(random.key(6), manifolds, n_steps=N_STEPS, batch_size=200)
    found = [
        x[np.abs(table[:, label] - steps).sum(axis=-1).argmin()]
        for steps, label in zip(steps_of(spikes), np.asarray(labels), strict=True)
    ]
    assert np.abs(np.sort(found) - np.linspace(0, 1, 200)).max() < 0.138  # Kolmogorov-Smirnov, level 0.001


def test_classes_and_samples_have_independent_points(draw):
    same = jax.tree.map(lambda parameter: jnp.repeat(parameter[:1], 10, axis=0), draw.keywords["manifolds"])
    spikes, _ = draw(random.key(1), manifolds=same)
    assert len(np.unique(steps_of(spikes), axis=0)) == 64  # on ten equal manifolds, no sample repeats another


def test_time_code_has_one_spike_per_unit(draw):
    spikes, labels = draw(random.key(1))
    assert spikes.shape == (20, 64, 30) and spikes.dtype == jnp.float32
    assert labels.shape == (64,) and labels.dtype == jnp.int32
    np.testing.assert_array_equal(counts_of(spikes), np.ones((64, 30)))
    assert set(np.unique(spikes)) == {0, 1}


def test_rate_code_has_one_spike_more_than_the_step_of_the_time_code(draw):
    (timed, labels), (rated, rate_labels) = draw(random.key(1)), draw(random.key(1), code="rate")
    np.testing.assert_array_equal(counts_of(rated), steps_of(timed) + 1)
    np.testing.assert_array_equal(labels, rate_labels)
    assert set(np.unique(rated)) == {0, 1}


@pytest.mark.parametrize(
    ("y", "step"), [(0.0, 0), (0.05, 0), (0.15, 1), (0.999, 9), (1.0, 9), (1.3, 9), (-1e-3, 0), (-0.4, 0)]
)
def test_spike_is_at_floor_of_y_times_steps_inside_the_window(y, step):
    spikes = draw_constant(y)
    np.testing.assert_array_equal(counts_of(spikes), np.ones((100, 40)))
    np.testing.assert_array_equal(steps_of(spikes), np.full((100, 40), step))
    np.testing.assert_array_equal(counts_of(draw_constant(y, code="rate")), np.full((100, 40), step + 1))


def test_each_submanifold_gives_its_unit_one_spike():
    manifolds = constant_manifolds([[0.05, 0.35, 0.35], [0.95, 0.05, 0.35], [0.55, 0.75, 0.35]])  # [S, N]
    spikes, _ = randman(random.key(0), manifolds, n_steps=10, batch_size=4)
    expected = np.zeros((10, 3))
    expected[[0, 9, 5], 0] = 1
    expected[[3, 0, 7], 1] = 1
    expected[3, 2] = 1  # three coinciding spikes merge
    np.testing.assert_array_equal(spikes, np.repeat(expected[:, None], 4, axis=1))


def test_every_choice_of_steps_is_equally_likely_in_the_rate_code():
    spikes = draw_constant(0.15, code="rate")  # floor(0.15 x 10) + 1 = 2 of 10 steps: 45 choices
    chosen = spikes.reshape(10, -1).astype(int).T @ (1 << np.arange(10))
    counts = np.unique(chosen, return_counts=True)[1]
    assert len(counts) == 45
    assert ((counts - 4000 / 45) ** 2 / (4000 / 45)).sum() < 78.7  # chi-squared, 44 degrees of freedom, level 0.001


def test_units_and_samples_choose_their_steps_independently_in_the_rate_code():
    trains = draw_constant(0.45, code="rate").reshape(10, -1).T  # 5 of 10 steps
    correlation = np.corrcoef(trains)[np.triu_indices(len(trains), k=1)]
    assert abs(correlation.mean()) < 2e-3  # 0 for independent trains, 1 for a shared permutation
    np.testing.assert_allclose(correlation.std(), 1 / 3, rtol=0.01)  # 1 / sqrt(T - 1) for independent trains


@pytest.mark.parametrize(("batch_size", "n_classes"), [(34, 10), (9, 10)])
def test_classes_are_balanced_up_to_the_remainder(batch_size, n_classes):
    manifolds = constant_manifolds(np.full((1, 2), 0.5), n_classes)
    largest = set()
    for seed in range(30):
        spikes, labels = randman(random.key(seed), manifolds, n_steps=3, batch_size=batch_size)
        assert spikes.shape == (3, batch_size, 2) and labels.shape == (batch_size,)
        counts = np.bincount(labels, minlength=n_classes)
        assert len(counts) == n_classes and np.ptp(counts) <= 1
        largest |= set(np.flatnonzero(counts == counts.max()))
    assert largest == set(range(n_classes))  # the remainder is not always given to the same classes


def test_labels_come_in_random_order():
    manifolds = constant_manifolds(np.full((1, 2), 0.5), 10)
    orders = np.stack([randman(random.key(seed), manifolds, n_steps=3, batch_size=34)[1] for seed in range(30)])
    assert len(np.unique(orders, axis=0)) == 30
    assert np.mean(orders[:, :-10] == orders[:, 10:]) < 0.2  # 0.1 at random, 1 if the classes came in turns


@pytest.mark.parametrize("code", ["time", "rate"])
def test_same_key_gives_the_same_batch(draw, code):
    spikes, labels = draw(random.key(1), code=code)
    again, same_labels = draw(random.key(1), code=code)
    np.testing.assert_array_equal(again, spikes)
    np.testing.assert_array_equal(same_labels, labels)
    assert not np.array_equal(draw(random.key(2), code=code)[0], spikes)


@pytest.mark.parametrize("code", ["time", "rate"])
def test_old_style_keys_are_welcome(draw, code):
    spikes, labels = jax.eval_shape(partial(draw, code=code), random.PRNGKey(1))
    assert spikes.shape == (20, 64, 30) and labels.shape == (64,)


@pytest.mark.parametrize("code", ["time", "rate"])
def test_jit_changes_nothing(draw, code):
    without_jit = randman.__wrapped__(random.key(1), **draw.keywords, code=code)
    for expected, part in zip(without_jit, draw(random.key(1), code=code), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_vmap_changes_nothing(draw):
    keys = random.split(random.key(1), 3)
    spikes, labels = (np.asarray(part) for part in jax.vmap(draw)(keys))
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(spikes[i], draw(key)[0])
        np.testing.assert_array_equal(labels[i], draw(key)[1])


@pytest.mark.parametrize("code", ["time", "rate"])
def test_double_precision_manifolds_give_double_precision_spikes(x64, code):
    def draw(key):
        return randman(key, random_manifolds(key, n_units=6), n_steps=8, batch_size=10, code=code)

    spikes, labels = jax.eval_shape(draw, random.key(0))
    assert spikes.dtype == jnp.float64 and labels.dtype == jnp.int32


@pytest.mark.parametrize("option", ["n_steps", "batch_size"])
def test_a_size_below_one_is_an_error(option):
    sizes = {"n_steps": 5, "batch_size": 5, option: 0}
    with pytest.raises(ValueError, match=rf"{option} got 0, expected an integer of at least 1"):
        randman(random.key(0), constant_manifolds(np.zeros((1, 2))), **sizes)


def test_an_unknown_code_is_an_error():
    with pytest.raises(ValueError, match="code got 'phase', expected one of: 'rate', 'time'"):
        randman(random.key(0), constant_manifolds(np.zeros((1, 2))), n_steps=5, batch_size=5, code="phase")


def test_several_spikes_per_unit_in_the_rate_code_are_an_error():
    with pytest.raises(ValueError, match=r"n_spikes=3.*n_spikes=1, or use code='time'"):
        randman(random.key(0), constant_manifolds(np.zeros((3, 2))), n_steps=5, batch_size=5, code="rate")
