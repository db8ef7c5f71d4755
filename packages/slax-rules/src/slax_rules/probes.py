"""Probes: the outputs and membranes of hidden layers, read from a model that runs as always."""

from typing import Any, Literal, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Neuron
from slax_neurons.building_blocks import carry_without_buffer, mutates_state

Quantity = Literal["outputs", "membranes"]


class Probe(NamedTuple):
    """A quantity of a hidden layer: the outputs of its neurons, or their membranes before they fire.

    Args:
        layer: number of the layer among the layers of neurons, from 0; nested stacks count as if they were listed in the outer.
        quantity: "outputs" or "membranes".
    """

    layer: int
    quantity: Quantity


def hidden_neurons(model: Any) -> list[Neuron]:
    """The neurons of each layer of a stack, from the first to the last; none for a cell that is not a stack."""
    found: list[Neuron] = []
    for module in model.modules if isinstance(model, Connect) else ():
        if isinstance(module, Connect):
            found += hidden_neurons(module)
        elif isinstance(module, Neuron):
            found.append(module)
    return found


def membrane_of(neuron: Neuron, state: Any) -> Float[Array, "..."]:
    """The membrane in the state of a neuron before it fires.

    Raises:
        TypeError: a neuron that has no such state.
    """
    if not neuron.has_split_step:
        raise TypeError(
            f"A penalty reads the membranes of a {type(neuron).__name__}, which does not define `integrate` and `fire`, so it "
            'has no membrane before it fires. Let the penalty read its outputs: of="outputs".'
        )
    return neuron.membrane(state)


class Probed(nnx.RNNCellBase):
    """A stack whose outputs are the stack's own outputs and the quantities of its probes.

    Membranes are computed once more from the currents, and nested stacks with probes once more from their inputs, so that
    their derivatives hold for any wiring.
    """

    hands_on_kernel = True

    def __init__(self, model: Connect, probes: tuple[Probe, ...]):
        self.model = model
        self.probes = probes

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        return self.model.initialize_carry(input_shape, rngs)

    def __call__(self, carry: Any, inputs: Float[Array, "B ..."]) -> tuple[Any, Any]:
        carry, outputs = self.unroll(carry, inputs[None])
        return carry, jax.tree.map(lambda leaf: leaf[0], outputs)

    def unroll(
        self, carry: Any, inputs: Float[Array, "T B ..."], kernel: str = "auto"
    ) -> tuple[Any, tuple[Any, tuple[Array, ...]]]:
        """Run all steps, and return the outputs of the stack and a tuple with the quantity of each probe."""
        wanted: dict[Probe, Array] = {}
        carry, outputs = self._run(self.model, carry, inputs, wanted, 0, kernel)
        return carry, (outputs, tuple(wanted[probe] for probe in self.probes))

    @property
    def num_feature_axes(self) -> int:
        return self.model.num_feature_axes

    def _run(
        self, stack: Connect, carry: Any, inputs: Array, wanted: dict[Probe, Array], layer: int, kernel: str
    ) -> tuple[Any, Any]:
        """Run a stack whose first layer has the number `layer`; return its carry and its outputs."""
        end, outputs = stack.outputs(carry, inputs, kernel)
        currents = (inputs, *outputs[:-1])
        for module, start, current, output in zip(stack.modules, carry, currents, outputs, strict=True):
            start = carry_without_buffer(start)
            if isinstance(module, Connect):
                inside = range(layer, layer + len(hidden_neurons(module)))
                if any(probe.layer in inside for probe in self.probes):
                    _check_repeatable(module)
                    # A copy: sums over the sequence, such as a RunningNorm's, were taken in the first run.
                    self._run(nnx.clone(module), start, current, wanted, layer, kernel)
                layer = inside.stop
            elif isinstance(module, Neuron):
                if Probe(layer, "outputs") in self.probes:
                    wanted[Probe(layer, "outputs")] = output
                if Probe(layer, "membranes") in self.probes:
                    states = module.pre_reset_states(start, current, kernel)[1]
                    wanted[Probe(layer, "membranes")] = membrane_of(module, states)
                layer += 1
        return end, outputs[-1]


def _check_repeatable(stack: Connect) -> None:
    """Raise TypeError for a nested stack that would change its own variables twice."""
    if mutates_state(stack):
        raise TypeError(
            "A penalty reads a layer of a nested stack, which is run once more for it, and this stack changes its variables "
            "when called, as BatchNorm in training does. List its modules in the outer stack, or call model.eval()."
        )
