"""Size of the program of a gradient under each rule, and processor seconds to make it: `python -m benchmarks.compile_time`.

The network 64-64-64-10 of LIF with T = 100 and a batch of 8; each program is made three times, and a number is the least of
them. Lines are those of StableHLO, before XLA. Prints a table in Markdown.
"""

import argparse
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from slax_neurons import LI, LIF, Trainable, connect
from slax_rules import RULES, cross_entropy, gradients

STEPS, BATCH = 100, 8
ROUNDS = 3
FRESH = ("uoro",)  # draws in every call, so that its program is not one of a fixed rule


def seconds_of(name: str, trainable: bool) -> tuple[int, list[float]]:
    """Lines of a program, and processor seconds to trace, lower and compile it."""
    rngs = nnx.Rngs(0)

    def value(number: float) -> Any:
        return Trainable(number) if trainable else number

    def lif() -> LIF:
        return LIF(decay=value(0.9), threshold=value(1.0))

    modules: list[Any] = [nnx.Linear(64, 64, rngs=rngs), lif(), nnx.Linear(64, 64, rngs=rngs), lif()]
    model = connect([*modules, nnx.Linear(64, 10, rngs=rngs), LI(decay=value(0.9))])
    rule = RULES[name].make(rngs=rngs, model=model)
    graphdef, state = nnx.split(model)
    labels = jnp.zeros(BATCH, int)

    def gradient(state: Any, inputs: Any) -> Any:
        return gradients(nnx.merge(graphdef, state, copy=True), cross_entropy, inputs, labels, rule=rule)[1]

    inputs = jax.ShapeDtypeStruct((STEPS, BATCH, 64), jnp.float32)
    found = []
    for _ in range(ROUNDS):
        jax.clear_caches()
        times = [time.process_time()]
        traced = jax.jit(gradient).trace(state, inputs)
        times.append(time.process_time())
        lowered = traced.lower()
        times.append(time.process_time())
        lowered.compile()
        times.append(time.process_time())
        found.append([after - before for before, after in itertools.pairwise(times)])
    return lowered.as_text().count("\n"), [min(column) for column in zip(*found, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.compile_time", description=__doc__)
    parser.add_argument("--rules", nargs="+", default=[name for name in RULES if name not in FRESH])
    parser.add_argument("--trainable", action="store_true", help="with decays and thresholds that are trained")
    options = parser.parse_args()
    print("| rule | lines | trace (s) | lower (s) | compile (s) | sum (s) |")
    print("| --- | --: | --: | --: | --: | --: |")
    for name in options.rules:
        lines, seconds = seconds_of(name, options.trainable)
        print(f"| {name} | {lines} | {' | '.join(f'{one:.2f}' for one in (*seconds, sum(seconds)))} |", flush=True)


if __name__ == "__main__":
    main()
