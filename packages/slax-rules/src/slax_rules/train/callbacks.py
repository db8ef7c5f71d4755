"""What `fit` calls while it trains, and the criterion that stops it.

A callback is an object with a number `every` that is called with a `StepInfo` after each so many steps, such as `Every`. It
returns numbers by name for the history, or None. It may raise `StopTraining`; any other exception passes through `fit`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from slax_rules.api import gradients
from slax_rules.penalties import Penalty
from slax_rules.rules.bptt import BPTT, TBPTT
from slax_rules.train.batches import Batch, checked

# By name, for the history: numbers, arrays of numbers, or None where a number is not defined.
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
        seconds: wall time of a step: the mean since the epoch began, or since the last callbacks, evaluation or checkpoint in
            it, excluding the time that these took. The first value includes compilation.

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
    update: str
    window: int | None
    penalties: tuple[Penalty, ...]
    batch: Batch
    loss: float
    seconds: float

    @cached_property
    def gradient_norm(self) -> float:
        """The norm of the gradient under the training rule on the batch of this step, at the parameters after it.

        It costs one more gradient when it is read, and nothing otherwise. With online updates it is the offline gradient of
        the entire batch.
        """
        # A gradient draws noise, and changes statistics.
        model, rule = nnx.clone((self.model, offline_rule(self.rule, self.update, self.window)))
        batch = checked(jax.tree.map(jnp.asarray, self.batch))
        options = {"rule": rule, "window": self.window, "penalties": self.penalties}
        return float(optax.tree.norm(gradients(model, self.loss_fn, *batch, **options)[1]))

    @property
    def learning_rate(self) -> float | None:
        """The learning rate, if the optimizer keeps one in its state, as with `optax.inject_hyperparams`; else None."""
        found = nnx.to_flat_state(nnx.state(self.optimizer))
        rates = [node[...] for path, node in found if path[-2:] == ("hyperparams", "learning_rate")]
        return float(rates[0]) if len(rates) == 1 else None


def offline_rule(rule: Any, update: str, window: int | None) -> Any:
    """The rule whose offline gradient equals the given rule's gradient in training, at fixed parameters.

    BPTT with online updates is cut at the boundaries of windows.
    """
    if update == "online" and isinstance(rule, BPTT | TBPTT):
        steps = window or 1
        return TBPTT(min(steps, rule.steps) if isinstance(rule, TBPTT) else steps)
    return rule


class StopTraining(Exception):
    """Raise this in a callback to end `fit` after the current step; `fit` returns the history as usual.

    The evaluation and the checkpoint that are due at this step still happen. Started again with the same checkpoints, the run
    continues after this step.

    Example:
        >>> from slax_rules import Every, StopTraining
        >>> def stop_when_good(info):
        ...     if info.loss < 0.1:
        ...         raise StopTraining
        >>> callback = Every(10, stop_when_good)
    """


@dataclasses.dataclass(frozen=True)
class Every:
    """Call a function in `fit`, each time after so many steps.

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


@dataclasses.dataclass(frozen=True)
class LogTo:
    """A callback that passes the numbers of `fit` to a logger, such as TensorBoard, Weights & Biases or MLflow.

    After each `every` steps it logs "training/loss", "training/seconds" per step, and "training/learning_rate" if the optimizer
    keeps one, of that step. Each evaluation is logged at its step as "held_out/loss" and "held_out/" with the name of a metric,
    and what other callbacks return under their own names. Arrays and None, which are no scalars, are in the history alone. Of
    several processes the first one logs.

    A run that resumes from a checkpoint logs the steps after it again.

    Args:
        log: a function `log(values, step=step)` of numbers by name, such as `wandb.log` or `mlflow.log_metrics`; or an object
            with a method `add_scalar(name, value, step)`, such as the `SummaryWriter` of `torch.utils.tensorboard` or
            `tensorboardX`.
        every: steps between logs of the training, >= 1.

    Raises:
        TypeError: a logger of another kind.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import LogTo, cross_entropy, fit
        >>> def log(values, step):
        ...     print(step, sorted(values))
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        >>> batches, held_out = ([(jnp.ones((5, 3, 4)), jnp.array([0, 1, label]))] for label in (0, 1))
        >>> history = fit(
        ...     model, optimizer, cross_entropy, batches, epochs=2, held_out=held_out, callbacks=[LogTo(log, every=2)])
        1 ['held_out/loss']
        2 ['training/loss', 'training/seconds']
        2 ['held_out/loss']
    """

    log: Any
    every: int = 100

    def __post_init__(self) -> None:
        if isinstance(self.log, type) or (not hasattr(self.log, "add_scalar") and not callable(self.log)):
            got = f"the class {self.log.__name__}" if isinstance(self.log, type) else type(self.log).__name__
            raise TypeError(f"LogTo got {got}, expected a function log(values, step=step), or a SummaryWriter(...).")

    def __call__(self, info: StepInfo) -> None:
        numbers = {"loss": info.loss, "seconds": info.seconds, "learning_rate": info.learning_rate}
        self.write({f"training/{name}": number for name, number in numbers.items()}, info.step)

    def write(self, values: Metrics, step: int) -> None:
        """Log the values that are numbers."""
        numbers = {name: float(value) for name, value in values.items() if value is not None and not np.ndim(value)}
        if not numbers or jax.process_index():
            return
        if hasattr(self.log, "add_scalar"):
            for name, number in numbers.items():
                self.log.add_scalar(name, number, step)
        else:
            self.log(numbers, step=step)


def check_callbacks(callbacks: Any) -> None:
    """Raise TypeError unless all are callbacks, whose `every` are integers."""
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"fit got {type(callbacks).__name__} as callbacks, expected a list: [Every(100, function)].")
    for callback in callbacks:
        if isinstance(callback, type) or not hasattr(callback, "every") or not callable(callback):
            name = getattr(callback, "__name__", type(callback).__name__)
            raise TypeError(f"fit got {name} among the callbacks, expected one such as Every(100, {name}).")
        if not hasattr(callback.every, "__index__"):
            kind = type(callback).__name__
            raise TypeError(f"fit got {kind} with every={callback.every!r}, expected an integer of at least 1.")


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """A criterion that stops `fit` after `patience` evaluations without a gain of more than `min_delta` over the best.

    Args:
        metric: a number of the evaluation: "loss", or one of `metrics`.
        patience: number of evaluations, >= 1.
        min_delta: gain above which a value counts as better, >= 0.
        mode: "min" if less is better, "max" if more is. It may be omitted for "loss" and "accuracy".
        restore_best: give the model the parameters and statistics of the best evaluation at the end, whether or not the run
            stopped early. The optimizer and the rule keep their last values.

    Raises:
        ValueError: a patience below 1, a negative min_delta, an unknown mode, no mode for a metric of another name; in
            `update`, NaN.

    Example:
        >>> from slax_rules import EarlyStopping
        >>> stopping = EarlyStopping("accuracy", patience=3, restore_best=True)
    """

    metric: str = "loss"
    patience: int = 5
    min_delta: float = 0.0
    mode: Literal["min", "max"] | None = None
    restore_best: bool = False

    def __post_init__(self) -> None:
        mode = {"loss": "min", "accuracy": "max"}.get(self.metric) if self.mode is None else self.mode
        if mode not in ("min", "max"):
            raise ValueError(
                f'EarlyStopping got {mode=} for {self.metric!r}, expected "min" or "max", for less or more, or the metric '
                '"loss" or "accuracy", whose mode is known.'
            )
        object.__setattr__(self, "mode", mode)
        if self.patience < 1 or self.min_delta < 0:
            raise ValueError(f"EarlyStopping got {self}, expected patience of at least 1 and min_delta of at least 0.")

    def update(self, before: Sequence[Any] | None, value: float, step: int) -> tuple[float, int, int]:
        """Return (best value, its step, evaluations since then) after an evaluation at `step`, from the same before it."""
        if np.ndim(value) or math.isnan(value):
            got = f"an array of shape {list(np.shape(value))}" if np.ndim(value) else "NaN"
            raise ValueError(f"EarlyStopping got {got} for {self.metric!r} at step {step}, expected a number.")
        if before is None:
            return value, step, 0
        best, at, waited = before
        gain = best - value if self.mode == "min" else value - best
        return (value, step, 0) if gain > self.min_delta else (best, at, waited + 1)
