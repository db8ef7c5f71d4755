"""Forward propagation through time: an optimizer that compensates for the missing gradient beyond a window."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from slax_rules.losses import sum_dtype

VARIANTS = ("official", "slax001")


class FPTTState(NamedTuple):
    """The state that FPTT keeps between updates, in float32 at least.

    Args:
        inner: the state of the wrapped optimizer.
        multiplier: lambda, in the structure of the parameters.
        average: W-bar, in the structure of the parameters.
        updates: number of updates so far.
    """

    inner: Any
    multiplier: Any
    average: Any
    updates: Int[Array, ""]


def fptt(
    optimizer: optax.GradientTransformation,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    variant: Literal["official", "slax001"] = "official",
    reset_every: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Forward propagation through time (FPTT): a regularizer around an optimizer, for updates within a sequence.

        g_t = dl_t + alpha (W_t - Wbar_t) - c lambda_t
        W_{t+1} = optimizer(W_t, g_t)
        lambda_{t+1} = lambda_t - alpha (W_{t+1} - Wbar_t)
        Wbar_{t+1} = (1 - beta) Wbar_t + beta W_{t+1} - (beta / alpha) lambda_{t+1}

    where dl_t is the gradient of the loss of window t alone, at W_t, c is 1 in "official" and 1/2 in "slax001",
    lambda_1 = 0 and Wbar_1 = W_1. So the first step is a step of `optimizer` alone. All parameters take part, including the
    neurons' own.

    Use it with `train_online` and any cell, under BPTT, which is the published rule, or under a rule for layers.

    Args:
        optimizer: the optimizer that receives g_t.
        alpha: weight of the regularizer, > 0.
        beta: weight of the new parameters in their average, in (0, 1].
        variant: "official" follows the code of Yin et al.; "slax001" slax 0.0.1, which halves lambda in the gradient only.
        reset_every: reset lambda and Wbar after this many updates: T / K resets them at each sequence, as slax does, unless
            a window is fully masked and makes no update. By default they persist, as in the code of Yin et al.

    Returns:
        A transformation whose state is an `FPTTState`, twice the size of the parameters for any batch and length. Yin et al.
        set W := Wbar at the end of each epoch, before testing, as the example does.

    Raises:
        ValueError: alpha, beta, variant or reset_every out of range; at an update, no parameters.

    References:
        Kag, Saligrama: Training recurrent neural networks via forward propagation through time, ICML 2021.
        Yin, Corradi, Bohte: Accurate online training of dynamical spiking neural networks through forward propagation through
        time, 2023, doi 10.1038/s42256-023-00650-4.

    Note:
        "official" follows from its regularizer: if `optimizer` minimizes exactly, lambda_{t+1} is the gradient of l_t at
        W_{t+1}. The text of Kag and Saligrama computes this gradient by a second differentiation; for "slax001", lambda is not
        this gradient. The later slax updates lambda and Wbar with the parameters before the step, which for beta = 1/2 gives
        the parameters of "official", so it is not a variant here. The authors also weight the loss by the step and add a term
        for the distance to an oracle, which belongs in the loss function.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import cross_entropy, fptt, train_online
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> optimizer = nnx.Optimizer(model, fptt(optax.adamax(1e-3)), wrt=nnx.Param)
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss = train_online(model, optimizer, cross_entropy, inputs, labels, window=1)
        >>> nnx.update(model, nnx.as_pure(optimizer.opt_state.average))
    """
    if alpha <= 0 or not 0 < beta <= 1 or (reset_every is not None and reset_every < 1):
        raise ValueError(f"fptt got {alpha=}, {beta=}, {reset_every=}, expected > 0, in (0, 1], and at least 1.")
    if variant not in VARIANTS:
        raise ValueError(f"fptt got variant={variant!r}, expected one of {', '.join(VARIANTS)}.")
    optimizer = optax.with_extra_args_support(optimizer)
    pull = 1.0 if variant == "official" else 0.5

    def init(params: Any) -> FPTTState:
        wide = jax.tree.map(lambda w: jnp.array(w, sum_dtype(w.dtype)), params)
        return FPTTState(optimizer.init(params), jax.tree.map(jnp.zeros_like, wide), wide, jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: FPTTState, params: Any = None, **extra: Any) -> tuple[Any, FPTTState]:
        if params is None:
            raise ValueError("fptt got no parameters, expected params as well: call update(gradient, state, params).")
        multiplier, average = state.multiplier, state.average
        if reset_every is not None:
            is_reset = state.updates % reset_every == 0
            multiplier = jax.tree.map(lambda m: jnp.where(is_reset, 0, m), multiplier)
            average = jax.tree.map(lambda a, w: jnp.where(is_reset, w.astype(a.dtype), a), average, params)

        def regularize(g: Array, w: Array, a: Array, m: Array) -> Array:
            return (g.astype(a.dtype) + alpha * (w.astype(a.dtype) - a) - pull * m).astype(g.dtype)

        regularized = jax.tree.map(regularize, gradient, params, average, multiplier)
        steps, inner = optimizer.update(regularized, state.inner, params, **extra)
        after = optax.apply_updates(params, steps)
        multiplier = jax.tree.map(lambda m, w, a: m - alpha * (w.astype(a.dtype) - a), multiplier, after, average)
        average = jax.tree.map(
            lambda a, w, m: (1 - beta) * a + beta * w.astype(a.dtype) - beta / alpha * m, average, after, multiplier
        )
        return steps, FPTTState(inner, multiplier, average, optax.safe_increment(state.updates))

    return optax.GradientTransformationExtraArgs(init, update)
