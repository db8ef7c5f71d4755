"""Masks: the steps and samples whose losses count, and the checks of a mask.

A mask is boolean, [T, B], and true where a loss counts. It acts on losses alone: the network runs over all steps, so padding
belongs at the end of a sequence, where nothing that counts follows. It may hold NaN, which is replaced by zeros. Statistics of
norms over the batch or over time, of a BatchNorm in training and of a `RunningNorm`, include it: pad with zeros there.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Integer

# Steps of each sample.
Lengths = Integer[Array, " B"] | Integer[np.ndarray, " B"] | Sequence[int]


def valid_steps(lengths: Lengths, n_steps: int) -> Bool[Array, "T B"]:
    """Mark the steps before the end of each sequence: mask[t, b] = t < lengths[b].

    Args:
        lengths: steps of each sample, 0 to n_steps, as an array or a list; a sample of 0 steps does not count.
        n_steps: T, steps of the padded batch.

    Returns:
        A mask for `gradients`, `train_offline`, `train_online` and `accuracy`.

    Raises:
        ValueError: lengths that are not integers [B] or out of range. Under `jit`, where values are not checked, a length
            beyond n_steps counts as n_steps.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import valid_steps
        >>> valid_steps(jnp.array([1, 3]), 3)
        Array([[ True,  True],
               [False,  True],
               [False,  True]], dtype=bool)
    """
    ends = _checked_lengths("valid_steps", lengths, n_steps)
    return jnp.arange(n_steps, dtype=ends.dtype)[:, None] < ends[None]


def last_step(lengths: Lengths, n_steps: int) -> Bool[Array, "T B"]:
    """Mark only the last step of each sequence: mask[t, b] = (t == lengths[b] - 1).

    With this mask, the loss depends on the read-out at the end of each sequence. Under BPTT its gradient flows back to all
    steps; an online rule gives the same gradient for every window, since the traces carry the contribution of earlier steps.
    For sequences that are not padded, use `last_step(jnp.full(B, T), T)`.

    Args:
        lengths: steps of each sample, 0 to n_steps, as an array or a list; a sample of 0 steps does not count.
        n_steps: T, steps of the padded batch.

    Returns:
        A mask, true once per sample.

    Raises:
        ValueError: lengths that are not integers [B] or out of range. Under `jit`, where values are not checked, a longer
            sample does not count.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import last_step
        >>> last_step(jnp.array([1, 3]), 3)
        Array([[ True, False],
               [False, False],
               [False,  True]], dtype=bool)
    """
    ends = _checked_lengths("last_step", lengths, n_steps)
    return jnp.arange(n_steps, dtype=ends.dtype)[:, None] == ends[None] - 1


def random_steps(key: Array, probability: float, n_steps: int, batch: int) -> Bool[Array, "T B"]:
    """Mark random steps, each with the same probability, independently for each sample.

    For `RULES["etlp"]` they are the events at which it learns, the spikes of the label's neuron: independent in each step, as
    in a Poisson process with short steps. Under `SLTT` they give its variant with few steps.

    Args:
        key: a key of `jax.random`.
        probability: probability of each step, in (0, 1].
        n_steps: T.
        batch: B.

    Returns:
        A mask for `gradients`, `train_offline`, `train_online` and `accuracy`.

    Raises:
        ValueError: a probability outside (0, 1].

    Example:
        >>> import jax
        >>> from slax_rules import random_steps
        >>> mask = random_steps(jax.random.key(0), 0.1, 100, 32)
        >>> mask.shape, round(float(mask.mean()), 1)
        ((100, 32), 0.1)
    """
    if not 0 < probability <= 1:
        raise ValueError(f"random_steps got probability={probability}, expected a number in (0, 1].")
    return jax.random.bernoulli(key, probability, (n_steps, batch))


def _checked_lengths(name: str, lengths: Any, n_steps: int) -> Integer[Array, " B"]:
    ends = jnp.asarray(lengths)
    if ends.ndim != 1 or not jnp.issubdtype(ends.dtype, jnp.integer):
        raise ValueError(f"{name} got lengths of {ends.dtype}{list(ends.shape)}, expected integers [B].")
    wrong = ((ends < 0) | (ends > n_steps)).any()
    if not isinstance(wrong, jax.core.Tracer) and wrong:
        raise ValueError(f"{name} got lengths from {ends.min()} to {ends.max()}, expected 0 to n_steps={n_steps}.")
    return ends


def with_finite_padding(inputs: Array, mask: Array) -> Array:
    """Inputs [T, B, ...] with zeros for NaN and infinities after the last step of each sample that counts.

    The numbers that stay still enter the statistics of norms over the batch or over time.
    """
    counts_later = jax.lax.cummax(jnp.asarray(mask, jnp.int8), axis=0, reverse=True) > 0
    kept = counts_later.reshape(*mask.shape, *[1] * (inputs.ndim - 2)) | jnp.isfinite(inputs)
    return jnp.where(kept, inputs, jnp.zeros((), inputs.dtype))


def check_mask(mask: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a mask is one of steps and samples and, if its values are known, true somewhere."""
    check_steps_and_samples(mask, shape)
    check_some_entry(mask)


def check_some_entry(mask: Array | np.ndarray) -> None:
    """Raise ValueError if this process knows the values of a mask and none is true."""
    if isinstance(mask, jax.core.Tracer) or (isinstance(mask, jax.Array) and not mask.is_fully_addressable):
        return
    if not np.asarray(mask).any():  # an operation on the device would wait for the steps before
        raise ValueError("Got a mask without a single true entry, expected at least one. Leave such batches out.")


def check_steps_and_samples(mask: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a mask is boolean and of `shape` [T, B], or TypeError if it is not an array."""
    if not hasattr(mask, "dtype"):
        raise TypeError(f"Got {type(mask).__name__} as the mask, expected an array. Options go by name: rule=OTPE().")
    if mask.dtype != jnp.bool_ or mask.shape != shape:
        cure = "Give mask.T." if mask.shape == shape[::-1] != shape else "Make it with valid_steps(lengths, n_steps)."
        raise ValueError(
            f"Got a mask of {mask.dtype}{list(mask.shape)}, expected bool{list(shape)}, true where the loss of a step and "
            f"sample counts. {cure}"
        )


def check_takes_mask(what: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Raise TypeError for a function that cannot be called with outputs, targets and a mask; `what` is its name."""
    try:
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except ValueError:
        pass  # Python knows no signature of some functions in C; the call itself shows it
    except TypeError as error:
        raise TypeError(f"{what} got a mask, expected it as third argument: lambda outputs, targets, mask.") from error
