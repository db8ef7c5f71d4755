"""The response of a neuron's membrane to a small current, found by simulating the neuron."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.neurons.neuron import Neuron

PIECE, LONGEST = 2**8, 2**14  # steps simulated in one piece, and in total at most
TAIL = 1e-5  # a response has decayed when its last piece has at most this share of the total


def impulse_moments(
    neuron: Neuron, impulse: Float[np.ndarray, " N"], steps: int | None
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Sum the membrane's response to a current of 1 in one step, and its square, over time, for each of N neurons.

    Args:
        neuron: a neuron whose method `membrane` finds the membrane in the carry.
        impulse: the injected current, so small that the neurons do not fire; the response is divided by it.
        steps: number of steps to sum over; by default until the response has decayed.

    Raises:
        ValueError: a neuron that fires, or a response that does not decay where `steps` is not given.
        TypeError: a neuron whose membrane is not known.
    """
    graphdef, state = nnx.split(neuron)
    carry = jax.tree.map(_at_least_single, neuron.initialize_carry((2, impulse.size)))
    given = jnp.asarray(impulse, jax.tree.leaves(carry)[0].dtype)
    current = jnp.stack([jnp.zeros_like(given), given])  # the same neuron without and with the impulse
    first, second, size, done = np.zeros_like(impulse), np.zeros_like(impulse), np.zeros_like(impulse), 0
    while steps is None or done < steps:
        length = PIECE if steps is None else min(PIECE, steps - done)
        carry, membrane, fired = _run(graphdef, state, carry, current, length)
        if fired:
            raise ValueError(
                f"{type(neuron).__name__} fires at rest or after a current of {impulse.min():.2g}, expected a neuron that "
                "small currents leave silent."
            )
        response = _difference(membrane) / np.asarray(given, np.float64)
        first, second, last = first + response.sum(0), second + np.square(response).sum(0), np.abs(response).sum(0)
        current, done, size = jnp.zeros_like(current), done + length, size + last
        if steps is None and np.all(last <= TAIL * size):
            break
        if steps is None and done >= LONGEST:
            raise ValueError(
                f"The membrane of {type(neuron).__name__} does not forget an impulse within {LONGEST} steps. Give the "
                "length of your sequences, as in fluctuation_driven(..., steps=100)."
            )
    return first, second


@partial(jax.jit, static_argnums=(0, 4))
def _run(graphdef: Any, state: Any, carry: Any, current: Array, length: int) -> tuple[Any, Array, Array]:
    """Run the neuron for `length` steps with a current in the first; return its carry, its membranes, and whether it fired."""
    neuron = nnx.merge(graphdef, state)

    def step(carry: Any, current: Array) -> tuple[Any, tuple[Array, Array]]:
        carry, outputs = neuron(carry, current)
        return carry, (neuron.membrane(carry), outputs)

    currents = jnp.zeros((length, *current.shape), current.dtype).at[0].set(current)
    carry, (membranes, outputs) = jax.lax.scan(step, carry, currents)
    return carry, membranes, jnp.any(outputs != 0) & neuron.spikes


def _difference(membranes: Float[Array, "T 2 N"]) -> Float[np.ndarray, "T N"]:
    """The change that the impulse causes. Changes within rounding are dropped: where u rests away from 0, they never decay."""
    without, given = np.moveaxis(np.asarray(membranes, np.float64), 1, 0)
    rounding = 4 * float(jnp.finfo(membranes.dtype).eps) * np.abs(without)
    return np.where(np.abs(given - without) > rounding, given - without, 0.0)


def _at_least_single(state: Array) -> Array:
    """Convert a state to float32 at least, so that a response of thousands of steps can be resolved."""
    return state.astype(jnp.float32) if jnp.finfo(state.dtype).bits < 32 else state
