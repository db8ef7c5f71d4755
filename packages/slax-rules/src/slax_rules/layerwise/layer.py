"""A layer of a stack, its run over K steps, and its gradient."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_neurons.building_blocks import apply_rows
from slax_rules.layerwise.jacobians import StepPoint


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A neuron and the synapses that feed it.

    Args:
        number: index among the layers of the stack, from 0.
        synapses: modules without a carry whose outputs add up to the neuron's current: first the synapse of the chain,
            then the synapses of the edges; none if the chain feeds the neuron directly. A synapse whose weights are made of
            parameters is the Linear or Conv with its effective weights here.
        neuron: an element-wise neuron.
        above: the neuron of the next layer of the chain; None for the last layer.
        self_delays: the delays of the edges from the neuron to its own layer.
        learns_delays: whether a `Delay` whose delays are learned comes before the first synapse. The last synapse then has the
            kernel of the first, and its input is the derivative of each delayed input by its delay. It makes no current; the
            gradient of its kernel, found as that of any other, gives the gradient of the delays.

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
    learns_delays: bool = False

    @property
    def current_synapses(self) -> tuple[Any, ...]:
        """The synapses that make the current."""
        return self.synapses[:-1] if self.learns_delays else self.synapses

    @property
    def parameters(self) -> list[Array]:
        """The neuron's own parameters, in the order of `jax.tree.leaves`."""
        return jax.tree.leaves(nnx.state(self.neuron, nnx.Param))


class PenaltySignal(NamedTuple):
    """The gradient of a layer's penalties within each time step.

    Args:
        outputs: the gradient w.r.t. the outputs.
        membranes: the gradient w.r.t. the membranes before firing; None if no penalty reads them.
    """

    outputs: Float[Array, "K B *N"]
    membranes: Float[Array, "K B *N"] | None


class LayerWindow(NamedTuple):
    """The run of a layer over K steps.

    Args:
        inputs: inputs of each synapse; none if the chain feeds the neuron directly.
        points: points of the neuron, leaves [K, B, N].
        carry: carry of the neuron before the first step, with its delay buffer if the neuron is read late.
        penalty: the gradient of the layer's penalties, for a rule with `reads_penalty`; None if there are none.

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
    penalty: PenaltySignal | None = None


class LayerGradient(NamedTuple):
    """The gradient that a rule computes from a learning signal.

    Args:
        synapses: for each synapse, the gradients w.r.t. its effective weights by name, "kernel" and "bias". The library takes
            them from there to the parameters that the weights are made of.
        neuron: the gradient w.r.t. each of the neuron's parameters, in the order of `Layer.parameters`.
        current_cotangent: the cotangent of the current within each step, [K, B, N], such as psi_t delta_t. The engine takes it
            through the weights of the synapses, or the matrices of a route, to the layers below.

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

        end, (states, outputs) = jax.lax.scan(step, carry, currents)
        return end, outputs, StepPoint(states, currents, None)
    end, membranes = neuron.pre_reset_states(carry, currents)
    after, outputs = neuron.fire(membranes)
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), carry, after)
    return end, outputs, StepPoint(before, currents, membranes)


def sum_to_parameter(per_unit: Float[Array, "B *N"], parameter: Array) -> Array:
    """Sum over samples, and over the units that share a parameter: the transpose of broadcasting it to all units."""
    summed = jnp.sum(per_unit, axis=tuple(range(per_unit.ndim - parameter.ndim)))
    shared = tuple(axis for axis, size in enumerate(parameter.shape) if size == 1 != summed.shape[axis])
    return jnp.sum(summed, axis=shared, keepdims=True).astype(parameter.dtype)


def output_decay(layer: Layer, given: float | None, dtype: Any) -> Float[Array, ""]:
    """The decay of a leaky sum of a layer's outputs: the decay given to the rule, or the next layer's membrane decay."""
    decay = given if given is not None or layer.above is None else layer.above.membrane_decay
    return jnp.asarray(decay, dtype)


def check_unit_interval(name: str, option: str, given: Any) -> None:
    """Raise ValueError for a number outside [0, 1]; arrays, which may be traced, are not checked."""
    if isinstance(given, int | float) and not 0 <= given <= 1:
        raise ValueError(f"{name} got {option}={given}, expected a number in [0, 1].")


def check_output_decay(name: str, layer: Layer, given: float | None) -> None:
    """Raise TypeError for a layer if the decay of the next layer is not one number and none was given."""
    if given is not None:
        return
    if layer.above is None:
        raise TypeError(
            f"{name} sums a layer's output with the decay of the next layer's membrane, but got the last layer of a stack, a "
            f"{type(layer.neuron).__name__}, expected a layer below another. Give it another rule, such as OSTL(), or a decay: "
            "output_decay=0.9."
        )
    if layer.above.membrane_decay is None:
        raise TypeError(
            f"{name} sums a layer's output with the decay of the next layer's membrane, one number, but got a "
            f"{type(layer.above).__name__} there that has none. Give one: output_decay=0.9."
        )
