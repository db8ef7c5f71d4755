"""Training steps: when the optimiser steps and with what, masks, precision, and what optimisers may ask for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import cross_entropy, gradients, ostl, train_offline, train_online
from slax_rules.gradients import window_gradient
from slax_rules.losses import squared_error
from slax_rules.masks import valid_steps
from stacks import deviation, inputs, linear, pair

T, B = 9, 3
LABELS = jnp.array([0, 3, 2])
LENGTHS = jnp.array([2, 3, 1])  # all within the first of three windows
X = inputs(T, B, 7, dtype=jnp.float32)

jitted = nnx.jit(gradients, static_argnames=("loss_fn", "window"))
window = nnx.jit(window_gradient, static_argnames="loss_fn")
offline = nnx.jit(train_offline, static_argnames=("loss_fn", "window"))
online = nnx.jit(train_online, static_argnames=("loss_fn", "window"))


def net(dtype=jnp.float32):
    return pair([7, 6, 4], [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}], dtype=dtype).model


def parameters(model):
    return jax.tree.leaves(nnx.state(model, nnx.Param))


def close(ours, theirs, tolerance):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(deviation(a, b) < tolerance for a, b in pairs)


def test_offline_training_is_the_optimiser_on_the_gradient():
    model, copy = net(), net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    loss = offline(ostl(model), optimizer, cross_entropy, X, LABELS)
    expected, gradient = jitted(ostl(copy), cross_entropy, X, LABELS)
    assert loss == pytest.approx(float(expected), rel=1e-6)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(copy, nnx.Param), gradient)
    assert close(nnx.state(model, nnx.Param), moved, 1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_online_training_is_one_step_per_window_with_carry_and_traces_kept(masked, x64):
    """With a mask the second of three windows has no valid entry and is no step, not even by momentum."""
    model, copy = net(jnp.float64), net(jnp.float64)
    x = inputs(T, B, 7)
    mask = jnp.ones((T, B), bool).at[3:6].set(False).at[7:, 1].set(False) if masked else None
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    loss = online(ostl(model), optimizer, cross_entropy, x, LABELS, window=3, mask=mask)

    cell, losses = ostl(copy), []
    carry = cell.initialize_carry((B, 7))
    by_hand = optax.sgd(0.1, momentum=0.9)
    params = nnx.state(cell, nnx.Param)
    state = by_hand.init(params)
    for start in range(0, T, 3):
        valid = jnp.ones((3, B), bool) if mask is None else mask[start : start + 3]
        nnx.update(cell, params)
        window_loss, gradient, carry = window(cell, cross_entropy, carry, x[start : start + 3], LABELS, valid)
        losses.append(float(window_loss) * int(valid.sum()))
        if valid.any():
            updates, state = by_hand.update(gradient, state)
            params = optax.apply_updates(params, updates)
    assert close(nnx.state(model, nnx.Param), params, 1e-12)
    assert loss == pytest.approx(sum(losses) / (27 if mask is None else int(mask.sum())), rel=1e-12)
    assert optimizer.step == (2 if masked else 3)


def test_online_training_with_one_window_is_offline_training():
    models = net(), net()
    optimizers = [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param) for model in models]
    train_online(models[0], optimizers[0], cross_entropy, X, LABELS, window=T)
    train_offline(models[1], optimizers[1], cross_entropy, X, LABELS)
    assert close(nnx.state(models[0], nnx.Param), nnx.state(models[1], nnx.Param), 1e-6)


def test_windows_of_padding_leave_parameters_and_optimiser_as_they_are(x64):
    results = []
    for x in (inputs(T, B, 7), inputs(T, B, 7)[:3]):
        model = net(jnp.float64)
        optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
        loss = online(ostl(model), optimizer, cross_entropy, x, LABELS, window=3, mask=valid_steps(LENGTHS, len(x)))
        results.append((loss, nnx.state((model, optimizer))))
    assert close(*results, 1e-14)


@pytest.mark.parametrize("step", [offline, online])
def test_mask_without_a_valid_entry_is_no_step_under_jit_and_an_error_outside(step):
    model, mask = net(), jnp.zeros((T, B), bool)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    offline(model, optimizer, cross_entropy, X, LABELS)  # so that there is a momentum
    before = jax.tree.leaves(nnx.state((model, optimizer)))
    assert step(model, optimizer, cross_entropy, X, LABELS, window=3, mask=mask) == 0
    for new, old in zip(jax.tree.leaves(nnx.state((model, optimizer))), before, strict=True):
        np.testing.assert_array_equal(new, old)
    with pytest.raises(ValueError, match="without a single true entry"):
        (train_offline if step is offline else train_online)(model, optimizer, cross_entropy, X, LABELS, mask=mask)


@pytest.mark.parametrize("step", [offline, online])
def test_training_lowers_the_loss_under_jit_with_weight_decay(step):
    """Weight decay needs the parameters, which slax 0.0.1 did not hand to the optimiser."""
    model = net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.05) if step is online else optax.adamw(0.01), wrt=nnx.Param)
    cell = ostl(model)
    with jax.numpy_dtype_promotion("standard"):  # for optax, whose step counter is an integer
        losses = [float(step(cell, optimizer, cross_entropy, X, LABELS, window=3)) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_training_is_traced_once():
    traces = []

    def counted_loss(outputs, labels):
        traces.append(1)
        return cross_entropy(outputs, labels)

    model = net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    offline(model, optimizer, counted_loss, X, LABELS)
    first = len(traces)
    for _ in range(3):
        offline(model, optimizer, counted_loss, X, LABELS)
    assert len(traces) == first


@pytest.mark.parametrize("step", [offline, online])
def test_clipping_bounds_each_step_and_keeps_its_direction(step):
    model, copy = net(), net()
    clipped = optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(1.0))
    optimizer = nnx.Optimizer(model, clipped, wrt=nnx.Param)
    step(model, optimizer, cross_entropy, X, LABELS, window=T)
    gradient = jax.tree.leaves(jitted(copy, cross_entropy, X, LABELS)[1])
    assert optax.tree.norm(gradient) > 1
    moved = [old - new for new, old in zip(parameters(model), parameters(copy), strict=True)]
    assert optax.tree.norm(moved) == pytest.approx(1e-2, rel=1e-3)
    assert close(moved, optax.tree.scale(1e-2 / optax.tree.norm(gradient), gradient), 1e-3)


def sgd_by_gradient_at():
    """Takes no notice of the gradient that it is given, but asks for it."""

    def update(gradient, state, params, *, gradient_at, **extra):
        return optax.tree.scale(-0.1, gradient_at(params)), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


@pytest.mark.parametrize("mask", [None, valid_steps(LENGTHS, T)], ids=["all", "masked"])
@pytest.mark.parametrize("step", [offline, online])
def test_optimiser_that_asks_gets_the_gradient_of_the_same_window(step, mask, x64):
    """With the same random draws: what the model changed of itself in the meantime is not seen."""
    moved = []
    for optimizer in (optax.sgd(0.1), sgd_by_gradient_at()):
        model = net(jnp.float64)
        model.modules.append(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
        step(model, nnx.Optimizer(model, optimizer, wrt=nnx.Param), cross_entropy, inputs(T, B, 7), LABELS, mask=mask)
        moved.append(parameters(model))
    assert close(*moved, 1e-12)


def low_precision_net(dtype, param_dtype=None):
    """Weights in `param_dtype`, all products and states in `dtype`."""
    modules = [linear(7, 6, 0, param_dtype or dtype), LIF(param_dtype=dtype)]
    modules += [linear(6, 4, 1, param_dtype or dtype), LI(param_dtype=dtype)]
    modules[0].dtype = modules[2].dtype = dtype  # as nnx.Linear(..., dtype=dtype, param_dtype=param_dtype) sets it
    return connect(modules)


@pytest.mark.parametrize("wrap", [lambda model: model, ostl], ids=["plain", "ostl"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_trains_and_keeps_its_dtype(dtype, wrap):
    model = low_precision_net(dtype)
    optimizer = nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)
    losses = [online(wrap(model), optimizer, cross_entropy, X.astype(dtype), LABELS, window=3) for _ in range(20)]
    assert losses[0].dtype == jnp.float32 and losses[-1] < 0.8 * losses[0]
    assert {leaf.dtype for leaf in parameters(model)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("wrap", [lambda model: model, ostl], ids=["plain", "ostl"])
def test_float32_parameters_with_bfloat16_products_have_float32_gradients(wrap):
    """And take steps that are too small for bfloat16: 1e-4 of each number."""
    model, x = low_precision_net(jnp.bfloat16, jnp.float32), X.astype(jnp.bfloat16)
    copy = nnx.clone(model)
    optimizer = nnx.Optimizer(model, optax.scale(-1e-4), wrt=nnx.Param)
    loss = offline(wrap(model), optimizer, cross_entropy, x, LABELS, window=3)
    expected, gradient = jitted(wrap(copy), cross_entropy, x, LABELS, window=3)
    assert loss == pytest.approx(float(expected), rel=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
    moved = [1e4 * (old - new) for new, old in zip(parameters(model), parameters(copy), strict=True)]
    assert close(moved, gradient, 2e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gradients_of_many_windows_are_added_up_in_float32(dtype):
    """4096 shares of 1/4096 make 1. Sums in bfloat16 stop growing at 1/16, in float16 at 1/2."""
    model = connect([nnx.Linear(1, 1, rngs=nnx.Rngs(0), param_dtype=dtype), LI(decay=1e-3, param_dtype=dtype)])
    loss, gradient = jitted(model, lambda y, _: y[..., 0], jnp.ones((4096, 1, 1), dtype), jnp.zeros(1), window=1)
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(dtype)}
    assert [float(leaf.squeeze()) for leaf in jax.tree.leaves(gradient)] == pytest.approx([1, 1], rel=1e-2)


def test_scaled_loss_keeps_what_underflows_in_float16():
    """The recipe of the module: float32 parameters, the loss times a number, the gradient by it again."""
    model, scale = low_precision_net(jnp.float16, jnp.float32), 2.0**12
    x, targets = X.astype(jnp.float16), jnp.zeros((B, 4))

    def small(outputs, targets):
        return 1e-7 * squared_error(outputs, targets)

    def scaled(outputs, targets):
        return scale * small(outputs, targets)

    def moved(loss_fn, transformation):
        copy = nnx.clone(model)
        offline(copy, nnx.Optimizer(copy, transformation, wrt=nnx.Param), loss_fn, x, targets)
        return [old - new for old, new in zip(parameters(model), parameters(copy), strict=True)]

    exact = jax.tree.leaves(jitted(model, squared_error, x, targets)[1])
    assert deviation(moved(small, optax.sgd(1e7))[2], exact[2]) > 0.5
    ours = moved(scaled, optax.chain(optax.scale(1 / scale), optax.sgd(1e7)))
    assert close(ours, exact, 5e-2)
