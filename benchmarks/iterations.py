"""What do rules cost beside BPTT, and do several steps in an iteration of the loop over time help? One table in one file.

python -m benchmarks.iterations --output iterations.csv   # on the device that JAX finds; on a GPU: `experiments.gpu`
python -m benchmarks.iterations --output cpu.csv --steps 1 --seconds 10 # what rules cost on a CPU: one step in an iteration
python -m benchmarks.iterations --output trial.csv --tiny # tiny networks, to try it

"one window" is the gradient of `benchmarks.rules`, of three layers of N with T = 256, and "windows" are the gradients of
`benchmarks.windows`, of a sequence of 20 steps in windows of 5 and 1, beside BPTT of all steps; a window is the rule's own if
it is `default`. Each is timed with 8, 1, 16 and 4 steps in an iteration, `slax_neurons.scan_unroll`. The programs of a network
take turns, their rows are appended when all are timed, and the same command continues with the networks that have no rows of
this device, JAX and commit yet. `to_bptt` is a ratio of medians. A program that the device refuses has an error and no times.
"""

import argparse
import csv
import itertools
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import windows
from benchmarks.peers import slax
from benchmarks.side_by_side.workload import Workload
from benchmarks.turns import times_of
from experiments.drawing.tables import rows_of_csv
from experiments.pipeline.results import commit
from slax_neurons import scan_unroll

COLUMNS = ("device", "jax", "commit", "task", "network", "batch", "steps_in_iteration", "window", "rule")
COLUMNS += ("median_s", "least_s", "to_bptt", "temporaries_bytes", "error")
KEY = COLUMNS[:7]  # of a group
RULES = ("bptt", "sltt", "ottt", "ostl", "otpe", "e_prop")
ITERATIONS = (8, 1, 16, 4)  # the default on a GPU and the one on a CPU before the others
REPEATS = 100  # rounds of a group, as far as time allows


class Case(NamedTuple):
    """A network, whose programs take turns."""

    task: str
    network: str
    batch: int = 32
    rules: tuple[str, ...] = RULES
    steps: int = 256

    def programs(self) -> dict[tuple[Any, str], tuple[Any, Any]]:
        """The program of each window and rule, jitted, and its arguments."""
        widths = [int(width) for width in self.network.split("-")]
        if self.task == "one window":
            workload = Workload(self.steps, self.batch, tuple(widths))
            jitted = {("default", rule): slax.rules(rule, workload) for rule in self.rules}
            return {key: (step.step, step.arguments) for key, step in jitted.items()}
        calls = windows.calls(widths, self.batch)
        short = [(window, rule) for window in windows.WINDOWS[1:] for rule in windows.NAMES[1:]]
        found = {key: calls["gradients", *key] for key in [(windows.STEPS, "bptt"), *short]}
        return {key: (call.func, call.args) for key, call in found.items()}


CASES = (  # in the order of their importance
    Case("one window", "128-128-128-128"),
    Case("windows", "700-128-20"),
    Case("windows", "64-50-10"),
    Case("one window", "512-512-512-512"),
    Case("one window", "256-256-256-256"),
    Case("one window", "1024-1024-1024-1024"),
    Case("one window", "128-128-128-128", batch=8),
    Case("one window", "128-128-128-128", batch=1, rules=("bptt",)),
)
TINY = (Case("one window", "4-4-4-4", 2, ("bptt", "ottt"), 8), Case("windows", "4-3-2", 2))


def left(file: Path, device: str, tiny: bool, iterations: Sequence[int] = ()) -> list[tuple[Case, int]]:
    """The networks and the steps in an iteration whose rows are not in the file, in the order in which they are measured."""
    run = device, jax.__version__, commit()
    found = {tuple(row[name] for name in KEY) for row in rows_of_csv(file)} if file.exists() else set()
    groups = [(case, steps) for steps, case in itertools.product(iterations or ITERATIONS, TINY if tiny else CASES)]
    return [
        (case, steps)
        for case, steps in groups
        if (*run, case.task, case.network, str(case.batch), str(steps)) not in found
    ]


def measured(case: Case, steps: int, seconds: float = 2.0) -> dict[tuple[Any, str], dict[str, Any]]:
    """The last columns of each window and rule: the programs are compiled at the same time, then they take turns."""
    with scan_unroll(steps), jax.default_matmul_precision("float32"):
        lowered = {key: (program.lower(*of), of) for key, (program, of) in case.programs().items()}

    def attempt(step: Callable[[], Any]) -> Any:
        """What a step returns, or the error of the device."""
        try:
            return step()
        except jax.errors.JaxRuntimeError as failure:
            return failure

    with ThreadPoolExecutor() as pool:
        programs = dict(zip(lowered, pool.map(lambda key: attempt(lowered[key][0].compile), lowered), strict=True))
    for key, one in programs.items():  # one after the other, since memory may not be enough for two
        if not isinstance(one, Exception):
            failure = attempt(lambda one=one, key=key: jax.block_until_ready(one(*lowered[key][1])) and None)
            programs[key] = failure or one
    rows = {key: {"error": str(one).partition("\n")[0]} for key, one in programs.items() if isinstance(one, Exception)}
    calls = {key: partial(one, *lowered[key][1]) for key, one in programs.items() if key not in rows}
    times = {key: [ms / 1e3 for ms in of] for key, of in times_of(calls, REPEATS, seconds).items()}
    bptt = next((statistics.median(of) for (_, rule), of in times.items() if rule == "bptt"), None)
    for key, of in times.items():
        median = statistics.median(of)
        rows[key] = {"median_s": f"{median:.4g}", "least_s": f"{min(of):.4g}"}
        rows[key] |= {"to_bptt": f"{median / bptt:.3f}"} if bptt else {}
        rows[key]["temporaries_bytes"] = programs[key].memory_analysis().temp_size_in_bytes
    return {key: rows[key] for key in programs}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the file, which may have rows already")
    parser.add_argument("--tiny", action="store_true", help="tiny networks")
    parser.add_argument("--steps", nargs="+", type=int, default=ITERATIONS, help="steps in an iteration of the loop")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the programs of a network take turns")
    options = parser.parse_args(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    run = jax.devices()[0].device_kind, jax.__version__, commit()
    for case, steps in left(options.output, run[0], options.tiny, options.steps):
        group = dict(zip(KEY, (*run, *case[:3], steps), strict=True))
        found = measured(case, steps, options.seconds)
        rows = [group | {"window": window, "rule": rule} | row for (window, rule), row in found.items()]
        with options.output.open("a", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            if not file.tell():
                table.writeheader()
            table.writerows(rows)
        for row in rows:
            print(*(row.get(name, "") for name in COLUMNS[3:]), sep=", ", flush=True)


if __name__ == "__main__":
    main()
