"""The identity of a run: settings of its data, loss, rule and optimizer that are the same in every process.

A checkpoint keeps them, and a run that resumes compares them with its own.
"""

import dataclasses
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from slax_neurons import NeuronCell
from slax_rules.loop.structure import Named, own_class, structure
from slax_rules.losses import SequenceLoss
from slax_rules.training.batches import Epochs, Sampler, as_batch, epoch_batches
from slax_rules.training.weights import described, model_types

# The first word of the name of a setting, which is what `Checkpoints(changed=...)` takes.
CHANGEABLE = ("data", "held_out", "loss_fn", "optimizer", "options", "penalties", "rule", "update", "window")


def describe_run(program: Any, model: nnx.Module, rule: Any, transformation: Any) -> dict[str, Any]:
    """The settings of a run, by name, which its arrays do not show: functions, types of modules, options of neurons."""
    loss_fn = program.loss_fn.function if isinstance(program.loss_fn, SequenceLoss) else program.loss_fn
    return {
        "window": program.window,
        "rule": _describe_rule(rule),
        "loss_fn": getattr(loss_fn, "__qualname__", type(loss_fn).__name__),
        "penalties": [one.describe() for one in program.penalties],
        **_content("loss_fn", program.loss_fn),
        **_content("penalties", tuple(one.function for one in program.penalties)),
        **_content("optimizer", transformation),
        **{"/".join(filter(None, ("model", path))): name for path, name in model_types(model).items()},
        **_options(model),
        **_methods("options", (type(part) for _, part in nnx.iter_modules(model))),
        **_methods("rule", map(type, _values_of(rule))),
    }


def _methods(name: str, kinds: Iterable[type]) -> dict[str, Any]:
    """The content of classes that are of no installed package: what their methods compute."""
    own = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in kinds if own_class(kind)}
    return {key: text for kind in own for key, text in _content(f"{name}: {kind}", own[kind]).items()}


def _values_of(rule: Any) -> Iterator[Any]:
    """A rule and the values and modules that it holds, such as its route."""
    yield rule
    if isinstance(rule, list | tuple):
        parts: Iterable[Any] = rule
    elif isinstance(rule, nnx.Module):
        parts = (part for _, part in nnx.iter_modules(rule) if part is not rule)
    else:
        parts = (
            (getattr(rule, field.name) for field in dataclasses.fields(rule)) if dataclasses.is_dataclass(rule) else ()
        )
    for part in parts:
        yield from _values_of(part)


def _options(model: nnx.Module) -> dict[str, Any]:
    """The numbers, text and spike functions that neurons hold, such as the reset and a fixed threshold."""
    settings: dict[str, Any] = {}
    neurons = [(path, cell) for path, cell in nnx.iter_modules(model) if isinstance(cell, NeuronCell)]
    for start, cell in neurons:
        for path, part in nnx.iter_modules(cell):
            for name, value in vars(part).items():
                where = f"options: {'/'.join(map(str, (*start, *path, name)))}"
                if name == "spike_fn":
                    settings |= _content(where, value)
                elif isinstance(value, bool | int | float | str) and not (name.startswith("_") or name == "name"):
                    settings[where] = _as_json(value)
    return settings


def describe_data(batches: Any, held_out: Any) -> dict[str, Any]:
    """The settings of the data of `fit` that are known before the first batch."""
    settings = {}
    if isinstance(batches, Sampler):
        settings = {"data: steps per epoch": batches.steps, "data: key": jax.random.key_data(batches.key).tolist()}
        settings |= _content("data", batches.sample)
    elif isinstance(batches, list | tuple):
        settings["data: batches per epoch"] = len(batches)
    readable = isinstance(held_out, Sampler) or (isinstance(held_out, list | tuple) and held_out)
    if readable and (first := describe_batch(first_batch(held_out))) is not None:
        settings["held_out"] = first
    return settings


def describe_batch(batch: Any) -> str | None:
    """The dtypes and shapes of a batch, and a digest of its numbers; None in one of several processes, which has a share."""
    if batch is None or jax.process_count() > 1:
        return None
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(as_batch(batch))]
    leaves = [leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves]  # as on a device
    digest = hashlib.blake2b(digest_size=6)
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"{', '.join(map(described, leaves))}, digest {digest.hexdigest()}"


def first_batch(batches: Any) -> Any:
    """The first batch of the first epoch, read once more; None if there is none."""
    return batches.batch(0, 0) if isinstance(batches, Sampler) else next(iter(epoch_batches(batches)(0)), None)


def compared_data(batches: Any, saved: str | None, epoch: int) -> tuple[str | None, Epochs]:
    """The description of the first batch, and the batches, of which none is lost.

    For a loader that shuffles with random numbers of its own, whose first batch is another one each time, the description that
    was saved is returned if dtypes and numbers of axes are the same. Batches of epoch 0 continue where the first one was read,
    since a loader with a seed would have another order the second time.
    """
    epochs = epoch_batches(batches)
    if isinstance(batches, Sampler | list | tuple):
        return describe_batch(first_batch(batches)), epochs
    stream = iter(epochs(0))
    first = next(stream, None)
    mine = describe_batch(first)
    if epoch == 0:
        rest = itertools.chain([] if first is None else [first], stream)
        continued: Epochs = lambda epoch: epochs(epoch) if epoch else rest  # noqa: E731
    else:
        continued = epochs
    if saved is None or mine is None or mine == saved or isinstance(batches, Iterator):
        return mine, continued
    changes = describe_batch(first_batch(batches)) != mine
    return saved if changes and _axes(mine) == _axes(saved) else mine, continued


def _axes(description: str) -> str:
    """The dtypes of a batch, and how many axes its leaves have."""
    shapes = description.partition(", digest")[0]
    return re.sub(r"\d+(?=[,\]])", "*", shapes)


def _content(name: str, value: Any) -> dict[str, Any]:
    """The content of functions: a digest of their code, and the numbers and arrays that they hold, by name."""
    found = structure(value)
    settings: dict[str, Any] = {}
    if not isinstance(found.code, Named):  # its name says it
        settings[f"{name}: code"] = found.digest()
    for held in found.values:
        numbered = (f"{name}: {held.name}" + (f" ({number})" if number else "") for number in itertools.count())
        settings[next(key for key in numbered if key not in settings)] = _as_json(held.value)
    return settings


def _as_json(value: Any) -> Any:
    if isinstance(value, int | str):
        return value
    return float(value) if math.isfinite(value) else str(value)  # NaN is not equal to itself


def _describe_rule(rule: Any) -> str:
    """The class of a rule and its options."""
    if isinstance(rule, list | tuple):
        return f"[{', '.join(map(_describe_rule, rule))}]"
    if dataclasses.is_dataclass(rule):
        options = (f"{field.name}={_describe_rule(getattr(rule, field.name))}" for field in dataclasses.fields(rule))
        return f"{type(rule).__name__}({', '.join(options)})"
    if isinstance(rule, nnx.Module):
        return type(rule).__name__
    return getattr(rule, "__qualname__", None) or repr(rule)


def differing_parts(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """The names for `Checkpoints(changed=...)` of settings that differ, without those that cannot be changed."""
    names = {name.partition(":")[0] for name in {*saved, *mine} if saved.get(name, ...) != mine.get(name, ...)}
    return [name for name in CHANGEABLE if name in names]
