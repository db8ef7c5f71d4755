"""How far the default chunk of `unroll`, or the default window of a rule, is from the best one.

    python -m benchmarks.chunks                                    # the whole grid, hours
    python -m benchmarks.chunks --batches 1 8 32 --sizes 128 512 --steps 256
    python -m benchmarks.chunks --rule OSTL --batches 1 8 32 --sizes 128 --steps 256

A gradient of three layers of Linear and LIF, as in benchmarks.bptt. All chunks of a cell of the grid take turns; a number is
the median over rounds. Prints a table in Markdown, a row for each cell.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import slax_rules
from slax_neurons import LIF, connect, unroll
from slax_neurons.engine import default_chunk
from slax_rules import gradients
from slax_rules.layerwise.passes import as_rule

CHUNKS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
SECONDS = 0.05  # of a turn, in which at least one step is taken


def gradient_with(rule: str | None, chunk: int, size: int) -> tuple[Callable[..., Any], Any]:
    """A compiled gradient, and its first argument."""
    graphdef, state = nnx.split(network(size))

    def summed(outputs: Any, targets: Any) -> Any:
        return outputs.sum(-1)

    @jax.jit
    def gradient(state: Any, inputs: Any) -> Any:
        if rule is not None:
            model = nnx.merge(graphdef, state, copy=True)
            targets = jnp.zeros(inputs.shape[1])
            return gradients(model, summed, inputs, targets, rule=getattr(slax_rules, rule)(), window=chunk)[1]

        def loss(state: Any) -> Any:
            model = nnx.merge(graphdef, state, copy=True)
            return unroll(model, model.initialize_carry(inputs.shape[1:]), inputs, chunk=chunk)[1].sum()

        return jax.grad(loss)(state)

    return gradient, state


def network(size: int) -> nnx.RNNCellBase:
    rngs = nnx.Rngs(0)
    layers = [(nnx.Linear(size, size, use_bias=False, rngs=rngs), LIF()) for _ in range(3)]
    return connect([part for layer in layers for part in layer])


def default_of(rule: str | None, size: int, inputs: jax.Array) -> int:
    model = network(size)
    if rule is not None:
        return as_rule(getattr(slax_rules, rule)()).offline_window(None, model, inputs)
    return default_chunk(model, model.initialize_carry(inputs.shape[1:]), inputs)


def row(rule: str | None, batch: int, size: int, steps: int, rounds: int) -> str:
    inputs = jax.random.bernoulli(jax.random.key(0), 0.1, (steps, batch, size)).astype(jnp.float32)
    default = default_of(rule, size, inputs)
    chunks = sorted({*(chunk for chunk in CHUNKS if chunk < steps), steps, default})
    contenders = {chunk: gradient_with(rule, chunk, size) for chunk in chunks}
    for gradient, state in contenders.values():
        jax.block_until_ready(gradient(state, inputs))
    times: dict[int, list[float]] = {chunk: [] for chunk in chunks}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for chunk in order.permutation(chunks):
            gradient, state = contenders[chunk]
            start, taken = time.perf_counter(), 0
            while not taken or time.perf_counter() - start < SECONDS:
                jax.block_until_ready(gradient(state, inputs))
                taken += 1
            times[chunk].append((time.perf_counter() - start) / taken)
    medians = {chunk: 1e3 * float(np.median(times[chunk])) for chunk in chunks}
    best = min(medians, key=lambda chunk: medians[chunk])
    found = ", ".join(f"{chunk}: {medians[chunk]:.2f}" for chunk in chunks)
    return f"| {batch} | {size} | {steps} | {default} | {best} | {medians[default] / medians[best]:.2f} | {found} |"


def table(rule: str | None, batches: list[int], sizes: list[int], steps: list[int], rounds: int) -> Iterator[str]:
    yield "| B | N | T | default | best | default / best | milliseconds by chunk |"
    yield "| --: | --: | --: | --: | --: | --: | --- |"
    for size in sizes:
        for batch in batches:
            for length in steps:
                yield row(rule, batch, size, length, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        "benchmarks.chunks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rule", help="a rule, such as OSTL; default: BPTT over chunks")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 16, 32, 128])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024])
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 64, 256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for line in table(options.rule, options.batches, options.sizes, options.steps, options.rounds):
        print(line, flush=True)
