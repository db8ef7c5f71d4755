"""What does a gradient under BPTT spend its time on? Milliseconds of its parts, each a program of its own, beside the whole.

python -m benchmarks.parts                                # B = 1, 8, 32 at N = 128, N = 256 to 1,024, and a single unit
python -m benchmarks.parts --workloads 1x128 --repeats 50

The gradient is the one of the peer `slax` in `bptt`: three layers of (Linear N to N, LIF), T = 256; the loss is the number of
spikes. All programs of a workload take turns; a time is the least of all repeats. The products are the matrix products of the
layers, forward and reverse: the peer `matmul`. The recursions are the three layers of neurons, forward and reverse, from given
currents and given gradients of the spikes; with a single unit, they are little more than the iterations of their loops.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.peers import matmul, slax
from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import Workload, uniform
from benchmarks.timing import times_of, write_rows
from slax_neurons import LIF


def recursions(workload: Workload) -> JaxStep:
    """The gradients of the currents of three layers, each with its own currents and gradients of spikes."""
    steps, batch, (n, *layers), *_ = workload
    rng = np.random.default_rng(1)
    currents, signals = (list(rng.standard_normal((len(layers), steps, batch, n), np.float32)) for _ in range(2))

    def loss(currents: list[jax.Array], signals: list[jax.Array]) -> jax.Array:
        spikes = (slax.output(LIF(), current) for current in currents)
        return sum((of * signal).sum() for of, signal in zip(spikes, signals, strict=True))

    return JaxStep(jax.value_and_grad(loss), currents, signals)


def parts(workload: Workload) -> dict[str, Callable[[], Any]]:
    """A call of each program by its name in the table."""
    return {
        "the whole gradient": slax.bptt("default", workload),
        "products alone": matmul.bptt("default", workload),
        "recursions alone": recursions(workload),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    workloads = ["1x128", "8x128", "32x128", "32x256", "32x512", "32x1024", "1x1"]
    parser.add_argument("--workloads", nargs="+", default=workloads, help="batch and units, as in 32x128")
    parser.add_argument("--repeats", type=int, default=300)
    args = parser.parse_args()
    found: dict[str, dict[str, str]] = {}
    for batch, n in (map(int, workload.split("x")) for workload in args.workloads):
        for name, times in times_of(parts(uniform(256, n, batch)), args.repeats).items():
            found.setdefault(name, {"": name})[f"B = {batch}, N = {n}"] = f"{1e3 * min(times):.3g}"
    rows = list(found.values())
    write_rows(rows, list(rows[0]))


if __name__ == "__main__":
    main()
