"""Measure the time and memory of one gradient of BPTT and of each cell, on one task.

Online rules go through the sequence in windows, so that they carry their traces; BPTT keeps all of it.
"""

from functools import partial
from pathlib import Path
from typing import Any

from experiments.common.costs import costs_of_rules
from experiments.credit_grid.grid import REFERENCE, cells, make_cell


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """The costs of a jitted forward pass and gradient of a batch, by cell, and of BPTT that recomputes."""
    rules = {cell: partial(make_cell, cell) for cell in (REFERENCE, *cells(config))}
    return {"costs": costs_of_rules(config, rules, spikes, config["window"])}
