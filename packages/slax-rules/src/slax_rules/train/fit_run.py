"""A run of `fit`: `FitRun.calls` sends steps to the device, and `FitRun.read` takes their losses one call later.

Between two calls come the callbacks, evaluations and checkpoints that are due.
"""

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from slax_rules.devices import local_shard, split_batch
from slax_rules.masks import check_some_entry
from slax_rules.step import Step, jitted
from slax_rules.train.batches import Batch, Sampler, as_batch
from slax_rules.train.callbacks import EarlyStopping, LogTo, Metrics, StepInfo, StopTraining
from slax_rules.train.checkpoints import Checkpoints, describe_batch, describe_run, parts, whole
from slax_rules.train.evaluate import check_concrete
from slax_rules.train.history import History
from slax_rules.train.remarks import cause_of_fault, remark_on_inputs, zero_gradients
from slax_rules.train.steps import STEPS_PER_CALL, Flags, guarded_step, sampled_steps
from slax_rules.train.weights import weights

# Steps after which parameters are named whose gradient was exactly zero in all of them.
ZERO_STEPS = 10

# What a checkpoint keeps of a run beside arrays and records.
SAVED = ("done", "epoch", "first_epoch", "position", "last", "stopping")


@dataclasses.dataclass
class FitRun:
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
        loggers: what each record is logged to.
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
    loggers: Sequence[LogTo] = ()
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
    taken: Collection[str] = ()  # names of the history that callbacks cannot use

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
            raise ValueError(f"Epoch {self.epoch} gave no batches, expected at least one. A generator is read once.")

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
            found = callback(info)
            if taken := sorted({*self.taken}.intersection(found if isinstance(found, Mapping) else ())):
                raise ValueError(f"A callback returned {taken[0]!r}, expected a name that evaluations do not have.")
            self.record(found)
        except StopTraining:
            self.is_stopped = True

    def evaluate(self) -> None:
        """Evaluate on the held-out set, and update the history and early stopping."""
        nnx.update(self.objects, local_shard(self.state))  # a callback may have written into the model
        found = self.evaluation()
        self.record(found, "held_out/")
        self.show({f"held-out {name}": number for name, number in found.items() if np.ndim(number) == 0})
        if self.early_stopping is not None:
            self.stopping = self.early_stopping.update(self.stopping, found[self.early_stopping.metric], self.done)
            if self.early_stopping.restore_best and self.stopping[1] == self.done:
                self.best = weights(self.state[0])

    def record(self, metrics: Metrics | None, prefix: str = "") -> None:
        """Add a record, if there is anything to record, and log it, with the prefix before its names.

        Raises:
            TypeError: anything but numbers by name, or None.
        """
        if not isinstance(metrics, Mapping | None):
            raise TypeError(f"A callback returned {metrics!r}, expected numbers by name. To stop, raise StopTraining.")
        if metrics:
            values = {name: _as_number(name, value) for name, value in metrics.items()}
            self.records.append({"step": self.done, "epoch": self.epoch, **values})
            for logger in self.loggers:
                logger.write({prefix + name: value for name, value in values.items()}, self.done)

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
                    f"fit got a gradient of exactly zero in each of the first {steps} steps for {names}. Possible causes: no "
                    "spike reaches it, or layers after it are silent (slax_neurons.health says where); a Delay or a late edge "
                    "above it, under a rule that passes signals within the step; a neuron without a surrogate; a module that "
                    "is not used. To train the others alone: nnx.Optimizer(..., wrt=...)."
                )

    def standstill(self) -> str:
        """At the end of a run: a warning of updates that changed nothing."""
        still, steps = int(self.flags.still), self.sent - (self.resumed_from or 0)
        if still < max(ZERO_STEPS, 2 * steps // 5):
            return ""
        return (
            f"The last {still} of {steps} steps changed no parameter by more than a millionth of its array. Possible causes: a "
            f"schedule that has ended, since it counts updates, {int(self.objects[2].step[...])} so far, one per batch offline "
            "and one per window online; accumulated gradients; an optimizer that has trained another model; a rate of 0."
        )

    def no_evaluation(self, every: int | None) -> str:
        """At the end of a run: a warning of evaluations that never took place."""
        if every is None or self.done >= every:
            return ""
        return f"fit took {self.done} steps, and evaluate_every={every}, so the held-out samples were never read."

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
            raise ValueError(f"Epoch {epoch} gave fewer batches than the {index + 1} before the checkpoint.")
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
        raise TypeError(f"A callback or a metric returned {value!r} as {name!r}, expected numbers or None.") from error
