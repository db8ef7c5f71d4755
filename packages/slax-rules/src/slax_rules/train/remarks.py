"""What `fit` says about a run: warnings of what is probably meant otherwise, and the cause of a step that is not finite."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import Dropout
from slax_neurons.building_blocks import cast_inputs
from slax_rules.api import gradients
from slax_rules.loop import trained_together
from slax_rules.step import Step
from slax_rules.train.agreement import by_path, module_names, readable_path
from slax_rules.train.batches import Batch, Sampler, checked
from slax_rules.train.callbacks import offline_rule
from slax_rules.train.evaluate import not_finite, predict, where_not_finite

LARGE = 10.0  # inputs above it are probably not scaled

ADVICE = (
    "Lower the learning rate, clip gradients, optax.chain(optax.clip_by_global_norm(1.0), ...), and see how loss_fn, "
    "surrogates and penalties handle zeros and large numbers. In float16, compute in bfloat16 or float32, or give Adam "
    "eps=1e-4, since its default is 0 in float16."
)


def remarks(model: nnx.Module, batches: Any, held_out: Any) -> Iterator[str]:
    """Warnings about the arguments of `fit`."""
    if held_out is not None and _are_same(batches, held_out):
        yield (
            "fit got the training batches as held_out, expected others: the loss on them says nothing about new samples. "
            "Give a Sampler another key."
        )
    dropouts = [part for _, part in nnx.iter_modules(model) if isinstance(part, Dropout | nnx.Dropout)]
    off = {type(part).__name__ for part in dropouts if part.deterministic and part.rate > 0}
    if off:
        yield f"fit got a model whose {', '.join(sorted(off))} is off, as after model.eval(). To train with it: model.train()."


def _are_same(one: Any, other: Any) -> bool:
    if isinstance(one, Sampler) and isinstance(other, Sampler):
        keys = [jax.random.key_data(sampler.key) for sampler in (one, other)]
        return one.sample == other.sample and bool(jnp.array_equal(keys[0], keys[1]))
    return one is other


def remark_on_inputs(model: nnx.Module, inputs: Any) -> str:
    """A warning about inputs that are probably not scaled, such as images of 0 to 255; empty if they are not."""
    if not jnp.issubdtype(jax.eval_shape(lambda x: cast_inputs(model, x), inputs).dtype, jnp.inexact):
        return ""  # tokens
    largest = float(jnp.max(jnp.abs(jnp.asarray(inputs)), initial=0))
    if not LARGE < largest < math.inf:
        return ""
    return (
        f"fit got inputs up to {largest:.4g}, expected numbers of the size of 1, for which weights are drawn. Divide images of "
        "0 to 255 by 255, or encode them as spikes."
    )


def zero_gradients(model: Any, rule: Any, optimizer: nnx.Optimizer, is_zero: Sequence[Any]) -> str:
    """The names of the trained parameters of a model whose gradient was always zero."""
    objects = trained_together(model, rule)
    trained, prefix = by_path(nnx.state(objects, optimizer.wrt)), "" if objects is model else "0/"
    flags = zip(by_path(nnx.state(model, nnx.Param)), is_zero, strict=True)
    zero = [path for path, flag in flags if flag and prefix + path in trained]
    return ", ".join(readable_path(path, module_names(model)) for path in zero)


def cause_of_fault(step: Step, model: Any, rule: Any, batch: Batch) -> str:
    """What is not finite in a step with this batch, and what to do about it."""
    inputs, targets, mask = checked(jax.tree.map(jnp.asarray, batch))
    if where := where_not_finite(inputs, "time step", "sample", *["feature"] * (inputs.ndim - 2)):
        return f"the inputs are {where}. Expected finite numbers: look at how the batch is made."
    if mask is not None and not mask.any() and jax.process_count() == 1:
        return "the mask is False everywhere, so nothing counts. Draw batches with a step that counts."
    loss, gradient = jnp.zeros(()), None
    if mask is None or mask.any():  # in the share of this process
        rule = offline_rule(rule, step.update, step.window)
        loss, gradient = gradients(
            model, step.loss_fn, inputs, targets, mask, rule=rule, window=step.window, penalties=step.penalties
        )
    if not np.isfinite(loss):
        fault = fault_of_targets(targets, mask, predict(model, inputs))
        return fault or f"the loss is {float(loss)}, of inputs, targets and parameters that are finite. {ADVICE}"
    if gradient is not None and (bad := not_finite(gradient, model)):
        more = f", and of {len(bad) - 1} more arrays" if bad[1:] else ""
        return f"the gradient of {bad[-1]}{more}, though the loss is finite. {ADVICE}"
    what = "updates within the sequence make" if step.update == "online" else "the update makes"
    elsewhere = ", or those are in the share of another process" if jax.process_count() > 1 else ""
    return f"{what} numbers that are not finite, of a gradient that is finite at first{elsewhere}. {ADVICE}"


def fault_of_targets(targets: Any, mask: Any, outputs: Any) -> str | None:
    """The first target that counts and is not finite, or is no class of outputs [T, B, C]; None if there is none."""
    *shape, classes = jax.tree.leaves(outputs)[0].shape
    counts = np.ones(shape[:2], bool) if mask is None else np.asarray(mask)
    for leaf in map(np.asarray, jax.tree.leaves(targets)):
        is_label = np.issubdtype(leaf.dtype, np.integer)
        wrong = (leaf < 0) | (leaf >= classes) if is_label else ~np.isfinite(leaf)
        its = counts if leaf.shape[:2] == counts.shape else counts.any(axis=0)
        for place in np.argwhere(wrong & its.reshape(*its.shape, *[1] * (leaf.ndim - its.ndim))).tolist()[:1]:
            target, sample = leaf[tuple(place)], place[its.ndim - 1]
            if not is_label:
                return f"a target of sample {sample} is not finite. Expected finite numbers."
            text = f"a label of sample {sample} is out of range: {target}. Expected 0 to {classes - 1} for outputs of"
            return f"{text} {classes} classes: renumber the labels, or widen the read-out."
    return None
