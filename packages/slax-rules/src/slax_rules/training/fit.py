"""The outer loop: epochs of batches, with evaluation, early stopping, callbacks and checkpoints."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from tqdm.auto import tqdm

from slax_rules.callbacks import Callback, View
from slax_rules.checkpoints import Checkpoints, Progress, describe_model, weights
from slax_rules.devices import ALL, Devices, as_mesh
from slax_rules.epoch import Train, run_epoch
from slax_rules.evaluation import Metric, evaluate
from slax_rules.gradients import LossFn
from slax_rules.history import History
from slax_rules.log import Log
from slax_rules.sampling import Batch, Sampler
from slax_rules.stopping import EarlyStopping


def fit(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    batches: Callable[[int], Iterable[Batch]],
    *,
    epochs: int = 1,
    update: Literal["offline", "online"] = "offline",
    window: int | None = None,
    held_out: Sequence[Batch] | Callable[[], Iterable[Batch]] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    evaluate_every: int | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
    progress: bool | None = None,
) -> History:
    """Trains a model, plain or under a rule, in place, for some epochs of batches.

    After each batch, and in this order: callbacks, evaluation, checkpoint, those of them that are due. A run is the same bit
    for bit, its history included, whether or not it was killed and started again, if its arguments are the same and
    `batches(epoch)` gives the same batches again.

    Args:
        model: a cell.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`, made with this cell or with one that shares its
            parameters.
        loss_fn: maps outputs [K, B, C] and targets to losses [K, B].
        batches: maps an epoch, counted from 0, to its batches: (inputs, targets) or (inputs, targets, mask), as for
            `gradients`. Or a `Sampler`, which draws them by key, many steps in one call.
        epochs: how many in all, those before a resume included.
        update: "offline", one optimiser step per batch, as `train_offline`, or "online", one per window, as `train_online`.
        window: see `gradients` and `train_online`.
        held_out: batches to evaluate on, a list, or a function that makes an iterator each time.
        metrics: functions of outputs [T, B, C], targets, and the mask if there is one, by name; see `evaluate`.
        evaluate_every: steps between evaluations; by default at the end of each epoch.
        early_stopping: when to stop, on a number of the evaluation.
        callbacks: called every so many steps with a `View`; what they return goes into the history.
        checkpoints: where to save, and to go on from.
        devices: to split each batch over, as `jax.devices()`; parameters are on each.
        progress: whether to draw a bar; by default at a terminal only.

    Returns:
        The loss of each step, and the records of evaluations and callbacks.

    Raises:
        ValueError: arguments that do not go together, an epoch without batches, a checkpoint of another run.
        FloatingPointError: a loss that is not finite.
    """
    _check_arguments(epochs, update, held_out, metrics, evaluate_every, early_stopping)
    cadence = _cadence(callbacks, evaluate_every, checkpoints)
    mesh = None if devices is None else as_mesh(devices)
    graphdef, state = nnx.split((model, optimizer))
    train = Train(graphdef, loss_fn, update, window, mesh)
    homes = None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state)
    if mesh is not None:
        state = jax.device_put(state, NamedSharding(mesh, ALL))
    at = Progress(0, 0, 0)
    losses: np.ndarray = np.zeros(0, np.float32)
    records: list[dict[str, Any]] = []

    def evaluated(state: nnx.State, at: Progress) -> Progress:
        numbers = evaluate(model, loss_fn, _iterable(held_out), metrics=metrics, devices=devices)
        log.note(at.step, at.epoch, numbers)
        log.show({f"held-out {name}": number for name, number in numbers.items()})
        if early_stopping is None:
            return at
        patience = early_stopping.update(at.patience, numbers[early_stopping.metric], at.step)
        is_best = early_stopping.restore_best and patience.step == at.step
        return at._replace(patience=patience, best=weights(state) if is_best else at.best)

    def is_over(at: Progress) -> bool:
        return early_stopping is not None and early_stopping.is_over(at.patience)

    with ExitStack() as stack:
        if checkpoints is not None:
            store = stack.enter_context(checkpoints.open(_settings(train, model, batches)))
            state, at, losses, records = store.restore(state) or (state, at, losses, records)
        total = epochs * batches.steps if isinstance(batches, Sampler) else None
        hidden = None if progress is None else not progress
        bar = stack.enter_context(tqdm(total=total, initial=at.step, unit="step", disable=hidden))
        log = Log(losses, records, bar)
        try:
            while at.epoch < epochs and not is_over(at):
                for call in run_epoch(train, batches, state, at, cadence):
                    state = call.state
                    at = at._replace(step=at.step + call.steps, done=at.done + call.steps)
                    log.add(call.losses, call.steps)
                    due = {every for every in cadence if at.step % every == 0}
                    if due:
                        log.settle()
                        nnx.update((model, optimizer), state)
                    for callback in callbacks:
                        if callback.every in due:
                            loss = log.shown["loss"]
                            view = View(at.step, at.epoch, model, optimizer, loss_fn, window, call.batch(), loss)
                            log.note(at.step, at.epoch, callback(view))
                    if evaluate_every in due:
                        at = evaluated(state, at)
                    if checkpoints is not None and checkpoints.every in due:
                        store.save(state, at, log.losses(), log.records)
                    if is_over(at):
                        break
                else:
                    log.settle()
                    nnx.update((model, optimizer), state)
                    if held_out is not None and evaluate_every is None:
                        at = evaluated(state, at)
                    at = at._replace(epoch=at.epoch + 1, done=0)
            if checkpoints is not None:
                store.save(state, at, log.losses(), log.records)
        finally:
            nnx.update((model, optimizer), state if homes is None else jax.device_put(state, homes))
    if at.best is not None:
        nnx.update(model, at.best)
    best_step = None if at.patience is None else at.patience.step
    return History(log.losses(), log.records, best_step, is_over(at))


def _settings(train: Train, model: nnx.RNNCellBase, batches: Callable[[int], Iterable[Batch]]) -> dict[str, Any]:
    """What has to be the same after a resume, beside the arrays."""
    settings = {
        "update": train.update,
        "window": train.window,
        "loss_fn": getattr(train.loss_fn, "__qualname__", type(train.loss_fn).__name__),
        **describe_model(model),
    }
    if isinstance(batches, Sampler):
        settings |= {"steps per epoch": batches.steps, "key": jax.random.key_data(batches.key).tolist()}
    return settings


def _iterable(held_out: Any) -> Iterable[Batch]:
    return held_out() if callable(held_out) else held_out


def _check_arguments(
    epochs: int,
    update: str,
    held_out: Any,
    metrics: Any,
    evaluate_every: int | None,
    early_stopping: EarlyStopping | None,
) -> None:
    if epochs < 1 or update not in ("offline", "online"):
        raise ValueError(f'fit got epochs={epochs}, update={update!r}, expected at least 1, and "offline" or "online".')
    if held_out is None and (metrics or evaluate_every is not None or early_stopping is not None):
        raise ValueError(
            "fit got metrics, evaluate_every or early_stopping, expected held_out with them: the batches to evaluate on, as in "
            "held_out=[(inputs, targets)]."
        )
    names = ("loss", *(metrics or ()))
    if early_stopping is not None and early_stopping.metric not in names:
        raise ValueError(f"Early stopping is on {early_stopping.metric!r}, expected one of: {', '.join(names)}.")


def _cadence(
    callbacks: Sequence[Callback], evaluate_every: int | None, checkpoints: Checkpoints | None
) -> tuple[int, ...]:
    """The numbers of steps after which something happens."""
    cadence = {callback.every for callback in callbacks}
    cadence |= {evaluate_every} if evaluate_every is not None else set()
    cadence |= {checkpoints.every} if checkpoints is not None else set()
    if any(every < 1 for every in cadence):
        raise ValueError(f"fit got callbacks or evaluations every {min(cadence)} steps, expected at least 1.")
    return tuple(sorted(cadence))
