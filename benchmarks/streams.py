"""Streams of many steps, one sample through 700-128-20: time and memory per step, and the time of one step per call.

python -m benchmarks.streams long --rule ottt --steps 10000000    # an update every 10 steps; a row for each tenth
python -m benchmarks.streams served                               # one step and an update in each call
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from benchmarks.output import write_rows
from benchmarks.rules import with_read_out
from benchmarks.side_by_side.workload import Workload
from slax_rules import RULES, cross_entropy, extend_stream, start_stream
from slax_rules.stream import Stream

PIECE = Workload(1_000, 1, (700, 128, 20))  # what a call of "long" reads
SERVED = 5_000  # calls of "served"
COLUMNS = {
    "long": ("steps", "microseconds per step, of a tenth of the steps", "MB of the process"),
    "served": ("rule", "milliseconds per step: median", "99th percentile"),
}


def stream_of(rule: str, window: int) -> Stream:
    """A stream of one sample at rest."""
    model = with_read_out(PIECE.widths)
    optimizer = nnx.Optimizer(model, optax.sgd(1e-4), wrt=nnx.Param)
    made = RULES[rule].make(rngs=nnx.Rngs(0), model=model)
    return start_stream(model, optimizer, cross_entropy, (1, PIECE.widths[0]), rule=made, window=window)


def data() -> tuple[np.ndarray, np.ndarray]:
    """The spikes and the labels of a piece, by step."""
    return PIECE.inputs(), np.random.default_rng(0).integers(0, PIECE.widths[-1], (PIECE.steps, 1))


def long(rule: str, steps: int) -> Iterator[dict[str, Any]]:
    stream, piece = stream_of(rule, window=10), data()
    extend = jax.jit(lambda stream: extend_stream(stream, *piece).stream)
    calls = max(1, steps // 10 // PIECE.steps)  # of each tenth
    for tenth in range(1, 11):
        start = time.perf_counter()
        for _ in range(calls):
            stream = jax.block_until_ready(extend(stream))
        micro = 1e6 * (time.perf_counter() - start) / (calls * PIECE.steps)
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        numbers = f"{tenth * calls * PIECE.steps:,}", f"{micro:.1f}", f"{pages * 4096 / 1e6:.0f}"
        yield dict(zip(COLUMNS["long"], numbers, strict=True))


def served() -> Iterator[dict[str, Any]]:
    inputs, labels = data()
    for rule in ("sltt", "ottt", "ostl", "otpe"):
        stream, times = stream_of(rule, window=1), []
        for step in (step % PIECE.steps for step in range(SERVED)):
            start = time.perf_counter()
            stream, outputs, _ = extend_stream(stream, inputs[step : step + 1], labels[step : step + 1])
            np.asarray(outputs)  # the prediction, on the host; the update continues
            jax.block_until_ready(stream)
            times.append(time.perf_counter() - start)
        numbers = (f"{1e3 * of:.2f}" for of in np.percentile(times[100:], [50, 99]))
        yield dict(zip(COLUMNS["served"], (rule, *numbers), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COLUMNS)
    parser.add_argument("--rule", default="ottt", choices=sorted(RULES))
    parser.add_argument("--steps", type=int, default=1_000_000)
    options = parser.parse_args()
    write_rows(served() if options.what == "served" else long(options.rule, options.steps), COLUMNS[options.what])
