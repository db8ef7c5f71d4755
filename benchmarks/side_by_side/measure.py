"""The command line of a benchmark, which measures its contenders side by side and writes the results to a JSON file.

The processes of a workload run concurrently and are timed in turn, in a different order each round, so that other load on the
machine affects all of them.
"""

import argparse
import contextlib
import json
import os
import platform
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from benchmarks.side_by_side.contenders import ROOT, BenchmarkError, Contender, contenders
from benchmarks.side_by_side.process import Process
from benchmarks.side_by_side.workload import Workload


class Mode(NamedTuple):
    """The scope of a measurement: workloads made from requested sizes, contenders (all if none), and the number of rounds."""

    workloads: Callable[[Sequence[int]], list[Workload]]
    names: list[str]
    rounds: int
    sizes: Sequence[int] = ()  # default sizes; none where the workloads are fixed


def run(benchmark: str, description: str, modes: dict[str, Mode]) -> None:
    """Measure a benchmark; the first of its modes is the default."""
    arguments = _parser(description, modes).parse_args()
    mode = modes[arguments.mode]
    chosen = [one._replace(jax=arguments.jax) for one in contenders(benchmark, arguments.peers or mode.names)]
    rounds = mode.rounds if arguments.repeats is None else arguments.repeats
    output = arguments.output or ROOT / "results" / "benchmarks" / f"{benchmark}_{arguments.mode}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    results = {"machine": machine(), "workloads": []}
    for workload in mode.workloads(arguments.sizes or mode.sizes):
        workload = workload if arguments.batch is None else workload._replace(batch=arguments.batch)
        records = measure(workload, chosen, rounds, arguments.seconds)
        results["workloads"].append(workload._asdict() | {"records": records})
        output.write_text(json.dumps(results, indent=1), encoding="utf-8")


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
    for name, process in tqdm(list(processes.items()), f"{label}: first steps"):
        with failures_of(name):
            records[name] |= process.first_step()
    for index in tqdm(range(first_round, first_round + rounds), f"{label}: rounds"):
        for name in random.Random(index).sample(list(processes), len(processes)):
            with failures_of(name):
                records[name]["rounds"].append(processes[name].times(seconds))
    for process in processes.values():
        process.close()
    return list(records.values())


def machine() -> dict[str, Any]:
    """The machine that the numbers belong to; the load is the average over the minute before the first measurement."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 1),
    }


def _parser(description: str, modes: dict[str, Mode]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=modes, default=next(iter(modes)))
    parser.add_argument("--sizes", type=int, nargs="+", help="N, in the modes speed and length")
    parser.add_argument("--peers", nargs="+", help="names such as jaxpike, all its variants, or slax:remat")
    parser.add_argument("--batch", type=int, help="samples of a batch, in place of 32")
    parser.add_argument(
        "--jax", help="version of JAX for all peers that can be installed with it; default: each has its own"
    )
    parser.add_argument("--repeats", type=int, help="rounds; 0 takes each contender's first step alone")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a contender's turn, in which it takes >= 1 step")
    parser.add_argument("--output", type=Path, help="JSON file, by default results/benchmarks/BENCHMARK_MODE.json")
    return parser
