"""Losses of a step and of a sequence, and accuracy, against their definitions; labels, targets and masks that are wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slax_rules as sr

T, B, C = 7, 3, 4
LABELS = jnp.array([0, 3, 2])
DRAWS = np.random.default_rng(0)
OUTPUTS, TRACKS, X = DRAWS.normal(size=(T, B, C)), DRAWS.normal(size=(T, B, C)), DRAWS.random((T, B, 7)).round()


def minus_log_softmax(y, labels):
    """By hand."""
    p = np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)
    return -np.log(p[..., np.arange(len(labels)), labels])


def test_losses_of_a_step_are_those_of_their_definitions(x64):
    y, targets = jnp.asarray(OUTPUTS), jnp.asarray(TRACKS)
    np.testing.assert_allclose(sr.cross_entropy(y, LABELS), minus_log_softmax(OUTPUTS, np.asarray(LABELS)), rtol=1e-12)
    np.testing.assert_allclose(sr.squared_error(y[0], targets[0]), ((OUTPUTS[0] - TRACKS[0]) ** 2).mean(-1), rtol=1e-12)
    images = (array[0].reshape(B, 2, 2) for array in (y, targets))
    np.testing.assert_allclose(sr.squared_error(*images), sr.squared_error(y[0], targets[0]), rtol=1e-15)
    wide, many = DRAWS.normal(size=(2, 300)), np.array([3, 255], np.uint8)  # labels of one byte count up to 255
    found = sr.cross_entropy(jnp.asarray(wide), jnp.asarray(many))
    np.testing.assert_allclose(found, minus_log_softmax(wide, many), rtol=1e-12)


@pytest.mark.parametrize(("loss", "targets"), [(sr.cross_entropy, LABELS), (sr.squared_error, jnp.zeros((B, C)))])
def test_losses_of_half_precision_outputs_are_in_float32(loss, targets):
    y = jnp.asarray(OUTPUTS[0], jnp.bfloat16)
    assert loss(y, targets).dtype == jnp.float32
    np.testing.assert_array_equal(loss(y, targets), loss(y.astype(jnp.float32), targets))
    assert jax.grad(lambda y: loss(y, targets).sum())(y).dtype == jnp.bfloat16


@pytest.mark.parametrize("labels", [[0, 4, 2], [-1, 3, 2]])
def test_labels_out_of_range_are_an_error_or_nan_under_jit(labels):
    y = jnp.zeros((T, B, C))
    for function in (sr.cross_entropy, sr.accuracy):
        with pytest.raises(ValueError, match=r"got labels from .* expected 0 to 3"):
            function(y, jnp.array(labels))
    assert jnp.isnan(jax.jit(sr.accuracy)(y, jnp.array(labels)))
    wrong = [not 0 <= label < C for label in labels]
    np.testing.assert_array_equal(jnp.isnan(jax.jit(sr.cross_entropy)(y, jnp.array(labels))), np.tile(wrong, (T, 1)))


# ---------------------------------------------------------------------------------------------------------------- accuracy


def test_accuracy_sums_over_time_and_counts_ties_as_wrong():
    y = jnp.zeros((2, 4, 3)).at[:, 0, 1].set(1).at[0, 1, 0].set(1).at[1, 1, 2].set(2)
    y = y.at[:, 2, :2].set(1)
    for labels in ([1, 2, 0, 0], [1, 2, 1, 2]):
        first = (np.asarray(y).sum(axis=0).argmax(axis=-1) == labels).mean()
        assert sr.accuracy(y, jnp.array(labels)) == 0.5 and sr.accuracy(y, jnp.array(labels), ties="first") == first
    rounded = jnp.ones((401, 1, 2), jnp.bfloat16).at[0, 0, 1].set(0)
    assert sr.accuracy(rounded, jnp.array([0])) == 1  # sums of 400 and 401 are the same number in bfloat16


def test_accuracy_is_that_of_valid_steps_and_samples():
    """Sample 1 is right in its first step alone; sample 3, wrong, has no valid step and is left out."""
    y = jnp.zeros((2, 4, 3)).at[:, 0, 1].set(1).at[0, 1, 2].set(1).at[1, 1, 0].set(2)
    labels = jnp.array([1, 2, 0, 0])
    mask = jnp.array([[True, True, True, False], [True, False, True, False]])
    assert sr.accuracy(y, labels) == sr.accuracy(y, labels, jnp.ones((2, 4), bool)) == 0.25
    assert sr.accuracy(y, labels, mask) == pytest.approx(2 / 3)
    assert jax.jit(sr.accuracy)(y, labels, jnp.zeros((2, 4), bool)) == 0
