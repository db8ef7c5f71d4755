"""Compare the kernels of all neurons with the scan, on this device: `python -m benchmarks.kernels`.

For each neuron, the outputs of `unroll(loop="fused")` and of `unroll(loop="scan")`, and the gradients of a weighted sum of
them, with ragged sizes. The table has the largest difference divided by the largest number, and the time of each of the two.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import random

from slax_neurons import NEURONS, NeuronCell, unroll

ROUNDS = 20
COLUMNS = ["neuron", "forward", "gradient", "scan (ms)", "fused (ms)", "scan, gradient (ms)", "fused, gradient (ms)"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.kernels", description=__doc__)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--units", type=int, default=1001)
    parser.add_argument("--output", type=Path, help="a file for the table; it is printed in any case")
    options = parser.parse_args(arguments)
    device = jax.devices()[0]
    lines = [
        f"{device.device_kind}, jax {jax.__version__}, T = {options.steps}, B = {options.batch}, N = {options.units}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"| {' | '.join('---' for _ in COLUMNS)} |",
    ]
    print(*lines, sep="\n", flush=True)
    for row in rows(options.steps, options.batch, options.units):
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def rows(steps: int, batch: int, units: int) -> Iterator[list[str]]:
    currents = 0.3 * random.normal(random.key(0), (steps, batch, units))
    weights = random.normal(random.key(1), (steps, batch, units))
    for name, neuron in NEURONS.items():
        if name == "ltc":  # its gates are Linears, so that it is no element-wise neuron
            continue
        functions = {loop: passes(neuron(), loop, weights) for loop in ("scan", "fused")}
        found = {loop: [one(currents) for one in both] for loop, both in functions.items()}
        apart = [difference(one, two) for one, two in zip(found["scan"], found["fused"], strict=True)]
        times = [milliseconds(functions[loop][part], currents) for part in (0, 1) for loop in ("scan", "fused")]
        yield [name, *(f"{one:.1e}" for one in apart), *(f"{one:.3f}" for one in times)]


def passes(neuron: NeuronCell, loop: str, weights: jax.Array) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The outputs of a neuron, and the gradient of a weighted sum of them w.r.t. its currents."""
    graphdef, state = nnx.split(neuron)

    def outputs(currents: jax.Array) -> jax.Array:
        cell = nnx.merge(graphdef, state)
        return unroll(cell, cell.initialize_carry(currents.shape[1:]), currents, loop=loop)[1]

    return jax.jit(outputs), jax.jit(jax.grad(lambda currents: jnp.sum(outputs(currents) * weights)))


def difference(one: jax.Array, two: jax.Array) -> float:
    return float(jnp.abs(one - two).max() / jnp.maximum(jnp.abs(one).max(), 1e-30))


def milliseconds(function: Callable[..., Any], currents: jax.Array) -> float:
    """The median time of a call."""
    function(currents).block_until_ready()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function(currents).block_until_ready()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


if __name__ == "__main__":
    main()
