"""A neuron below its threshold: what it does with its states and its current where nothing passes through spikes."""

from collections.abc import Callable
from functools import lru_cache, partial
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


def subthreshold(neuron: Neuron, at: float = 0.0) -> Subthreshold:
    """The numbers of a neuron that `check_linear` takes: the same wherever its states and its current are."""
    held = without_spikes(neuron)
    leaves, treedef = jax.tree.flatten(neuron.initialize_carry((1, 1)))
    point = [jnp.full_like(leaf, at) for leaf in leaves]
    current, rest = point[0], jax.tree.unflatten(treedef, point)

    def with_state(index: int, value: Array) -> Any:
        return jax.tree.unflatten(treedef, [value if i == index else leaf for i, leaf in enumerate(point)])

    def numbers(function: Callable[[Array], Any]) -> States:
        return tuple(slope if slope is None else slope[0, 0] for slope in slopes(function, current))

    def matrix(function: Callable[[Any], Any]) -> Matrix:
        columns = [numbers(lambda value, i=i: function(with_state(i, value))) for i in range(len(point))]
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
    rest = neuron.initialize_carry((1, 1))
    membrane = jax.eval_shape(neuron.integrate, rest, jax.tree.leaves(rest)[0])
    if jax.tree.structure(membrane) != jax.tree.structure(rest):  # type: ignore[operator]
        raise TypeError(
            f"{name} needs a neuron whose membranes have the structure of its state, got a {type(neuron).__name__} with "
            f"{jax.tree.structure(membrane)} and {jax.tree.structure(rest)}. {instead}"
        )
    graphdef, state = nnx.split(neuron)
    leaves, structure = jax.tree.flatten(state)
    if not _is_linear(graphdef, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)):
        raise TypeError(
            f"{name} takes {type(neuron).__name__} at its word, `linear = True`, but the derivatives of its halves change with "
            "its states, or its current reaches nothing. What it does with its spikes counts unless they are those of a "
            f"SpikingNeuron, `self.spike(...)`. {instead}"
        )


@lru_cache(maxsize=64)
def _is_linear(graphdef: nnx.GraphDef, structure: Any, leaves: tuple[tuple[tuple[int, ...], Any], ...]) -> bool:
    """Whether the numbers of a neuron are the same at two points, for some parameters, and there are some of its current."""
    with jax.ensure_compile_time_eval():
        some = [jnp.full(shape, 0.5).astype(dtype) for shape, dtype in leaves]
        neuron = nnx.merge(graphdef, jax.tree.unflatten(structure, some))
        here, there = (jax.tree.leaves(jax.jit(lambda at=at: subthreshold(neuron, at))()) for at in (0.0, 3.0))
        known = any(number is not None for number in subthreshold(neuron).current)
        return known and all(bool(jnp.allclose(a, b, rtol=1e-3)) for a, b in zip(here, there, strict=True))


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
