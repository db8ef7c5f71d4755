"""The parts of a rule for layers: a layer, its run over K steps, and its gradient."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_neurons.building_blocks import apply_rows, carries_before, fire_steps, scan_steps
from slax_rules.layerwise.jacobians import StepPoint


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A neuron and the synapses that feed it.

    Args:
        number: index among the layers of the stack, from 0.
        synapses: modules without a carry whose outputs add up to the neuron's current: first the synapse of the chain,
            then the synapses of the edges; none if the chain feeds the neuron directly. A synapse whose weights are
            functions of parameters appears as a Linear or Conv with its effective weights, and one with average pooling, or
            another linear map, behind it as a module that has its `kernel` and `bias` and also maps its current.
        neuron: an element-wise neuron.
        above: the neuron of the next layer of the chain; None for the last layer.
        self_delays: the delays of the edges from the neuron to its own layer.
        tangent_synapse: the first synapse without its bias, if a `Delay` whose delays are learned comes before it, else None.
            Its inputs are `LayerWindow.tangents`; it adds no current, and the gradient of its kernel gives that of the delays.

    Example:
        A rule gets the layers of a stack from the library. This one is made by hand, as in a test of a rule:
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, Trainable
        >>> from slax_rules import Layer
        >>> layer = Layer(0, (nnx.Linear(8, 4, rngs=nnx.Rngs(0)),), LIF(decay=Trainable(0.9)), above=LI())
        >>> [parameter.shape for parameter in layer.parameters]
        [()]
    """

    number: int
    synapses: tuple[Any, ...]
    neuron: Neuron
    above: Neuron | None
    self_delays: tuple[int, ...] = ()
    tangent_synapse: Any = None

    @property
    def traced_synapses(self) -> tuple[Any, ...]:
        """The synapses whose weights have traces: those that make the current, and the synapse of the tangents."""
        return self.synapses if self.tangent_synapse is None else (*self.synapses, self.tangent_synapse)

    @property
    def parameters(self) -> list[Array]:
        """The neuron's own parameters, in the order of `jax.tree.leaves`."""
        return jax.tree.leaves(nnx.state(self.neuron, nnx.Param))

    def check_fixed(self, rule: str) -> None:
        """Raise TypeError if the neuron has parameters of its own; `rule` is the name of the rule."""
        if self.parameters:
            raise TypeError(
                f"{rule} got {type(self.neuron).__name__} with trained parameters, expected fixed ones. Leave Trainable out, "
                "or use OTPE()."
            )


class LayerWindow(NamedTuple):
    """The result of the forward pass over K steps, which the rule of a layer receives.

    Args:
        inputs: inputs of each synapse; none if the chain feeds the neuron directly.
        points: points of the neuron, leaves [K, B, N].
        carry: carry of the neuron before the first step, with its delay buffer if it has delayed outgoing edges.
        tangents: the derivative of each delayed input w.r.t. its delay, if delays are learned; else None.
        penalty: the gradient of the layer's penalties w.r.t. its outputs within each step, for a rule with `reads_penalty`;
            None if there are none.

    Example:
        A rule gets windows from the library. This one is made by hand, as in a test of a rule:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF
        >>> from slax_rules import Layer, LayerWindow, StepPoint
        >>> layer = Layer(0, (nnx.Linear(4, 2, rngs=nnx.Rngs(0)),), LIF(), above=None)
        >>> inputs, carry = jnp.ones((1, 3, 4)), jnp.zeros((3, 2))  # one step
        >>> current = layer.synapses[0](inputs)
        >>> points = StepPoint(carry[None], current, layer.neuron.integrate(carry, current[0])[None])
        >>> window = LayerWindow((inputs,), points, carry)
        >>> window.points.membrane.shape
        (1, 3, 2)
    """

    inputs: tuple[Float[Array, "K B *I"], ...]
    points: StepPoint
    carry: Any
    tangents: Float[Array, "K B *I"] | None = None
    penalty: Float[Array, "K B *N"] | None = None

    @property
    def traced_inputs(self) -> tuple[Array, ...]:
        """The inputs of `Layer.traced_synapses`."""
        return self.inputs if self.tangents is None else (*self.inputs, self.tangents)


class LayerGradient(NamedTuple):
    """The gradient of a layer over a window, and what is passed down.

    Args:
        synapses: for each synapse, the gradients w.r.t. its effective weights by name, "kernel" and "bias". The library takes
            them from there to the parameters that the weights are made of.
        neuron: the gradient w.r.t. each of the neuron's parameters, in the order of `Layer.parameters`.
        current_cotangent: the cotangent of the current within each step, [K, B, N], such as psi_t delta_t. The engine takes it
            through the weights of the synapses, or the matrices of a route, to the layers below.
        by_tangents: the gradient w.r.t. the kernel of `Layer.tangent_synapse`, which has learned delays.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF
        >>> from slax_rules import SLTT, Layer, LayerWindow, StepPoint
        >>> layer = Layer(0, (nnx.Linear(4, 2, rngs=nnx.Rngs(0)),), LIF(), above=None)
        >>> inputs, carry = jnp.ones((1, 3, 4)), jnp.zeros((3, 2))  # one step
        >>> current = layer.synapses[0](inputs)
        >>> points = StepPoint(carry[None], current, layer.neuron.integrate(carry, current[0])[None])
        >>> gradient, traces = SLTT().window(layer, LayerWindow((inputs,), points, carry), (), jnp.ones((1, 3, 2)))
        >>> {name: array.shape for name, array in gradient.synapses[0].items()}
        {'kernel': (4, 2), 'bias': (2,)}
        >>> gradient.current_cotangent.shape
        (1, 3, 2)
    """

    synapses: tuple[dict[str, Array], ...]
    neuron: tuple[Array, ...]
    current_cotangent: Float[Array, "K B *N"]
    by_tangents: Array | None = None


USE_OSTL = "Use OTPE() or OSTL(), which take any element-wise neuron."  # what rules say that need a neuron of some kind


def layer_gradient(
    layer: Layer, traced: tuple[dict[str, Array], ...], neuron: tuple[Array, ...], current_cotangent: Array
) -> LayerGradient:
    """The gradient of a layer, from the gradients of its `traced_synapses`."""
    count = len(layer.synapses)
    by_tangents = traced[count]["kernel"] if layer.tangent_synapse is not None else None
    return LayerGradient(traced[:count], neuron, current_cotangent, by_tangents)


def input_current(synapses: Sequence[Any], inputs: tuple[Array, ...]) -> Float[Array, "K B *N"]:
    """The sum of the outputs of a layer's synapses; the input itself for a layer without synapses."""
    if not synapses:
        return inputs[0]
    first, *rest = (apply_rows(synapse, x) for synapse, x in zip(synapses, inputs, strict=True))
    for current in rest:
        first = first + current
    return first


def run_neuron(neuron: Neuron, carry: Any, currents: Float[Array, "K B *N"]) -> tuple[Any, Array, StepPoint]:
    """Run a neuron in one scan over element-wise work; return its last carry, its outputs [K, B, N] and its points.

    The plan of a stack has refused neurons whose class replaces a function over time.
    """
    neuron.check_carry(carry, currents[0])
    if not neuron.has_split_step:

        def step(carry: Any, current: Array) -> tuple[Any, tuple[Any, Array]]:
            new, output = neuron(carry, current)
            return new, (carry, output)

        end, (states, outputs) = scan_steps(step, carry, currents)
        return end, outputs, StepPoint(states, currents, None)
    end, membranes = neuron.pre_reset_states(carry, currents)
    after, outputs = fire_steps(neuron, membranes)
    before = carries_before(carry, after)
    return end, outputs, StepPoint(before, currents, membranes)


def sum_to_parameter(per_unit: Float[Array, "B *N"], parameter: Array) -> Array:
    """Sum over samples, and over the units that share a parameter: the transpose of broadcasting it to all units."""
    summed = jnp.sum(per_unit, axis=tuple(range(per_unit.ndim - parameter.ndim)))
    shared = tuple(axis for axis, size in enumerate(parameter.shape) if size == 1 != summed.shape[axis])
    return jnp.sum(summed, axis=shared, keepdims=True).astype(parameter.dtype)
