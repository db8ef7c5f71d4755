"""The diagnosis of a training step that is not finite: the batch is run again from the state before the step."""

import dataclasses
import enum
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from slax_neurons import unroll
from slax_neurons.building_blocks import first_carry
from slax_rules.loop.devices import part_here, texts_of_processes
from slax_rules.loop.entry import gradients
from slax_rules.loop.objective import read_targets, sequence_losses, step_losses
from slax_rules.losses import SequenceLoss, sum_dtype
from slax_rules.penalties import LayerPenalty, Probed, penalties_by_layer
from slax_rules.training.agreement import offline_rule
from slax_rules.training.epoch import Train, prepared
from slax_rules.training.layers import layer_names, run_layers
from slax_rules.training.log import StepNotFinite
from slax_rules.training.paths import by_path, module_names, readable_path
from slax_rules.training.progress import PARTS
from slax_rules.training.sampling import Batch

SLOWER = (
    "Lower the learning rate, or clip gradients: optax.chain(optax.clip_by_global_norm(1.0), ...). In float16, compute in "
    "bfloat16 or float32, or give Adam eps=1e-4, since its default is 0 in float16."
)
NOT_SEEN = f"the cause is not seen again when the step is repeated. {SLOWER}"


class Stage(enum.IntEnum):
    """The part of a step in which a cause was found, in causal order, and at the end that none was found."""

    PARAMETERS = 0
    INPUTS = 1
    LAYERS = 2
    LOSSES = 3
    PENALTIES = 4
    GRADIENT = 5
    UPDATE = 6
    NOT_SEARCHED = 7
    NOT_SEEN = 8


class Cause(NamedTuple):
    """A cause for numbers that are not finite: where in a step it is, and the sentences that tell it."""

    stage: int
    text: str


class Found(NamedTuple):
    """The first number of an array that is not finite.

    Args:
        exists: whether there is such a number.
        place: its index.
        value: its value, infinite or NaN.
        number: count of all such numbers.
    """

    exists: Any
    place: tuple[Any, ...]
    value: Any
    number: Any


def find_not_finite(array: Any) -> Found:
    """Find the first number that is not finite; an array of integers has none."""
    if not jnp.issubdtype(array.dtype, jnp.inexact) or not array.size:
        return Found(False, (), 0.0, 0)
    bad = ~jnp.isfinite(array).ravel()
    first = jnp.argmax(bad)
    return Found(bad.any(), jnp.unravel_index(first, array.shape), array.ravel()[first], bad.sum())


def check_parameters(name: str, model: nnx.RNNCellBase, rule: Any = None) -> None:
    """Raise FloatingPointError for a parameter that is not finite, before any computation; `name` is the function called."""
    for node in (model, rule):
        params = nnx.state(node, nnx.Param)
        if not all_finite(jax.tree.leaves(params)):
            bad = next(_in_state(params, module_names(node)))
            raise FloatingPointError(f"{name} got a parameter that is not finite: {bad}. Expected finite numbers.")


@jax.jit
def all_finite(arrays: list[Array]) -> Array:
    """True if all numbers are finite."""
    finite = [jnp.isfinite(array).all() for array in arrays]
    return jnp.stack(finite).all() if finite else jnp.ones((), bool)


def explain(train: Train, state: nnx.State, bad: StepNotFinite) -> str:
    """Explain in a few sentences what is not finite in a step, where it is, and what to do about it.

    Each of several processes repeats the step with the samples that it passed in, or with all that a `Sampler` drew. All of
    them tell the earliest cause that one has found: what comes later can be wrong in a share of a batch alone.
    """
    mesh = train.program.mesh
    try:
        batch = bad.call.batch(bad.index)
        if mesh is not None:  # the step is repeated on one device
            train = dataclasses.replace(train, program=dataclasses.replace(train.program, mesh=None))
            state, batch = jax.device_put(part_here((state, batch)), mesh.local_devices[0])
        found = next(_causes(train, state, batch), Cause(Stage.NOT_SEEN, NOT_SEEN))
    except Exception as error:  # such as out of memory: report the step that is not finite, not this error
        found = Cause(Stage.NOT_SEARCHED, f"the cause could not be found ({type(error).__name__}: {error}).")
    return found.text if mesh is None or not mesh.is_multi_process else _earliest(found)


def _earliest(mine: Cause) -> str:
    """The earliest cause of all processes, and the process that found it."""
    try:
        causes = [Cause(*json.loads(text)) for text in texts_of_processes(json.dumps(mine))]
    except Exception as error:  # such as a process that has died: report what was found here
        return f"{mine.text} (The other processes could not be asked: {type(error).__name__}: {error})"
    number, cause = min(enumerate(causes), key=lambda found: found[1].stage)
    return f"in process {number}, {cause.text}" if cause.stage < Stage.NOT_SEEN else cause.text


def _causes(train: Train, state: nnx.State, batch: Batch) -> Iterator[Cause]:
    """The causes found, in causal order."""
    model = nnx.merge(train.program.graphdef, state, copy=True)[0]
    names = module_names(model)
    for bad in _in_state(nnx.state(model, nnx.Param), names):
        yield Cause(Stage.PARAMETERS, f"the parameter {bad}. Expected finite numbers.")
    yield from _in_pass(train, state, batch)
    yield from _in_gradient(train, state, batch, names)
    after, _ = jax.jit(_unguarded, static_argnums=0)(train, state, batch)
    if train.program.update == "online":
        for cause in (*_in_pass(train, after, batch), *_in_gradient(train, after, batch, names)):
            yield Cause(Stage.UPDATE, f"after updates within the sequence, {cause.text}")
    for number, part in enumerate(PARTS):
        if number not in after:
            continue
        for bad in _in_state(jax.tree.map(_became, state[number], after[number]), names if part == "model" else {}):
            text = f"the update makes {bad}, in the {part}, of a gradient that is finite. {SLOWER}"
            yield Cause(Stage.UPDATE, text)


def _unguarded(train: Train, state: nnx.State, batch: Batch) -> tuple[nnx.State, Array]:
    return train.unguarded(state, batch)


def _became(before: Array, after: Array) -> Array:
    """An array in which only entries that were finite before are kept; all others are 0."""
    if not jnp.issubdtype(after.dtype, jnp.inexact):
        return after
    return jnp.where(jnp.isfinite(before), after, jnp.zeros((), after.dtype))


def _in_state(state: Any, names: Mapping[str, str]) -> Iterator[str]:
    """The arrays of a state that are not finite."""
    for path, leaf in by_path(state).items():
        found = jax.device_get(find_not_finite(leaf))
        if found.exists:
            yield f"{readable_path(path, names)} {_value(found)} at {list(map(int, found.place))}"


def _in_pass(train: Train, state: nnx.State, batch: Batch) -> Iterator[Cause]:
    """The causes in inputs, layers, losses and penalties, in causal order."""
    model = nnx.merge(train.program.graphdef, state, copy=True)[0]
    inputs, layers, losses = jax.device_get(_find_in_pass(train, state, batch))
    if inputs.exists:
        where = f"{_value(inputs)} at {_place(inputs.place)}"
        yield Cause(Stage.INPUTS, f"the inputs are {where}. Expected finite numbers: look at how the batch is made.")
    for name, (outputs, carries) in zip(layer_names(model), layers, strict=True):
        for found in outputs:
            if found.exists:
                where = f"{_value(found)} at {_place(found.place)}{_limit(found)}"
                yield Cause(Stage.LAYERS, f"the output of layer {name} is {where}. {SLOWER}")
        for found in carries:
            if found.exists:
                per_sample = len(found.place) > 1
                place = _place((0, *found.place)).partition(", ")[2] if per_sample else list(map(int, found.place))
                where = f"{_value(found)} at the end, {place}{_limit(found)}"
                yield Cause(Stage.LAYERS, f"the state of layer {name} is {where}. {SLOWER}")
    if losses.exists:
        for text in _in_targets(train, state, batch, losses):
            yield Cause(Stage.LOSSES, text)
        is_sequence = isinstance(train.program.loss_fn, SequenceLoss)
        where = f"sample {int(losses.place[0])}" if is_sequence else _place(losses.place)
        text = f"loss_fn makes {_value(losses)} of outputs that are finite, at {where}. Check its targets, and how it handles"
        yield Cause(Stage.LOSSES, f"{text} large outputs and zeros.")
    if train.program.penalties:
        for text in _in_penalties(train, state, batch):
            yield Cause(Stage.PENALTIES, text)


@partial(jax.jit, static_argnums=0)
def _find_in_pass(train: Train, state: nnx.State, batch: Batch) -> tuple[Found, list[Any], Found]:
    """Find numbers that are not finite in inputs, in the outputs and states of each layer, and in losses that count."""
    graphdef, loss_fn = train.program.graphdef, train.program.loss_fn
    model = nnx.merge(graphdef, state, copy=True)[0]
    inputs, targets, mask = prepared(model, batch)
    layers = []
    for run in run_layers(nnx.merge(graphdef, state, copy=True)[0], inputs):
        layers.append([[find_not_finite(leaf) for leaf in jax.tree.leaves(tree)] for tree in (run.outputs, run.carry)])
    _, outputs = unroll(model, first_carry(model, inputs.shape[1:]), inputs)
    found = read_targets(targets, *inputs.shape[:2])
    if isinstance(loss_fn, SequenceLoss):
        losses = sequence_losses(loss_fn, outputs, found, mask)
        counted = None if mask is None else mask.any(axis=0)
    else:
        losses, counted = step_losses(loss_fn, outputs, found), mask
    return (
        find_not_finite(inputs),
        layers,
        find_not_finite(losses if counted is None else jnp.where(counted, losses, 0)),
    )


def _in_penalties(train: Train, state: nnx.State, batch: Batch) -> Iterator[str]:
    """The penalties that are not finite, or whose gradient is not, though the outputs of all layers are finite."""
    probes, penalties = _penalties(train, state)
    found = jax.device_get(_find_in_penalties(train, state, batch))
    advice = "Check how its function handles zeros: the rates of a silent layer are 0."
    for one, (value, slope) in zip(penalties, found, strict=True):
        what = f"the penalty {one.penalty.describe()}"
        where = f"for layer {probes[one.probe]} of the neurons"
        if value.exists:
            yield f"{what} is {_value(value)} {where}. {advice}"
        if slope.exists:
            yield f"the gradient of {what} is {_value(slope)} {where}, though the penalty is finite. {advice}"


def _penalties(train: Train, state: nnx.State) -> Any:
    """The probes of a program's penalties, and each penalty of each layer."""
    return penalties_by_layer(train.program.penalties, nnx.merge(train.program.graphdef, state, copy=True)[0])


@partial(jax.jit, static_argnums=0)
def _find_in_penalties(train: Train, state: nnx.State, batch: Batch) -> list[tuple[Found, Found]]:
    """Find numbers that are not finite in the values of each penalty of each layer, and in their gradients.

    A penalty of a mean is looked at for the mean of the sequence; online, for the mean at the end of each window.
    """
    program = train.program
    model = nnx.merge(program.graphdef, state, copy=True)[0]
    inputs, _, mask = prepared(model, batch)
    probes, penalties = _penalties(train, state)
    _, (_, hidden) = unroll(Probed(model, probes), first_carry(model, inputs.shape[1:]), inputs)
    steps = inputs.shape[0]
    size = (program.window or 1) if program.update == "online" else steps
    ends = np.minimum(np.arange(size, steps + size, size), steps) - 1
    counts = jnp.ones(inputs.shape[:2], bool) if mask is None else mask
    number = jnp.maximum(jnp.cumsum(counts.sum(axis=1)), 1)[ends]

    def counted(values: Array) -> Array:
        return jnp.where(counts.reshape(*counts.shape, *[1] * (values.ndim - 2)), values, 0)

    def find(one: LayerPenalty) -> tuple[Found, Found]:
        function, values = one.penalty.function, hidden[one.probe]
        if one.penalty.of_mean:
            dtype = sum_dtype(values.dtype)
            sums = jnp.cumsum(counted(values).sum(axis=1, dtype=dtype), axis=0)[ends]
            means = sums / number.astype(dtype).reshape(-1, *[1] * (sums.ndim - 1))
            value, slope = jax.vmap(jax.value_and_grad(function))(means)
        else:
            value, pull = jax.vjp(jax.vmap(function), values)
            value, slope = counted(value), counted(*pull(jnp.ones_like(value)))
        return find_not_finite(value), find_not_finite(slope)

    return [find(one) for one in penalties]


def _in_targets(train: Train, state: nnx.State, batch: Batch, losses: Found) -> Iterator[str]:
    """The faults of the target of a loss that is not finite."""
    graphdef = train.program.graphdef

    def outputs_of(state: nnx.State, inputs: Array) -> Any:
        model = nnx.merge(graphdef, state, copy=True)[0]
        return unroll(model, first_carry(model, inputs.shape[1:]), inputs)[1]

    inputs, targets, _ = prepared(nnx.merge(graphdef, state, copy=True)[0], batch)
    found = read_targets(targets, *inputs.shape[:2])
    outputs = jax.eval_shape(outputs_of, state, inputs)
    for leaf, per_step in zip(found.leaves, found.per_step, strict=True):
        where = losses.place if per_step else losses.place[-1:]  # [T, B] for a loss per step, [B] for one per sequence
        if per_step and len(where) == 1:
            where = (slice(None), *where)
        target = np.asarray(leaf[where])
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            if not np.isfinite(target).all():
                yield f"a target of sample {int(losses.place[-1])} is not finite: {target.tolist()}. Expected finite numbers."
        elif isinstance(outputs, jax.ShapeDtypeStruct) and ((target < 0) | (target >= outputs.shape[-1])).any():
            yield (
                f"a label of sample {int(losses.place[-1])} is out of range: {target.tolist()}. Expected 0 to "
                f"{outputs.shape[-1] - 1} for outputs of {outputs.shape[-1]} classes: renumber the labels, or widen the "
                "read-out."
            )


def _in_gradient(train: Train, state: nnx.State, batch: Batch, names: Mapping[str, str]) -> Iterator[Cause]:
    """The parameters whose gradient is not finite, from the last layer on, in the direction of backpropagation."""
    program = train.program
    model, rule, _ = nnx.merge(program.graphdef, state, copy=True)
    inputs, targets, mask = prepared(model, batch)
    options = {
        "rule": offline_rule(rule, program.update, program.window),
        "window": program.window,
        "penalties": program.penalties,
    }
    _, gradient = gradients(model, program.loss_fn, inputs, targets, mask=mask, **options)
    bad = list(_in_state(gradient, names))
    if bad:
        more = f", and of {len(bad) - 1} more arrays" if len(bad) > 1 else ""
        text = (
            f"the gradient of {bad[-1]}{more}, though inputs, parameters, outputs and losses are finite. Possible causes are "
            f"division by nearly 0 in a surrogate or a rule, and numbers near the end of the range of {inputs.dtype}. {SLOWER}"
        )
        yield Cause(Stage.GRADIENT, text)


def _value(found: Found) -> str:
    more = f" (one of {int(found.number)})" if found.number > 1 else ""
    return f"{'NaN' if np.isnan(found.value) else 'infinite'}{more}"


def _place(index: tuple[Any, ...]) -> str:
    time, sample, *features = map(int, index)
    where = f"time step {time}, sample {sample}"
    return f"{where}, feature {features[0] if len(features) == 1 else features}" if features else where


def _limit(found: Found) -> str:
    """The largest number of the dtype, if it was exceeded."""
    dtype = np.asarray(found.value).dtype
    return (
        f": more than {float(jnp.finfo(dtype).max):.4g}, the largest number of {dtype}" if np.isinf(found.value) else ""
    )
