"""What does a gradient cost under each rule, in time and memory, beside BPTT? A row for each rule, in one file.

python -m benchmarks.rules --output rules.csv             # "one window" and "windows"; on a GPU: `experiments.gpu`
python -m benchmarks.rules --output rules.csv --iterations 1 --seconds 10 --tasks "long sequences" online --batch 1
python -m benchmarks.rules --output trial.csv --tiny      # tiny networks, to try it

The tasks:
- "one window": the gradient of three layers of (Linear N to N, LIF), T = 256, in the window that the rule has by default.
- "long sequences": the same with T = 256, 1,024 and 4,096, under two more rules.
- "windows": the gradient of a network with a leaky read-out, T = 20, in windows of 5 and 1 steps, beside BPTT of all steps.
- "online": `train_online` of that network with Adam, in windows of 5 and 1 steps.

Each is timed with the numbers of `--iterations` of steps in an iteration of the loop over time, `slax_neurons.scan_unroll`. The
programs of a network take turns, their rows are appended when all are timed, and the same command continues with the networks
that have no rows of this device, JAX and commit yet. `to_bptt` is a ratio of medians, to BPTT in the same window if it was
timed there, or else to BPTT of the entire sequence. A program that the device refuses has an error and no times.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from benchmarks.output import write_rows
from benchmarks.peers.slax import network_of
from benchmarks.side_by_side.workload import Workload
from experiments.common.costs import times_of
from experiments.drawing.tables import rows_of_csv
from experiments.pipeline.results import commit
from slax_neurons import LI, LIF, connect, scan_unroll
from slax_rules import RULES, cross_entropy, gradients, train_online

COLUMNS = ("device", "jax", "commit", "task", "network", "batch", "steps", "steps_in_iteration", "window", "rule")
COLUMNS += ("median_s", "least_s", "to_bptt", "temporaries_bytes", "error")
KEY = COLUMNS[:8]  # of a group
TIMED = ("bptt", "sltt", "ottt", "ostl", "otpe", "e_prop")
MORE = ("approximate_otpe", "pp_prop")  # on long sequences
ITERATIONS = (8, 1, 16, 4)  # the default on a GPU and the one on a CPU before the others
REPEATS = 10_000  # rounds of a group, as far as time allows
DEFAULT = "default"  # the window that a rule has by default
ADAM = optax.adam(1e-3)

Of = tuple[Any, str]  # window and rule of a program


class Case(NamedTuple):
    """A network, whose programs take turns."""

    task: str
    network: str
    batch: int = 32
    steps: int = 256
    rules: tuple[str, ...] = TIMED
    windows: tuple[Any, ...] = (DEFAULT,)
    with_read_out: bool = False

    def programs(self) -> dict[Of, tuple[Any, Any]]:
        """A jitted program and its arguments for each window and rule."""
        workload = Workload(self.steps, self.batch, tuple(map(int, self.network.split("-"))))
        model = with_read_out(workload.widths) if self.with_read_out else network_of(workload)
        graph, state = nnx.split((model, nnx.Optimizer(model, ADAM, wrt=nnx.Param)))

        def run(rule: Any, window: Any, state: nnx.State, inputs: jax.Array, labels: jax.Array) -> Any:
            model, optimizer = nnx.merge(graph, state, copy=True)
            given = cross_entropy, inputs, labels
            if self.task == "online":
                return train_online(model, optimizer, *given, rule=rule, window=window), nnx.state((model, optimizer))
            return gradients(model, *given, rule=rule, window=window)

        arguments = jax.device_put((state, workload.inputs(), workload.labels()))
        pairs = list(itertools.product(self.windows, self.rules))
        if self.task == "windows":  # of which BPTT has one
            pairs = [(DEFAULT, "bptt"), *(pair for pair in pairs if pair[1] != "bptt")]

        def program(window: Any, rule: str) -> Any:
            return jax.jit(partial(run, RULES[rule].make(), None if window == DEFAULT else window))

        return {pair: (program(*pair), arguments) for pair in pairs}


def with_read_out(widths: Sequence[int]) -> nnx.RNNCellBase:
    """Linear and LIF of each layer, with a leaky read-out in place of the last LIF."""
    rngs, modules = nnx.Rngs(0), []
    for size in itertools.pairwise(widths):
        modules += [nnx.Linear(*size, rngs=rngs), LIF()]
    return connect([*modules[:-1], LI()])


THREE = {n: "-".join([str(n)] * 4) for n in (128, 256, 512, 1024)}
SMALL = ("700-128-20", "64-50-10")
SHORT = partial(Case, steps=20, windows=(5, 1), with_read_out=True)
CASES = (  # in the order of their importance
    Case("one window", THREE[128]),
    *(SHORT("windows", network) for network in SMALL),
    *(Case("one window", THREE[n]) for n in (512, 256, 1024)),
    Case("one window", THREE[128], batch=8),
    Case("one window", THREE[128], batch=1, rules=("bptt",)),
    *(Case("long sequences", THREE[128], 32, steps, (*TIMED, *MORE)) for steps in (256, 1024, 4096)),
    *(SHORT("online", network) for network in SMALL),
)
TASKS = tuple(dict.fromkeys(case.task for case in CASES))
TINY = (Case("one window", "4-4-4-4", 2, 8, ("bptt", "ottt")), SHORT("windows", "4-3-2", 2))


def cases_of(tasks: Collection[str] = TASKS[:2], *, tiny: bool = False) -> list[Case]:
    """The networks of tasks, or tiny ones."""
    return [*TINY] if tiny else [case for case in CASES if case.task in tasks]


def left(file: Path, device: str, cases: Collection[Case], iterations: Sequence[int]) -> list[tuple[Case, int]]:
    """The networks and the steps in an iteration whose rows are not in the file, in the order in which they are measured."""
    run = device, jax.__version__, commit()
    found = {tuple(row[name] for name in KEY) for row in rows_of_csv(file)} if file.exists() else set()
    groups = itertools.product(iterations, cases)
    return [(case, steps) for steps, case in groups if (*run, *map(str, (*case[:4], steps))) not in found]


def attempt(step: Callable[[], Any]) -> Any:
    """What a step returns, or the error of the device."""
    try:
        return step()
    except jax.errors.JaxRuntimeError as failure:
        return failure


def compiled(programs: dict[Of, tuple[Any, Any]], iterations: int) -> dict[Of, Any]:
    """A call of each compiled program, or the error of the device: they are compiled at the same time."""
    with scan_unroll(iterations), jax.default_matmul_precision("float32"):
        lowered = {key: program.lower(*arguments) for key, (program, arguments) in programs.items()}
    with ThreadPoolExecutor() as pool:
        found = dict(zip(lowered, pool.map(lambda one: attempt(one.compile), lowered.values()), strict=True))
    return {key: one if isinstance(one, Exception) else partial(one, *programs[key][1]) for key, one in found.items()}


def measured(calls: dict[Of, Any], seconds: float) -> dict[Of, dict[str, Any]]:
    """The last columns of each window and rule, of compiled programs that take turns."""
    errors = {}
    for key, call in calls.items():  # one after the other, since memory may not be enough for two
        failed = isinstance(call, Exception)
        errors[key] = call if failed else attempt(lambda call=call: jax.block_until_ready(call()) and None)
    times = times_of({key: calls[key] for key, error in errors.items() if error is None}, REPEATS, seconds)
    medians = {key: statistics.median(of) for key, of in times.items()}
    rows = {key: {"error": str(error).partition("\n")[0]} for key, error in errors.items()}
    for key, median in medians.items():
        bptt = medians.get((key[0], "bptt"), medians.get((DEFAULT, "bptt")))
        rows[key] = {"median_s": f"{median:.4g}", "least_s": f"{min(times[key]):.4g}"}
        rows[key] |= {"to_bptt": f"{median / bptt:.3f}"} if bptt else {}
        rows[key]["temporaries_bytes"] = calls[key].func.memory_analysis().temp_size_in_bytes
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the file, which may have rows already")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS[:2])
    parser.add_argument("--batch", type=int, help="samples, in place of those of each network")
    parser.add_argument("--tiny", action="store_true", help="tiny networks")
    parser.add_argument("--iterations", nargs="+", type=int, default=ITERATIONS, help="steps in an iteration")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the programs of a network take turns")
    options = parser.parse_args(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    run = jax.devices()[0].device_kind, jax.__version__, commit()
    cases = cases_of(options.tasks, tiny=options.tiny)
    cases = [case._replace(batch=options.batch or case.batch) for case in cases]
    for case, steps in left(options.output, run[0], cases, options.iterations):
        group = dict(zip(KEY, (*run, *case[:4], steps), strict=True))
        found = measured(compiled(case.programs(), steps), options.seconds)
        rows = [group | {"window": window, "rule": rule} | row for (window, rule), row in found.items()]
        with options.output.open("a", encoding="utf-8", newline="") as file:
            write_rows(rows, COLUMNS, file, header=not file.tell())
        write_rows(rows, COLUMNS, header=False)


if __name__ == "__main__":
    main()
