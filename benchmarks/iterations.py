"""Do several steps in an iteration of the loop over time help? Times of a gradient, with `slax_neurons.scan_unroll`.

python -m benchmarks.iterations                           # BPTT on one thread of a CPU, 1 to 8 steps in an iteration
python -m benchmarks.iterations --rules bptt ottt ostl otpe --steps 1 4 8 16 --output iterations.csv    # on a GPU

The network is three layers of (Linear N to N, LIF), T = 256, B = 32; the loss is the number of spikes. All programs of a size
take turns; a time is the least of all repeats, in milliseconds.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX starts

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.parts import network, spikes, whole
from benchmarks.turns import least_times
from slax_neurons import scan_unroll
from slax_rules import RULES, gradients

BATCH = 32


def count(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The number of spikes of each sample."""
    return outputs.sum(axis=-1)


def under(name: str, n: int) -> Callable[[], Any]:
    """The gradient under a rule."""
    if name == "bptt":
        return whole(BATCH, n)
    graphdef, state = network(n)

    def gradient(state: nnx.State, inputs: jax.Array) -> Any:
        model, targets = nnx.merge(graphdef, state), jnp.zeros(BATCH)
        return gradients(model, count, inputs, targets, rule=RULES[name].make())[1]

    return partial(jax.jit(gradient), state, spikes(BATCH, n))


def within(steps: int, call: Callable[[], Any]) -> Any:
    """The result of a call whose loops have that many steps in an iteration."""
    with scan_unroll(steps):
        return call()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256, 512, 1024])
    parser.add_argument("--rules", nargs="+", default=["bptt"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--output", type=Path, help="a file for the table, which is printed in any case")
    args = parser.parse_args(arguments)
    lines = [f"# {jax.devices()[0].device_kind}, jax {jax.__version__}"]
    lines.append("rule,steps in an iteration," + ",".join(f"N = {n}" for n in args.sizes))
    print(*lines, sep="\n", flush=True)
    for name in args.rules:
        of_size = [
            least_times({steps: partial(within, steps, under(name, n)) for steps in args.steps}, args.repeats)
            for n in args.sizes
        ]
        for steps in args.steps:
            lines.append(f"{RULES[name].title},{steps}," + ",".join(f"{times[steps]:.3g}" for times in of_size))
            print(lines[-1], flush=True)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
