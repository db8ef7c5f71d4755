"""Times the contenders side by side, and writes what was measured to a JSON file; `table.py` makes a table of it.

Each contender has a process of its own in an environment of its own. All processes of a workload live at once and are asked
in turn, round after round in another order, so that whatever else the machine does meets all of them.

    python benchmarks/bptt/run.py                                   # speed: T = 256, N = 128 ... 1024, all contenders
    python benchmarks/bptt/run.py --sizes 128 --peers slax jaxpike:checkpointed_32
    python benchmarks/bptt/run.py overhead                          # a net so small that the calls themselves can be seen
    python benchmarks/bptt/run.py memory                            # XLA's temporaries for longer sequences
"""

import argparse
import json
import os
import platform
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contenders import ROOT, Contender, Failed, contenders
from process import Process
from tqdm import tqdm
from workload import Workload, small, uniform

MODES = {  # workloads, contenders (none: all of them), rounds
    "speed": (lambda sizes: [uniform(256, size) for size in sizes], [], 10),
    "overhead": (lambda sizes: [small(20), small(256)], ["slax:default", "plain"], 20),
    "memory": (
        lambda sizes: [uniform(steps, 128) for steps in (256, 1024, 4096)] + [uniform(256, 1024)],
        ["slax:default", "slax:read_out", "slax:chunk_16", "slax:remat", "plain", "jaxpike"],
        0,
    ),
}


def main() -> None:
    arguments = _parser().parse_args()
    workloads, names, rounds = MODES[arguments.mode]
    chosen = contenders(arguments.peers or names)
    rounds = rounds if arguments.repeats is None else arguments.repeats
    output = arguments.output or ROOT / "results" / "benchmarks" / f"{arguments.mode}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    results = {"machine": machine(), "workloads": []}
    for workload in workloads(arguments.sizes):
        records = measure(workload, chosen, rounds, arguments.seconds)
        results["workloads"].append(workload._asdict() | {"records": records})
        output.write_text(json.dumps(results, indent=1))


def measure(workload: Workload, chosen: list[Contender], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One record per contender: what it said of its first step, its rounds of times, and the error that ended it, if any."""
    label = f"T={workload.steps}, N={max(workload.widths)}"
    records = {contender.name: {"name": contender.name, "rounds": [], "error": None} for contender in chosen}
    processes: dict[str, Process] = {}
    for contender in tqdm(chosen, f"{label}: first steps"):
        try:
            process = Process(contender, workload)
            records[contender.name] |= process.answer()
            processes[contender.name] = process
        except Failed as failure:
            records[contender.name]["error"] = str(failure)
    for index in tqdm(range(rounds), f"{label}: rounds"):
        for name in random.Random(index).sample(list(processes), len(processes)):
            try:
                records[name]["rounds"].append(processes[name].times(seconds))
            except Failed as failure:
                del processes[name]
                records[name]["error"] = str(failure)
    for process in processes.values():
        process.close()
    return list(records.values())


def machine() -> dict[str, Any]:
    """What the numbers belong to; the load is that of one minute before the first of them."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 1),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=MODES, default="speed")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512, 1024], help="N, for the mode speed")
    parser.add_argument("--peers", nargs="+", help="names such as jaxpike, all its variants, or slax:remat")
    parser.add_argument("--repeats", type=int, help="rounds; 0 takes each contender's first step alone")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a contender's turn, in which it takes >= 1 step")
    parser.add_argument("--output", type=Path, help="JSON file, by default results/benchmarks/MODE.json")
    return parser


if __name__ == "__main__":
    main()
