"""Drive one neuron with a current that is off, on and off again.

The result has its membrane before the reset, its threshold, its output, and its carry, step by step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import NEURONS, Neuron


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one neuron, each a list with one entry per step: current, membrane, threshold, output and carry.

    Two copies of the neuron also take each step from its state. One has a spike function that is always 0: its state is
    the state before the reset. The other has the identity: its output is the distance to the threshold, adaptive or not. Both
    thus follow the neuron's own equations. Without a spike function there is no threshold, and it is None.
    """
    start, stop, end = config["current_on"], config["current_off"], config["n_steps"]
    if not start < stop <= end:
        raise SystemExit(f"The current is on from step {start} to {stop} of {end}, expected steps in increasing order.")
    neuron = make_neuron(config)
    spiking = neuron.spikes
    silent = with_spike_fn(neuron, jnp.zeros_like) if spiking else neuron
    linear = with_spike_fn(neuron, lambda distance: distance) if spiking else neuron

    def step(carry: Any, current: jax.Array) -> tuple[Any, tuple]:
        membrane = by_name(silent(carry, current)[0])["u"]
        threshold = membrane - linear(carry, current)[1]
        carry, output = neuron(carry, current)
        return carry, (membrane, threshold, output, by_name(carry))

    steps = np.arange(end)
    on = (steps >= start) & (steps < stop)
    currents = jnp.where(on, config["current"], 0.0).astype(jnp.float32)[:, None, None]
    rest = neuron.initialize_carry((1, 1))
    _, (membrane, threshold, output, states) = jax.lax.scan(step, rest, currents)
    return {
        "current": listed(currents),
        "membrane": listed(membrane),
        "threshold": listed(threshold) if spiking else None,
        "output": listed(output),
        "states": {name: listed(state) for name, state in states.items()},
    }


def make_neuron(config: dict[str, Any]) -> nnx.RNNCellBase:
    """The neuron for one unit: neurons that are not element-wise take a size and random numbers."""
    kind = NEURONS[config["neuron"]]
    sized = {} if issubclass(kind, Neuron) else {"features": 1, "rngs": nnx.Rngs(config["seed"])}
    return kind(**sized, **config["options"])


def with_spike_fn(neuron: nnx.RNNCellBase, spike_fn: Callable[[jax.Array], jax.Array]) -> nnx.RNNCellBase:
    """A copy of the neuron with another spike function."""
    copy = nnx.clone(neuron)
    copy.spike_fn = spike_fn
    return copy


def by_name(carry: Any) -> dict[str, jax.Array]:
    """The states of a carry; a single array is the membrane u."""
    return carry._asdict() if hasattr(carry, "_asdict") else {"u": carry}


def listed(values: jax.Array) -> list[float]:
    return np.asarray(values, np.float64).ravel().tolist()
