"""A neuron below its threshold: what it does with its states and its current where nothing passes through spikes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron, Surrogate
from slax_neurons.spiking import SpikingNeuron
from slax_rules.blocks import Moment, States, total


class Subthreshold(NamedTuple):
    """What a layer does with its states where nothing passes through spikes; the same for all its neurons.

    Args:
        integrate: dm_t[s] / dh_{t-1}[r].
        current: dm_t / dI_t.
        fire: dh_t[s] / dm_t[r].
    """

    integrate: Float[Array, "S S"]
    current: Float[Array, " S"]
    fire: Float[Array, "S S"]

    def fired(self, membrane: States) -> States:
        """dh_t / dm_t times `membrane`."""
        return _applied(self.fire, membrane)

    def integrated(self, state: States) -> States:
        """dm_t / dh_{t-1} times `state`."""
        return _applied(self.integrate, state)

    @property
    def transition(self) -> Float[Array, "S S"]:
        """dm_t / dm_{t-1}."""
        return self.integrate @ self.fire


def _applied(matrix: Float[Array, "S S"], states: States) -> States:
    return tuple(total(weight * state for weight, state in zip(row, states, strict=True)) for row in matrix)


def subthreshold(neuron: Neuron) -> Subthreshold:
    """The numbers of a neuron that `check_linear` takes."""
    held = without_spikes(neuron)
    rest = neuron.initialize_carry((1, 1))
    leaves, treedef = jax.tree.flatten(rest)
    zeros = tuple(jnp.zeros_like(leaf) for leaf in leaves)

    def unit(index: int) -> tuple[Array, ...]:
        return tuple(jnp.ones_like(leaf) if i == index else leaf for i, leaf in enumerate(zeros))

    def integrate(states: tuple[Array, ...], current: Array) -> Array:
        return jnp.stack(jax.tree.leaves(held.integrate(jax.tree.unflatten(treedef, states), current)))[:, 0, 0]

    def fire(states: tuple[Array, ...]) -> Array:
        return jnp.stack(jax.tree.leaves(held.fire(jax.tree.unflatten(treedef, states))[0]))[:, 0, 0]

    point = zeros, zeros[0]
    columns = [jax.jvp(integrate, point, (unit(index), zeros[0]))[1] for index in range(len(zeros))]
    current = jax.jvp(integrate, point, (zeros, jnp.ones_like(zeros[0])))[1]
    fired = [jax.jvp(fire, (zeros,), (unit(index),))[1] for index in range(len(zeros))]
    return Subthreshold(jnp.stack(columns, axis=1), current, jnp.stack(fired, axis=1))


def without_spikes(neuron: Neuron) -> Neuron:
    """A copy whose spikes, as far as derivatives go, are given: nothing passes through them, and nothing is reset to zero."""
    held = nnx.merge(*nnx.split(neuron))
    if isinstance(held, SpikingNeuron):
        held.spike_fn = Surrogate(_no_slope)
        held.reset = "none" if held.reset == "zero" else held.reset
    return held


def _no_slope(x: Array) -> Array:
    return jnp.zeros_like(x)


def check_linear(name: str, neuron: Neuron) -> None:
    """Raises TypeError for a neuron that does not forget alike in the whole layer, or not linearly."""
    instead = "Use ostl, which takes any element-wise neuron."
    if not (neuron.linear and neuron.in_halves):
        raise TypeError(
            f"{name} filters the inputs of a layer as its neurons would, which needs a neuron that is linear but for its "
            f"spikes (`linear = True`), got {type(neuron).__name__}. {instead}"
        )
    shapes = [leaf.shape for leaf in jax.tree.leaves(nnx.state(neuron)) if leaf.ndim]
    if shapes:
        raise TypeError(
            f"{name} filters the inputs of a layer as its neurons would, which needs the same parameters for all of them, got "
            f"a {type(neuron).__name__} with one per neuron, of shape {list(shapes[0])}. {instead}"
        )


def output_slopes(neuron: Neuron, membrane: Any) -> tuple[Array, ...]:
    """ds_t / dm_t at the membranes of a step."""
    leaves, treedef = jax.tree.flatten(membrane)

    def output(leaves: list[Array]) -> Array:
        return neuron.fire(jax.tree.unflatten(treedef, leaves))[1]

    def along(index: int) -> Array:
        unit = [jnp.ones_like(leaf) if i == index else jnp.zeros_like(leaf) for i, leaf in enumerate(leaves)]
        return jax.jvp(output, (leaves,), (unit,))[1]

    return tuple(along(index) for index in range(len(leaves)))


class ParameterSlopes(NamedTuple):
    """The derivatives by a parameter of the neuron, per unit: of the membranes by way of the step before or the current, of
    the states after firing, and of the output, the latter two at given membranes."""

    membrane: tuple[Array, ...]
    state: tuple[Array, ...]
    output: Float[Array, "*N"]


def parameter_slopes(neuron: Neuron, at: Moment) -> list[ParameterSlopes]:
    """One for each of the neuron's parameters."""
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    at_rest, structure = jax.tree.flatten(jax.tree.map(jnp.zeros_like, params))

    def merged(params: Any) -> Any:
        return nnx.merge(graphdef, params, rest)

    def along(index: int) -> ParameterSlopes:
        leaves = [jnp.ones_like(leaf) if i == index else leaf for i, leaf in enumerate(at_rest)]

        def slope(function: Any) -> Any:
            return jax.jvp(function, (params,), (jax.tree.unflatten(structure, leaves),))[1]

        return ParameterSlopes(
            membrane=_leaves(slope(lambda params: merged(params).integrate(at.state, at.current))),
            state=_leaves(slope(lambda params: without_spikes(merged(params)).fire(at.membrane)[0])),
            output=slope(lambda params: merged(params).fire(at.membrane)[1]),
        )

    return [along(index) for index in range(len(at_rest))]


def _leaves(tree: Any) -> tuple[Array, ...]:
    return tuple(jax.tree.leaves(tree))
