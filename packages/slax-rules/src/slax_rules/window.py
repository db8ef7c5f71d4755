"""K steps of a layer, as a rule sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import IF, Neuron
from slax_neurons.engine import apply_rows
from slax_neurons.parameter import Parameter
from slax_rules.blocks import Moment


class Block(nnx.Module):
    """A neuron, and the synapses that feed it.

    Args:
        synapses: modules without a carry whose outputs add up to the neuron's current: the one of the chain, and those of
            the edges; none if the chain feeds the neuron as it is.
        neuron: an element-wise neuron.
        feedback: for each synapse what takes the place of its kernel on the way down; empty for the kernels themselves.
        is_last: whether no neuron comes after it in the chain.
    """

    def __init__(
        self, synapses: list[nnx.Module], neuron: Neuron, feedback: Sequence[nnx.Variable] = (), *, is_last: bool
    ):
        self.synapses = nnx.List(synapses)
        self.neuron = neuron
        self.feedback = nnx.List(feedback)
        self.is_last = is_last


class Window(NamedTuple):
    """What a rule knows of K steps of a block.

    Args:
        inputs: of each synapse; none where the chain feeds the neuron as it is.
        moments: of the neuron, leaves [K, B, N].
        decay_above: that of the next layer's membrane where it is one number, for a rule that asks for it.
    """

    inputs: tuple[Float[Array, "K B *I"], ...]
    moments: Moment
    decay_above: Float[Array, ""] | None = None


def currents_of(block: Block, inputs: tuple[Array, ...]) -> Float[Array, "K B *N"]:
    """What the synapses put out, added up; the input itself where there are none."""
    if not block.synapses:
        return inputs[0]
    first, *rest = (apply_rows(synapse, x) for synapse, x in zip(block.synapses, inputs, strict=True))
    for current in rest:
        first = first + current
    return first


def membrane_decay(neuron: Neuron, dtype: Any) -> Array | None:
    """The decay of the neuron's membrane, where it has one number for the layer."""
    if not has_one_decay(neuron):
        return None
    return jnp.asarray(neuron.decay(jnp.zeros((), dtype)) if hasattr(neuron, "decay") else 1.0, dtype)


def has_one_decay(neuron: Neuron) -> bool:
    """Whether the membrane has a decay, and the same in the whole layer; an integrator's is 1."""
    if isinstance(neuron, IF) and not hasattr(neuron, "decay"):
        return True
    decay = getattr(neuron, "decay", None)
    return isinstance(decay, Parameter) and all(leaf.ndim == 0 for leaf in jax.tree.leaves(nnx.state(decay)))


def decay_above(window: Window, given: float | None, dtype: Any) -> Float[Array, ""]:
    """The decay of the next layer, or the one that the rule was given."""
    return jnp.asarray(window.decay_above if given is None else given, dtype)


def check_decay_above(name: str, above: Neuron | None, given: float | None, option: str) -> None:
    """Raises TypeError for a layer whose next one has no decay that is one number, if none was given.

    Args:
        name: of the rule.
        option: by which a decay is given.
    """
    if above is not None and given is None and not has_one_decay(above):
        raise TypeError(
            f"{name} sums a layer's output with the decay of the next layer's membrane, one number, but got a "
            f"{type(above).__name__} there that has none. Give one: {option}=0.9."
        )


def run(neuron: Neuron, state: Any, currents: Float[Array, "K B *N"]) -> tuple[Any, Array, Moment]:
    """The last state, the outputs [K, B, N] and the moments of a neuron, in one scan over what is not in closed form."""
    if not neuron.in_halves:
        end, (states, outputs) = jax.lax.scan(lambda carry, at: _keeping(neuron, carry, at), state, currents)
        return end, outputs, Moment(states, currents, None)
    end, membranes = neuron.membranes(state, currents)
    after, outputs = neuron.fire(membranes)
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), state, after)
    return end, outputs, Moment(before, currents, membranes)


def _keeping(neuron: Neuron, carry: Any, current: Array) -> tuple[Any, tuple[Any, Array]]:
    new, output = neuron(carry, current)
    return new, (carry, output)


class Pullback(NamedTuple):
    """What a rule makes of a learning signal.

    Args:
        synapses: for each, the gradient of its weights by name, "kernel" and "bias".
        neuron: gradient of each of the neuron's parameters, in the order of `neuron_parameters`.
        current: the part of the signal that goes below, as a cotangent of the current.
    """

    synapses: tuple[dict[str, Array], ...]
    neuron: tuple[Array, ...]
    current: Float[Array, "K B *N"]


def neuron_parameters(block: Block) -> list[Array]:
    return jax.tree.leaves(nnx.state(block.neuron, nnx.Param))


def sum_to(per_unit: Float[Array, "B *N"], parameter: Array) -> Array:
    """Sums over samples, and over the units that share a parameter."""
    return jnp.sum(per_unit, axis=tuple(range(per_unit.ndim - parameter.ndim))).astype(parameter.dtype)
