"""Streams of many steps: time and memory per step, and the time of one served step.

    python -m benchmarks.streams long --rule ottt --steps 10000000    # 700-128-20, an update every 10 steps
    python -m benchmarks.streams served                               # 700-128-20, one step per call, an update in each

Each prints a table in Markdown while it runs, a row for each power of ten.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from slax_neurons import LI, LIF, connect, fluctuation_driven
from slax_rules import RULES, cross_entropy, extend_stream, start_stream
from slax_rules.stream import Stream

PIECE = 1_000  # steps per call
RATE = 0.02  # spikes per step and input
SERVED = 5_000  # steps


def model_of(sizes: tuple[int, ...]) -> nnx.RNNCellBase:
    """A stack of Linear and LIF that fires, with LI as the read-out."""
    rngs = nnx.Rngs(0)
    layers: list[Any] = []
    for n_in, n_out in itertools.pairwise(sizes[:-1]):
        weights = fluctuation_driven(LIF(decay=0.95), rate=RATE)
        layers += [nnx.Linear(n_in, n_out, kernel_init=weights, rngs=rngs), LIF(decay=0.95)]
    return connect([*layers, nnx.Linear(*sizes[-2:], rngs=rngs), LI(decay=0.95)])


def stream_of(model: nnx.RNNCellBase, n_in: int, rule: str, rate: float, window: int) -> Stream:
    """A stream of one sample at rest."""
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
    made = RULES[rule].make(rngs=nnx.Rngs(0), model=model)
    return start_stream(model, optimizer, cross_entropy, (1, n_in), rule=made, window=window)


def piece_of(index: Any, sizes: tuple[int, ...], steps: int) -> tuple[Any, Any]:
    """Spikes and labels of the piece with a number."""
    spikes, labels = jax.random.split(jax.random.fold_in(jax.random.key(1), index))
    inputs = jax.random.bernoulli(spikes, RATE, (steps, 1, sizes[0])).astype(jnp.float32)
    return inputs, jax.random.randint(labels, (steps, 1), 0, sizes[-1])


def powers_of_ten(steps: int) -> list[int]:
    """The numbers of pieces after which a row is due."""
    powers = [10**power for power in range(3, 20) if 10**power <= steps]
    return [power // PIECE for power in powers]


def memory() -> float:
    """The memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 1e6


def long(rule: str, steps: int) -> Iterator[str]:
    sizes = (700, 128, 20)
    stream = stream_of(model_of(sizes), sizes[0], rule, 1e-4, window=10)

    @jax.jit
    def go_on(stream: Stream, index: Any) -> tuple[Stream, Any]:
        extended = extend_stream(stream, *piece_of(index, sizes, PIECE))
        return extended.stream, extended.losses.mean()

    yield "| steps | microseconds per step, last tenth | memory of the process (MB) | mean loss of the last 1,000 steps |"
    yield "| --: | --: | --: | --: |"
    due, last, start = powers_of_ten(steps), 0, time.perf_counter()
    for index in range(due[-1]):
        if index in {number - max(1, number // 10) for number in due}:
            last, start = index, time.perf_counter()
        stream, loss = go_on(stream, index)
        if index + 1 in due:
            mean = float(loss)
            micro = (time.perf_counter() - start) / ((index + 1 - last) * PIECE) * 1e6
            yield f"| {(index + 1) * PIECE:,} | {micro:.1f} | {memory():.0f} | {mean:.3f} |"


def served() -> Iterator[str]:
    sizes = (700, 128, 20)
    yield "| rule | milliseconds per step: median | 99th percentile |"
    yield "| --- | --: | --: |"
    inputs, labels = jax.device_get(piece_of(0, sizes, SERVED))
    for rule in ("sltt", "ottt", "ostl", "otpe"):
        stream = stream_of(model_of(sizes), sizes[0], rule, 1e-4, window=1)
        times = []
        for step in range(SERVED):
            start = time.perf_counter()
            stream, outputs, _ = extend_stream(stream, inputs[step : step + 1], labels[step : step + 1])
            np.asarray(outputs)  # the prediction, on the host; the update continues
            jax.block_until_ready(stream)
            times.append(time.perf_counter() - start)
        median, late = np.percentile(np.array(times[100:]) * 1e3, [50, 99])
        yield f"| {rule} | {median:.2f} | {late:.2f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        "benchmarks.streams", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("long", "served"))
    parser.add_argument("--rule", default="ottt", choices=sorted(RULES))
    parser.add_argument("--steps", type=int, default=1_000_000)
    options = parser.parse_args()
    for row in served() if options.what == "served" else long(options.rule, options.steps):
        print(row, flush=True)
