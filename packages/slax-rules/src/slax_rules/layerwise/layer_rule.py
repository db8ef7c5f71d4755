"""The interface of rules for layers: a choice of traces (temporal credit assignment), which takes every `Route`."""

import abc
import dataclasses
import numbers
from typing import Any, ClassVar

from jaxtyping import Array, Float

from slax_neurons.building_blocks import StepSize, steps_in_cache
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow
from slax_rules.layerwise.route import Route, Symmetric
from slax_rules.rule import Value


@dataclasses.dataclass(frozen=True)
class LayerRule(Value, abc.ABC):
    """A learning rule for layers: how a layer's past enters its gradient (temporal credit assignment).

    Implementations are frozen dataclasses of their options. Pass one rule, or a list with one for each layer, as the argument
    `rule` of `gradients`. `default_window` returns the length of a window if none is given; see `LearningRule`. The gradient of
    a layer's penalties is part of its signal. A rule whose signal weighs something other than the outputs, such as a leaky sum
    of them, sets `reads_penalty` and finds the gradient in `LayerWindow.penalty` instead.

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
