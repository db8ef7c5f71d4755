"""The outer loop: epochs of batches, with evaluation, early stopping, callbacks and checkpoints.

`fit` checks its arguments, makes a `FitRun`, and drives it.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import closing
from functools import partial
from typing import Any, Literal

import jax
from flax import nnx

from slax_rules.api import check_loss, check_optimizer, checked_window, warn_of_single_steps
from slax_rules.devices import Devices, as_mesh, check_same_everywhere, local_shard, replicated
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.penalties import Penalty, checked_penalties
from slax_rules.rules.base import Rule, check_is_rule
from slax_rules.rules.bptt import BPTT
from slax_rules.step import Step
from slax_rules.train.batches import Batches, Sampler, epoch_batches
from slax_rules.train.callbacks import EarlyStopping, LogTo, check_callbacks
from slax_rules.train.checkpoints import Checkpoints
from slax_rules.train.evaluate import Metric, check_concrete, check_metrics, check_parameters, evaluate
from slax_rules.train.fit_run import ZERO_STEPS, FitRun
from slax_rules.train.history import History
from slax_rules.train.remarks import remarks
from slax_rules.train.steps import Flags


def fit(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn | SequenceLoss,
    batches: Batches,
    *,
    rule: Rule = BPTT(),
    epochs: int = 1,
    update: Literal["offline", "online"] = "offline",
    window: int | None = None,
    held_out: Batches | None = None,
    metrics: Mapping[str, Metric] | None = None,
    evaluate_every: int | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Any] = (),
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
    penalties: Iterable[Penalty] = (),
    progress: bool | None = None,
) -> History:
    """Train a model in place under a learning rule, for a number of epochs.

    For each batch, `fit` takes the steps of `train_offline` or `train_online`, and then runs, in this order, the callbacks, the
    evaluation and the checkpoint that are due. With the same arguments and the same batches from `batches`, a run and its
    history are the same bit for bit, whether or not the run was killed and restarted. A call compiles one program for each
    shape of a batch, and another call reuses it if model, rule, loss and optimizer have the same structure, functions and
    transformation: make the loss and the transformation once, outside of a loop, and other learning rates by
    `optax.inject_hyperparams`.

    A step whose loss, gradient or result is not finite stops the run before it changes anything: model, rule and optimizer
    then have their values from the step before, and so does the last checkpoint.

    Args:
        model: a cell.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`; `nnx.Optimizer((model, rule), ...)` for a rule with
            parameters of its own.
        loss_fn: the loss of one step, or a `SequenceLoss`; see `gradients`.
        batches: batches (inputs, targets) or (inputs, targets, mask), as for `gradients`: a list, a loader that can be
            iterated over again, such as PyTorch's, a function that maps an epoch, counted from 0, to an iterable, or a
            `Sampler`, which draws them by key, many steps in one call. Arrays may be NumPy or JAX arrays, or tensors. Integers
            and booleans, as in frames of events, become floating-point inputs, unless the model begins with an `nnx.Embed`.
        rule: `BPTT()`, `OTPE()`, or any other rule.
        epochs: number of epochs in total, including those before a resume.
        update: "offline", one optimizer step per batch (`train_offline`), or "online", one per window (`train_online`).
        window: see `gradients`, and `train_online`, whose default is 1.
        held_out: batches to evaluate on: a list, a loader, or epoch 0 of a `Sampler` or of a function of the epoch.
        metrics: functions of outputs [T, B, ...], targets, and the mask if there is one, by name; see `evaluate`.
        evaluate_every: steps between evaluations; by default at the end of each epoch.
        early_stopping: the criterion for stopping early, on a number of the evaluation.
        callbacks: objects such as `Every` and `LogTo`, which are called with a `StepInfo` after each `every` steps; their
            return values go into the history. One that raises `StopTraining` ends the run.
        checkpoints: where to save checkpoints, and from where to resume.
        devices: devices to split each batch over, such as `jax.devices()`; each holds all parameters. If they belong to
            several processes, each process calls `fit` with the same numbers in model, rule and optimizer, and with
            its own share of each batch, except for a `Sampler`, which draws the full batch.
        penalties: losses on hidden layers, which are part of the loss in training; see `Penalty`.
        progress: whether to draw a progress bar. By default, `fit` draws one in a terminal; elsewhere, as in the log of a job
            or in a notebook, it prints a line for each epoch on the standard error. False prints nothing.

    Returns:
        The loss of each step, and the records of evaluations and callbacks. If an exception ends the run, including an
        interrupt from the keyboard, the exception has the history so far as its attribute `history`.

    Raises:
        TypeError, ValueError: arguments that do not fit together, an epoch without batches, a checkpoint of another run, NaN
            for the metric of early stopping; see `gradients` for model, rule, inputs and targets.
        FloatingPointError: a step that is not finite, or a parameter before the first one. The message names what is not
            finite: the inputs, a target, a parameter, the loss, a gradient, or the update.

    Warns:
        UserWarning: once, for parameters whose gradient was exactly zero in each of the first ten steps, or of the first call
            with a `Sampler`; for updates at the end of the run that changed nothing, as after a schedule that has ended; for
            held-out batches that are the training batches, inputs above 10 in the first batch, and a Dropout that is off; for
            BPTT or TBPTT with `update="online"` and no `window`, since their gradient then does not flow through time.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, fit
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        >>> batches = [(jnp.ones((20, 2, 8)), jnp.array([0, 2]))]
        >>> history = fit(model, optimizer, cross_entropy, batches, rule=OTPE(), epochs=3)
        >>> len(history.losses)
        3
    """
    check_optimizer("fit", optimizer)
    check_is_rule(rule)
    check_callbacks(callbacks)
    penalties = checked_penalties(penalties, model)
    window, table = checked_window(window), check_metrics("fit", metrics)
    check_update("fit", loss_fn, update, rule, window)
    _check_options(epochs, held_out, table, evaluate_every, early_stopping, checkpoints)
    objects = (model, rule, optimizer)
    check_concrete("fit", *objects)
    check_parameters("fit", model)
    mesh = None if devices is None else as_mesh(devices)
    graph, state = nnx.split(objects)
    flags = Flags.first(model)
    home = None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state)
    if mesh is not None:
        check_same_everywhere(state, mesh)
        state, flags = replicated((state, flags), mesh)
    step = Step(graph, loss_fn, update, window, penalties, mesh)
    of_epoch = batches if isinstance(batches, Sampler) else epoch_batches(batches, times=epochs)
    size = batches.steps if isinstance(batches, Sampler) else len(batches) if isinstance(batches, Sized) else None
    held_out_of = epoch_batches(() if held_out is None else held_out, "held_out", times=2)
    evaluation = lambda: evaluate(model, loss_fn, held_out_of(0), metrics=table, devices=devices)  # noqa: E731
    loggers = [callback for callback in callbacks if isinstance(callback, LogTo)]
    run = FitRun(objects, step, of_epoch, size, state, flags, evaluation, early_stopping, loggers)
    run.taken = {"step", "epoch"} | ({"loss", *table} if held_out is not None else set())
    if isinstance(batches, Sampler):
        # The first whose batches are new. The optimizer has seen at most as many batches as it has taken steps: a batch
        # makes one update offline, and one or more online.
        run.first_epoch = -(-int(optimizer.step[...]) // batches.steps)
    for text in remarks(model, batches, held_out):
        warnings.warn(text, UserWarning, stacklevel=2)
    schedule: list[tuple[int, Callable[[], None]]]
    schedule = [(callback.every, partial(run.look, callback)) for callback in callbacks]
    schedule += [] if evaluate_every is None else [(evaluate_every, run.evaluate)]
    schedule += [] if checkpoints is None else [(checkpoints.every, run.save)]
    if (least := min((every for every, _ in schedule), default=1)) < 1:
        raise ValueError(f"fit got callbacks or evaluations every {least} steps, expected at least 1.")
    if checkpoints is not None:
        run.resume(checkpoints, batches, progress)
    with closing(make_bar(size and epochs * size, run.done, progress)) as run.bar:
        try:
            while run.epoch < epochs and not run.is_over():
                for _ in run.calls([every for every, _ in schedule]):
                    if due := [action for every, action in schedule if run.sent % every == 0]:
                        run.synchronize()
                        for action in due:
                            action()
                        run.timed = run.sent, time.perf_counter()
                    for text in run.warnings(ZERO_STEPS):
                        warnings.warn(text, UserWarning, stacklevel=2)
                    if run.is_over() and run.position != run.size:
                        break
                else:  # a whole epoch
                    run.synchronize()
                    if held_out is not None and evaluate_every is None:
                        run.evaluate()
                    run.end_epoch(f"fit: epoch {run.epoch + 1} of {epochs}" if progress is None else "")
            run.synchronize()
            for text in (*run.warnings(1), run.standstill(), run.no_evaluation(evaluate_every)):
                if text:
                    warnings.warn(text, UserWarning, stacklevel=2)
            run.save()
        except BaseException as error:
            error.history = run.history()  # type: ignore[attr-defined]
            raise
        finally:
            nnx.update(objects, run.state if mesh is None else jax.device_put(local_shard(run.state), home))
    if early_stopping is not None and early_stopping.restore_best and run.best is not None:
        nnx.update(model, run.best)
    return run.history()


def _check_options(
    epochs: Any, held_out: Any, metrics: Any, evaluate_every: Any, stopping: Any, checkpoints: Any
) -> None:
    """Raise ValueError for options that do not fit together, and TypeError for a folder in place of `Checkpoints`."""
    if not isinstance(checkpoints, Checkpoints | None):
        raise TypeError(f"fit got checkpoints={checkpoints!r}, expected Checkpoints(directory).")
    if not hasattr(epochs, "__index__") or epochs < 1:
        raise ValueError(f"fit got epochs={epochs!r}, expected an integer of at least 1.")
    if held_out is None and (metrics or evaluate_every is not None or stopping is not None):
        raise ValueError("fit got metrics, evaluate_every or early_stopping, expected held_out: [(inputs, targets)].")
    if stopping is not None and stopping.metric not in ("loss", *metrics):
        names = ", ".join(("loss", *metrics))
        raise ValueError(f"Early stopping is by {stopping.metric!r}, expected one of: {names}. Give it in metrics.")


def check_update(name: str, loss_fn: Any, update: Any, rule: Any, window: int | None) -> None:
    """Check the kind of update, in the name of a function, and warn of a gradient that then flows through no step.

    Raises:
        ValueError: an unknown kind of update.
        TypeError: a loss that it cannot use.
    """
    if update not in ("offline", "online"):
        raise ValueError(f'{name} got update={update!r}, expected "offline" or "online".')
    check_loss(name, loss_fn, online=update == "online")
    if update == "online":
        warn_of_single_steps(name, rule, window)


def make_bar(total: int | None, initial: int, progress: bool | None) -> Any:
    """Make a bar for the steps of a run: by default only at a terminal, and in one process only."""
    from tqdm.auto import tqdm  # not needed to import this package

    hidden = True if jax.process_index() else None if progress is None else not progress
    return tqdm(total=total, initial=initial, unit="step", disable=hidden)
