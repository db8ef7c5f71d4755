"""A neuron below its threshold: what it does with its states and its current where nothing passes through spikes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_neurons.spiking import SpikingNeuron
from slax_rules.blocks import Matrix, Moment, States, slopes, times
from slax_rules.input_traces import Filter


class Subthreshold(NamedTuple):
    """What a layer does with its states where nothing passes through spikes; the same numbers for all its neurons.

    Args:
        integrate: dm_t[s] / dh_{t-1}[r].
        current: dm_t / dI_t.
        fire: dh_t[s] / dm_t[r].
    """

    integrate: Matrix
    current: States
    fire: Matrix

    def fired(self, membrane: States) -> States:
        """dh_t / dm_t times `membrane`."""
        return tuple(times(row, membrane) for row in self.fire)

    def integrated(self, state: States) -> States:
        """dm_t / dh_{t-1} times `state`."""
        return tuple(times(row, state) for row in self.integrate)

    def before_firing(self, state: States) -> States:
        """The cotangent of m_t for one of h_t."""
        return tuple(times(column, state) for column in zip(*self.fire, strict=True))

    @property
    def filter(self) -> Filter:
        """From the membranes of a step to those of the next."""
        columns = [self.integrated(column) for column in zip(*self.fire, strict=True)]
        return Filter(tuple(zip(*columns, strict=True)), self.current)


def subthreshold(neuron: Neuron) -> Subthreshold:
    """The numbers of a neuron that `check_linear` takes."""
    held = without_spikes(neuron)
    leaves, treedef = jax.tree.flatten(neuron.initialize_carry((1, 1)))
    zeros = [jnp.zeros_like(leaf) for leaf in leaves]
    current, rest = zeros[0], jax.tree.unflatten(treedef, zeros)

    def with_state(index: int, value: Array) -> Any:
        return jax.tree.unflatten(treedef, [value if i == index else zero for i, zero in enumerate(zeros)])

    def numbers(function: Callable[[Array], Any]) -> States:
        return tuple(slope if slope is None else slope[0, 0] for slope in slopes(function, current))

    def matrix(function: Callable[[Any], Any]) -> Matrix:
        columns = [numbers(lambda value, i=i: function(with_state(i, value))) for i in range(len(zeros))]
        return tuple(zip(*columns, strict=True))

    return Subthreshold(
        matrix(lambda state: held.integrate(state, current)),
        numbers(lambda current: held.integrate(rest, current)),
        matrix(lambda membrane: held.fire(membrane)[0]),
    )


def without_spikes(neuron: Neuron) -> Neuron:
    """A copy whose spikes, as far as derivatives go, are given: nothing passes through them, and nothing is reset to zero."""
    held = nnx.merge(*nnx.split(neuron))
    if isinstance(held, SpikingNeuron):
        held.spike_fn = _given  # type: ignore[assignment]
        held.reset = "none" if held.reset == "zero" else held.reset
    return held


def _given(x: Array) -> Array:
    return jax.lax.stop_gradient((x > 0).astype(x.dtype))


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


def output_slopes(neuron: Neuron, membrane: Any) -> States:
    """ds_t / dm_t at membranes, of one step or several."""
    leaves, treedef = jax.tree.flatten(membrane)

    def output(index: int, value: Array) -> Array:
        return neuron.fire(jax.tree.unflatten(treedef, [value if i == index else m for i, m in enumerate(leaves)]))[1]

    return tuple(slope for i, m in enumerate(leaves) for slope in slopes(partial(output, i), m))


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
