"""The callbacks that `fit` calls while it trains."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from flax import nnx

from slax_rules.penalties import Penalty
from slax_rules.training.sampling import Batch

# Scalars by name, for the history: anything that `float` takes, or None where a number is not defined.
Metrics = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StepInfo:
    """The information that a callback of `fit` receives after an optimizer step.

    It is read-only: training continues from its own state, and ignores changes to `model`, `rule` or `optimizer`.

    Args:
        step: optimizer steps of `fit` so far, one per batch, even if `update="online"` takes several per batch.
        epoch: counted from 0.
        model, rule, optimizer: the objects given to `fit`, with their values after this step.
        loss_fn, update, window, penalties: the arguments given to `fit`.
        batch: batch of this step: inputs, targets, and the mask if there is one.
        loss: loss of this step, before its update.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import Every, StepInfo, cross_entropy, fit
        >>> def report(info: StepInfo):
        ...     print(f"step {info.step} of epoch {info.epoch}, inputs {info.batch[0].shape}")
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        >>> batches = [(jnp.ones((5, 3, 4)), jnp.array([0, 1, 0]))]
        >>> history = fit(model, optimizer, cross_entropy, batches, epochs=2, callbacks=[Every(1, report)])
        step 1 of epoch 0, inputs (5, 3, 4)
        step 2 of epoch 1, inputs (5, 3, 4)
    """

    step: int
    epoch: int
    model: nnx.RNNCellBase
    rule: Any
    optimizer: nnx.Optimizer
    loss_fn: Any
    update: Literal["offline", "online"]
    window: int | None
    penalties: tuple[Penalty, ...]
    batch: Batch
    loss: float


@runtime_checkable
class Callback(Protocol):
    """A callable that runs at every `every`-th step. Its return value becomes a record of the history.

    Example:
        `fit(..., callbacks=[LossEvery(10)])` then records the loss of every tenth step:
        >>> from slax_rules import Callback
        >>> class LossEvery:
        ...     def __init__(self, every):
        ...         self.every = every
        ...     def __call__(self, info):
        ...         return {"loss": info.loss}
        >>> isinstance(LossEvery(10), Callback)
        True
    """

    @property
    def every(self) -> int: ...

    def __call__(self, info: StepInfo) -> Metrics | None: ...


@dataclasses.dataclass(frozen=True)
class Every:
    """A function as a callback of `fit`.

    Args:
        every: steps between calls, >= 1.
        function: maps a `StepInfo` to numbers by name for the history, or to None.

    Example:
        >>> import optax
        >>> from flax import nnx
        >>> from slax_rules import Every
        >>> callback = Every(100, lambda info: {"norm": optax.tree.norm(nnx.state(info.model, nnx.Param))})
    """

    every: int
    function: Callable[[StepInfo], Any]

    def __call__(self, info: StepInfo) -> Metrics | None:
        return self.function(info)


def check_callbacks(callbacks: Any) -> None:
    """Raise TypeError unless all are callbacks."""
    if isinstance(callbacks, Callback) and not isinstance(callbacks, type):
        raise TypeError(f"fit got one {type(callbacks).__name__} as callbacks, expected a list: callbacks=[...].")
    if not isinstance(callbacks, list | tuple):
        raise TypeError(
            f"fit got {type(callbacks).__name__} as callbacks, expected a list: callbacks=[Every(100, function)]."
        )
    for callback in callbacks:
        if isinstance(callback, type) or not isinstance(callback, Callback):
            name = getattr(callback, "__name__", type(callback).__name__)
            hint = f"Make one: {name}(...)." if isinstance(callback, type) else f"Say how often: Every(100, {name})."
            raise TypeError(
                f"fit got {name} among the callbacks, expected an Every, a GradientAgreement, or another object with a number "
                f"`every` that can be called. {hint}"
            )
