"""What needs a GPU, in one command and in the minutes that there are, on a machine where nothing can be installed.

    python -m experiments.gpu --minutes 9
    python -m experiments.gpu --minutes 3 --platform cpu      # the command itself, at toy sizes, without a GPU

It needs JAX, Flax, Optax, matplotlib, numpy, and scikit-learn for the tasks on digits, and stops at once without a GPU. First
it times rules beside BPTT in one window and in short ones, with 1, 4, 8 and 16 steps in an iteration of the loop over time:
`benchmarks.rules`, in results/gpu/rules.csv. Then it makes results of the paper scale in the order of their importance:
throughput of this repository and of what else can be imported, gradient similarity, landscapes, accuracy. It stops when the
time is over, and the same command continues where it stopped, with the rows or the job that were not finished. `gpu.tar.gz` has
everything that was made, with the name of the device. Unpack it at the top of a checkout: `snakemake figures/all --config
scale=paper outdated=keep` uses the results, except for the times of throughput, which are apart, since peers without an
environment of their own are missing there. These are drawn by

    python -m experiments.plot throughput --scale paper --set own_environments=false --results results/gpu --output figures/gpu
"""

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import rules
from experiments.pipeline.command_line import parser_of
from experiments.pipeline.job import jobs_of, settings_of
from experiments.pipeline.results import result_product, state_of

SCALES = {"gpu": "paper", "cpu": "tiny"}
FIRST = ("n1024", "n2048", "n4096", "n512", "n6144", "rules_n128", "rules_n512")  # workloads, before the others
EXPERIMENTS = ("throughput", "gradient_similarity", "landscapes", "accuracy")
RESULTS = Path("results")
DEVICE = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind)"


class Step(NamedTuple):
    """A program to run, the files that it makes, and whether these are current."""

    name: str
    command: list[str]
    files: tuple[Path, ...]
    is_current: bool


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("experiments.gpu", __doc__)
    parser.add_argument("--minutes", type=float, required=True, help="how long it may take")
    parser.add_argument("--platform", choices=SCALES, default="gpu", help="cpu: to try this command, at toy sizes")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    if options.platform == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"  # of this and all programs that it starts
    device = device_of(options.platform)
    made: list[Path] = []
    for name, command, files, is_current in steps(options.platform, device):
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
    archive = Path(f"{options.platform}.tar.gz")
    with tarfile.open(archive, "w:gz") as opened:
        for file in made:
            opened.add(file)
    print(f"{archive} has {len(made)} files. The same command makes what is missing.")


def device_of(platform: str) -> str:
    """The name of the device that programs run on; SystemExit if it is not of the platform."""
    found, _, device = found_device().partition(" ")
    if found != platform:
        raise SystemExit(
            f"experiments.gpu got the {found} {device!r} as the first device of JAX, expected a {platform}. Install JAX "
            "for the GPU of this machine (`make cuda`); `--platform cpu` tries this command at toy sizes without one."
        )
    return device


def found_device() -> str:
    """Platform and name of JAX's first device, from a process of its own, since one that has a GPU keeps most of its memory."""
    return subprocess.run([sys.executable, "-c", DEVICE], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def steps(platform: str, device: str) -> Iterator[Step]:
    """All steps in the order of their importance."""
    times, scale = RESULTS / platform, SCALES[platform]
    table, tiny = times / "rules.csv", platform == "cpu"
    command = [sys.executable, "-m", "benchmarks.rules", "--output", str(table), *(["--tiny"] if tiny else [])]
    is_current = not rules.left(table, device, rules.cases_of(tiny=tiny), rules.ITERATIONS)
    yield Step("times of rules", command, (table,), is_current)
    for experiment in EXPERIMENTS:
        apart = experiment == "throughput"
        results = times if apart else RESULTS
        settings = settings_of(experiment, scale) | ({"own_environments": False} if apart else {})
        jobs = jobs_of(experiment, scale, settings)
        for name in sorted(jobs, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
            if jobs[name].spikes:
                continue
            product = result_product(experiment, scale, jobs, name, results=results)
            command = [sys.executable, "-m", "experiments.run", experiment, name, "--scale", scale]
            command += ["--set", "own_environments=false", "--results", str(results)] if apart else []
            is_current = state_of(product).kind == "current"
            yield Step(f"{experiment} {name}", command, (product.record, *product.files), is_current)


if __name__ == "__main__":
    main()
