"""Measure contenders side by side.

The processes of a workload run concurrently and are timed in turn, in a different order each round, so that other load on the
machine affects all of them.
"""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.side_by_side.contenders import GPU, BenchmarkError, Contender
from benchmarks.side_by_side.process import Process
from benchmarks.side_by_side.workload import Workload

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
            process.wait_until_ready()
    needed = 4 * ARRAYS * workload.steps * workload.batch * max(workload.widths)
    for name, process in tqdm(list(processes.items()), f"{label}: first steps"):
        if (free := free_bytes()) < needed:
            processes.pop(name).close()
            records[name]["left_out"] = (
                f"left out for its memory: {free / 1e9:.1f} GB are free, of up to {needed / 1e9:.1f} GB"
            )
            continue
        with failures_of(name):
            records[name] |= process.first_step()
    for index in tqdm(range(first_round, first_round + rounds), f"{label}: rounds"):
        for name in random.Random(index).sample(list(processes), len(processes)):
            with failures_of(name):
                records[name]["rounds"].append(processes[name].times(seconds))
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
