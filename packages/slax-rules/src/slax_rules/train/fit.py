"""The outer loop: epochs of batches, with evaluation, early stopping, callbacks and checkpoints."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import jax
from flax import nnx

from slax_rules.bptt import BPTT
from slax_rules.loop.checks import check_optimizer, checked_window
from slax_rules.loop.compilations import third_compilation
from slax_rules.loop.devices import Devices, as_mesh, check_same_everywhere, local_shard, replicated
from slax_rules.loop.entry import AnyRule, Program
from slax_rules.loop.programs import check_hashable
from slax_rules.loop.split import split
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.penalties import Penalty, penalties_by_layer
from slax_rules.training.batches import Batches, Sampler, check_held_out, epoch_batches
from slax_rules.training.callbacks import Callback, EarlyStopping, check_callbacks
from slax_rules.training.checkpoints import Checkpoints
from slax_rules.training.diagnosis import check_parameters, silence_message
from slax_rules.training.epoch import Train
from slax_rules.training.evaluation import Metric, check_metrics, evaluate
from slax_rules.training.fit_checks import check_evaluation, check_update, warn_without_credit
from slax_rules.training.fit_run import FitRun
from slax_rules.training.history import History, Log, StepNotFinite, make_bar


def fit(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn | SequenceLoss,
    batches: Batches,
    *,
    rule: AnyRule = BPTT(),
    epochs: int = 1,
    update: Literal["offline", "online"] = "offline",
    window: int | None = None,
    held_out: Iterable[Any] | Callable[..., Iterable[Any]] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    evaluate_every: int | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
    penalties: Sequence[Penalty] = (),
    progress: bool | None = None,
) -> History:
    """Train a model in place under a learning rule, for a number of epochs.

    For each batch, `fit` takes the steps of `train_offline` or `train_online`, and then runs, in this order, the callbacks, the
    evaluation and the checkpoint that are due. With the same arguments and the same batches from `batches`, a run and its
    history are the same bit for bit, whether or not the run was killed and restarted.

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
        rule: `BPTT()`, `OTPE()`, any other rule, or a list of rules for layers, one for each layer.
        epochs: number of epochs in total, including those before a resume.
        update: "offline", one optimizer step per batch (`train_offline`), or "online", one per window (`train_online`).
        window: see `gradients`, and `train_online`, whose default is 1.
        held_out: batches to evaluate on: a list, a loader, or a function that makes an iterator each time.
        metrics: functions of outputs [T, B, ...], targets, and the mask if there is one, by name; see `evaluate`.
        evaluate_every: steps between evaluations; by default at the end of each epoch.
        early_stopping: the criterion for stopping early, on a number of the evaluation.
        callbacks: functions called at regular intervals with a `StepInfo`; their return values go into the history. One that
            raises `StopTraining` ends the run.
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
            finite and where: the inputs, a target, a parameter, the output of a layer, a penalty, or the gradient of a
            parameter.

    Warns:
        UserWarning: once, for spiking layers without a single spike on the first batch, both before training and after the
            first epoch; once, after an epoch with a loss above 1e7 times the first one, or above 1e7 if the first one is below
            1; for BPTT or TBPTT with `update="online"` and no `window`, since their gradient then does not flow through time;
            for the third compilation of one structure, with the numbers or objects that differ.

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
    check_update(loss_fn, rule, epochs, update)
    window = checked_window(window)
    if update == "online":
        warn_without_credit("fit", rule, window)
    check_callbacks(callbacks)
    table = check_metrics("fit", metrics)
    check_evaluation(held_out, table, evaluate_every, early_stopping, checkpoints)
    check_parameters("fit", model, rule)
    mesh = None if devices is None else as_mesh(devices)
    objects = (model, rule, optimizer)
    check_hashable(nnx.graphdef(objects))
    penalties_by_layer(penalties, model)
    graph, state = split(objects)
    program = Program(graph, loss_fn, update, window, mesh, tuple(penalties))
    sample = batches.sample if isinstance(batches, Sampler) else None
    parts = {"loss_fn": loss_fn, "penalties": program.penalties, "the sampler": sample}
    if text := third_compilation("fit", graph, parts, (update, window, mesh)):
        warnings.warn(text, UserWarning, stacklevel=2)
    home = None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state)
    if mesh is not None:
        check_same_everywhere(state, mesh)
        state = replicated(state, mesh)
    run = FitRun(
        objects=objects,
        train=Train(program, sample),
        batches=epoch_batches(batches, epochs=epochs),
        early_stopping=early_stopping,
        checkpoints=checkpoints,
        state=state,
    )
    if held_out is not None:
        check_held_out(held_out)
        run.evaluation = lambda: evaluate(model, loss_fn, held_out, metrics=table, devices=devices)
    run.due = [(callback.every, partial(run.look, callback)) for callback in callbacks]
    run.due += [] if evaluate_every is None else [(evaluate_every, lambda call: run.evaluate())]
    run.due += [] if checkpoints is None else [(checkpoints.every, lambda call: run.save())]
    shortest = min((every for every, _ in run.due), default=1)
    if shortest < 1:
        raise ValueError(f"fit got callbacks or evaluations every {shortest} steps, expected at least 1.")
    with ExitStack() as stack:
        stack.push(run.keep_history)
        losses, records = run.open(stack, batches, held_out, progress)
        bar = make_bar(_total_steps(batches, epochs), run.progress.step, progress)
        stack.callback(bar.close)
        run.log = Log(losses, records, bar, has_lines=progress is None and bar.disable and jax.process_index() == 0)
        try:
            while run.progress.epoch < epochs and not run.should_stop():
                silent = run.epoch(_total_steps(batches, 1), epochs, held_out is not None and evaluate_every is None)
                messages = silence_message(silent) if silent else None, run.log.growth()
                for message in filter(None, messages):
                    warnings.warn(message, UserWarning, stacklevel=2)
            run.save()
        except StepNotFinite as bad:
            raise FloatingPointError(run.stopped_at(bad)) from None
        finally:
            nnx.update(objects, run.state if home is None else jax.device_put(local_shard(run.state), home))
    if early_stopping is not None and early_stopping.restore_best and run.progress.best is not None:
        nnx.update(model, run.progress.best)
    return run.history()


def _total_steps(batches: Any, epochs: int) -> int | None:
    """The number of steps of all epochs, if it is known."""
    if isinstance(batches, Sampler):
        return epochs * batches.steps
    try:
        return epochs * len(batches)
    except TypeError:  # a function, or a loader without a length
        return None
