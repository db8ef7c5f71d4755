"""Size of the program of a gradient under each rule, and processor seconds to make it: `python -m benchmarks.compile_time`.

The network 64-64-64-10 of LIF with T = 100 and a batch of 8; each program is made three times, and a number is the least of
them. Lines are those of StableHLO, before XLA. Prints a table in Markdown.

`--start 9` measures instead what a user waits for, in processes that take turns, 9 of each kind: processor seconds to import
the package, and of the first call of that network, also where an earlier process has left its programs in JAX's compilation
cache. `--against DIR` measures the packages of another checkout in the same turns. Numbers are medians.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from slax_neurons import LI, LIF, Trainable, connect
from slax_rules import RULES, cross_entropy, gradients

STEPS, BATCH = 100, 8
ROUNDS = 3
IMPORTS = {"jax, flax, optax": "import jax, optax; from flax import nnx", "slax_rules": "import slax_rules"}
FIRST = ("bptt", "ostl", "otpe", "e_prop", "fit otpe")  # the rule of `gradients`, or of a step of `fit` with Adam
CACHES = {
    "": None,
    "kept": "1",
    "all kept": "0",
}  # the least seconds to compile of a program that is kept; 1 is the default
FIRST_CALL = """
import gc, sys, time
import jax, jax.numpy as jnp, optax
from flax import nnx
from slax_neurons import LI, LIF, connect
from slax_rules import RULES, cross_entropy, fit, gradients

rngs = nnx.Rngs(0)
modules = [nnx.Linear(64, 64, rngs=rngs), LIF(decay=0.9), nnx.Linear(64, 64, rngs=rngs), LIF(decay=0.9)]
model = connect([*modules, nnx.Linear(64, 10, rngs=rngs), LI(decay=0.9)])
batch, rule = (jnp.ones((100, 8, 64)), jnp.zeros(8, int)), RULES[sys.argv[1].split()[-1]].make()
optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
jax.block_until_ready((batch, nnx.state(optimizer)))
gc.collect()  # or chance decides whether the first call does it
start = time.process_time()
if sys.argv[1].startswith("fit"):
    fit(model, optimizer, cross_entropy, [batch], rule=rule, progress=False)
else:
    jax.block_until_ready(gradients(model, cross_entropy, *batch, rule=rule))
print(time.process_time() - start)
"""
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


def seconds_of_process(program: str, checkout: Path, *arguments: str, cache: tuple[str, str] | None = None) -> float:
    """The last number that a program prints in a process of its own, with the packages of a checkout."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR")
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    env["PYTHONPATH"] = os.pathsep.join(map(str, sorted(checkout.glob("packages/*/src"))))
    if cache is not None:
        env["JAX_COMPILATION_CACHE_DIR"], env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = cache
    command = [sys.executable, "-c", program, *arguments]
    return float(subprocess.run(command, env=env, check=True, text=True, capture_output=True).stdout.split()[-1])


def print_start(rounds: int, checkouts: list[Path]) -> None:
    """Print the medians of what a user waits for, with a column for each checkout."""
    found: dict[tuple[str, Path], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):  # the first one writes bytecode and fills the caches
            for checkout in checkouts:
                for name, program in IMPORTS.items():
                    timed = f"import time; {program}; print(time.process_time())"
                    found.setdefault((f"import {name}", checkout), []).append(seconds_of_process(timed, checkout))
                for (label, least), name in itertools.product(CACHES.items(), FIRST):
                    cache = None if least is None else (f"{folder}/{checkouts.index(checkout)}/{least}", least)
                    seconds = seconds_of_process(FIRST_CALL, checkout, name, cache=cache)
                    found.setdefault((", ".join(filter(None, (name, label))), checkout), []).append(seconds)
            print(f"round {turn} of {rounds}", file=sys.stderr)
    medians = {key: statistics.median(seconds[1:]) for key, seconds in found.items()}
    print(f"| processor seconds | {' | '.join(map(str, checkouts))} |")
    print("| --- |" + " --: |" * len(checkouts))
    for label in dict.fromkeys(label for label, _ in found):
        print(f"| {label} | {' | '.join(f'{medians[label, checkout]:.2f}' for checkout in checkouts)} |")


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.compile_time", description=__doc__)
    parser.add_argument("--rules", nargs="+", default=[name for name in RULES if name not in FRESH])
    parser.add_argument("--trainable", action="store_true", help="with decays and thresholds that are trained")
    parser.add_argument("--start", type=int, metavar="ROUNDS", help="measure imports and first calls")
    parser.add_argument("--against", type=Path, action="append", default=[], metavar="DIR", help="another checkout")
    options = parser.parse_args()
    if options.start:
        print_start(options.start, [Path(__file__).parents[1], *options.against])
        return
    print("| rule | lines | trace (s) | lower (s) | compile (s) | sum (s) |")
    print("| --- | --: | --: | --: | --: | --: |")
    for name in options.rules:
        lines, seconds = seconds_of(name, options.trainable)
        print(f"| {name} | {lines} | {' | '.join(f'{one:.2f}' for one in (*seconds, sum(seconds)))} |", flush=True)


if __name__ == "__main__":
    main()
