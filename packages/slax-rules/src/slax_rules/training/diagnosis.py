"""What is wrong with a run: a step that is not finite, and layers that never spike. A batch is run again, layer by layer."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from slax_neurons import Connect, unroll
from slax_neurons.building_blocks import carry_without_buffer, first_carry
from slax_rules.loop.devices import local_shard
from slax_rules.loop.entry import gradients
from slax_rules.loop.objective import losses_that_count, read_targets
from slax_rules.loop.programs import Programs, StaticParts
from slax_rules.loop.windows import all_finite
from slax_rules.losses import SequenceLoss
from slax_rules.training.batches import Batch
from slax_rules.training.checkpoints import PARTS
from slax_rules.training.epoch import Train, offline_rule, prepared
from slax_rules.training.history import StepNotFinite
from slax_rules.training.paths import by_path, kind, module_names, readable_path

SLOWER = (
    "Lower the learning rate, or clip gradients: optax.chain(optax.clip_by_global_norm(1.0), ...). In float16, compute in "
    "bfloat16 or float32, or give Adam eps=1e-4, since its default is 0 in float16."
)


class LayerRun(NamedTuple):
    """The run of a module of a stack over a sequence.

    Args:
        outputs: outputs [T, B, ...], or a tree of such arrays.
        carry: carry after the last step.
        spikes: whether the module is a spiking neuron.
    """

    outputs: Any
    carry: Any
    spikes: bool


def layer_names(model: nnx.RNNCellBase) -> list[str]:
    """The names of the modules that `run_layers` runs, such as "3.1 LIF" for module 1 of the stack that is module 3."""
    if not isinstance(model, Connect):
        return [kind(model)]
    return [name for path, name in module_names(model).items() if "synapses/" not in path]


def run_layers(model: nnx.RNNCellBase, carry: Any, inputs: Array) -> list[LayerRun]:
    """Run each module that is not itself a stack, in order; a model that is not a stack counts as one module."""
    if not isinstance(model, Connect):
        carry, outputs = unroll(model, carry, inputs)
        return [LayerRun(outputs, carry, False)]
    after, outputs = model.outputs(carry, inputs)
    runs: list[LayerRun] = []
    for module, before, end, current, output in zip(
        model.modules, carry, after, (inputs, *outputs[:-1]), outputs, strict=True
    ):
        if isinstance(module, Connect):
            runs += run_layers(module, carry_without_buffer(before), current)
        else:
            runs.append(LayerRun(output, carry_without_buffer(end), bool(getattr(module, "spikes", False))))
    return runs


def silent_layers(graphdef: Any, state: nnx.State, batch: Batch) -> list[str]:
    """The spiking layers without a single spike on a batch; none if the model is not a stack."""
    model = nnx.merge(graphdef, state, copy=True)[0]
    if not isinstance(model, Connect):
        return []
    spikes = jax.device_get(_spikes(StaticParts((graphdef,)), state, batch))
    return [name for name, found in zip(layer_names(model), spikes, strict=True) if found is not None and not found]


def silence_message(names: list[str]) -> str:
    """A warning about layers that were silent before training and after the first epoch."""
    which = f"Layer {names[0]} is" if len(names) == 1 else f"Layers {', '.join(names)} are"
    return (
        f"{which} silent: not one spike on the first batch, neither before training nor after the first epoch. Weights "
        "after it, if there are any, get no gradient. Raise the weights into the first of them, as with "
        "kernel_init=fluctuation_driven(...), or lower its threshold. slax_neurons.health(model, inputs) says more."
    )


@Programs
def _spikes(what: StaticParts, state: nnx.State, batch: Batch) -> list[Array | None]:
    """True for each layer that spikes at all, False for a silent one, and None for a layer without spiking neurons."""
    model = nnx.merge(*what.parts, state, copy=True)[0]
    inputs, _, _ = prepared(model, batch)
    runs = run_layers(model, first_carry(model, inputs.shape[1:]), inputs)
    return [jnp.any(run.outputs != 0) if run.spikes else None for run in runs]


def check_parameters(name: str, model: nnx.RNNCellBase, rule: Any = None) -> None:
    """Raise FloatingPointError for a parameter that is not finite, before any computation; `name` is the function called."""
    for node in (model, rule):
        params = nnx.state(node, nnx.Param)
        check_has_numbers(name, params)
        if not jax.jit(all_finite)(jax.tree.leaves(params)):
            bad = next(_in_state(params, module_names(node)))
            raise FloatingPointError(f"{name} got a parameter that is not finite: {bad}. Expected finite numbers.")


def check_has_numbers(name: str, tree: Any) -> None:
    """Raise TypeError for arrays without numbers, as inside `jax.vmap`; `name` is the function called."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree)):
        raise TypeError(
            f"{name} got a model or batches inside jax.vmap, jax.jit or another transformation, expected arrays with numbers: "
            "it reads losses while it runs. Use sweep(...) for many seeds and learning rates, or transform train_offline, "
            "train_online or predict."
        )


def explain(train: Train, state: nnx.State, bad: StepNotFinite) -> str:
    """Explain in a few sentences what is not finite in a step, where it is, and what to do about it.

    Each of several processes repeats the step with the samples that it passed in, or with all that a `Sampler` drew.

    Raises:
        RuntimeError: the step cannot be repeated, as for lack of memory.
    """
    mesh, batch = train.program.mesh, jax.tree.map(jnp.asarray, bad.call.batch(bad.index))
    if mesh is not None:  # the step is repeated on one device
        train = dataclasses.replace(train, program=dataclasses.replace(train.program, mesh=None))
        state, batch = jax.device_put(local_shard((state, batch)), mesh.local_devices[0])
    elsewhere = "" if mesh is None or not mesh.is_multi_process else " Another process may have found it."
    not_seen = f"the cause could not be reproduced by repeating the step.{elsewhere} {SLOWER}"
    if elsewhere and not all(mask.any() for mask in batch[2:]):  # nothing counts in the share of this process
        return not_seen
    return next(_causes(train, state, batch), not_seen)


def _causes(train: Train, state: nnx.State, batch: Batch) -> Iterator[str]:
    """The causes found, in causal order."""
    names = module_names(nnx.merge(train.program.graph.graphdef, state, copy=True)[0])
    yield from _in_pass(train, state, batch, names)
    after, _ = _unguarded(train, state, batch)
    if train.program.update == "online":
        for cause in _in_pass(train, after, batch, names):
            yield f"after updates within the sequence, {cause}"
    for number, part in enumerate(PARTS):
        if number in after:
            new = jax.tree.map(_if_it_was_finite, state[number], after[number])
            for bad in _in_state(new, names if part == "model" else {}):
                yield f"the update makes {bad}, in the {part}, of a gradient that is finite. {SLOWER}"


@Programs
def _unguarded(train: Train, state: nnx.State, batch: Batch) -> tuple[nnx.State, Array]:
    return train.unguarded(state, batch)


def _in_pass(train: Train, state: nnx.State, batch: Batch, names: Mapping[str, str]) -> Iterator[str]:
    """The causes in parameters, inputs, layers, losses, penalties and gradients."""
    program = train.program
    model, rule, _ = nnx.merge(program.graph.graphdef, state, copy=True)
    for bad in _in_state(nnx.state(model, nnx.Param), names):
        yield f"the parameter {bad}. Expected finite numbers."
    found = jax.device_get(_run_again(train, state, batch))
    for where in places(found["inputs"]):
        yield f"the inputs are {where}. Expected finite numbers: look at how the batch is made."
    for name, outputs, carry in zip(layer_names(model), found["outputs"], found["carries"], strict=True):
        for where in places(outputs):
            yield f"the output of layer {name} is {where}. {SLOWER}"
        for bad in _in_state(carry, {}):
            yield f"the state of layer {name} at the end is {bad.lstrip()}. {SLOWER}"
    for where in places(found["losses"]):
        first = np.argwhere(~np.isfinite(found["losses"]))[0].tolist()
        yield from _in_targets(batch, first, found["outputs"][-1])
        text = f"loss_fn makes {where} of outputs that are finite. Check its targets, and how it handles large outputs"
        yield f"{text} and zeros."
    inputs, targets, mask = prepared(model, batch)
    options = {"rule": offline_rule(rule, program.update, program.window), "window": program.window}
    loss, gradient = gradients(model, program.loss_fn, inputs, targets, mask, penalties=program.penalties, **options)
    if program.penalties and not jnp.isfinite(loss):
        kinds = ", ".join(one.describe() for one in program.penalties)
        yield f"a penalty is not finite ({kinds}). Check how its function handles zeros: the rates of a silent layer are 0."
    if bad_ones := list(_in_state(gradient, names)):
        more = f", and of {len(bad_ones) - 1} more arrays" if len(bad_ones) > 1 else ""
        yield (
            f"the gradient of {bad_ones[-1]}{more}, though inputs, parameters, outputs and losses are finite. Possible causes "
            f"are division by nearly 0 in a surrogate, a rule or a penalty, and numbers near the end of the range of "
            f"{inputs.dtype}. {SLOWER}"
        )


@Programs
def _run_again(train: Train, state: nnx.State, batch: Batch) -> dict[str, Any]:
    """The inputs, the outputs and carry of each layer, and the losses that count."""
    loss_fn = train.program.loss_fn
    model = nnx.merge(train.program.graph.graphdef, state, copy=True)[0]
    inputs, targets, mask = prepared(model, batch)
    found = read_targets(targets, *inputs.shape[:2])
    runs = run_layers(model, first_carry(model, inputs.shape[1:]), inputs)
    losses, counts = losses_that_count(loss_fn, runs[-1].outputs, found, mask)
    losses = losses if counts is None else jnp.where(counts, losses, 0)
    return {
        "inputs": inputs,
        "outputs": [run.outputs for run in runs],
        "carries": [run.carry for run in runs],
        "losses": losses[0] if isinstance(loss_fn, SequenceLoss) else losses,
    }


def _in_targets(batch: Batch, place: list[int], outputs: Any) -> Iterator[str]:
    """The faults of the targets at a loss that is not finite: of a step and a sample, or of a whole sample."""
    *step, sample = place
    found = read_targets(batch[1], *batch[0].shape[:2])
    for leaf, per_step in zip(found.leaves, found.per_step, strict=True):
        target = np.asarray(leaf[:, sample] if per_step else leaf[sample])
        yield from faults_of_target(target[step[0]] if per_step and step else target, sample, outputs)


def faults_of_target(target: Any, sample: int, outputs: Any) -> Iterator[str]:
    """The faults of a target of a sample, for outputs [..., C] if they are one array."""
    target = np.asarray(target)
    if not np.isfinite(target).all():
        yield f"a target of sample {sample} is not finite: {target.tolist()}. Expected finite numbers."
    classes = outputs.shape[-1] if isinstance(outputs, np.ndarray | Array) else np.inf
    out = target[(target < 0) | (target >= classes)]
    if np.issubdtype(target.dtype, np.integer) and out.size:
        yield (
            f"a label of sample {sample} is out of range: {out[0]}. Expected 0 to {classes - 1} for outputs of {classes} "
            "classes: renumber the labels, or widen the read-out."
        )


def _finite(array: Any) -> Any:
    """True where a number is finite; an array of integers or keys is."""
    is_number = jnp.issubdtype(array.dtype, jnp.inexact)
    return jnp.isfinite(array) if is_number else jnp.ones(array.shape, bool)


def _if_it_was_finite(old: Any, new: Any) -> Any:
    """The new numbers, with 0 for those that were not finite before."""
    return jnp.where(_finite(old), new, 0) if jnp.issubdtype(new.dtype, jnp.inexact) else new


def _in_state(state: Any, names: Mapping[str, str]) -> Iterator[str]:
    """The arrays of a state that are not finite: name, value, and index."""
    for path, leaf in by_path(state).items():
        bad = np.argwhere(~np.asarray(_finite(leaf)))
        if len(bad):
            yield f"{readable_path(path, names)} {_value(np.asarray(leaf), bad)} at {bad[0].tolist()}"


def places(tree: Any) -> Iterator[str]:
    """The arrays [T, B, ...], or losses [B], that are not finite: value, and step, sample and feature of the first one."""
    for leaf in jax.tree.leaves(tree):
        bad = np.argwhere(~np.asarray(_finite(leaf)))
        if len(bad):
            labels = ("sample",) if leaf.ndim == 1 else ("time step", "sample", *["feature"] * (leaf.ndim - 2))
            yield f"{_value(leaf, bad)} at {', '.join(f'{a} {i}' for a, i in zip(labels, bad[0], strict=True))}"


def _value(array: Any, bad: np.ndarray) -> str:
    """What the first number is that is not finite, how many there are, and the largest number that is."""
    value = array[tuple(bad[0])]
    more = f" (one of {len(bad)})" if len(bad) > 1 else ""
    largest = f", more than {float(jnp.finfo(array.dtype).max):.4g}, the largest number of {array.dtype},"
    return f"NaN{more}" if np.isnan(value) else f"infinite{more}{largest}"
