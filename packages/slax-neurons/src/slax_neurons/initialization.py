"""Initial weights that put a layer of spiking neurons into the fluctuation-driven regime."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron

SMALL = 2.0**-12  # the impulse with which a neuron is probed, in units of its threshold
CHUNK, MAX_STEPS = 2**8, 2**14  # steps simulated in one piece, and in total at most
TAIL = 1e-5  # a response has decayed when its last piece has at most this share of the total


def fluctuation_driven(
    neuron: Any,
    *,
    rate: float,
    xi: float = 1.0,
    share: float = 1.0,
    steps: int | None = None,
    threshold: float | None = None,
) -> Callable[..., Array]:
    """Make a `kernel_init` that puts the membranes of `neuron` xi standard deviations below their threshold.

    n inputs that each fire with probability `rate` per step, independently, through weights of mean 0 and variance sigma_w^2,
    give a membrane of mean 0 the following variance over time, ignoring resets and averaging over weights:

        sigma_U^2 = n rate (1 - rate) sigma_w^2 E2            E2 = sum_k eps_k^2

    where eps_k is the membrane k steps after a current of 1. The weights are normal, with sigma_U = threshold / xi:

        sigma_w^2 = share (threshold / xi)^2 / (n rate (1 - rate) E2)

    eps comes from a simulation of the neuron itself, so any element-wise neuron can be used. A threshold or a decay per
    neuron gives one sigma_w per output feature.

    Args:
        neuron: the neuron that the layer feeds; its method `membrane` finds its membrane.
        rate: firing probability of an input per step, in (0, 1): the rate of the layer before, or the mean of the data.
        xi: distance from the mean membrane to the threshold in standard deviations, > 0.
        share: share of the membrane's variance that these weights contribute, in (0, 1]. If several layers feed one neuron,
            including recurrent ones, the shares should add up to 1.
        steps: the length of the sequences, for a neuron that does not forget within them: the variance is then taken after
            this number of steps from rest. By default the sequence is infinite.
        threshold: the threshold above rest for a neuron without one, such as LI, or whose own is the peak of a spike, such as
            Izhikevich. By default the neuron's own.

    Returns:
        `initializer(key, shape, dtype=float32)` for kernels [..., in, out], as in Linear, or [*kernel_size, in, out],
        as in Conv, where n is the product of all axes except the last.

    Raises:
        ValueError: an option out of range, a neuron that fires at rest, that has no threshold, or whose response does not
            decay if `steps` is not given; some only when weights are made.
        TypeError: a neuron that is not element-wise, or whose membrane is not known.

    References:
        Rossbroich, Gygax, Zenke: Fluctuation-driven initialization for spiking neural network training, 2022,
        doi 10.1088/2634-4386/ac97bb.

    Note:
        The reference has time in seconds and Poisson spikes; here a step has at most one spike, hence 1 - rate. Its mean
        membrane is an option, and 0 here.

        sigma_U describes one membrane over time. In addition, the means of the membranes differ, by sigma_w rate sqrt(n) E1,
        where E1 = sum_k eps_k.

    Example:
        With xi = 2, a membrane varies over time by half of the threshold, as an LI with the same decay shows.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect, fluctuation_driven, unroll
        >>> initializer = fluctuation_driven(LIF(), rate=0.05, xi=2.0)
        >>> model = connect([nnx.Linear(100, 64, kernel_init=initializer, rngs=nnx.Rngs(0)), LI()])
        >>> spikes = jax.random.bernoulli(jax.random.key(0), 0.05, (500, 1, 100)).astype(jnp.float32)
        >>> carry, membranes = unroll(model, model.initialize_carry((1, 100)), spikes)
        >>> round(float(membranes.std(axis=0).mean()), 1)
        0.5
    """
    if not isinstance(neuron, Neuron):
        got = f"the class {neuron.__name__}" if isinstance(neuron, type) else type(neuron).__name__
        raise TypeError(f"fluctuation_driven got {got}, expected an element-wise neuron, a Neuron such as LIF().")
    if not (0 < rate < 1 and xi > 0 and 0 < share <= 1):
        got = f"rate={rate}, xi={xi} and share={share}"
        raise ValueError(f"fluctuation_driven got {got}, expected a rate in (0, 1), a xi > 0 and a share in (0, 1].")

    def initializer(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        inputs = math.prod(shape[:-1])
        with jax.ensure_compile_time_eval():  # a layer may be made inside a traced function
            limit = _threshold(neuron, shape[-1], threshold)
            energy = response_energy(neuron, SMALL * limit, steps)
        variance = share * (limit / xi) ** 2 / (inputs * rate * (1 - rate) * energy)
        deviation = jnp.asarray(np.sqrt(variance), dtype).reshape((1,) * (len(shape) - 1) + (-1,))
        return jax.random.normal(key, shape, dtype) * deviation

    return initializer


def _threshold(neuron: Neuron, features: int, given: float | None) -> Float[np.ndarray, " N"]:
    """The threshold of each neuron above rest."""
    name = type(neuron).__name__
    own = getattr(neuron, "threshold", None) if given is None else given
    if own is None:
        raise ValueError(f"fluctuation_driven got a {name}, expected a threshold for it. Give one: threshold=1.0.")
    value = np.asarray(own(jnp.zeros((1, features), jnp.float32)) if callable(own) else own, np.float64)
    if given is None:
        value = value - np.asarray(neuron.membrane(neuron.initialize_carry((1, features))), np.float64)
    limit = np.broadcast_to(value.ravel(), (features,))
    if not np.all(limit > 0):
        raise ValueError(f"Got a {name} whose threshold is {limit.min():.4g} above rest, expected thresholds > 0.")
    return limit


def response_energy(neuron: Neuron, impulse: Float[np.ndarray, " N"], steps: int | None) -> Float[np.ndarray, " N"]:
    """Sum the square of the membrane's response to a current of 1 in one step over time, for each of N neurons.

    Args:
        neuron: a neuron whose method `membrane` finds the membrane in the carry.
        impulse: the injected current, so small that the neurons do not fire; the response is divided by it.
        steps: number of steps to sum over; by default until the response has decayed.

    Raises:
        ValueError: a neuron that fires, or a response that does not decay where `steps` is not given.
        TypeError: a neuron whose membrane is not known.
    """
    (graphdef, state), name = nnx.split(neuron), type(neuron).__name__
    carry = neuron.initialize_carry((2, impulse.size))
    # In float32 at least, so that a response of thousands of steps can be resolved.
    carry = jax.tree.map(lambda state: state.astype(np.promote_types(state.dtype, np.float32)), carry)
    given = jnp.asarray(impulse, jax.tree.leaves(carry)[0].dtype)
    current = jnp.stack([jnp.zeros_like(given), given])  # the same neuron without and with the impulse
    energy, size = np.zeros_like(impulse), np.zeros_like(impulse)
    for done in range(0, steps or MAX_STEPS, CHUNK):
        length = min(CHUNK, (steps or MAX_STEPS) - done)
        carry, membrane, fired = _run(graphdef, state, carry, current, length)
        if fired:
            raise ValueError(f"{name} fires after a current of {impulse.min():.2g}. Raise its threshold.")
        response = _difference(membrane) / np.asarray(given, np.float64)
        energy, last = energy + np.square(response).sum(0), np.abs(response).sum(0)
        current, size = jnp.zeros_like(current), size + last
        if steps is None and np.all(last <= TAIL * size):
            return energy
    if steps is None:
        raise ValueError(f"{name} does not forget an impulse. Give the length of sequences: steps=100.")
    return energy


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
