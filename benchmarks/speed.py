"""A record of speed: `make speed` appends a line for the commit to benchmarks/speed.csv, and `make docs` draws the file.

Twelve cases, each for a batch of 32 under one of four rules: a gradient of 64-50-10 with T = 20 (`small`) and of three layers
of 128 with T = 256 (`large`), as `slax` in `benchmarks.rules`, and training online in windows of five steps in 64-50-10
(`online`). A case has its least time in ms, XLA's temporaries in bytes, and two counts that are the same on every CPU:
operations of JAX, and the bytes that they write before XLA fuses any. `compile_s` are the processor seconds to trace and
compile all cases.
"""

import argparse
import csv
import itertools
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.extend.core import Jaxpr, jaxprs_in_params
from matplotlib import pyplot as plt

from benchmarks.peers.slax import layers_of, rules
from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.measure import machine
from benchmarks.side_by_side.workload import small, uniform
from experiments.drawing.styles import STYLES
from experiments.pipeline.results import commit
from experiments.throughput.others import Others, cores_before
from slax_neurons import connect
from slax_rules import RULES, cross_entropy, train_online
from slax_viz import PNG_METADATA, style

FILE = Path(__file__).with_suffix(".csv")
PICTURE = Path(__file__).parents[1] / "docs/speed.png"
NETWORKS = {"small": small(20), "large": uniform(256, 128), "online": small(20)}
TITLES = {
    "small": "64-50-10, T = 20",
    "large": "three layers of 128, T = 256",
    "online": "64-50-10, an update every 5 steps",
}
TIMED = ("bptt", "ottt", "ostl", "otpe")
CASES = [f"{network}_{rule}" for network, rule in itertools.product(NETWORKS, TIMED)]
ROUNDS, SECONDS = 10, 0.2  # in each round, all cases take turns of so many seconds
MOST_OTHERS = 0.2  # cores that other programs may use
MOST_CHANGE = 0.15  # of a count, before `check` warns


def step_of(case: str) -> JaxStep:
    network, name = case.split("_")
    if network != "online":
        return rules(name, NETWORKS[network])
    graph, state = nnx.split(connect(layers_of(NETWORKS[network])))
    rule = RULES[name].make()

    def step(state: nnx.State, inputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, nnx.State]:
        model = nnx.merge(graph, state, copy=True)
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        loss = train_online(model, optimizer, cross_entropy, inputs, labels, rule=rule, window=5)
        return loss, nnx.state(model, nnx.Param)

    return JaxStep(step, state, NETWORKS[network].inputs(), NETWORKS[network].labels())


def counts(program: Jaxpr) -> np.ndarray:
    """The operations of a program and the bytes that they write: in a loop once per iteration, and in all branches."""
    found = np.zeros(2, np.int64)
    for equation in program.eqns:
        inner = [counts(one) for one in jaxprs_in_params(equation.params)]
        own = [1, sum(out.aval.size * out.aval.dtype.itemsize for out in equation.outvars)]
        found += equation.params.get("length", 1) * np.sum(inner or [own], axis=0)
    return found


def traced(case: str) -> tuple[Any, Any, dict[str, int]]:
    """The program of a case before XLA compiles it, its arguments, and its counts by column."""
    step = step_of(case)
    program = step.step.trace(*step.arguments)
    operations, written = counts(program.jaxpr.jaxpr)
    return program, step.arguments, {f"{case}_operations": operations, f"{case}_bytes": written}


def mark_of(sources: str, others: float | None, anyway: bool) -> str:
    """What speaks against a line, a machine that is "busy" or sources that are "uncommitted"; it stops, except `anyway`."""
    told = {}
    if others is not None and others > MOST_OTHERS:
        told["busy"] = f"other programs that use {others:.2f} cores, expected at most {MOST_OTHERS}. Stop them"
    if sources.endswith(("+", "unknown")):
        told["uncommitted"] = "files that no commit has, expected none. Commit them"
    if told and not anyway:
        raise SystemExit(f"speed: got {next(iter(told.values()))}; or mark the line: `make speed ANYWAY=1`.")
    return " ".join(told)


def record(anyway: bool) -> None:
    """Measure, in about a minute on two idle cores, and append the line."""
    sources, before = commit(), cores_before()
    mark_of(sources, before, anyway)
    watch, start, steps, numbers = Others(), time.process_time(), {}, {}
    for case in CASES:
        program, arguments, found = traced(case)
        compiled = program.lower().compile()
        steps[case] = compiled, arguments
        temporaries = compiled.memory_analysis().temp_size_in_bytes
        numbers |= found | {f"{case}_temporaries": temporaries, f"{case}_ms": math.inf}
    numbers["compile_s"] = round(time.process_time() - start, 2)
    for case in CASES * ROUNDS:
        (compiled, arguments), end = steps[case], time.perf_counter() + SECONDS
        while (begin := time.perf_counter()) < end:
            jax.block_until_ready(compiled(*arguments))
            numbers[f"{case}_ms"] = min(numbers[f"{case}_ms"], round(1e3 * (time.perf_counter() - begin), 4))
    others = max((round(cores, 2) for cores in (before, watch.cores()) if cores is not None), default=None)
    line = machine() | numbers | {"commit": sources, "mark": mark_of(sources, others, anyway)}
    line |= {"others": others, "jax": jax.__version__}
    with FILE.open("a+", encoding="utf-8", newline="") as file:
        file.seek(0)
        header = file.readline().rstrip("\n").split(",")
        csv.DictWriter(file, header, lineterminator="\n").writerow(line)


def lines() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check() -> None:
    """Print the counts that changed since the last line of this JAX, as warnings of GitHub's."""
    last = ([line for line in lines() if line["jax"] == jax.__version__] or [None])[-1]
    print(f"speed: compared with {last['commit'] if last else 'no line, since there is none'} of JAX {jax.__version__}")
    for case in CASES if last else ():
        for name, number in traced(case)[2].items():
            if abs(change := number / int(last[name]) - 1) > MOST_CHANGE:
                print(f"::warning title=speed::{name} is {number:,}, {change:+.0%}")


def draw() -> None:
    """The least times of all lines without a mark of the machine that recorded the last of them."""
    shown = [line for line in lines() if not line["mark"]]
    shown = [line for line in shown if line["processor"] == shown[-1]["processor"]]
    with style():
        figure, axes = plt.subplots(1, len(NETWORKS), figsize=(12, 3.6))
        for ax, network in zip(axes, NETWORKS, strict=True):
            for rule in TIMED:
                times, look = [float(line[f"{network}_{rule}_ms"]) for line in shown], STYLES[rule]
                ax.plot(range(1, len(times) + 1), times, color=look.color, marker=look.marker, label=RULES[rule].title)
            ax.set(title=TITLES[network], xlabel="measurement, oldest first")
            ax.set(xlim=(0, len(shown) + 1), ylim=(0, 1.1 * ax.get_ylim()[1]))
            ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        axes[0].set_ylabel("least time (ms)")
        axes[0].legend()
        last = "{processor}, until {date}".format(**shown[-1]) if shown else "not measured on an idle machine yet"
        figure.suptitle(last)
        figure.savefig(PICTURE, metadata=PNG_METADATA)


if __name__ == "__main__":
    parser = argparse.ArgumentParser("benchmarks.speed", description=__doc__)
    parser.add_argument("what", nargs="?", default="record", choices=("record", "check", "draw"))
    parser.add_argument("--anyway", action="store_true", help="on a busy machine too, and with uncommitted changes")
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # for `compile_s`
    record(options.anyway) if options.what == "record" else {"check": check, "draw": draw}[options.what]()
