"""What does a recurrent layer over 784 steps spend its time on? A batch of 64 with 128 ALIF, and its matrix products alone.

python -m benchmarks.recurrent > benchmarks/results/recurrent.csv    # a minute on idle cores

The network is a Linear of one pixel, ALIF whose spikes come back through a Linear a step later, and a Linear with LI that is
read at each step. The products are those of BPTT: forward and back through the recurrent weights one step after another, and
all others, and the gradients of all weights, in one product each. The recursion is the layer of neurons forward and reverse,
from given currents and given gradients of the spikes, without a product. "At once" are the three products with
the recurrent weights over all steps together, as in a feed-forward layer. All programs take turns; a row has the median and the
least time, and the median of the ratios to the products of the same round, which load on the machine affects least.
"""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.output import write_about, write_rows
from experiments.common.costs import lowered, times_of
from slax_neurons import ALIF, LI, Connect, Edge, connect, unroll
from slax_rules import BPTT, OSTL

STEPS, BATCH, UNITS, CLASSES, WINDOW = 784, 64, 128, 10, 28
SECONDS = 40.0  # how long the programs take turns
COLUMNS = ("program", "median, ms", "least, ms", "times the products")


def network() -> Connect:
    rngs = nnx.Rngs(0)
    recurrence = nnx.Linear(UNITS, UNITS, use_bias=False, rngs=rngs)
    modules = [nnx.Linear(1, UNITS, rngs=rngs), ALIF(decay=0.95), nnx.Linear(UNITS, CLASSES, rngs=rngs), LI(decay=0.95)]
    return connect(modules, [Edge(1, 0, synapse=recurrence)], rngs=rngs)


def products(weights: list[jax.Array], pixels: jax.Array, signal: jax.Array) -> list[jax.Array]:
    """The products of BPTT of weights [1, N], [N, N] and [N, C], pixels [T, B, 1] and a signal [T, B, C], without a neuron."""
    first, recurrent, last = weights
    rest = jnp.zeros((BATCH, UNITS))

    def ahead(before: jax.Array, current: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (now := current + before @ recurrent), now

    def back(after: jax.Array, given: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (now := given + after @ recurrent.T), now

    _, states = jax.lax.scan(ahead, rest, pixels @ first)
    outputs = states @ last
    _, cotangents = jax.lax.scan(back, rest, (outputs * signal) @ last.T, reverse=True)
    flat = [array.reshape(-1, array.shape[-1]) for array in (pixels, states, cotangents, outputs * signal)]
    return [flat[0].T @ flat[2], flat[1][:-BATCH].T @ flat[2][BATCH:], flat[1].T @ flat[3]]


def at_once(rows: jax.Array, other: jax.Array, recurrent: jax.Array) -> list[jax.Array]:
    """The three products with the recurrent weights as if no step waited for the one before: a bound that nothing reaches."""
    return [rows @ recurrent, other @ recurrent.T, rows.T @ other]


def recursion(currents: jax.Array, signal: jax.Array) -> jax.Array:
    """The gradient of the currents [T, B, N] of a layer of ALIF, for a gradient of its spikes."""
    neuron = ALIF(decay=0.95)
    return jax.grad(lambda x: (unroll(neuron, neuron.initialize_carry((BATCH, UNITS)), x)[1] * signal).sum())(currents)


def programs() -> dict[str, Callable[[], Any]]:
    """A call of each compiled program by its name in the table."""
    rng = np.random.default_rng(0)
    pixels = rng.random((STEPS, BATCH, 1), np.float32)
    shapes = ((1, UNITS), (UNITS, UNITS), (UNITS, CLASSES))
    weights = [0.01 * rng.standard_normal(shape, np.float32) for shape in shapes]
    signal = rng.standard_normal((STEPS, BATCH, CLASSES), np.float32)
    currents, of_spikes = (rng.standard_normal((STEPS, BATCH, UNITS), np.float32) for _ in range(2))
    model, batch = network(), (pixels, rng.integers(CLASSES, size=BATCH))
    rules = {
        "BPTT": (BPTT(), None),
        "BPTT that recomputes": (BPTT(remat=True), None),
        "OSTL in one window": (OSTL(), None),
        f"OSTL in windows of {WINDOW}": (OSTL(), WINDOW),
    }
    made = {name: lowered(model, rule, batch, window) for name, (rule, window) in rules.items()}
    made["products alone"] = jax.jit(products).lower(weights, pixels, signal), (weights, pixels, signal)
    rows = [array.reshape(-1, UNITS) for array in (currents, of_spikes)]
    made["products at once"] = jax.jit(at_once).lower(*rows, weights[1]), (*rows, weights[1])
    made["recursion alone"] = jax.jit(recursion).lower(currents, of_spikes), (currents, of_spikes)
    found: dict[str, Callable[[], Any]] = {}
    for name, (program, arguments) in made.items():
        compiled, on_device = program.compile(), jax.device_put(arguments)
        found[name] = lambda compiled=compiled, given=on_device: compiled(*given)
    return found


def main() -> None:
    write_about("recurrent")
    times = times_of(programs(), 1000, SECONDS)
    rows = []
    for name, own in times.items():
        ratios = [one / other for one, other in zip(own, times["products alone"], strict=True)]
        cells = 1e3 * statistics.median(own), 1e3 * min(own), statistics.median(ratios)
        rows.append(dict(zip(COLUMNS, (name, *(f"{cell:.3g}" for cell in cells)), strict=True)))
    write_rows(rows, COLUMNS)


if __name__ == "__main__":
    main()
