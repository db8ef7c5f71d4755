"""Measure contenders side by side.

The processes of a workload run concurrently and are timed in turn, in a different order each round, so that other load on the
machine affects all of them.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.side_by_side.contenders import ENVIRONMENTS, GPU, ROOT, BenchmarkError, Contender
from benchmarks.side_by_side.environment import python_of
from benchmarks.side_by_side.workload import Workload

# The processes of a workload share one device, and JAX would take three quarters of its memory in each. On a GPU, JAX's
# matrix products would use TF32, unlike PyTorch's defaults.
COMMON_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "float32"}
# Snakemake, and for XLA workflow/logged, set these to the threads of the rule. Without them each library uses its default.
LIBRARIES = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
NUMBERS_OF_THREADS = {"NPROC", "VECLIB_MAXIMUM_THREADS", *(f"{name}_NUM_THREADS" for name in LIBRARIES)}
ARRAYS = 24  # [T, B, N], by which a process has grown the most in its first step, with its inputs: Norse's at N = 1,024


def measure(
    workload: Workload, chosen: list[Contender], rounds: int, seconds: float, *, first_round: int = 0
) -> list[dict[str, Any]]:
    """One record per contender: the report on its first step, its rounds of times, and the error that ended it, if any.

    The order of the contenders in a round follows from the number of the round, counted from `first_round`.
    """
    label = f"T={workload.steps}, N={max(workload.widths)}"
    records = {
        contender.name: {
            "name": contender.name,
            "neuron": contender.neuron,
            "rounds": [],
            "error": None,
            "left_out": contender.unsupported_reason(workload),
        }
        for contender in chosen
    }
    processes: dict[str, Process] = {}

    @contextlib.contextmanager
    def failures_of(name: str) -> Iterator[None]:
        """A context in which a failure ends the contender and is stored in its record."""
        try:
            yield
        except BenchmarkError as failure:
            processes.pop(name, None)
            records[name]["error"] = str(failure)

    for contender in [contender for contender in chosen if not contender.unsupported_reason(workload)]:
        with failures_of(contender.name):
            processes[contender.name] = Process(contender, workload)
    for name, process in tqdm(list(processes.items()), f"{label}: imports, of all at once"):
        with failures_of(name):
            process.answer()
    needed = 4 * ARRAYS * workload.steps * workload.batch * max(workload.widths)
    for name, process in tqdm(list(processes.items()), f"{label}: first steps"):
        if (free := free_bytes()) < needed:
            processes.pop(name).close()
            records[name]["left_out"] = (
                f"left out for its memory: {free / 1e9:.1f} GB are free, of up to {needed / 1e9:.1f} GB"
            )
            continue
        with failures_of(name):
            records[name] |= process.ask(first_step=True)
    for index in tqdm(range(first_round, first_round + rounds), f"{label}: rounds"):
        for name in random.Random(index).sample(list(processes), len(processes)):
            with failures_of(name):
                records[name]["rounds"].append(processes[name].ask(seconds=seconds)["times"])
    for process in processes.values():
        process.close()
    return list(records.values())


def free_bytes() -> float:
    """What Linux says that processes can take; without a limit elsewhere, and where the arrays are on a GPU."""
    table = Path("/proc/meminfo")
    if GPU.exists() or not table.exists():
        return float("inf")
    (available,) = (line.split()[1] for line in table.read_text().splitlines() if line.startswith("MemAvailable:"))
    return 1024.0 * int(available)


class Process:
    """Run worker.py for a contender in its environment; its other output goes to a log next to the environment.

    Raises:
        BenchmarkError: the environment cannot be made, or, from the methods, the process has ended.
    """

    def __init__(self, contender: Contender, workload: Workload):
        arguments = [contender.benchmark, contender.peer, contender.variant, json.dumps(workload)]
        command = [python_of(contender), "-m", "benchmarks.side_by_side.worker", *arguments]
        self.log = ENVIRONMENTS / f"{contender.peer}-{contender.benchmark}-{contender.variant}.log"
        pipe = subprocess.PIPE
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=variables_of(contender)
            )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer of worker.py to a request."""
        with contextlib.suppress(BrokenPipeError):  # the process has ended: `answer` reports how
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next object that the process writes: the first one when everything is imported and the neuron is as stated."""
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            raise BenchmarkError.from_output(f"exit status {status}\n{self.log.read_text(encoding='utf-8')}")
        return json.loads(line)

    def close(self) -> None:
        self.process.communicate()


def variables_of(contender: Contender) -> dict[str, str]:
    """The environment variables of a contender's process: most current ones, the common ones, and its own."""
    # A new environment has no bytecode: its first process writes it for its imports, whatever the setting of this process.
    not_passed_on = NUMBERS_OF_THREADS | (set() if contender.here else {"PYTHONDONTWRITEBYTECODE"})
    at_hand = {name: value for name, value in os.environ.items() if name not in not_passed_on}
    paths = [str(ROOT), *(sys.path if contender.here else filter(None, [at_hand.get("PYTHONPATH")]))]
    return at_hand | COMMON_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)} | contender.variables
