"""The outer loop: epochs of batches, with evaluation, early stopping, callbacks and checkpoints.

`fit` checks its arguments, makes a `_Run`, and drives it: `_Run.calls` sends steps to the device, `_Run.read` takes their
losses one call later, and between two calls come the callbacks, evaluations and checkpoints that are due.
"""

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from slax_rules.api import Step, check_loss, check_optimizer, checked_window, jitted
from slax_rules.devices import Devices, as_mesh, check_same_everywhere, local_shard, replicated, split_batch
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.masks import check_some_entry
from slax_rules.penalties import Penalty, checked_penalties
from slax_rules.rules.base import Rule, check_is_rule
from slax_rules.rules.bptt import BPTT, TBPTT
from slax_rules.train.batches import Batch, Batches, Sampler, as_batch, epoch_batches
from slax_rules.train.callbacks import EarlyStopping, Metrics, StepInfo, StopTraining, check_callbacks
from slax_rules.train.checkpoints import Checkpoints, describe_batch, describe_run, parts, whole
from slax_rules.train.evaluate import Metric, check_concrete, check_metrics, check_parameters, evaluate
from slax_rules.train.history import History
from slax_rules.train.remarks import cause_of_fault, epochs_taken, remark_on_inputs, remarks, zero_gradients
from slax_rules.train.steps import STEPS_PER_CALL, Flags, guarded_step, sampled_steps
from slax_rules.train.weights import weights

# Steps after which parameters are named whose gradient was exactly zero in all of them.
ZERO_STEPS = 10

# What a checkpoint keeps of a run beside arrays and records.
SAVED = ("done", "epoch", "first_epoch", "position", "last", "stopping")


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
        callbacks: objects such as `Every`, which are called with a `StepInfo` after each `every` steps; their return values
            go into the history. One that raises `StopTraining` ends the run.
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
    _check_options(epochs, held_out, table, evaluate_every, early_stopping)
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
    run = _Run(objects, step, of_epoch, size, state, flags, evaluation, early_stopping)
    if isinstance(batches, Sampler):
        run.first_epoch = epochs_taken(batches, optimizer)
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
            for text in (*run.warnings(1), run.standstill()):
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


def _check_options(epochs: Any, held_out: Any, metrics: Any, evaluate_every: Any, stopping: Any) -> None:
    """Raise ValueError for options that do not fit together."""
    if not hasattr(epochs, "__index__") or epochs < 1:
        raise ValueError(f"fit got epochs={epochs!r}, expected an integer of at least 1.")
    if held_out is None and (metrics or evaluate_every is not None or stopping is not None):
        raise ValueError(
            "fit got metrics, evaluate_every or early_stopping, expected held_out with them: [(inputs, targets)]."
        )
    if stopping is not None and stopping.metric not in ("loss", *metrics):
        names = ", ".join(("loss", *metrics))
        raise ValueError(
            f"Early stopping is by {stopping.metric!r}, expected one of: {names}. Others are given by metrics={{...}}."
        )


def check_update(name: str, loss_fn: Any, update: Any, rule: Any, window: int | None) -> None:
    """Check the kind of update, in the name of a function, and warn of a gradient that then flows through no step.

    Raises:
        ValueError: an unknown kind of update.
        TypeError: a loss that it cannot use.
    """
    if update not in ("offline", "online"):
        raise ValueError(f'{name} got update={update!r}, expected "offline" or "online".')
    check_loss(name, loss_fn, online=update == "online")
    if update == "online" and window is None and isinstance(rule, BPTT | TBPTT):
        warnings.warn(
            f"{name} got {type(rule).__name__} and no window, expected window=K. Each update has the gradient of one step, so "
            "nothing is learned across time. Give a window, or a rule that carries the past forward, as in rule=OTPE(). If one "
            "step is meant, say window=1.",
            UserWarning,
            stacklevel=3,
        )


@dataclasses.dataclass
class _Run:
    """A run of `fit`: what is fixed, what is on the device, and what has been read from it.

    Args:
        objects: the user's model, rule and optimizer.
        step: the training step.
        batches: a `Sampler`, or a function that maps an epoch to its batches.
        size: the steps of an epoch, if they are known.
        state: the state of (model, rule, optimizer) after the steps that were sent to the device.
        flags: on the device, what the steps so far were like.
        evaluation: evaluates the model on the held-out set.
        early_stopping: see `fit`.
        sent, done: steps that were sent to the device, and steps whose losses were read, counted over all epochs.
        epoch, position: the current epoch, and the batches of it whose losses were read.
        last: the epoch and the index of the batch of the last step that was read.
        batch: a function that returns this batch.
        unread: number, losses and batches of the steps of the call that was sent last: the device works while Python goes on.
        stopping: what `EarlyStopping.update` returned.
        best: the model's state at the best evaluation, if it is to be restored.
    """

    objects: tuple[Any, Any, Any]
    step: Step
    batches: Any
    size: int | None
    state: nnx.State
    flags: Flags
    evaluation: Callable[[], dict[str, Any]]
    early_stopping: EarlyStopping | None
    sent: int = 0
    done: int = 0
    epoch: int = 0
    position: int = 0
    last: Sequence[int] = (0, 0)
    batch: Callable[[], Batch] | None = None
    unread: tuple[int, Array, Callable[[int], Batch]] | None = None
    stopping: Sequence[Any] | None = None
    best: nnx.State | None = None
    losses: list[np.ndarray] = dataclasses.field(default_factory=list)
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    shown: dict[str, float] = dataclasses.field(default_factory=dict)
    bar: Any = None
    checkpoints: Checkpoints | None = None
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resumed_from: int | None = None
    stream: Iterator[Any] | None = None  # the rest of the epoch in which a run resumes
    is_stopped: bool = False
    began: float = 0.0  # when the epoch began
    timed: tuple[int, float] = (0, 0.0)  # the step and the time from which steps are timed
    seconds: float = 0.0
    has_looked: bool = False
    first_epoch: int = 0  # of the epochs of a sampler

    # ------------------------------------------------------------------------------------------------- steps on the device

    def calls(self, intervals: Sequence[int]) -> Iterator[None]:
        """Send the rest of an epoch to the device, call by call, with no call beyond a multiple of one of the intervals."""
        self.began = time.perf_counter()
        self.timed = self.sent, self.began
        if isinstance(self.batches, Sampler):
            sampler, epoch, first = self.batches, self.first_epoch + self.epoch, self.position
            train = jitted(sampled_steps, self.step, sampler.sample)
            while first < sampler.steps:
                due = (every - self.sent % every for every in intervals)
                count = min([STEPS_PER_CALL, sampler.steps - first, *due])
                batch = lambda index, first=first: sampler.batch(epoch, first + index)  # noqa: E731
                self.send(count, batch, train, sampler.key, *map(np.int32, (epoch, first, first + count)))
                yield
                first += count
            return
        stream, self.stream = self.stream, None
        train, mesh = jitted(guarded_step, self.step), self.step.mesh
        for given in map(as_batch, iter(self.batches(self.epoch)) if stream is None else stream):
            check_concrete("fit", given)
            if not self.sent and (text := remark_on_inputs(self.objects[0], given[0])):
                warnings.warn(text, UserWarning, stacklevel=3)
            for mask in given[2:] if mesh is None or not mesh.is_multi_process else ():
                check_some_entry(mask)
            self.send(1, lambda _, given=given: given, train, given if mesh is None else split_batch(given, mesh))
            yield
        if not self.position and self.unread is None:
            raise ValueError(
                f"Epoch {self.epoch} gave no batches, expected at least one. A generator can be read only once."
            )

    def send(self, count: int, batch: Callable[[int], Batch], train: Callable[..., Any], *arguments: Any) -> None:
        """Send a call of so many steps to the device, and read the losses of the call before."""
        self.state, self.flags, losses = train(self.state, self.flags, *arguments)
        self.read()
        self.unread = count, losses, batch
        self.sent += count

    def read(self) -> None:
        """Wait for the call that was sent last, and read its losses.

        Raises:
            FloatingPointError: a step that is not finite. Neither it nor a step after it has changed the state.
        """
        if self.unread is None:
            return
        (count, losses, batch), self.unread = self.unread, None
        found = np.atleast_1d(np.asarray(losses))[:count]
        good = count if np.isfinite(found).all() else int(np.isfinite(found).argmin())
        if good:
            self.losses.append(found[:good])
            self.done, self.position = self.done + good, self.position + good
            self.last, self.batch = (self.epoch, self.position - 1), partial(batch, good - 1)
            self.show({"loss": float(found[good - 1])})
            self.bar.update(good)
        if good < count:
            self.save()
            where = f" and of the checkpoint in {self.checkpoints.folder}" if self.checkpoints and self.done else ""
            raise FloatingPointError(
                f"fit stopped at step {self.done + 1} (batch {self.position} of epoch {self.epoch}, counted from 0), which is "
                f"not finite: {self.cause(batch(good))} The numbers of model and optimizer{where} are those after step "
                f"{self.done}."
            )

    def synchronize(self) -> None:
        """Wait for all steps, and copy their values into the user's model, rule and optimizer."""
        self.read()
        begun, since = self.timed
        self.seconds = (time.perf_counter() - since) / max(self.sent - begun, 1)
        nnx.update(self.objects, local_shard(self.state))

    # --------------------------------------------------------------------------------------------- what comes between steps

    def look(self, callback: Any) -> None:
        """Call a callback after the last step, and record what it returns."""
        step = self.step
        info = StepInfo(
            self.done, self.epoch, *self.objects, step.loss_fn, step.update, step.window, step.penalties,
            local_shard(self.batch()), self.shown["loss"], self.seconds,
        )  # fmt: skip
        try:
            self.record(callback(info))
        except StopTraining:
            self.is_stopped = True

    def evaluate(self) -> None:
        """Evaluate on the held-out set, and update the history and early stopping."""
        nnx.update(self.objects, local_shard(self.state))  # a callback may have written into the model
        found = self.evaluation()
        self.record(found)
        self.show({f"held-out {name}": number for name, number in found.items() if np.ndim(number) == 0})
        if self.early_stopping is not None:
            self.stopping = self.early_stopping.update(self.stopping, found[self.early_stopping.metric], self.done)
            if self.early_stopping.restore_best and self.stopping[1] == self.done:
                self.best = weights(self.state[0])

    def record(self, metrics: Metrics | None) -> None:
        """Add a record, if there is anything to record.

        Raises:
            TypeError: anything but numbers by name, or None.
        """
        if not isinstance(metrics, Mapping | None):
            raise TypeError(
                f"A callback returned {metrics!r}, expected numbers by name, or None. To stop, raise StopTraining."
            )
        if metrics:
            values = {name: _as_number(name, value) for name, value in metrics.items()}
            self.records.append({"step": self.done, "epoch": self.epoch, **values})

    def show(self, numbers: Mapping[str, float]) -> None:
        """Show numbers next to the bar, until others of the same name replace them."""
        self.shown.update(numbers)
        self.bar.set_postfix(self.shown, refresh=False)

    def end_epoch(self, text: str) -> None:
        """Count the epoch, and print a line that begins with this text if there is no bar."""
        self.epoch, self.position = self.epoch + 1, 0
        if text and self.bar.disable and jax.process_index() == 0:
            numbers = "".join(f", {name} {number:.4g}" for name, number in self.shown.items())
            seconds = time.perf_counter() - self.began
            print(f"{text}, step {self.done}{numbers}, {seconds:.1f} s", file=sys.stderr, flush=True)

    def is_over(self) -> bool:
        """True if a callback or early stopping ends the run."""
        waited = 0 if self.stopping is None else self.stopping[2]
        return self.is_stopped or (self.early_stopping is not None and waited >= self.early_stopping.patience)

    def history(self) -> History:
        """The numbers that were read so far."""
        losses = np.concatenate(self.losses) if self.losses else np.zeros(0, np.float32)
        best_step = None if self.stopping is None else self.stopping[1]
        return History(losses, self.records, best_step, self.is_over(), self.resumed_from)

    # ------------------------------------------------------------------------------------------------------- what is warned of

    def warnings(self, least: int) -> Iterator[str]:
        """Once, after at least so many steps: a warning that names parameters whose gradient was always zero."""
        steps = self.sent - (self.resumed_from or 0)
        if not self.has_looked and steps >= least:
            self.has_looked = True
            if names := zero_gradients(*self.objects, jax.device_get(self.flags.is_zero)):
                yield (
                    f"fit got a gradient of exactly zero in each of the first {steps} steps for {names}, which therefore "
                    "does not learn. Possible causes: no spike reaches it, or the layers after it are silent "
                    "(slax_neurons.health says where); a Delay or a late edge above it, under a rule that passes signals "
                    "within the step; a neuron without a surrogate; a module that is not used. To leave parameters as they "
                    "are, give the optimizer the others: nnx.Optimizer(..., wrt=...)."
                )

    def standstill(self) -> str:
        """At the end of a run: a warning of updates that changed nothing."""
        still, steps = int(self.flags.still), self.sent - (self.resumed_from or 0)
        if still < max(ZERO_STEPS, 2 * steps // 5):
            return ""
        return (
            f"The last {still} of {steps} steps changed no parameter by more than a millionth of its array. Possible causes: a "
            "schedule of the learning rate that has ended, since it counts updates, one per batch offline and one per window "
            f"online, {int(self.objects[2].step[...])} so far; gradients that are accumulated over more steps; an optimizer "
            "that has trained another model; a rate of 0."
        )

    def cause(self, batch: Batch) -> str:
        """What is not finite in a step with this batch, and what to do about it."""
        nnx.update(self.objects, local_shard(self.state))
        return cause_of_fault(self.step, *nnx.clone(self.objects[:2]), batch)

    # ------------------------------------------------------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """Save a checkpoint, if checkpoints are enabled."""
        self.read()
        if self.checkpoints is None:
            return
        losses = self.history().losses
        facts = {name: getattr(self, name) for name in SAVED} | {"losses": losses.dtype.name, "records": self.records}
        facts |= {"has_best": self.best is not None, "batch": self.batch and describe_batch(self.batch())}
        self.checkpoints.save(
            self.done, self.identity, parts(self.state) | {"losses": losses, "best": self.best}, facts
        )

    def resume(self, checkpoints: Checkpoints, batches: Any, progress: bool | None) -> None:
        """Use the checkpoints, and continue from the newest, if there is one, once its last batch is drawn again."""
        (model, rule, _), step = self.objects, self.step
        self.checkpoints, settings = checkpoints, {"update": step.update, "window": step.window}
        self.identity = describe_run(model, rule, **settings, batches_per_epoch=self.size)

        def expected(facts: Mapping[str, Any]) -> dict[str, Any]:
            best = weights(self.state[0]) if facts["has_best"] else None
            return parts(self.state) | {"losses": np.zeros(facts["done"], facts["losses"]), "best": best}

        checkpoints.prepare()
        if (found := checkpoints.restore("fit", self.identity, expected, progress)) is None:
            return
        _, trees, facts = found
        vars(self).update({name: facts[name] for name in (*SAVED, "records")})
        self.state, self.losses = whole(self.state, trees), [trees["losses"]]
        self.best = trees["best"] if facts["has_best"] else None
        self.sent = self.resumed_from = self.done
        is_loader = not (callable(batches) or isinstance(batches, list | tuple | Iterator))
        if (batch := self.last_batch(is_loader)) is not None:
            saved, mine = facts["batch"], describe_batch(batch)
            checkpoints.check_same({"last batch": saved or mine}, {"last batch": mine or saved})
            self.batch = lambda: batch

    def last_batch(self, is_loader: bool) -> Any:
        """The batch of the last step, read again; None for a loader, which may have another order each time.

        The rest of its epoch is kept, if the run continues in it.
        """
        epoch, index = self.last
        if isinstance(self.batches, Sampler):
            return self.batches.batch(self.first_epoch + epoch, index)
        if is_loader and self.position == 0:
            return None
        stream = iter(self.batches(epoch))
        batch = next(islice(stream, index, None), None)
        if batch is None:
            raise ValueError(
                f"Epoch {epoch} gave fewer batches than the {index + 1} that the checkpoint was made after, expected those "
                "that the run had. Make them from the epoch and a fixed seed."
            )
        self.stream = stream if self.position else None
        return None if is_loader else as_batch(batch)


def _as_number(name: str, value: Any) -> Any:
    """A number as a float, an array as nested lists of floats, and None as it is.

    Raises:
        TypeError: anything else.
    """
    try:
        return None if value is None else np.asarray(value, float).tolist()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"A callback or a metric returned {value!r} as {name!r}, expected a number, an array of numbers, or None."
        ) from error


def make_bar(total: int | None, initial: int, progress: bool | None) -> Any:
    """Make a bar for the steps of a run: by default only at a terminal, and in one process only."""
    from tqdm.auto import tqdm  # not needed to import this package

    hidden = True if jax.process_index() else None if progress is None else not progress
    return tqdm(total=total, initial=initial, unit="step", disable=hidden)
