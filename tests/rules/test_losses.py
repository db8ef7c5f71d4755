"""Losses of a step and of a sequence, and accuracy, against their definitions; labels, targets and masks that are wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import unroll
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    SequenceLoss,
    accuracy,
    cross_entropy,
    gradients,
    last_step,
    squared_error,
    train_offline,
    train_online,
    valid_steps,
)
from stacks import deviation, inputs, pair

T, B, C = 7, 3, 4
LABELS = jnp.array([0, 3, 2])


def outputs(dtype=jnp.float64):
    return jax.random.normal(jax.random.key(0), (T, B, C), dtype)


def test_cross_entropy_is_minus_log_softmax(x64):
    y = outputs()
    expected = -jax.nn.log_softmax(y)[:, jnp.arange(B), LABELS]
    np.testing.assert_allclose(cross_entropy(y, LABELS), expected, rtol=1e-12)


def test_labels_of_one_byte_count_up_to_255():
    y, labels = jax.random.normal(jax.random.key(0), (2, 300)), np.array([3, 255])
    expected = -jax.nn.log_softmax(y)[jnp.arange(2), jnp.asarray(labels)]
    np.testing.assert_allclose(cross_entropy(y, jnp.asarray(labels, jnp.uint8)), expected, rtol=1e-6)


def test_squared_error_is_the_mean_over_features(x64):
    y, targets = outputs()[1], outputs()[0] + 1
    np.testing.assert_allclose(
        squared_error(y, targets), ((np.asarray(y) - np.asarray(targets)) ** 2).mean(-1), rtol=1e-12
    )
    image = jnp.reshape(y, (B, 2, 2)), jnp.reshape(targets, (B, 2, 2))
    np.testing.assert_allclose(squared_error(*image), squared_error(y, targets), rtol=1e-15)


@pytest.mark.parametrize(("loss", "targets"), [(cross_entropy, LABELS), (squared_error, jax.nn.one_hot(LABELS, C))])
def test_losses_of_half_precision_outputs_are_in_float32(loss, targets):
    y = outputs(jnp.float32)[0].astype(jnp.bfloat16)
    losses = loss(y, targets)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, loss(y.astype(jnp.float32), targets))
    assert jax.grad(lambda y: loss(y, targets).sum())(y).dtype == jnp.bfloat16


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_mean_loss_is_at_least_the_loss_of_the_mean_output(loss, x64):
    y, targets = outputs(), LABELS if loss is cross_entropy else jax.nn.one_hot(LABELS, C)
    each = jax.vmap(loss, in_axes=(0, None))(y, targets)
    assert each.shape == (T, B)
    assert (each.mean(axis=0) > loss(y.mean(axis=0), targets)).all()


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
    ("targets", "got"),
    [
        (LABELS, r"int32\[3\]"),
        (jnp.zeros((B, C + 1)), r"\[3, 5\]"),
        (jnp.zeros(B), r"\[3\]"),
        (jnp.zeros((T, B, C)), r"\[7, 3, 4\]"),
    ],
)
def test_targets_of_another_shape_are_an_error(targets, got):
    with pytest.raises(
        ValueError, match=rf"targets of .*{got} for outputs of \[3, 4\] in a step, expected .* \[3, 4\]"
    ):
        squared_error(jnp.zeros((B, C)), targets)


# ------------------------------------------------------------------------------------------------------ of a whole sequence

MEAN = SequenceLoss(lambda y, labels: cross_entropy(y.mean(axis=0), labels))


def masked_mean(y, labels, mask):
    count = jnp.maximum(mask.sum(axis=0), 1).astype(y.dtype)
    return cross_entropy(jnp.where(mask[..., None], y, 0).sum(axis=0) / count[:, None], labels)


def net(dtype=jnp.float64):
    return pair([7, 6, C], [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}], dtype=dtype).model


def close(ours, theirs, tolerance=1e-12):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(deviation(a, b) < tolerance for a, b in pairs)


def by_autodiff(model, x, loss_of_outputs):
    return nnx.value_and_grad(lambda model: loss_of_outputs(unroll(model, model.initialize_carry((B, 7)), x)[1]))(model)


@pytest.mark.parametrize("window", [None, 3])
def test_loss_of_a_sequence_under_bptt_is_that_of_autodiff(window, x64):
    model, x = net(), inputs(T, B, 7)
    expected = by_autodiff(model, x, lambda y: cross_entropy(y.mean(axis=0), LABELS).mean())
    assert close(gradients(model, MEAN, x, LABELS, rule=BPTT(), window=window), expected)


@pytest.mark.parametrize("window", [1, 3])
def test_loss_of_the_sum_of_steps_has_the_gradient_of_the_losses_of_steps(window, x64):
    """A loss of a sequence that is the mean over its steps is nothing else, under a rule too, with a mask or without."""
    model, x = net(), inputs(T, B, 7)
    whole = SequenceLoss(lambda y, labels: cross_entropy(y, labels).mean(axis=0))
    ours, theirs = (gradients(model, f, x, LABELS, rule=OTPE(), window=window) for f in (whole, cross_entropy))
    assert close(ours, theirs)
    mask = valid_steps(jnp.full(B, 5), T)
    whole = SequenceLoss(lambda y, labels, mask: jnp.where(mask, cross_entropy(y, labels), 0).sum(axis=0) / 5)
    ours, theirs = (
        gradients(model, f, x, LABELS, rule=OTPE(), window=window, mask=mask) for f in (whole, cross_entropy)
    )
    assert close(ours, theirs)


@pytest.mark.parametrize("rule", [BPTT(), OSTL()])
def test_loss_of_a_sequence_gets_the_mask_and_counts_samples_with_a_true_entry(rule, x64):
    model, x, mask = net(), inputs(T, B, 7), valid_steps(jnp.array([7, 0, 4]), T)
    found = gradients(model, SequenceLoss(masked_mean), x, LABELS, rule=rule, window=3, mask=mask)
    alone = gradients(model, SequenceLoss(masked_mean), x[:, ::2], LABELS[::2], rule=rule, window=3, mask=mask[:, ::2])
    assert close(found, alone)
    other = jnp.where(mask[..., None], x, 3.0)
    assert close(gradients(model, SequenceLoss(masked_mean), other, LABELS, rule=rule, window=3, mask=mask), found)
    if isinstance(rule, BPTT):
        expected = by_autodiff(model, x, lambda y: masked_mean(y, LABELS, mask)[jnp.array([0, 2])].mean())
        assert close(found, expected)


def test_loss_of_a_sequence_that_takes_no_mask_says_so_if_it_gets_one(x64):
    with pytest.raises(
        TypeError, match=r"got a mask, expected that it takes one as a third argument: lambda outputs, targets"
    ):
        gradients(net(), MEAN, inputs(T, B, 7), LABELS, mask=jnp.ones((T, B), bool))


def test_targets_of_a_sequence_and_of_its_steps_come_as_they_are(x64):
    model, x = net(), inputs(T, B, 7)
    tracks = jax.random.normal(jax.random.key(1), (T, B, C))

    def of_both(y, targets):
        return jnp.square(y - targets["track"]).mean(axis=(0, 2)) + cross_entropy(y[-1], targets["label"])

    targets = {"track": tracks, "label": LABELS}
    found = gradients(model, SequenceLoss(of_both), x, targets, rule=BPTT())
    assert close(found, by_autodiff(model, x, lambda y: of_both(y, targets).mean()))
    online = [gradients(model, SequenceLoss(of_both), x, targets, rule=OSTL(), window=window) for window in (2, T)]
    assert close(*online)
    assert close(online[0][0], found[0])


def test_last_step_is_a_loss_of_a_sequence_too(x64):
    model, x = net(), inputs(T, B, 7)
    at_end = SequenceLoss(lambda y, labels: cross_entropy(y[-1], labels))
    ours = gradients(model, at_end, x, LABELS, rule=OSTL(), window=3)
    mask = last_step(jnp.full(B, T), T)
    assert close(ours, gradients(model, cross_entropy, x, LABELS, rule=OSTL(), window=3, mask=mask))


def test_training_offline_takes_a_loss_of_a_sequence_and_training_online_refuses_it():
    model, x = net(jnp.float32), inputs(T, B, 7, dtype=jnp.float32)
    copy = net(jnp.float32)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    loss = train_offline(model, optimizer, MEAN, x, LABELS, rule=OSTL(), window=3)
    expected, gradient = gradients(copy, MEAN, x, LABELS, rule=OSTL(), window=3)
    assert loss == pytest.approx(float(expected), rel=1e-6)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(copy, nnx.Param), gradient)
    assert close(nnx.state(model, nnx.Param), moved, 1e-6)
    with pytest.raises(
        TypeError, match=r"train_online got a SequenceLoss, expected the loss of one step.*Use train_offline"
    ):
        train_online(model, optimizer, MEAN, x, LABELS, rule=OSTL(), window=3)


@pytest.mark.parametrize("window", [None, 3])
def test_loss_of_a_sequence_that_is_not_one_per_sample_is_an_error(window):
    model, x = net(jnp.float32), inputs(T, B, 7, dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"SequenceLoss made \[7, 3\] of outputs for 3 samples, expected .*\[3\]"):
        gradients(model, SequenceLoss(cross_entropy), x, LABELS, rule=OSTL(), window=window)
    with pytest.raises(ValueError, match="SequenceLoss made tuple of outputs"):
        gradients(model, SequenceLoss(lambda y, labels: (y, labels)), x, LABELS, rule=OSTL(), window=window)


# ---------------------------------------------------------------------------------------------------------------- accuracy


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


def test_accuracy_with_the_labels_first_is_an_error_that_says_so(no_shape_checks):
    y, labels = jnp.zeros((2, 4, 3)), jnp.array([1, 2, 0, 0])
    told = r"of shape \[4\] and labels of \[2, 4, 3\], expected .* The outputs come first: accuracy\(outputs, labels"
    with pytest.raises(ValueError, match=told):
        accuracy(labels, y)
    with pytest.raises(ValueError, match="The outputs come first"):
        accuracy(y.sum(axis=0), labels)


def test_accuracy_of_half_precision_outputs_is_no_tie_of_rounding():
    """Sums of 400 and 401 are the same number in bfloat16."""
    y = jnp.ones((401, 1, 2), jnp.bfloat16).at[0, 0, 1].set(0)
    assert accuracy(y, jnp.array([0])) == 1
