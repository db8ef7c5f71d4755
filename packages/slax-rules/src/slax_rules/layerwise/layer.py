"""The parts of a rule for layers: a layer, its run over K steps, its gradient, and the interfaces of rules and routes.

A `LayerRule` is a choice of traces (temporal credit assignment), and a `Route` a choice in the backward pass over a stack
(spatial credit assignment). Every rule takes every route, as in `OSTL(route=Random(rngs=nnx.Rngs(0)))`.
"""

import abc
import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_neurons.building_blocks import StepSize, apply_rows, fire_steps, scan_steps, steps_in_cache
from slax_rules.layerwise.jacobians import StepPoint
from slax_rules.rule import Value


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
    """What the forward pass over K steps leaves for the rule of a layer.

    Args:
        inputs: inputs of each synapse; none if the chain feeds the neuron directly.
        points: points of the neuron, leaves [K, B, N].
        carry: carry of the neuron before the first step, with its delay buffer if it has delayed outgoing edges.
        tangents: the derivative of each delayed input by its delay, if delays are learned; else None.
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
    """The gradient of a layer, from those of its `traced_synapses`."""
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
    end, membranes, outputs = neuron.states_and_outputs(carry, currents)
    after, fired = fire_steps(neuron, membranes)
    outputs = fired if outputs is None else outputs
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), carry, after)
    return end, outputs, StepPoint(before, currents, membranes)


def sum_to_parameter(per_unit: Float[Array, "B *N"], parameter: Array) -> Array:
    """Sum over samples, and over the units that share a parameter: the transpose of broadcasting it to all units."""
    summed = jnp.sum(per_unit, axis=tuple(range(per_unit.ndim - parameter.ndim)))
    shared = tuple(axis for axis, size in enumerate(parameter.shape) if size == 1 != summed.shape[axis])
    return jnp.sum(summed, axis=shared, keepdims=True).astype(parameter.dtype)


class Teaching(NamedTuple):
    """What a route that skips layers may use for a hidden layer: the error, the targets, and the layer's own loss.

    Args:
        error: the cotangent that the rule of the last layer passes below, for most rules the gradient of the loss w.r.t. the
            current of the last layer within each step; or the gradient w.r.t. the model's outputs if modules with parameters
            follow the last layer. Several outputs are concatenated. It is divided by the number of losses of the window, so a
            signal that is proportional to it does not depend on the window.
        targets: a function that returns the targets of each step as numbers [K, B, C], one-hot for labels, divided by the
            number of steps and samples that count.
        own: the gradient of the loss of the layer's own read-out w.r.t. the layer's outputs; None without one.

    Example:
        A route that sends the sign of the error, times its mean size, through fixed matrices:

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Direct, Teaching, cross_entropy, gradients
        >>> class SignOfError(Direct):
        ...     def signal(self, layer, outputs, teaching: Teaching):
        ...         size = jnp.abs(teaching.error).mean(axis=-1, keepdims=True)
        ...         return super().signal(layer, outputs, teaching._replace(error=size * jnp.sign(teaching.error)))
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> rule = OSTL(route=SignOfError(rngs=rngs))
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=rule)
    """

    error: Float[Array, "K B C"]
    targets: Callable[[], Float[Array, "K B C"]]
    own: Float[Array, "K B *N"] | None


class Route(Value):
    """How learning signals reach a layer: the base class of all routes.

    Its methods implement backpropagation within a time step, `Symmetric`. A subclass is a frozen dataclass, or a module if it
    holds arrays, and overrides the methods that it changes.

    Example:
        >>> import dataclasses
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Route, cross_entropy, gradients
        >>> @dataclasses.dataclass(frozen=True)
        ... class SignSymmetric(Route):
        ...     def kernels(self, layer):
        ...         return [jnp.sign(synapse.kernel[...]) for synapse in layer.synapses]
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL(route=SignSymmetric()))
    """

    skips_layers: bool = False  # whether hidden layers get their signal from `signal`, and none from the layer above

    def check(self, layer: Layer) -> None:
        """Raise TypeError for a layer that the route cannot handle."""

    def kernels(self, layer: Layer) -> Sequence[Array | None]:
        """Return the matrices that replace the kernels of a layer's synapses on the way down; None for the kernel itself."""
        return [None] * len(layer.synapses)

    def add_gradients(self, layer: Layer, gradients: Sequence[Any]) -> None:
        """Add gradients to the route's own parameters, in a copy that holds gradients.

        `gradients` has the synapses of the layer as modules that hold their gradients; a synapse that occurs in several
        places holds the total gradient.
        """

    def read_out(self, layer: Layer, outputs: Array, head: Any) -> Any:
        """Return a read-out of a hidden layer's outputs [K, B, N] in the shape of the model's outputs, or None.

        The task's loss is applied to it, and its gradient w.r.t. the layer's outputs is in `Teaching.own`.
        """
        return None

    def signal(self, layer: Layer, outputs: Float[Array, "K B *N"], teaching: Teaching) -> Float[Array, "K B *N"]:
        """Return the signal of a hidden layer for a route that skips layers."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Symmetric(Route):
    """Symmetric feedback: signals pass down through the weights themselves, as the cotangent of the current times W^T.

    Example:
        >>> from slax_rules import OSTL, Symmetric
        >>> OSTL() == OSTL(route=Symmetric())
        True
    """


@dataclasses.dataclass(frozen=True)
class LayerRule(Value, abc.ABC):
    """A learning rule for layers: how a layer's past enters its gradient (temporal credit assignment).

    Implementations are frozen dataclasses of their options. Pass one rule, or a list with one for each layer, as the argument
    `rule` of `gradients`. `default_window` says how long a window is if none is given: see `LearningRule`.
    The gradient of a layer's penalties is part of its signal. A rule whose signal weighs something other than the outputs, such
    as a leaky sum of them, sets `reads_penalty` and finds the gradient in `LayerWindow.penalty` instead.

    Args:
        route: the signal that reaches a layer, and the signal that it passes below (spatial credit assignment).

    Example:
        >>> import dataclasses
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect
        >>> from slax_rules import SLTT, LayerGradient, LayerRule, cross_entropy, gradients, linearize
        >>> @dataclasses.dataclass(frozen=True)
        ... class OnlyThisStep(LayerRule):
        ...     def initialize_traces(self, layer, inputs, states):
        ...         return ()
        ...     def window(self, layer, window, traces, signal):
        ...         psi = jax.vmap(lambda point: linearize(layer.neuron, point).psi)(window.points)
        ...         kernel = jnp.einsum("kbi,kbn->in", window.inputs[0], psi * signal)
        ...         return LayerGradient(({"kernel": kernel},), (), psi * signal), traces
        >>> model = connect([nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0)), LIF()])
        >>> inputs, labels = jnp.ones((10, 3, 4)), jnp.array([0, 1, 0])
        >>> def gradient(rule):
        ...     return gradients(model, cross_entropy, inputs, labels, rule=rule)[1]
        >>> jax.tree.all(jax.tree.map(jnp.allclose, gradient(OnlyThisStep()), gradient(SLTT())))
        True
    """

    route: Route = dataclasses.field(default=Symmetric(), kw_only=True)

    reads_penalty: ClassVar[bool] = False

    def check(self, layer: Layer) -> None:
        """Raise TypeError for a layer that the rule cannot handle."""

    def check_unit_interval(self, option: str) -> None:
        """Raise ValueError if an option is a number outside [0, 1]; arrays, which may be traced, are not checked."""
        given = getattr(self, option)
        if isinstance(given, numbers.Real) and not 0 <= float(given) <= 1:
            raise ValueError(f"{type(self).__name__} got {option}={given}, expected a number in [0, 1].")

    def default_window(self, size: StepSize) -> int:
        """A number of steps that is fast and needs little memory, for a model with this size.

        Example:
            A rule of your own whose windows have 100 steps, but fewer where layers are wide:

            >>> import dataclasses
            >>> from slax_rules import OTTT, StepSize
            >>> @dataclasses.dataclass(frozen=True)
            ... class InShortWindows(OTTT):
            ...     def default_window(self, size):
            ...         return min(100, 10**6 // size.bytes)
            >>> InShortWindows().default_window(StepSize(bytes=4 * 8 * 512, width=512))
            61
        """
        return steps_in_cache(size)

    def for_layer(self, layer: Layer) -> "LayerRule":
        """Return the rule that handles this layer; by default this one."""
        return self

    def for_layers(self, layers: tuple[Layer, ...]) -> tuple["LayerRule", ...]:
        """Return the rule of each layer if this rule is given for a stack; by default the result of `for_layer`."""
        return tuple(self.for_layer(layer) for layer in layers)

    @abc.abstractmethod
    def initialize_traces(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        """The traces before the first step, for inputs [B, I] of each synapse and the neuron's states at rest [B, N]."""

    @abc.abstractmethod
    def window(
        self, layer: Layer, window: LayerWindow, traces: Any, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Any]:
        """The gradient of K steps, and the traces after them.

        Args:
            layer: the layer with its parameters in this window.
            window: the result of the forward pass.
            traces: the traces before the first step.
            signal: the learning signal: the gradient of the loss w.r.t. the layer's outputs, within each time step.
        """
