"""The process of a contender, as seen by the coordinator."""

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.side_by_side.contenders import ROOT, BenchmarkError, Contender
from benchmarks.side_by_side.environment import python_of
from benchmarks.side_by_side.workload import Workload

# The processes of a workload share one device, and JAX would take three quarters of its memory in each. On a GPU, JAX's
# matrix products would use TF32, unlike PyTorch's defaults.
COMMON_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "float32"}
# Snakemake, and for XLA workflow/logged, set these to the threads of the rule. Without them each library uses its default.
LIBRARIES = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
NUMBERS_OF_THREADS = {"NPROC", "VECLIB_MAXIMUM_THREADS", *(f"{name}_NUM_THREADS" for name in LIBRARIES)}


class Process:
    """Run worker.py for a contender in its environment; its other output goes to a log next to the environment.

    Raises:
        BenchmarkError: the environment cannot be made, or, from the methods, the process has ended.
    """

    def __init__(self, contender: Contender, workload: Workload):
        arguments = [contender.benchmark, contender.peer, contender.variant, json.dumps(workload)]
        command = [python_of(contender), "-m", "benchmarks.side_by_side.worker", *arguments]
        self.log = contender.log
        pipe = subprocess.PIPE
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=variables_of(contender)
            )

    def wait_until_ready(self) -> None:
        """Wait until everything is imported and the neuron is confirmed to be as stated."""
        self._answer()

    def first_step(self) -> dict[str, Any]:
        """The report of worker.py on the first step, which must be requested before anything else."""
        return self._ask({"first_step": True})

    def times(self, seconds: float) -> list[float]:
        """The duration of each step in one turn, in seconds."""
        return self._ask({"seconds": seconds})["times"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # the process has ended: `_answer` reports how
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """The next object that the process writes."""
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
