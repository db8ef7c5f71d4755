"""How long until the first number? Processor seconds of an import and of first calls, each in a fresh process.

python -m benchmarks.first_calls --rounds 9

The processes take turns, and numbers are medians over the rounds. The gradient is of a network 64-64-64-10 of LIF with T = 100
and B = 8, whose model is made before; a step of `fit` has Adam. In the last column, an earlier process has left all programs in
JAX's compilation cache.
"""

import argparse
import gc
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import optax
from flax import nnx

from benchmarks.rules import with_read_out
from benchmarks.side_by_side.workload import Workload
from benchmarks.timing import write_rows
from slax_rules import RULES, cross_entropy, fit, gradients

CALLS = ("gradients bptt", "gradients ostl", "gradients otpe", "gradients e_prop", "fit otpe")
IMPORT = "import slax_rules, time; print(time.process_time())"
COMPILED, KEPT = "programs compiled", "programs kept on disk"


def first_call(what: str, rule: str) -> float:
    """The processor seconds of a call in this process, which has made none yet."""
    workload = Workload(100, 8, (64, 64, 64, 10))
    model, batch, made = with_read_out(workload), (workload.inputs(), workload.labels()), RULES[rule].make()
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    batch, _ = jax.block_until_ready((jax.device_put(batch), nnx.state(optimizer)))
    gc.collect()  # or chance decides whether the call does it
    start = time.process_time()
    if what == "fit":
        fit(model, optimizer, cross_entropy, [batch], rule=made, progress=False)
    else:
        jax.block_until_ready(gradients(model, cross_entropy, *batch, rule=made))
    return time.process_time() - start


def seconds_of(*arguments: str, cache: str | None = None) -> float:
    """The last number that Python prints in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    if cache is not None:
        env |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run([sys.executable, *arguments], env=env, check=True, text=True, capture_output=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--one", nargs=2, metavar=("WHAT", "RULE"), help="print the seconds of one call in this process"
    )
    options = parser.parse_args()
    if options.one:
        print(first_call(*options.one))
        return
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(options.rounds + 1):  # the first one writes bytecode and fills the cache
            for name, (column, kept) in itertools.product(CALLS, {COMPILED: None, KEPT: cache}.items()):
                seconds = seconds_of("-m", "benchmarks.first_calls", "--one", *name.split(), cache=kept)
                found.setdefault((name, column), []).append(seconds)
            found.setdefault(("import slax_rules", COMPILED), []).append(seconds_of("-c", IMPORT))
    rows: dict[str, dict[str, str]] = {}
    for (name, column), seconds in found.items():
        rows.setdefault(name, {"": name})[column] = f"{statistics.median(seconds[1:]):.2f}"
    write_rows(rows.values(), ("", COMPILED, KEPT))


if __name__ == "__main__":
    main()
