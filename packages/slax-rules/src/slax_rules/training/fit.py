"""The outer loop: epochs of batches, with evaluation, early stopping, callbacks and checkpoints."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from slax_rules.bptt import BPTT
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.devices import Devices, as_mesh, check_same_everywhere, part_here, replicated
from slax_rules.loop.entry import AnyRule, Program, check_hashable, check_online_loss, check_optimizer
from slax_rules.loop.units import check_whole, on_all_devices
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.penalties import Penalty, penalties_by_layer
from slax_rules.training.batches import Batches, epoch_batches, held_out_batches
from slax_rules.training.callbacks import Callback, StepInfo, check_callbacks
from slax_rules.training.checkpoints import Checkpoints, Store, describe_model, describe_rule
from slax_rules.training.diagnosis import check_parameters, explain
from slax_rules.training.epoch import Call, Train, run_epoch
from slax_rules.training.evaluation import Metric, check_metrics, evaluate
from slax_rules.training.history import History
from slax_rules.training.layers import Line, SilentLayers
from slax_rules.training.log import Log, StepNotFinite, make_bar
from slax_rules.training.progress import Progress, as_restored, as_saved, expected
from slax_rules.training.sampling import Sampler
from slax_rules.training.stopping import EarlyStopping
from slax_rules.training.weights import weights


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
        callbacks: functions called at regular intervals with a `StepInfo`; their return values go into the history.
        checkpoints: where to save checkpoints, and from where to resume.
        devices: devices to split each batch over, such as `jax.devices()`; each holds all parameters. If they belong to
            several processes, each process calls `fit` with the same numbers in model, rule and optimizer, and with
            its own share of each batch, except for a `Sampler`, which draws the full batch.
        penalties: losses on hidden layers, which are part of the loss in training; see `Penalty`.
        progress: whether to draw a progress bar; by default only at a terminal.

    Returns:
        The loss of each step, and the records of evaluations and callbacks.

    Raises:
        TypeError, ValueError: arguments that do not fit together, an epoch without batches, a checkpoint of another run, NaN
            for the metric of early stopping or of the best checkpoint; see `gradients` for model, rule, inputs and targets.
        FloatingPointError: a step that is not finite, or a parameter before the first one. The message names what is not
            finite and where: the inputs, a target, a parameter, the output of a layer, a penalty, or the gradient of a
            parameter.

    Warns:
        UserWarning: once, for spiking layers without a single spike on the first batch, both before training and after the
            first epoch.

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
    caller = sys._getframe(1)
    check_optimizer("fit", optimizer)
    _check_update(loss_fn, rule, epochs, update, window)
    check_callbacks(callbacks)
    table = check_metrics("fit", metrics)
    _check_evaluation(held_out, table, evaluate_every, early_stopping, checkpoints)
    check_parameters("fit", model, rule)
    mesh = None if devices is None else as_mesh(devices)
    objects = (model, rule, optimizer)
    graphdef, state = nnx.split(objects)
    check_hashable(graphdef, loss_fn, tuple(penalties))
    penalties_by_layer(penalties, model)
    original_shardings = None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state)
    if mesh is not None:
        check_whole(state)
        check_same_everywhere(state, mesh)
        state = replicated(state, mesh)
    else:
        state = on_all_devices(state)
    run = _Run(
        objects=objects,
        train=Train(Program(graphdef, loss_fn, update, window, mesh, tuple(penalties))),
        batches=epoch_batches(batches, epochs=epochs),
        epochs=epochs,
        held_out=None if held_out is None else held_out_batches(held_out),
        metrics=table,
        evaluate_every=evaluate_every,
        early_stopping=early_stopping,
        callbacks=tuple(callbacks),
        checkpoints=checkpoints,
        devices=devices,
        intervals=_intervals(callbacks, evaluate_every, checkpoints),
        state=state,
        progress=Progress(0, 0, 0),
        caller=Line(caller.f_code.co_filename, caller.f_lineno, caller.f_globals.get("__name__", "")),
    )
    with ExitStack() as stack:
        losses: np.ndarray = np.zeros(0, np.float32)
        records: list[dict[str, Any]] = []
        if checkpoints is not None:
            run.store = stack.enter_context(checkpoints.open(_settings(run, batches)))
            found = run.store.restore(expected(state))
            if found is not None:
                run.state, run.progress, losses, records = as_restored(state, *found)
        bar = make_bar(_total_steps(batches, epochs), run.progress.step, progress)
        stack.callback(bar.close)
        run.log = Log(losses, records, bar)
        try:
            run.train_epochs()
        finally:
            home = run.state if original_shardings is None else jax.device_put(part_here(run.state), original_shardings)
            nnx.update(objects, home)
    if early_stopping is not None and early_stopping.restore_best and run.progress.best is not None:
        nnx.update(model, run.progress.best)
    stopping = run.progress.early_stopping
    return History(run.log.losses(), run.log.records, None if stopping is None else stopping.step, run.should_stop())


@dataclasses.dataclass
class _Run:
    """A run of `fit`: its arguments, which stay fixed, and its progress."""

    objects: tuple[Any, Any, Any]
    train: Train
    batches: Callable[[int], Iterable[Any]]
    epochs: int
    held_out: Callable[[], Iterable[Any]] | None
    metrics: Mapping[str, Metric]
    evaluate_every: int | None
    early_stopping: EarlyStopping | None
    callbacks: tuple[Callback, ...]
    checkpoints: Checkpoints | None
    devices: Devices | None
    intervals: tuple[int, ...]
    state: nnx.State
    progress: Progress
    caller: Line
    store: Store | None = None
    log: Log = dataclasses.field(init=False)
    silent: SilentLayers | None = None

    def train_epochs(self) -> None:
        """Train for all remaining epochs, up to a step that is not finite.

        Raises:
            FloatingPointError: a step that is not finite.
        """
        try:
            while self.progress.epoch < self.epochs and not self.should_stop():
                self.train_epoch()
            self.save()
        except StepNotFinite as bad:
            raise FloatingPointError(self.stopped_at(bad)) from None

    def train_epoch(self) -> None:
        """Train for the rest of an epoch; early stopping may end it."""
        for call in run_epoch(self.train, self.batches, self.state, self.progress, self.intervals):
            if self.progress.step == 0:
                self.silent = SilentLayers(self.train.program.graphdef, part_here(self.state), part_here(call.batch(0)))
            self.state = call.state
            self.progress = self.progress._replace(
                step=self.progress.step + call.steps, batches=self.progress.batches + call.steps
            )
            self.log.add(call)
            self.after_step(call)
            if self.should_stop():
                return
        self.synchronize()
        if self.held_out is not None and self.evaluate_every is None:
            self.evaluate()
        if self.silent is not None:
            self.silent.warn(part_here(self.state), self.caller)
            self.silent = None
        self.progress = self.progress._replace(epoch=self.progress.epoch + 1, batches=0)

    def after_step(self, call: Call) -> None:
        """Run the callbacks, the evaluation and the checkpoint that are due."""
        step, epoch = self.progress.step, self.progress.epoch
        due = {every for every in self.intervals if step % every == 0}
        if due:
            self.synchronize()
        for callback in self.callbacks:
            if callback.every in due:
                self.log.add_record(step, epoch, callback(self.info(call)))
        if self.evaluate_every in due:
            self.evaluate()
        if self.checkpoints is not None and self.checkpoints.every in due:
            self.save()

    def synchronize(self) -> None:
        """Wait for the steps so far, and copy their values into the user's model, rule and optimizer."""
        self.log.flush()
        nnx.update(self.objects, part_here(self.state))

    def info(self, call: Call) -> StepInfo:
        """The information for callbacks."""
        model, rule, optimizer = self.objects
        program = self.train.program
        return StepInfo(
            step=self.progress.step,
            epoch=self.progress.epoch,
            model=model,
            rule=rule,
            optimizer=optimizer,
            loss_fn=program.loss_fn,
            update=program.update,  # type: ignore[arg-type]  # "none" is not for training
            window=program.window,
            penalties=program.penalties,
            batch=part_here(call.batch(call.steps - 1)),
            loss=self.log.shown["loss"],
        )

    def evaluate(self) -> None:
        """Evaluate on the held-out set, and update the history, the best weights and early stopping."""
        assert self.held_out is not None
        model = self.objects[0]
        nnx.update(self.objects, part_here(self.state))  # a callback may have written into the model
        found = evaluate(model, self.train.program.loss_fn, self.held_out(), metrics=self.metrics, devices=self.devices)
        step = self.progress.step
        self.log.add_record(step, self.progress.epoch, found)
        self.log.show({f"held-out {name}": number for name, number in found.items()})
        if self.checkpoints is not None:
            self.progress = self.checkpoints.save_best(model, found, self.progress)
        if self.early_stopping is not None:
            stopping = self.early_stopping.update(self.progress.early_stopping, found[self.early_stopping.metric], step)
            is_best = self.early_stopping.restore_best and stopping.step == step
            best = weights(self.state[0]) if is_best else self.progress.best
            self.progress = self.progress._replace(early_stopping=stopping, best=best)

    def save(self) -> None:
        """Save a checkpoint, if checkpoints are enabled."""
        if self.store is not None and self.progress.step:
            self.store.save(*as_saved(self.state, self.progress, self.log.losses(), self.log.records))

    def should_stop(self) -> bool:
        """True if early stopping ends the run."""
        return self.early_stopping is not None and self.early_stopping.should_stop(self.progress.early_stopping)

    def stopped_at(self, bad: StepNotFinite) -> str:
        """Save the state before a step that is not finite, and return the error message."""
        ahead = self.progress.step - (bad.step - 1)
        self.progress = self.progress._replace(step=bad.step - 1, batches=self.progress.batches - ahead)
        self.save()
        where = f" and of the checkpoint in {self.store.manager.directory}" if self.store and bad.step > 1 else ""
        cause = explain(self.train, self.state, bad)
        return (
            f"fit stopped at step {bad.step} (batch {self.progress.batches} of epoch {self.progress.epoch}, counted from 0), "
            f"which is not finite: {cause} The numbers of model and optimizer{where} are those after step {bad.step - 1}."
        )


def _settings(run: _Run, batches: Any) -> dict[str, Any]:
    """The settings that must be the same after a resume, in addition to the arrays."""
    model, rule, _ = run.objects
    program = run.train.program
    loss_fn = program.loss_fn.function if isinstance(program.loss_fn, SequenceLoss) else program.loss_fn
    settings = {
        "update": program.update,
        "window": program.window,
        "rule": describe_rule(rule),
        "loss_fn": getattr(loss_fn, "__qualname__", type(loss_fn).__name__),
        "penalties": [one.describe() for one in program.penalties],
        **describe_model(model),
    }
    if isinstance(batches, Sampler):
        settings |= {"steps per epoch": batches.steps, "key": jax.random.key_data(batches.key).tolist()}
    return settings


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
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(
            f"fit got {early_stopping!r} as early_stopping, expected one such as EarlyStopping('accuracy', patience=5)."
        )
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise TypeError(f"fit got {checkpoints!r} as checkpoints, expected Checkpoints({str(checkpoints)!r}).")
    best = None if checkpoints is None else checkpoints.best
    if held_out is None and (metrics or any(option is not None for option in (evaluate_every, early_stopping, best))):
        raise ValueError(
            "fit got metrics, evaluate_every, early_stopping or Checkpoints(best=...), expected held_out with them: the "
            "batches to evaluate on, as in held_out=[(inputs, targets)]."
        )
    names = ("loss", *metrics)
    for what, name in (
        ("Early stopping is", early_stopping and early_stopping.metric),
        ("The best checkpoint is", best),
    ):
        if name is not None and name not in names:
            raise ValueError(
                f"{what} by the metric {name!r}, expected one of: {', '.join(names)}. Others are given by name: "
                "metrics={'accuracy': accuracy}."
            )


def _intervals(
    callbacks: Sequence[Callback], evaluate_every: int | None, checkpoints: Checkpoints | None
) -> tuple[int, ...]:
    """The intervals, in steps, at which a callback, an evaluation or a checkpoint is due."""
    intervals = {callback.every for callback in callbacks}
    intervals |= {evaluate_every} if evaluate_every is not None else set()
    intervals |= {checkpoints.every} if checkpoints is not None else set()
    if any(every < 1 for every in intervals):
        raise ValueError(f"fit got callbacks or evaluations every {min(intervals)} steps, expected at least 1.")
    return tuple(sorted(intervals))
