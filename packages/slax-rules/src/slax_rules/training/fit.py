"""The outer loop: epochs of batches, with evaluation, early stopping, callbacks and checkpoints."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from slax_rules.bptt import BPTT, TBPTT
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.devices import Devices, as_mesh, check_same_everywhere, local_shard, replicated
from slax_rules.loop.entry import AnyRule, check_hashable, check_online_loss, check_optimizer, make_program
from slax_rules.loop.programs import shared
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.penalties import Penalty, penalties_by_layer
from slax_rules.training.batches import Batches, Epochs, Sampler, check_held_out, epoch_batches
from slax_rules.training.callbacks import (
    Callback,
    EarlyStopping,
    EarlyStoppingState,
    StepInfo,
    StopTraining,
    check_callbacks,
    check_comparable,
    gain,
)
from slax_rules.training.checkpoints import BEST, Checkpoints, Store, parts, whole
from slax_rules.training.diagnosis import check_has_numbers, check_parameters, explain, silence_message, silent_layers
from slax_rules.training.epoch import Call, Train, run_epoch
from slax_rules.training.evaluation import Metric, check_metrics, evaluate
from slax_rules.training.history import History, Log, Progress, StepNotFinite, make_bar
from slax_rules.training.run_identity import compared_data, describe_batch, describe_data, describe_run
from slax_rules.training.weights import save_weights, weights

START = Progress(0, 0, 0)


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

    Each batch is a step of `train_offline` or `train_online`. It is followed, in this order, by the callbacks,
    evaluation and checkpoint that are due. With the same arguments and the same batches from `batches`, a run and its history
    are the same bit for bit, whether or not the run was killed and restarted.

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
        progress: whether to draw a progress bar. By default, there is one at a terminal, and elsewhere, as in the log of a job
            or in a notebook, a line for each epoch on the standard error. False is silent.

    Returns:
        The loss of each step, and the records of evaluations and callbacks. If an exception ends the run, an interrupt from
        the keyboard included, the history so far is its attribute `history`.

    Raises:
        TypeError, ValueError: arguments that do not fit together, an epoch without batches, a checkpoint of another run, NaN
            for the metric of early stopping or of the best checkpoint; see `gradients` for model, rule, inputs and targets.
        FloatingPointError: a step that is not finite, or a parameter before the first one. The message names what is not
            finite and where: the inputs, a target, a parameter, the output of a layer, a penalty, or the gradient of a
            parameter.

    Warns:
        UserWarning: once, for spiking layers without a single spike on the first batch, both before training and after the
            first epoch; once, for a loss above 1e7 times the first one, or above 1e7 if the first one is below 1; for BPTT or
            TBPTT with `update="online"` and no `window`, whose gradient flows through no step.

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
    _check_update(loss_fn, rule, epochs, update, window)
    if update == "online":
        _warn_without_credit(rule, window)
    check_callbacks(callbacks)
    table = check_metrics("fit", metrics)
    _check_evaluation(held_out, table, evaluate_every, early_stopping, checkpoints)
    check_parameters("fit", model, rule)
    mesh = None if devices is None else as_mesh(devices)
    objects = (model, rule, optimizer)
    check_hashable(nnx.graphdef(objects), loss_fn, tuple(penalties))
    penalties_by_layer(penalties, model)
    program, state = make_program(objects, loss_fn, update, window, mesh, penalties)
    home = None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state)
    if mesh is not None:
        check_same_everywhere(state, mesh)
        state = replicated(state, mesh)
    run = _Run(
        objects=objects,
        train=Train(program, shared(batches.sample) if isinstance(batches, Sampler) else None),
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
        losses: np.ndarray = np.zeros(0, np.float32)
        records: list[dict[str, Any]] = []
        if checkpoints is not None:
            run.store = stack.enter_context(checkpoints.open(_settings(run, batches, held_out)))
            found = run.store.restore(run.expected)
            if found is not None:
                losses, records = run.restore(*found)
                run.resumed_from = run.progress.step
                run.check_data(batches)
                run.store.tell("fit", run.resumed_from, progress)
        bar = make_bar(_total_steps(batches, epochs), run.progress.step, progress)
        stack.callback(bar.close)
        run.log = Log(losses, records, bar, has_lines=progress is None and bar.disable and jax.process_index() == 0)
        first: Any = None
        silent: list[str] = []
        try:
            while run.progress.epoch < epochs and not run.should_stop():
                for call in run.calls():
                    if run.progress.step == 0:
                        first = local_shard(call.batch(0))
                        check_has_numbers("fit", first)
                        run.data = None if run.store is None else describe_batch(first)
                        silent = silent_layers(program.graphdef, local_shard(run.state), first)
                    run.after(call)
                    if run.log.unsaid:
                        warnings.warn(run.log.unsaid.pop(), UserWarning, stacklevel=2)
                    if run.should_stop() and run.progress.batches != _total_steps(batches, 1):
                        break  # a complete epoch ends as any other
                else:
                    run.synchronize()
                    if held_out is not None and evaluate_every is None:
                        run.evaluate()
                    still = silent_layers(program.graphdef, local_shard(run.state), first) if silent else []
                    if names := [name for name in still if name in silent]:
                        warnings.warn(silence_message(names), UserWarning, stacklevel=2)
                    first, silent = None, []
                    run.log.end_epoch(run.progress, epochs)
                    run.progress = run.progress._replace(epoch=run.progress.epoch + 1, batches=0)
            if run.log.unsaid:
                warnings.warn(run.log.unsaid.pop(), UserWarning, stacklevel=2)
            run.save()
        except StepNotFinite as bad:
            raise FloatingPointError(run.stopped_at(bad)) from None
        finally:
            nnx.update(objects, run.state if home is None else jax.device_put(local_shard(run.state), home))
    if early_stopping is not None and early_stopping.restore_best and run.progress.best is not None:
        nnx.update(model, run.progress.best)
    return run.history()


@dataclasses.dataclass
class _Run:
    """A run of `fit`: what is fixed, and its progress.

    Args:
        objects: the user's model, rule and optimizer.
        train: the training step.
        batches: maps an epoch to its batches.
        early_stopping, checkpoints: see `fit`.
        state: the state of model, rule and optimizer.
        progress: how far the run is.
        due: what is done every so many steps, in order.
        store: the checkpoints on disk.
        data: a description of the first batch, for a run with checkpoints.
        resumed_from: the step of the checkpoint that the run resumed from, if it did.
        log: losses and records.
        evaluation: the numbers of the held-out set, if there is one.
        is_stopped: whether a callback has stopped the run.
        timed: the step and the time from which steps are timed.
        seconds: the time of a step, the mean since then.
    """

    objects: tuple[Any, Any, Any]
    train: Train
    batches: Epochs
    early_stopping: EarlyStopping | None
    checkpoints: Checkpoints | None
    state: nnx.State
    progress: Progress = START
    due: list[tuple[int, Callable[[Call], None]]] = dataclasses.field(default_factory=list)
    store: Store | None = None
    data: str | None = None
    resumed_from: int | None = None
    log: Log = dataclasses.field(init=False)
    evaluation: Callable[[], dict[str, Any]] = dataclasses.field(init=False)
    is_stopped: bool = False
    timed: tuple[int, float] = dataclasses.field(init=False)
    seconds: float = dataclasses.field(init=False)

    def calls(self) -> Iterator[Call]:
        """The calls of the rest of an epoch."""
        step, epoch, batches, *_ = self.progress
        self.timed = step, time.perf_counter()
        intervals = sorted({every for every, _ in self.due})
        return run_epoch(self.train, self.batches, self.state, epoch, step, batches, intervals)

    def after(self, call: Call) -> None:
        """Take over what a call has made, and do what is due."""
        self.state = call.state
        step, batches = self.progress.step + call.steps, self.progress.batches + call.steps
        self.progress = self.progress._replace(step=step, batches=batches)
        self.log.add(call)
        now = [action for every, action in self.due if step % every == 0]
        if not now:
            return
        self.synchronize()
        begun, since = self.timed
        self.seconds = (time.perf_counter() - since) / (step - begun)
        for action in now:
            action(call)
        self.timed = step, time.perf_counter()

    def synchronize(self) -> None:
        """Wait for the steps so far, and copy their values into the user's model, rule and optimizer."""
        self.log.flush()
        nnx.update(self.objects, local_shard(self.state))

    def look(self, callback: Callback, call: Call) -> None:
        """Call a callback after a call, and record what it returns."""
        step, epoch, *_ = self.progress
        model, rule, optimizer = self.objects
        program = self.train.program
        info = StepInfo(
            step=step,
            epoch=epoch,
            model=model,
            rule=rule,
            optimizer=optimizer,
            loss_fn=program.loss_fn,
            update=program.update,  # type: ignore[arg-type]  # not "none"
            window=program.window,
            penalties=program.penalties,
            batch=local_shard(call.batch(call.steps - 1)),
            loss=self.log.shown["loss"],
            seconds=self.seconds,
        )
        try:
            self.log.add_record(step, epoch, callback(info))
        except StopTraining:
            self.is_stopped = True

    def evaluate(self) -> None:
        """Evaluate on the held-out set, and update the history, the best weights and early stopping."""
        model, step = self.objects[0], self.progress.step
        nnx.update(self.objects, local_shard(self.state))  # a callback may have written into the model
        found = self.evaluation()
        self.log.add_record(step, self.progress.epoch, found)
        self.log.show({f"held-out {name}": number for name, number in found.items() if np.ndim(number) == 0})
        if self.store is not None and self.checkpoints is not None and self.checkpoints.best is not None:
            value, best = found[self.checkpoints.best], self.progress.best_saved
            check_comparable("Checkpoints", self.checkpoints.best, value, step)
            if best is None or gain(self.checkpoints.mode, best, value) > 0:
                self.progress = self.progress._replace(best_saved=value)
                if jax.process_index() == 0:
                    save_weights(self.store.directory / BEST, model)
        if self.early_stopping is not None:
            stopping = self.early_stopping.update(self.progress.early_stopping, found[self.early_stopping.metric], step)
            self.progress = self.progress._replace(early_stopping=stopping)
            if self.early_stopping.restore_best and stopping.step == step:
                self.progress = self.progress._replace(best=weights(self.state[0]))

    def should_stop(self) -> bool:
        """True if a callback or early stopping ends the run."""
        stopping = self.early_stopping
        return self.is_stopped or (stopping is not None and stopping.should_stop(self.progress.early_stopping))

    def history(self) -> History:
        """The numbers that were read so far."""
        stopping = self.progress.early_stopping
        best_step = None if stopping is None else stopping.step
        return History(
            np.concatenate(self.log.read), self.log.records, best_step, self.should_stop(), self.resumed_from
        )

    def keep_history(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Attach the history to an exception that ends the run, if there is one and training had begun."""
        if error is not None and hasattr(self, "log"):
            error.history = self.history()  # type: ignore[attr-defined]

    def save(self) -> None:
        """Save a checkpoint, if checkpoints are enabled."""
        if self.store is None or not self.progress.step:
            return
        losses = self.log.losses()
        facts = {
            "progress": self.progress._asdict() | {"best": self.progress.best is not None},
            "records": list(self.log.records),  # more are added while the file is written
            "losses": losses.dtype.name,
            "data": self.data,
        }
        trees = parts(self.state) | {"losses": losses, "best": self.progress.best}
        self.store.save(self.progress.step, trees, facts)

    def expected(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The trees that a checkpoint with these facts has."""
        progress = Progress(**facts["progress"])
        best = weights(self.state[0]) if progress.best else None
        return parts(self.state) | {"losses": np.zeros(progress.step, facts["losses"]), "best": best}

    def restore(self, trees: dict[str, Any], facts: dict[str, Any]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Resume from a checkpoint; return its losses and records."""
        progress = Progress(**facts["progress"])
        stopping = progress.early_stopping and EarlyStoppingState(*progress.early_stopping)
        self.progress = progress._replace(early_stopping=stopping, best=trees["best"] if progress.best else None)
        self.state = whole(self.state, trees)
        self.data = facts.get("data")  # of an earlier version
        return trees["losses"], facts["records"]

    def check_data(self, batches: Batches) -> None:
        """Check that the first batch is that of the stopped run."""
        assert self.store is not None
        mine, self.batches = compared_data(batches, self.data, self.progress.epoch)
        if self.data is not None and mine is not None:
            self.store.check_same(self.progress.step, {"data: first batch": self.data}, {"data: first batch": mine})
            self.data = mine

    def stopped_at(self, bad: StepNotFinite) -> str:
        """Save the state before a step that is not finite, and return the error message."""
        ahead = self.progress.step - (bad.step - 1)
        self.progress = self.progress._replace(step=bad.step - 1, batches=self.progress.batches - ahead)
        self.save()
        where = f" and of the checkpoint in {self.store.directory}" if self.store and bad.step > 1 else ""
        first = f"fit stopped at step {bad.step} (batch {self.progress.batches} of epoch {self.progress.epoch}, counted from 0)"
        last = f"The numbers of model and optimizer{where} are those after step {bad.step - 1}."
        try:
            cause = explain(self.train, self.state, bad)
        except (MemoryError, RuntimeError) as error:  # it does not hide the step that is not finite
            unknown = f"the cause could not be found ({type(error).__name__}: {error})."
            raise FloatingPointError(f"{first}, which is not finite: {unknown} {last}") from error
        return f"{first}, which is not finite: {cause} {last}"


def _settings(run: _Run, batches: Any, held_out: Any) -> dict[str, Any]:
    """The settings that must be the same after a resume, in addition to the arrays."""
    model, rule, optimizer = run.objects
    program = run.train.program
    described = describe_run(program, model, rule, optimizer.tx)
    return {"update": program.update, **described, **describe_data(batches, held_out)}


def _total_steps(batches: Any, epochs: int) -> int | None:
    """The number of steps of all epochs, if it is known."""
    if isinstance(batches, Sampler):
        return epochs * batches.steps
    try:
        return epochs * len(batches)
    except TypeError:  # a function, or a loader without a length
        return None


def _check_update(loss_fn: Any, rule: Any, epochs: Any, update: Any, window: Any) -> None:
    as_rule(rule)
    if not callable(loss_fn):
        raise TypeError(f"fit got {type(loss_fn).__name__} as loss_fn, expected a function such as cross_entropy.")
    if not isinstance(epochs, int) or epochs < 1 or update not in ("offline", "online"):
        raise ValueError(
            f'fit got epochs={epochs!r}, update={update!r}, expected an integer of at least 1, and "offline" or "online".'
        )
    if window is not None and window < 1:
        raise ValueError(f"fit got window={window}, expected at least 1, or None for the default.")
    if update == "online":
        check_online_loss("fit", loss_fn)


def _check_evaluation(
    held_out: Any, metrics: Mapping[str, Any], evaluate_every: Any, early_stopping: Any, checkpoints: Any
) -> None:
    for name, given, kind, example in (
        ("early_stopping", early_stopping, EarlyStopping, "EarlyStopping('accuracy', patience=5)"),
        ("checkpoints", checkpoints, Checkpoints, f"Checkpoints({str(checkpoints)!r})"),
    ):
        if given is not None and not isinstance(given, kind):
            raise TypeError(f"fit got {given!r} as {name}, expected one such as {example}.")
    best = None if checkpoints is None else checkpoints.best
    if held_out is None and (metrics or any(option is not None for option in (evaluate_every, early_stopping, best))):
        raise ValueError(
            "fit got metrics, evaluate_every, early_stopping or Checkpoints(best=...), expected held_out with them: the "
            "batches to evaluate on, as in held_out=[(inputs, targets)]."
        )
    names = ("loss", *metrics)
    for what, metric in (
        ("Early stopping is", early_stopping and early_stopping.metric),
        ("The best checkpoint is", best),
    ):
        if metric is not None and metric not in names:
            raise ValueError(
                f"{what} by the metric {metric!r}, expected one of: {', '.join(names)}. Others are given by name: "
                "metrics={'accuracy': accuracy}."
            )


def _warn_without_credit(rule: Any, window: int | None) -> None:
    """Warn of online updates whose gradient flows through no step, unless a window of one step was asked for."""
    if window is None and isinstance(rule, BPTT | TBPTT):
        warnings.warn(
            f"fit got {type(rule).__name__} and no window, expected a window. Each update has the gradient of one step, "
            "so it reaches no step back, and nothing is learned across time. Give a window, as in window=10, whose gradient "
            "reaches up to 9 steps back, or a rule that carries the past forward, as in rule=OTPE(). If one step is meant, say "
            "window=1.",
            UserWarning,
            stacklevel=3,
        )
