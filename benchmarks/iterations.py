"""Do several steps in an iteration of the loop over time help on a CPU? Times of a gradient under BPTT, on one thread.

python -m benchmarks.iterations                           # N = 64 to 1,024, 1 to 8 steps in an iteration
python -m benchmarks.iterations --sizes 64 --repeats 200

The network is three layers of (Linear N to N, LIF), T = 256, B = 32; the loss is the number of spikes. All programs of a size
take turns; a time is the least of all repeats.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX starts

from benchmarks.parts import whole
from benchmarks.turns import least_times
from slax_neurons import scan_unroll

BATCH, PER_ITERATION = 32, (1, 2, 4, 8)


def within(steps: int, call: Callable[[], Any]) -> Any:
    """The result of a call whose loops have that many steps in an iteration."""
    with scan_unroll(steps):
        return call()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    print("steps in an iteration," + ",".join(f"N = {n}" for n in args.sizes))
    times = {
        n: least_times({steps: partial(within, steps, whole(BATCH, n)) for steps in PER_ITERATION}, args.repeats)
        for n in args.sizes
    }
    for steps in PER_ITERATION:
        print(f"{steps}," + ",".join(f"{times[n][steps]:.3g}" for n in args.sizes))


if __name__ == "__main__":
    main()
