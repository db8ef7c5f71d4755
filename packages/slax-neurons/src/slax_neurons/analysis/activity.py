"""A measurement of each part of a stack while it runs on a batch, chunk by chunk, which all analyses use."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from slax_neurons.mutation import mutates_state, mutations_explained
from slax_neurons.unrolling import cast_inputs, scan_chunks
from slax_neurons.wiring import Connect, carry_without_buffer, delayed

# measure(module, carry, inputs, outputs, mask) -> arrays [K, ...] of a chunk of K steps, or None. It is a function of a file,
# since programs are kept by it. An edge's synapse has the carry () and outputs None.
Measure = Callable[[Any, Any, Array, Any, Any], Any]


def measured(measure: Measure, model: Connect, inputs: Array, mask: Any = None, *, chunk: int) -> list[Any]:
    """The measurements [T, ...] of all parts of a stack, from rest, in stacks inside it too; the model is left unchanged.

    A model with modules that change their own variables gets the entire sequence in one chunk.
    """
    carry = nnx.clone(model).initialize_carry(inputs.shape[1:])  # it may draw a key
    inputs = cast_inputs(model, inputs)
    if mutates_state(model):
        chunk = max(chunk, inputs.shape[0])
    with mutations_explained(model):
        return jax.tree.map(np.asarray, _measured(measure, *nnx.split(model), carry, (inputs, mask), chunk))


@partial(jax.jit, static_argnums=(0, 1, 5))
def _measured(measure: Measure, graphdef: Any, state: Any, carry: Any, steps: Any, chunk: int) -> list[Any]:
    model = nnx.merge(graphdef, state, copy=True)
    return scan_chunks(lambda carry, steps: _walk(measure, model, carry, *steps), carry, steps, chunk)[1]


def _walk(measure: Measure, model: Connect, carry: Any, inputs: Array, mask: Any) -> tuple[Any, list[Any]]:
    """Run a stack over a chunk, and measure each part."""
    last, outputs = model.outputs(carry, inputs)
    found: list[Any] = []
    currents = (inputs, *outputs[:-1])
    for index, (module, entry, current, output) in enumerate(zip(model.modules, carry, currents, outputs, strict=True)):
        before = carry_without_buffer(entry)
        if isinstance(module, Connect):
            found += _walk(measure, module, before, current, mask)[1]
        else:
            found.append(measure(module, before, current, output, mask))
        for edge, synapse in model.edges_into(index):
            late = delayed(carry[edge.sender], outputs[edge.sender], edge.steps)
            found.append(measure(synapse, (), late, None, mask))
    return last, found
