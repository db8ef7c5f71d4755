"""A layer of a stack, and the data of it that a rule gets and returns for a window."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron


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
        A rule gets the layers of a stack from the engine. This one is made by hand, as in a test of a rule:
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
                f"{rule} got {type(self.neuron).__name__} with Trainable numbers, expected none. Try OTPE()."
            )


class LayerWindow(NamedTuple):
    """What the forward pass over K steps leaves for the rule of a layer.

    Args:
        inputs: inputs of each synapse; none if the chain feeds the neuron directly.
        states: the neuron's carry before each step, leaves [K, B, N].
        currents: its input current in each step.
        membranes: `neuron.integrate(state, current)` of each step; None for a neuron that does not define it.
        carry: carry of the neuron before the first step, with its delay buffer if it has delayed outgoing edges.
        tangents: the derivative of each delayed input w.r.t. its delay, if delays are learned; else None.
        penalty: the part of the signal that is the gradient of the layer's own penalties; None if there are none.

    Example:
        A rule gets windows from the engine. This one is made by hand, as in a test of a rule:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF
        >>> from slax_rules import Layer, LayerWindow
        >>> layer = Layer(0, (nnx.Linear(4, 2, rngs=nnx.Rngs(0)),), LIF(), above=None)
        >>> inputs, carry = jnp.ones((1, 3, 4)), jnp.zeros((3, 2))  # one step
        >>> current = layer.synapses[0](inputs)
        >>> membrane = layer.neuron.integrate(carry, current[0])[None]
        >>> window = LayerWindow((inputs,), carry[None], current, membrane, carry)
        >>> window.membranes.shape
        (1, 3, 2)
    """

    inputs: tuple[Float[Array, "K B *I"], ...]
    states: Any
    currents: Float[Array, "K B *N"]
    membranes: Any
    carry: Any
    tangents: Float[Array, "K B *I"] | None = None
    penalty: Float[Array, "K B *N"] | None = None

    @property
    def steps(self) -> tuple[Any, Array, Any]:
        """States, currents and membranes of all steps: where `linearize` differentiates the neuron."""
        return self.states, self.currents, self.membranes

    @property
    def traced_inputs(self) -> tuple[Array, ...]:
        """The inputs of `Layer.traced_synapses`."""
        return self.inputs if self.tangents is None else (*self.inputs, self.tangents)


class LayerGradient(NamedTuple):
    """The gradient of a layer over a window, and what is passed down.

    Args:
        synapses: for each synapse, the gradients w.r.t. its effective weights by name, "kernel" and "bias". The engine takes
            them from there to the parameters that the weights are made of.
        neuron: the gradient w.r.t. each of the neuron's parameters, in the order of `Layer.parameters`.
        passed_below: the cotangent of the current within each step, [K, B, N], such as psi_t delta_t. The engine takes it
            through the weights of the synapses, or the matrices of a route, to the layers below.
        by_tangents: the gradient w.r.t. the kernel of `Layer.tangent_synapse`, which has learned delays.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF
        >>> from slax_rules import SLTT, Layer, LayerWindow
        >>> layer = Layer(0, (nnx.Linear(4, 2, rngs=nnx.Rngs(0)),), LIF(), above=None)
        >>> inputs, carry = jnp.ones((1, 3, 4)), jnp.zeros((3, 2))  # one step
        >>> current = layer.synapses[0](inputs)
        >>> membrane = layer.neuron.integrate(carry, current[0])[None]
        >>> window = LayerWindow((inputs,), carry[None], current, membrane, carry)
        >>> gradient, traces = SLTT().layer_gradient(layer, window, (), jnp.ones((1, 3, 2)))
        >>> {name: array.shape for name, array in gradient.synapses[0].items()}
        {'kernel': (4, 2), 'bias': (2,)}
        >>> gradient.passed_below.shape
        (1, 3, 2)
    """

    synapses: tuple[dict[str, Array], ...]
    neuron: tuple[Array, ...]
    passed_below: Float[Array, "K B *N"] | None
    by_tangents: Array | None = None

    @classmethod
    def of(
        cls, layer: Layer, traced: Sequence[dict[str, Array]], neuron: tuple, cotangent: Array | None
    ) -> "LayerGradient":
        """The same from the gradients of `Layer.traced_synapses`."""
        count = len(layer.synapses)
        by_tangents = traced[count]["kernel"] if layer.tangent_synapse is not None else None
        return cls(tuple(traced[:count]), neuron, cotangent, by_tangents)

    def plus(self, past: "LayerGradient") -> "LayerGradient":
        """The sum with a part that passes nothing below."""
        total = jax.tree.map(jnp.add, self._replace(passed_below=None), past)
        return total._replace(passed_below=self.passed_below)


class FeedbackSignals(NamedTuple):
    """What a route that skips layers may use for a hidden layer.

    Args:
        error: the cotangent that the rule of the last layer passes below, for most rules the gradient of the loss w.r.t. the
            current of the last layer within each step; or the gradient w.r.t. the model's outputs if modules with parameters
            follow the last layer. Several outputs are concatenated. It is divided by the number of losses in the mean, so a
            signal that is proportional to it does not depend on the window.
        targets: a function that returns the targets of each step as numbers [K, B, C], one-hot for labels, divided by the
            number of losses in the mean.
        loss: the task's loss as a function of outputs in the form of the model's, for a read-out of the layer's own.
        outputs: the outputs of the model.

    Example:
        A route that sends the sign of the error, times its mean size, through fixed matrices:

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Direct, cross_entropy, gradients
        >>> class SignOfError(Direct):
        ...     def signal(self, layer, outputs, feedback):
        ...         size = jnp.abs(feedback.error).mean(axis=-1, keepdims=True)
        ...         return super().signal(layer, outputs, feedback._replace(error=size * jnp.sign(feedback.error)))
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> rule = OSTL(route=SignOfError(rngs=rngs))
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=rule)
    """

    error: Float[Array, "K B C"]
    targets: Callable[[], Float[Array, "K B C"]]
    loss: Callable[[Any], Float[Array, ""]]
    outputs: Any
