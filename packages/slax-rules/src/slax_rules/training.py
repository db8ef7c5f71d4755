"""Training steps: one batch, with one optimiser step for the sequence or one for each window.

What is done with a gradient is said in Optax: `optax.chain(optax.clip_by_global_norm(1.0), optax.adamax(1e-3))` bounds its
norm, `fptt(optax.adamax(1e-3))` regularises the steps within a sequence.

Half precision: either all parameters, states and inputs in bfloat16 or float16, or the parameters in float32, which keeps small
steps and gives float32 gradients: `nnx.Linear(64, 50, dtype=jnp.bfloat16, param_dtype=jnp.float32, rngs=rngs)` with
`LIF(param_dtype=jnp.bfloat16)`. In float16 what is below 6e-8 is 0 on the way back; with float32 parameters, scale the loss,
`lambda y, t: 2.0**12 * cross_entropy(y, t)`, and the gradient, `optax.chain(optax.scale(2.0**-12), optax.adamax(1e-3))`.
bfloat16 has the range of float32 and needs nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.engine import check_sequence, scan_chunks
from slax_rules.gradients import (
    LossFn,
    gradients,
    initial_carry,
    targets_per_step,
    window_gradient,
    window_share,
)
from slax_rules.losses import sum_dtype
from slax_rules.masks import check_mask


def train_offline(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    inputs: Float[Array, "T B ..."],
    targets: Array,
    *,
    window: int | None = None,
    carry: Any = None,
    mask: Array | None = None,
) -> Float[Array, ""]:
    """One optimiser step with the gradient of the whole sequence, as `gradients` makes it. Returns the loss.

    Updates `model` and `optimizer` in place, as Flax NNX does; use it under
    `nnx.jit(train_offline, static_argnames=("loss_fn", "window"))`.

    Args:
        model: a cell, plain (BPTT, TBPTT) or under a local rule.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`, made with this cell or with one that shares its
            parameters. A transformation that takes extra arguments gets `gradient_at`, a function that maps parameters to the
            gradient of the same window there, as `fptt(variant="paper")` needs.
        loss_fn, inputs, targets, window, carry, mask: see `gradients`. If no entry of the mask is true, which only `jit` lets
            through, there is no step.
    """

    def gradient_of(model: nnx.RNNCellBase) -> tuple[Array, nnx.State]:
        return gradients(model, loss_fn, inputs, targets, window=window, carry=carry, mask=mask)

    before = nnx.clone(model)
    loss, gradient = gradient_of(model)
    _step(model, optimizer, gradient, mask, lambda params: gradient_of(_moved(before, params))[1])
    return loss


def train_online(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    inputs: Float[Array, "T B ..."],
    targets: Array,
    *,
    window: int = 1,
    carry: Any = None,
    mask: Array | None = None,
) -> Float[Array, ""]:
    """One optimiser step after each window of the sequence. Returns the mean loss over the sequence.

    Each step uses the gradient of the mean loss over its window and the batch. State and traces go on unchanged across
    updates, so they mix parameters of different age, as is usual. Otherwise like `train_offline`.

    Args:
        window: steps between updates, >= 1.
        mask: see `gradients`. Each step takes the mean over the true entries of its window. A window without one is no step:
            parameters and optimiser, its momenta and counters included, stay as they are, and state and traces go on.
    """
    check_sequence(inputs)
    per_step = targets_per_step(inputs, targets)
    if mask is not None:
        check_mask(mask, inputs.shape[:2])
    graphdef, state = nnx.split((model, optimizer))

    def update(
        total: tuple[Array, nnx.State, Any], piece: tuple[Array, Array | None, Array | None]
    ) -> tuple[Any, None]:
        loss, state, carry = total
        xs, ys, valid = piece
        model, optimizer = nnx.merge(graphdef, state)

        def gradient_of(model: nnx.RNNCellBase) -> tuple[Array, nnx.State, Any]:
            return window_gradient(model, loss_fn, carry, xs, targets if ys is None else ys, valid)

        before = nnx.clone(model)
        new_loss, gradient, new_carry = gradient_of(model)
        _step(model, optimizer, gradient, valid, lambda params: gradient_of(_moved(before, params))[1])
        share = window_share(xs, valid, inputs, mask)
        return (loss + share * new_loss, nnx.state((model, optimizer)), new_carry), None

    start = (jnp.zeros((), sum_dtype(inputs.dtype)), state, initial_carry(model, inputs, carry))
    (loss, state, _), _ = scan_chunks(update, start, (inputs, targets if per_step else None, mask), window)
    nnx.update((model, optimizer), state)
    return loss


def _step(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    gradient: nnx.State,
    mask: Array | None,
    gradient_at: Callable[[Any], nnx.State],
) -> None:
    """An optimiser step in place, or none if no entry of the mask is true.

    `gradient_at` goes to an optimiser that takes extra arguments, and costs nothing where it is not called.
    """
    if mask is not None:
        graphdef, state = nnx.split((model, optimizer))

        def step(state: nnx.State) -> nnx.State:
            model, optimizer = nnx.merge(graphdef, state)
            _step(model, optimizer, gradient, None, gradient_at)
            return nnx.state((model, optimizer))

        nnx.update((model, optimizer), jax.lax.cond(mask.any(), step, lambda state: state, state))
    elif isinstance(optimizer.tx, optax.GradientTransformationExtraArgs):
        wrt = optimizer.wrt
        optimizer.update(model, gradient, gradient_at=lambda params: nnx.as_pure(nnx.state(gradient_at(params), wrt)))
    else:
        optimizer.update(model, gradient)


def _moved(model: nnx.RNNCellBase, params: Any) -> nnx.RNNCellBase:
    """A copy of the model with other parameters."""
    copy = nnx.clone(model)
    nnx.update(copy, params)
    return copy
