"""Losses of some steps and samples only: padded sequences, losses at the end, and what a mask may not be."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from kinds_of_rules import of_each_kind
from slax_data import spike_trains, stored_task
from slax_neurons import unroll
from slax_rules import (
    BPTT,
    OSTL,
    RULES,
    TBPTT,
    SequenceLoss,
    cross_entropy,
    extend_stream,
    gradients,
    last_step,
    squared_error,
    start_stream,
    train_offline,
    train_online,
    valid_steps,
)
from stacks import deviation, inputs, pair

T, B = 7, 3
LABELS = jnp.array([0, 3, 2])
LENGTHS = jnp.array([7, 2, 5])

EXACT = BPTT()


def net(fixed=False):
    neurons = [{"kind": "lif", "threshold": 0.7, "fixed": fixed}, {"kind": "li", "fixed": fixed}]
    return pair([7, 6, 4], neurons).model


def run(model, x, labels=LABELS, rule=EXACT, window=None, mask=None):
    return gradients(model, cross_entropy, x, labels, rule=rule, window=window, mask=mask)


def close(ours, theirs, tolerance=1e-12):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(deviation(a, b) < tolerance for a, b in pairs)


def test_masks_are_the_steps_of_their_lengths():
    mask = valid_steps(jnp.array([3, 0, 1]), 3)
    np.testing.assert_array_equal(mask, [[1, 0, 1], [1, 0, 0], [1, 0, 0]])
    for lengths in ([3, 0, 1], np.array([3, 0, 1]), np.array([3, 0, 1], np.uint8)):
        np.testing.assert_array_equal(valid_steps(lengths, 3), mask)
        np.testing.assert_array_equal(last_step(lengths, 3), [[0, 0, 1], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1.0, 2.0], r"got lengths of float32\[2\], expected an integer for each"),
        (3, r"got lengths of int32\[\], expected"),
    ],
)
def test_lengths_are_integers(lengths, message):
    """As it is without the check of types that the tests have everywhere else."""
    with pytest.raises(ValueError, match=f"valid_steps {message}"):
        inspect.unwrap(valid_steps)(lengths, 3)
    np.testing.assert_array_equal(last_step(jnp.array([3, 0, 1]), 3), [[0, 0, 1], [0, 0, 0], [1, 0, 0]])


def test_loss_and_gradient_are_those_of_the_mean_over_valid_entries(x64):
    """Of the whole batch: a long sample counts more than a short one."""
    model, x, mask = net(), inputs(T, B, 7), valid_steps(LENGTHS, T)

    def loss_of(model):
        losses = cross_entropy(unroll(model, model.initialize_carry((B, 7)), x)[1], LABELS)
        return sum(losses[:length, sample].sum() for sample, length in enumerate(LENGTHS.tolist())) / 14

    assert close(run(model, x, mask=mask), nnx.value_and_grad(loss_of)(model))


@pytest.mark.parametrize("rule", of_each_kind())
def test_padding_changes_neither_loss_nor_gradient(rule, x64):
    """A net that every rule can treat, since its neurons have no parameters; with the same noise each time."""
    x, mask = inputs(T, B, 7), valid_steps(jnp.full(B, T), T + 3)
    padded = jnp.concatenate([x, inputs(3, B, 7, seed=1)])

    def under(x, mask=None):
        model = net(fixed=True)
        return run(model, x, rule=RULES[rule].make(rngs=nnx.Rngs(0), model=model), mask=mask)

    expected = under(x)
    assert close(under(padded, mask), expected)
    assert not close(under(padded), expected)


RULES_AND_WINDOWS = [(BPTT(), None), (OSTL(), 1), (OSTL(), 3)]


@pytest.mark.parametrize(("rule", "window"), RULES_AND_WINDOWS)
def test_what_is_masked_does_not_contribute(rule, window, x64):
    model, x, mask = net(), inputs(T, B, 7), valid_steps(LENGTHS, T).at[:, 1].set(False)
    expected = run(model, x, rule=rule, window=window, mask=mask)
    other = jnp.where(mask[..., None], x, 3.0)
    labels = jnp.where(mask, LABELS[None], 1)
    assert close(run(model, other, labels, rule=rule, window=window, mask=mask), expected)
    alone = run(model, x[:, ::2], LABELS[::2], rule=rule, window=window, mask=mask[:, ::2])
    assert close(alone, expected)


@pytest.mark.parametrize(("rule", "window"), RULES_AND_WINDOWS[::2])
def test_mask_of_all_entries_is_no_mask(rule, window, x64):
    model, x = net(), inputs(T, B, 7)
    ours = run(model, x, rule=rule, window=window, mask=jnp.ones((T, B), bool))
    assert close(ours, run(model, x, rule=rule, window=window))


@pytest.mark.parametrize("rule", [BPTT(), OSTL()])
def test_without_a_valid_entry_loss_and_gradient_are_zero_under_jit(rule, x64):
    model, x = net(), inputs(T, B, 7)
    result = jax.jit(lambda mask: run(model, x, rule=rule, window=3, mask=mask))(jnp.zeros((T, B), bool))
    assert [np.abs(leaf).max() for leaf in jax.tree.leaves(result)] == [0] * len(jax.tree.leaves(result))


def test_loss_at_the_end_reaches_all_steps_under_bptt(x64):
    """What went in at each of the steps before changes the gradient, though the last step alone has a loss."""
    model, x, mask = net(), inputs(T, B, 7), last_step(jnp.full(B, T), T)

    def loss_of(x):
        return gradients(model, cross_entropy, x, LABELS, mask=mask)[0]

    assert (jnp.abs(jax.jit(jax.grad(loss_of))(x)).max(axis=(1, 2)) > 0).all()


def test_loss_at_the_end_has_the_same_gradient_for_every_window_under_a_rule(x64):
    """In windows before the last no loss counts at all: what they contribute is in the traces."""
    model, x, mask = net(), inputs(T, B, 7), last_step(LENGTHS, T)
    whole = run(model, x, rule=OSTL(), window=T, mask=mask)
    for window in (1, 3):
        assert close(run(model, x, rule=OSTL(), window=window, mask=mask), whole)
    exact = run(model, x, mask=mask)
    assert close(whole[1]["modules"][2], exact[1]["modules"][2])
    truncated = run(model, x, rule=TBPTT(steps=1), mask=mask)
    assert not close(truncated[1]["modules"][2], exact[1]["modules"][2], 0.1)


def test_mask_that_jit_closes_over_is_no_error(x64):
    model, x, mask = net(), inputs(T, B, 7), valid_steps(LENGTHS, T)
    assert close(jax.jit(lambda x: run(model, x, mask=mask))(x), run(model, x, mask=mask))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: valid_steps(jnp.array([8, 1, 2]), T),
            "valid_steps got lengths from 1 to 8 for 7 steps, expected 0 to 7",
        ),
        (lambda: last_step(jnp.array([-1, 1, 2]), T), "last_step got lengths from -1 to 2 for 7 steps"),
        (lambda: jnp.ones((B, T), bool), r"Got a mask of bool\[3, 7\], expected bool\[7, 3\]"),
        (lambda: jnp.ones((T, B)), r"Got a mask of float64\[7, 3\], expected bool\[7, 3\]"),
        (lambda: jnp.zeros((T, B), bool), "without a single true entry"),
    ],
)
def test_bad_mask_is_an_error(make, message, x64):
    with pytest.raises(ValueError, match=message):
        gradients(net(), cross_entropy, inputs(T, B, 7), LABELS, mask=make())


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_batches_of_a_task_are_arguments_with_a_mask_and_without(masked, x64):
    """The mask follows the targets, as in the batches of `fit`."""
    lengths = np.array([7, 2, 5]) if masked else np.full(B, T)
    spikes = (np.random.default_rng(0).random((B, T, 7)) < 0.4) & np.asarray(valid_steps(lengths, T)).T[..., None]
    trains = spike_trains(spikes, np.arange(B), lengths=lengths)
    task = stored_task({"train": trains, "test": trains}, n_classes=B, padding="mask" if masked else None)
    spikes, *others = task.sample(jax.random.key(0), batch_size=B)
    batch = spikes.astype(jnp.float64), *others
    x, labels, mask = batch if masked else (*batch, None)
    assert len(batch) == 2 + masked
    assert close(gradients(net(), cross_entropy, *batch), run(net(), x, labels, mask=mask))

    def trained(step, *batch, **options):
        model = net()
        loss = step(model, nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param), cross_entropy, *batch, **options)
        return loss, nnx.state(model, nnx.Param)

    for step in (train_offline, train_online):
        assert close(trained(step, *batch, rule=OSTL()), trained(step, x, labels, mask=mask, rule=OSTL()))
    if masked:
        assert not close(trained(train_online, *batch, rule=OSTL()), trained(train_online, x, labels, rule=OSTL()))
    model = net()
    stream = start_stream(
        model, nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param), cross_entropy, (B, 7), rule=OSTL()
    )
    by_step = x, jnp.tile(labels, (T, 1))
    ours, theirs = extend_stream(stream, *by_step, *batch[2:]), extend_stream(stream, *by_step, mask=mask)
    assert close((ours.outputs, ours.losses), (theirs.outputs, theirs.losses))


@pytest.mark.parametrize("call", [gradients, train_offline, train_online])
def test_a_rule_without_its_name_is_an_error_that_says_so(call, x64, no_shape_checks):
    model = net()
    optimizer = () if call is gradients else (nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param),)
    with pytest.raises(TypeError, match=r"Got a OSTL as the mask, expected .* is given by name, such as rule=OTPE\(\)"):
        inspect.unwrap(call)(model, *optimizer, cross_entropy, inputs(T, B, 7), LABELS, OSTL())


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("loss", ["step", "sequence"])
@pytest.mark.parametrize("rule", [BPTT(), OSTL()], ids=lambda rule: type(rule).__name__)
def test_a_target_that_is_missing_may_be_nan_where_it_is_masked(rule, loss, window, x64):
    model, x = net(), inputs(T, B, 7)
    targets = jnp.zeros((T, B, 4)).at[2, 1].set(jnp.nan)
    mask = jnp.isfinite(targets).all(axis=-1)
    if loss == "step":
        loss_fn = squared_error
    else:
        mask = mask & mask.all(axis=0, keepdims=True)  # the function looks at all steps of a sample
        loss_fn = SequenceLoss(lambda y, t, mask: jnp.mean((y - t) ** 2, axis=(0, 2)))
    found = gradients(model, loss_fn, x, targets, rule=rule, window=window, mask=mask)
    assert close(found, gradients(model, loss_fn, x, jnp.nan_to_num(targets), rule=rule, window=window, mask=mask))
