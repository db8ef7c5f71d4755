"""Running sums, to which the calls of a module add over a sequence, and which are used at its end.

A sum does not depend on how a sequence is cut into pieces, so a model with running sums runs in chunks and windows, step by
step inside a cycle, and on several devices, over which the sums are added up. It must not read them before the sequence ends.
"""

from typing import Any

from flax import nnx


class RunningSum(nnx.Variable):
    """A sum over the rows of a sequence, to which each call of its module adds.

    A module with such variables has a property `accumulates`, which says whether calls add to them, and a method
    `end_sequence`, which uses the sums and sets them to zero.

    Example:
        A module that measures the mean rate of its inputs over the last sequence, and changes nothing else.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, RunningSum, connect, end_sequence, unroll
        >>> class Rate(nnx.Module):
        ...     accumulates = True
        ...
        ...     def __init__(self):
        ...         self.total, self.rows = RunningSum(jnp.zeros(())), RunningSum(jnp.zeros(()))
        ...         self.rate = nnx.Variable(jnp.zeros(()))
        ...
        ...     def __call__(self, inputs):
        ...         self.total[...] += inputs.mean(axis=-1).sum()
        ...         self.rows[...] += inputs.shape[0]
        ...         return inputs
        ...
        ...     def end_sequence(self):
        ...         self.rate[...] = self.total[...] / self.rows[...]
        ...         self.total[...] = self.rows[...] = jnp.zeros(())
        >>> rate = Rate()
        >>> model = connect([rate, LIF()])
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), jnp.full((20, 2, 8), 0.25), chunk=6)
        >>> end_sequence(model)
        >>> float(rate.rate[...])
        0.25
    """


def accumulates(module: nnx.Module) -> bool:
    """True if calls of a module, or of a module inside it, add to running sums."""
    return any(getattr(part, "accumulates", False) for _, part in nnx.iter_modules(module))


def end_sequence(model: Any) -> None:
    """Tell all modules of a model that a sequence has ended: those with running sums use them, and set them to zero.

    The functions of `slax_rules` do this themselves, after each batch: `gradients`, `train_offline`, `train_online` and `fit`.
    Call it after an `unroll` of your own in training.

    Args:
        model: any module.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, RunningNorm, connect, end_sequence, unroll
        >>> norm = RunningNorm(nnx.Linear(8, 4, rngs=nnx.Rngs(0)))
        >>> model = connect([norm, LIF()])
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))
        >>> float(norm.rows[...])
        40.0
        >>> end_sequence(model)
        >>> float(norm.rows[...]), bool(jnp.any(norm.mean[...] != 0))
        (0.0, True)
    """
    parts: list[Any] = [part for _, part in nnx.iter_modules(model)]
    for part in parts:
        if getattr(part, "accumulates", False):
            part.end_sequence()
