"""A run of `fit`: its progress, and what happens between two steps."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from flax import nnx

from slax_rules.loop.devices import local_shard
from slax_rules.training.batches import Batches, Epochs
from slax_rules.training.callbacks import (
    Callback,
    EarlyStopping,
    EarlyStoppingState,
    StepInfo,
    StopTraining,
)
from slax_rules.training.checkpoints import Checkpoints, Store, parts, whole
from slax_rules.training.diagnosis import check_has_numbers, explain, silent_layers
from slax_rules.training.epoch import Call, Train, run_epoch
from slax_rules.training.history import History, Log, Progress, StepNotFinite
from slax_rules.training.run_identity import compared_data, describe_batch, describe_data, describe_run
from slax_rules.training.weights import weights

START = Progress(0, 0, 0)


@dataclasses.dataclass
class FitRun:
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
        first: the first batch, in the epoch that it belongs to.
        silent: the spiking layers without a spike on it before training.
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
    first: Any = None
    silent: list[str] = dataclasses.field(default_factory=list)

    def open(
        self, stack: ExitStack, batches: Batches, held_out: Any, progress: bool | None
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Open the checkpoints, if they are enabled, and resume from the newest; return the losses and records so far."""
        nothing: tuple[np.ndarray, list[dict[str, Any]]] = (np.zeros(0, np.float32), [])
        if self.checkpoints is None:
            return nothing
        self.store = stack.enter_context(self.checkpoints.open(self.settings(batches, held_out)))
        found = self.store.restore(self.expected)
        if found is None:
            return nothing
        losses, records = self.restore(*found)
        self.resumed_from = self.progress.step
        self.check_data(batches)
        self.store.tell("fit", self.resumed_from, progress)
        return losses, records

    def settings(self, batches: Any, held_out: Any) -> dict[str, Any]:
        """The settings that must be the same after a resume, in addition to the arrays."""
        model, rule, optimizer = self.objects
        program = self.train.program
        described = describe_run(program, model, rule, optimizer.tx)
        return {"update": program.update, **described, **describe_data(batches, held_out)}

    def epoch(self, steps: int | None, epochs: int, evaluates: bool) -> list[str]:
        """Train for the rest of an epoch; return the layers that were silent before training and are so after the first epoch.

        Args:
            steps: the steps of an epoch, if they are known.
            epochs: the number of epochs.
            evaluates: whether to evaluate at the end.
        """
        step, epoch, batches, *_ = self.progress
        self.timed = step, time.perf_counter()
        intervals = sorted({every for every, _ in self.due})
        for call in run_epoch(self.train, self.batches, self.state, epoch, step, batches, intervals):
            self.after(call)
            if self.should_stop() and self.progress.batches != steps:
                return []  # a complete epoch ends as any other
        self.synchronize()
        if evaluates:
            self.evaluate()
        still = self.silent_on(self.first) if self.silent else []
        silent, self.first, self.silent = [name for name in still if name in self.silent], None, []
        self.log.end_epoch(self.progress, epochs)
        self.progress = self.progress._replace(epoch=epoch + 1, batches=0)
        return silent

    def after(self, call: Call) -> None:
        """Take over what a call has made, and do what is due."""
        if self.progress.step == 0:
            self.look_at_first(local_shard(call.batch(0)))
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

    def look_at_first(self, batch: Any) -> None:
        """Check and describe the first batch, and find the layers that are silent on it."""
        check_has_numbers("fit", batch)
        self.data = None if self.store is None else describe_batch(batch)
        self.first, self.silent = batch, self.silent_on(batch)

    def silent_on(self, batch: Any) -> list[str]:
        """The spiking layers without a spike on a batch."""
        return silent_layers(self.train.program.graph.graphdef, local_shard(self.state), batch)

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
        """Evaluate on the held-out set, and update the history and early stopping."""
        step = self.progress.step
        nnx.update(self.objects, local_shard(self.state))  # a callback may have written into the model
        found = self.evaluation()
        self.log.add_record(step, self.progress.epoch, found)
        self.log.show({f"held-out {name}": number for name, number in found.items() if np.ndim(number) == 0})
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
