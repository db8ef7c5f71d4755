"""Run one contender in its own environment: `python -m benchmarks.side_by_side.worker BENCHMARK PEER VARIANT WORKLOAD`.

The workload is JSON. The worker speaks JSON, one object per line. It reports its first step,
then answers each {"seconds": S} on standard input with the times of as many steps as fit into S seconds, at least one; in
between it waits. Whatever a library prints goes to standard error. The worker needs only the standard library and the
dependencies of the peer's file.
"""

import importlib
import json
import math
import os
import re
import resource
import sys
import time
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.side_by_side.contenders import GPU, contender, script
from benchmarks.side_by_side.equations import check
from benchmarks.side_by_side.workload import Workload


def main() -> None:
    benchmark, peer, variant, workload = sys.argv[1:]
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def reply(values: dict) -> None:
        print(json.dumps(values), file=replies, flush=True)

    module, stated = importlib.import_module(f"benchmarks.peers.{peer}"), contender(benchmark, f"{peer}:{variant}")
    if stated.neuron:
        check(stated.neuron["equation"], partial(module.spikes_of, variant))
    reply({"ready": True})
    step = None
    for line in sys.stdin:
        request = json.loads(line)
        if "first_step" in request:
            step = getattr(module, benchmark)(variant, Workload(*json.loads(workload)))
            told = first_step(step) | {"python": sys.version.split()[0], "versions": versions(stated.file)}
        else:
            told = {"times": timed(step, request["seconds"])}
        step.release()
        reply(told)
    os._exit(0)  # does not wait for libraries to clean up


def first_step(step) -> dict:
    """The loss, the seconds that the first call takes, the memory that it adds, and XLA's temporaries.

    Raises:
        RuntimeError: the step runs on the CPU although there is a GPU and `JAX_PLATFORMS=cpu` is not set, or its loss is not
            finite.
    """
    if GPU.exists() and step.device() == "cpu" and os.environ.get("JAX_PLATFORMS") != "cpu":
        raise RuntimeError("it runs on the CPU, though there is an NVIDIA GPU")
    before = peak_memory()
    start = time.perf_counter()
    loss = float(step())
    seconds = time.perf_counter() - start
    growth = peak_memory() - before
    if not math.isfinite(loss):
        raise RuntimeError(f"its loss is {loss}, expected a finite number")
    return {
        "loss": loss,
        "first_call": seconds,
        "memory_growth": growth,
        "temporaries": step.temporary_bytes(),
        "device": step.device(),
        "peak_device_bytes": step.peak_device_bytes(),
    }


def timed(step, seconds: float) -> list[float]:
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def peak_memory() -> int:
    """The peak memory of the process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions(file: Path) -> dict[str, str]:
    """The installed versions of the dependencies of a peer's file; a package imported without being installed is ours."""
    names = [re.match(r"[\w.-]+", requirement)[0] for requirement in script(file)["dependencies"]]
    installed = {one.name.lower(): one.version for one in distributions()}
    return {name: installed.get(name, "this checkout") for name in names}


if __name__ == "__main__":
    main()
