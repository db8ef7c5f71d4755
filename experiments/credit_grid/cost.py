"""Measure the time and memory of one gradient of BPTT and of each cell, on one task.

Online rules go through the sequence in windows, so that they carry their traces; BPTT keeps all of it.
"""

from pathlib import Path
from typing import Any

from flax import nnx

from experiments.common.costs import costs, example, gradient_program
from experiments.credit_grid.grid import REFERENCE, cells, make_cell


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """The costs of a jitted forward pass and gradient of a batch, by cell."""
    model, key, batch = example(config, spikes)
    rules = {cell: make_cell(cell, rngs=nnx.Rngs(key), model=model) for cell in (REFERENCE, *cells(config))}
    programs = {cell: gradient_program(model, rule, batch, config["window"]) for cell, rule in rules.items()}
    return {"costs": costs(programs, config["repeats"])}
