"""What needs a GPU, in one command and in the minutes that there are, on a machine where nothing can be installed.

    python -m experiments.gpu --minutes 9

It needs JAX, Flax, Optax, matplotlib, numpy, and scikit-learn for the tasks on digits. First it times BPTT and rules with 1, 4,
8 and 16 steps in an iteration of the loop over time, `slax_neurons.scan_unroll`, in results/gpu/iterations.csv. Then it makes
results of the paper scale in the order of their importance: throughput of this repository and of what else can be imported,
gradient similarity, landscapes, accuracy. It stops when the time is over, and the same command continues where it stopped, with
the job that was not finished. `gpu.tar.gz` has everything that was made, with the name of the device. Unpack it at the top of a
checkout: `snakemake figures/all --config scale=paper outdated=keep` uses the results, except for the times of throughput, which
are apart, since peers without an environment of their own are missing there. These are drawn by

    python -m experiments.plot throughput --scale paper --set own_environments=false --results results/gpu --output figures/gpu
"""

import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.common.command_line import parser_of
from experiments.common.job import jobs_of, settings_of
from experiments.common.products import result_product
from experiments.common.records import state_of

SCALE = "paper"
FIRST = ("n1024", "n2048", "n4096", "n512", "n6144", "rules_n128", "rules_n512")  # workloads, before the others
EXPERIMENTS = ("throughput", "gradient_similarity", "landscapes", "accuracy")
ARCHIVE = Path("gpu.tar.gz")
RESULTS, TIMES = Path("results"), Path("results/gpu")
ITERATIONS = TIMES / "iterations.csv"
OF_ITERATIONS = "--rules bptt sltt ottt ostl otpe e_prop --steps 1 4 8 16 --sizes 128 512 1024"


class Step(NamedTuple):
    """A program to run, the files that it makes, and whether these are current."""

    name: str
    command: list[str]
    files: tuple[Path, ...]
    is_current: bool


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("experiments.gpu", __doc__)
    parser.add_argument("--minutes", type=float, required=True, help="how long it may take")
    end = time.monotonic() + 60 * parser.parse_args(arguments).minutes
    made: list[Path] = []
    for name, command, files, is_current in steps():
        left = end - time.monotonic()
        if not is_current and left > 0:
            print(f"{name}, with {left / 60:.1f} minutes left", flush=True)
            try:
                status = subprocess.run(command, timeout=left).returncode
                ended = f"failed with exit status {status}" if status else "done"
            except subprocess.TimeoutExpired:
                ended = "stopped, since the time is over"
            print(f"{name}: {ended}", flush=True)
        made += [file for file in files if file.exists()]
    with tarfile.open(ARCHIVE, "w:gz") as archive:
        for file in made:
            archive.add(file)
    print(f"{ARCHIVE} has {len(made)} files. The same command makes what is missing.")


def steps() -> Iterator[Step]:
    """All steps in the order of their importance."""
    times = [sys.executable, "-m", "benchmarks.iterations", *OF_ITERATIONS.split(), "--output", str(ITERATIONS)]
    yield Step("steps in an iteration", times, (ITERATIONS,), ITERATIONS.exists())
    for experiment in EXPERIMENTS:
        apart = experiment == "throughput"
        results = TIMES if apart else RESULTS
        settings = settings_of(experiment, SCALE) | ({"own_environments": False} if apart else {})
        jobs = jobs_of(experiment, SCALE, settings)
        for name in sorted(jobs, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
            if jobs[name].spikes:
                continue
            product = result_product(experiment, SCALE, jobs[name], results=results)
            command = [sys.executable, "-m", "experiments.run", experiment, name, "--scale", SCALE]
            command += ["--set", "own_environments=false", "--results", str(results)] if apart else []
            is_current = state_of(product).kind == "current"
            yield Step(f"{experiment} {name}", command, (product.record, *product.files), is_current)


if __name__ == "__main__":
    main()
