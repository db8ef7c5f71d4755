"""The run of a batch through each module of a stack, which finds silent layers and numbers that are not finite."""

import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from slax_neurons import Connect, unroll
from slax_neurons.building_blocks import carry_without_buffer, first_carry
from slax_rules.training.epoch import prepared
from slax_rules.training.paths import kind, module_names
from slax_rules.training.sampling import Batch


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


def run_layers(model: nnx.RNNCellBase, inputs: Array) -> list[LayerRun]:
    """Run each module that is not itself a stack, in order; a model that is not a stack counts as one module."""
    carry = first_carry(model, inputs.shape[1:])
    if isinstance(model, Connect):
        return _walk(model, carry, inputs)
    carry, outputs = unroll(model, carry, inputs)
    return [LayerRun(outputs, carry, False)]


def _walk(model: Connect, carry: Any, inputs: Array) -> list[LayerRun]:
    after, outputs = model.outputs(carry, inputs)
    runs: list[LayerRun] = []
    currents = (inputs, *outputs[:-1])
    for module, before, end, current, output in zip(model.modules, carry, after, currents, outputs, strict=True):
        if isinstance(module, Connect):
            runs += _walk(module, carry_without_buffer(before), current)
        else:
            runs.append(LayerRun(output, carry_without_buffer(end), bool(getattr(module, "spikes", False))))
    return runs


class Line(NamedTuple):
    """A line of a program."""

    filename: str
    number: int
    module: str


class SilentLayers:
    """A single warning about spiking layers that are silent on the first batch before training and after the first epoch.

    A layer is silent if no unit spikes at any step in any sample. The weights after it get no gradient. A model
    that is not a stack is not checked.
    """

    def __init__(self, graphdef: Any, state: nnx.State, batch: Batch):
        self.graphdef = graphdef
        self.batch = batch
        self.names = self._silent(state)

    def warn(self, state: nnx.State, line: Line) -> None:
        """Warn about the layers that are silent with this state, too; the warning points to a line of the user's code."""
        names = [name for name in self.names if name in self._silent(state)] if self.names else []
        if names:
            which = f"Layer {names[0]} is" if len(names) == 1 else f"Layers {', '.join(names)} are"
            warnings.warn_explicit(
                f"{which} silent: not one spike on the first batch, either before training or after the first epoch, so the "
                "weights after it get no gradient. Raise the weights into the first of them, as with "
                "kernel_init=fluctuation_driven(...), or lower its threshold. slax_neurons.health(model, inputs) says more.",
                UserWarning,
                line.filename,
                line.number,
                line.module,
            )

    def _silent(self, state: nnx.State) -> list[str]:
        model = nnx.merge(self.graphdef, state, copy=True)[0]
        if not isinstance(model, Connect):
            return []
        spikes = jax.device_get(_spikes(self.graphdef, state, self.batch))
        return [name for name, found in zip(layer_names(model), spikes, strict=True) if found is not None and not found]


@partial(jax.jit, static_argnums=0)
def _spikes(graphdef: Any, state: nnx.State, batch: Batch) -> list[Array | None]:
    """True for each layer that spikes at all, False for a silent one, and None for a layer without spiking neurons."""
    model = nnx.merge(graphdef, state, copy=True)[0]
    inputs, _, _ = prepared(model, batch)
    return [jnp.any(run.outputs != 0) if run.spikes else None for run in run_layers(model, inputs)]
