"""Measure the time and memory of one gradient of BPTT and of each cell, on one task.

Online rules go through the sequence in windows, so that they carry their traces; BPTT keeps all of it. All programs are
compiled first and then take turns, so that other load on the machine affects all of them equally. The numbers differ from run
to run, so they are kept separate from the results.
"""

import time
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax import random

from experiments.common.networks import make_model
from experiments.common.tasks import task_maker
from experiments.credit_grid.grid import REFERENCE, cells, make_cell
from slax_rules import cross_entropy, gradients


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """The times of a jitted forward pass and gradient of a batch, in ms, and the temporaries, in bytes, of each cell."""
    task_key, model_key, rule_key, batch_key = random.split(random.key(0), 4)
    model = make_model(config, nnx.Rngs(model_key))
    batch = task_maker(config, spikes)(task_key).sample(batch_key, batch_size=config["batch_size"])
    programs = {}
    for cell in (REFERENCE, *cells(config)):
        graphdef, state = nnx.split((model, make_cell(cell, rngs=nnx.Rngs(rule_key), model=model)))

        @jax.jit
        def gradient(state: nnx.State, *batch: jax.Array, graphdef: Any = graphdef) -> tuple[jax.Array, nnx.State]:
            model, rule = nnx.merge(graphdef, state)
            return gradients(model, cross_entropy, *batch, rule=rule, window=config["window"])

        programs[cell] = gradient.lower(state, *batch).compile(), (state, *batch)
    times: dict[str, list[float]] = {cell: [] for cell in programs}
    for _ in range(config["repeats"] + 1):
        for cell, (program, arguments) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times[cell].append(1e3 * (time.perf_counter() - start))
    return {
        "costs": {
            cell: {
                "milliseconds": times[cell][1:],  # the first call warms up
                "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
            }
            for cell, (program, _) in programs.items()
        }
    }
