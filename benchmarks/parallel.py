"""Is a neuron faster if all its steps run together? On this device, against the loop over time.

python -m benchmarks.parallel > benchmarks/results/parallel.csv    # two minutes on idle cores

One sample, 128 units, from given currents: `unroll` as it is, and under `parallel_in_time(True)` with the sequence in one
chunk; forward, and the gradient of the currents for a given gradient of the outputs. About one step in eight has a spike.
"Solutions" are those that the spikes of a reset need. All programs of a row take turns; least times.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.output import write_about, write_rows
from experiments.common.costs import times_of
from slax_neurons import LIF, LRU, Neuron, parallel_in_time, unroll
from slax_neurons.neurons.steps import membranes_together

UNITS, STEPS = 128, (256, 1024, 4096, 16384)
SECONDS = 8.0  # how long the programs of a row take turns
NEURONS = {"LIF, reset none": LIF(reset="none"), "LIF, reset zero": LIF(reset="zero"), "LRU": LRU(r=0.99)}
PROGRAMS = ("loop, ms", "together, ms", "gradient by loop, ms", "together, gradient, ms")
COLUMNS = ("neuron, steps", *PROGRAMS, "solutions")


def programs(neuron: Neuron, steps: int) -> tuple[dict[str, Callable[[], Any]], int]:
    """A call of each program by its column, and the number of solutions that the spikes need."""
    rng = np.random.default_rng(0)
    shape = steps, 1, UNITS * neuron.currents_per_unit
    currents, signal = (jnp.asarray(rng.normal(mean, 0.3, shape), jnp.float32) for mean in (0.1, 0.0))
    rest = neuron.initialize_carry(shape[1:])

    def outputs(currents: jax.Array) -> jax.Array:
        return unroll(neuron, rest, currents, chunk=steps if parallel_in_time.value else None)[1]

    def gradient(currents: jax.Array) -> jax.Array:
        return jax.grad(lambda currents: (outputs(currents) * signal).sum())(currents)

    found, places = {}, iter(PROGRAMS)
    for function in (outputs, gradient):
        for together in (False, True):
            with parallel_in_time(together):
                compiled = jax.jit(function).lower(currents).compile()
            found[next(places)] = lambda compiled=compiled: compiled(currents)
    return found, int(jax.jit(lambda x: membranes_together(neuron, rest, x)[1])(currents))


def rows() -> Iterator[dict[str, str]]:
    for name, neuron in NEURONS.items():
        for count in STEPS:
            calls, solutions = programs(neuron, count)
            times = times_of(calls, 300, SECONDS)
            cells = {column: f"{1e3 * min(own):.3g}" for column, own in times.items()}
            yield {"neuron, steps": f"{name}, {count:,}", **cells, "solutions": str(solutions)}


if __name__ == "__main__":
    write_about("parallel")
    write_rows(rows(), COLUMNS)
