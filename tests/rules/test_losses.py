"""Losses per step and sample, and accuracy, against their definitions in NumPy; labels, targets and masks that are wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slax_rules.losses import accuracy, cross_entropy, squared_error

T, B, C = 7, 3, 4
LABELS = jnp.array([0, 3, 2])


def outputs(dtype=jnp.float64):
    return jax.random.normal(jax.random.key(0), (T, B, C), dtype)


def test_cross_entropy_is_minus_log_softmax(x64):
    y = outputs()
    expected = -jax.nn.log_softmax(y)[:, jnp.arange(B), LABELS]
    np.testing.assert_allclose(cross_entropy(y, LABELS), expected, rtol=1e-12)


def test_squared_error_is_the_mean_over_features(x64):
    y, targets = outputs(), outputs()[0] + 1
    np.testing.assert_allclose(
        squared_error(y, targets), ((np.asarray(y) - np.asarray(targets)) ** 2).mean(-1), rtol=1e-12
    )
    np.testing.assert_array_equal(squared_error(y, jnp.tile(targets, (T, 1, 1))), squared_error(y, targets))


@pytest.mark.parametrize(("loss", "targets"), [(cross_entropy, LABELS), (squared_error, jax.nn.one_hot(LABELS, C))])
def test_losses_of_half_precision_outputs_are_in_float32(loss, targets):
    y = outputs(jnp.float32).astype(jnp.bfloat16)
    losses = loss(y, targets)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, loss(y.astype(jnp.float32), targets))
    assert jax.grad(lambda y: loss(y, targets).sum())(y).dtype == jnp.bfloat16


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_mean_loss_is_at_least_the_loss_of_the_mean_output(loss, x64):
    y, targets = outputs(), LABELS if loss is cross_entropy else jax.nn.one_hot(LABELS, C)
    assert (loss(y, targets).mean(axis=0) > loss(y.mean(axis=0, keepdims=True), targets)[0]).all()


@pytest.mark.parametrize("labels", [[0, 4, 2], [-1, 3, 2]])
def test_labels_out_of_range_are_an_error_or_nan_under_jit(labels):
    y = jnp.zeros((T, B, C))
    for function in (cross_entropy, accuracy):
        with pytest.raises(ValueError, match=r"got labels from .* expected 0 to 3 for outputs of 4 classes"):
            function(y, jnp.array(labels))
    assert jnp.isnan(jax.jit(accuracy)(y, jnp.array(labels)))
    losses = jax.jit(cross_entropy)(y, jnp.array(labels))
    wrong = [not 0 <= label < C for label in labels]
    np.testing.assert_array_equal(jnp.isnan(losses), np.tile(wrong, (T, 1)))


def test_one_hot_labels_are_an_error():
    with pytest.raises(ValueError, match="got labels of float32, expected integers 0 to 3, not one-hot"):
        cross_entropy(jnp.zeros((T, B, C)), jnp.eye(C)[LABELS])


@pytest.mark.parametrize(
    ("targets", "got"), [(LABELS, r"int32\[3\]"), (jnp.zeros((T, C)), r"\[7, 4\]"), (jnp.zeros(B), r"\[3\]")]
)
def test_targets_of_another_shape_are_an_error(targets, got):
    with pytest.raises(ValueError, match=rf"targets of .*{got} for outputs of \[7, 3, 4\], expected .* \[3, 4\] or"):
        squared_error(jnp.zeros((T, B, C)), targets)


def test_accuracy_sums_over_time_and_counts_ties_as_wrong():
    y = jnp.zeros((2, 4, 3)).at[:, 0, 1].set(1).at[0, 1, 0].set(1).at[1, 1, 2].set(2)
    y = y.at[:, 2, :2].set(1)
    assert accuracy(y, jnp.array([1, 2, 0, 0])) == 0.5


def test_accuracy_under_a_mask_is_that_of_the_valid_steps_and_samples():
    """Sample 1 is right in its first step alone; sample 3, wrong, has no valid step and is left out."""
    y = jnp.zeros((2, 4, 3)).at[:, 0, 1].set(1).at[0, 1, 2].set(1).at[1, 1, 0].set(2)
    labels = jnp.array([1, 2, 0, 0])
    mask = jnp.array([[True, True, True, False], [True, False, True, False]])
    assert accuracy(y, labels) == 0.25
    assert accuracy(y, labels, mask) == pytest.approx(2 / 3)
    assert accuracy(y, labels, jnp.ones((2, 4), bool)) == 0.25
    assert jax.jit(accuracy)(y, labels, jnp.zeros((2, 4), bool)) == 0
    with pytest.raises(ValueError, match="without a single true entry"):
        accuracy(y, labels, jnp.zeros((2, 4), bool))
    with pytest.raises(ValueError, match=r"Got a mask of bool\[4\], expected bool\[2, 4\]"):
        accuracy(y, labels, mask[0])


def test_accuracy_of_half_precision_outputs_is_no_tie_of_rounding():
    """Sums of 400 and 401 are the same number in bfloat16."""
    y = jnp.ones((401, 1, 2), jnp.bfloat16).at[0, 0, 1].set(0)
    assert accuracy(y, jnp.array([0])) == 1
