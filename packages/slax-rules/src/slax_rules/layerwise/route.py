"""The interface of routes: how learning signals reach a layer (spatial credit assignment).

Every rule takes every route, as in `OSTL(route=Random(rngs=nnx.Rngs(0)))`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from slax_rules.layerwise.layer import Layer
from slax_rules.rule import Value


class Teaching(NamedTuple):
    """What a route that skips layers may use for a hidden layer: the error, the targets, and the layer's own loss.

    Args:
        error: the cotangent that the rule of the last layer passes below, for most rules the gradient of the loss w.r.t. the
            current of the last layer within each step; or the gradient w.r.t. the model's outputs if modules with parameters
            follow the last layer. Several outputs are concatenated. It is divided by the number of losses of the window, so a
            signal that is proportional to it does not depend on the window.
        targets: a function that returns the targets of each step as numbers [K, B, C], one-hot for labels, divided by the
            number of steps and samples that count.
        read_out: the gradient of the loss of the layer's own read-out w.r.t. the layer's outputs; None without one.

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
    read_out: Float[Array, "K B *N"] | None


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

        The task's loss is applied to it, and its gradient w.r.t. the layer's outputs is in `Teaching.read_out`.
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
