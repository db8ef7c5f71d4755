"""Noise in the layers of a stack, and its first-order effect on the outputs, carried forward through time with the states."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float, Int, Key

from slax_neurons import Connect, Neuron
from slax_neurons.building_blocks import scan_steps, unroll_chunk
from slax_rules.engine.influence import StateSpace
from slax_rules.engine.stack import run_with_layers
from slax_rules.windows import Outputs


def noise_stream(name: str, rngs: nnx.Rngs | nnx.RngStream | None) -> nnx.RngStream:
    """A stream of its own for a rule, whose name is for errors; TypeError without random streams."""
    if rngs is None:
        raise TypeError(f"{name} got no rngs, expected random streams. Give them: {name}(rngs=nnx.Rngs(0)).")
    return (rngs if isinstance(rngs, nnx.RngStream) else rngs.noise).fork()


def noise(key: Key[Array, ""], step: Int[Array, ""] | int, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Draw the noise of a step, or of an array of parameters: independent signs, -1 or 1."""
    return jax.random.rademacher(jax.random.fold_in(key, step), shape, dtype)


def noise_of_layers(
    key: Key[Array, ""], first: Int[Array, ""], steps: int, shapes: Sequence[tuple[int, ...]], dtype: DTypeLike
) -> list[Float[Array, "K B *N"]]:
    """The noise of all steps from the one with the number `first`, for layers in the shapes [B, *N]."""
    sizes = [math.prod(shape[1:]) for shape in shapes]
    numbers = first + jnp.arange(steps, dtype=first.dtype)
    drawn = jax.vmap(lambda step: noise(key, step, (shapes[0][0], sum(sizes)), dtype))(numbers)
    parts = jnp.split(drawn, np.cumsum(sizes)[:-1], axis=-1)
    return [part.reshape(steps, *shape) for part, shape in zip(parts, shapes, strict=True)]


class Noise(nnx.Variable):
    """What is added to the currents or the outputs of a layer."""


class WithNoise(Neuron):
    """A neuron with something added to its current or its output."""

    def __init__(self, neuron: Neuron, noise: Array, place: Literal["current", "output"]):
        super().__init__(param_dtype=neuron.param_dtype)
        self.neuron, self.noise, self.place = neuron, Noise(noise), place

    def __call__(self, carry: Any, inputs: Float[Array, "*B N"]) -> tuple[Any, Float[Array, "*B N"]]:
        if self.place == "current":
            return self.neuron(carry, inputs + self.noise[...])
        carry, outputs = self.neuron(carry, inputs)
        return carry, outputs + self.noise[...]

    def check_carry(self, carry: Any, inputs: Array) -> None:
        self.neuron.check_carry(carry, inputs)


def _add_noise(stack: Connect, noises: Iterator[Array | None], place: Any) -> None:
    for index, module in enumerate(stack.modules):
        if isinstance(module, Connect):
            _add_noise(module, noises, place)
        elif isinstance(module, Neuron) and (of_layer := next(noises)) is not None:
            stack.modules[index] = WithNoise(module, of_layer, place)


def effect_of_noise(
    space: StateSpace,
    carry: Any,
    inputs: Float[Array, "K B ..."],
    noises: Sequence[Float[Array, "K B ..."] | None],
    before: Float[Array, "B H"] | None,
    place: Literal["current", "output"],
) -> tuple[Outputs, Array]:
    """The derivative of the outputs of K steps along the noise, and of the states after them, by one forward-mode pass.

    Args:
        space: the stack in parts.
        noises: the noise of each layer; None for a layer without.
        before: the derivative of the states before these steps, which is carried on from step to step; None for the effect of
            the noise of a step on the outputs of this step alone.
        place: where the noise is added.
    """
    noisy = nnx.clone(nnx.merge(space.graphdef, space.params, space.rest, copy=True))
    _add_noise(noisy, iter(noises), place)
    graphdef, of_steps, rest = nnx.split(noisy, Noise, ...)
    zero = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), of_steps)

    def step(state: tuple[Any, Array], now: tuple[Array, nnx.State]) -> tuple[Any, Outputs]:
        carry, tangent = state
        x, direction = now

        def run(noise: nnx.State, states: Array) -> tuple[tuple[Array, Outputs], Any]:
            model = nnx.merge(graphdef, noise, rest, copy=True)
            start = space.with_states(carry, states)
            end, outputs = run_with_layers(lambda *of: unroll_chunk(*of)[:2], model, start, x[None], space.layers)
            return (space.states(end), outputs), end

        point, along = (zero, space.states(carry)), (direction, tangent)
        _, (after, change), end = jax.jvp(run, point, along, has_aux=True)
        return (end, tangent if before is None else after), jax.tree.map(lambda leaf: leaf[0], change)

    start = jnp.zeros_like(space.states(carry)) if before is None else before
    (_, tangent), changes = scan_steps(step, (carry, start), (inputs, of_steps))
    return changes, tangent
