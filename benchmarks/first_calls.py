"""How long until the first number? Processor seconds of an import and of first calls, each in a fresh process.

python -m benchmarks.first_calls

The processes take turns, and numbers are medians over the rounds. The gradient is of a network 64-64-64-10 of LIF with T = 100
and B = 8, whose model is made before; a step of `fit` has Adam. In the last column, an earlier process has left all programs in
JAX's compilation cache.
"""

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import optax
from flax import nnx

from benchmarks.output import write_rows
from benchmarks.rules import with_read_out
from benchmarks.side_by_side.workload import Workload
from slax_rules import RULES, cross_entropy, fit, gradients

NAMES = ("gradients bptt", "gradients ostl", "gradients otpe", "gradients e_prop", "fit otpe")
CALLS = {name: f"from benchmarks.first_calls import first_call; print(first_call('{name}'))" for name in NAMES}
IMPORT = "import slax_rules, time; print(time.process_time())"
ROUNDS = 9
COMPILED, KEPT = "programs compiled", "programs kept on disk"


def first_call(name: str) -> float:
    """The processor seconds of one of `NAMES`, a call and its rule, in this process, which has made no call yet."""
    what, rule = name.split()
    workload = Workload(100, 8, (64, 64, 64, 10))
    model, batch, made = with_read_out(workload.widths), (workload.inputs(), workload.labels()), RULES[rule].make()
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    batch, _ = jax.block_until_ready((jax.device_put(batch), nnx.state(optimizer)))
    gc.collect()  # or chance decides whether the call does it
    start = time.process_time()
    if what == "fit":
        fit(model, optimizer, cross_entropy, [batch], rule=made, progress=False)
    else:
        jax.block_until_ready(gradients(model, cross_entropy, *batch, rule=made))
    return time.process_time() - start


def seconds_of(program: str, cache: str | None = None) -> float:
    """The number that a program prints in a process of its own, with a folder of compiled programs or without one."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    if cache is not None:
        env |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=env, check=True, text=True, capture_output=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    found: dict[str, dict[str, list[float]]] = {name: {COMPILED: [], KEPT: []} for name in CALLS}
    found["import slax_rules"] = {COMPILED: []}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(ROUNDS + 1):  # the first one writes bytecode and fills the cache
            for name, columns in found.items():
                for column, seconds in columns.items():
                    seconds.append(seconds_of(CALLS.get(name, IMPORT), cache if column == KEPT else None))
    rows = (
        {"": name} | {column: f"{statistics.median(seconds[1:]):.2f}" for column, seconds in columns.items()}
        for name, columns in found.items()
    )
    write_rows(rows, ("", COMPILED, KEPT))


if __name__ == "__main__":
    main()
