"""What `fit` calls while it trains."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from flax import nnx

from slax_rules.gradients import LossFn
from slax_rules.sampling import Batch

# Scalars by name, for the history: anything that `float` takes, or None where a number is not defined.
Numbers = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class View:
    """A look at training after an optimiser step.

    It is for reading: training goes on from the state that it has, whatever is written into `model` or `optimizer`.

    Args:
        step: optimiser steps of `fit` so far, one per batch; also where `train_online` takes several per batch.
        epoch: counted from 0.
        model, optimizer: those given to `fit`, with the numbers of now.
        loss_fn, window: as given to `fit`.
        batch: of this step: inputs, targets, and the mask if there is one.
        loss: of this step, before its update.
    """

    step: int
    epoch: int
    model: nnx.RNNCellBase
    optimizer: nnx.Optimizer
    loss_fn: LossFn
    window: int | None
    batch: Batch
    loss: float


@runtime_checkable
class Callback(Protocol):
    """Called after every `every`-th step. What it returns becomes a record of the history."""

    @property
    def every(self) -> int: ...

    def __call__(self, view: View) -> Numbers | None: ...


@dataclasses.dataclass(frozen=True)
class Every:
    """A function as a callback: `Every(100, lambda view: {"norm": ...})`.

    Args:
        every: steps between calls, >= 1.
        function: maps a `View` to numbers by name for the history, or to None.
    """

    every: int
    function: Callable[[View], Any]

    def __call__(self, view: View) -> Numbers | None:
        return self.function(view)
