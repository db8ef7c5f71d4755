"""Train one task with BPTT, and with hidden layers that stay as they were drawn: the two references of the grid.

The parameters that BPTT reaches are kept for the cells, whose gradients are compared there.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.common.samples import make_sampler
from experiments.common.tasks import make_model
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, carried_numbers, kept_numbers
from experiments.credit_grid.run import results_of_cell
from slax_rules.train.agreement import by_path


def compute(config: dict[str, Any], spikes: Path | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The numbers that BPTT keeps and the cell "fixed" carries per sample, and their results; and by path, the parameters of
    all seeds after training with BPTT."""
    model = make_model(config, nnx.Rngs(0))
    kept = kept_numbers(model, (config["n_steps"], config["batch_size"], config["layers"][0]))
    carried = {REFERENCE: kept, FIXED: carried_numbers(FIXED, model, config["layers"][0])}
    sampler = make_sampler(config, spikes)
    reached: dict[int, nnx.State] = {}
    results = {cell: results_of_cell(config, cell, sampler, reached) for cell in REFERENCES}
    arrays = by_path(jax.tree.map(lambda *seeds: np.stack(seeds), *reached.values()))
    return {"carried": carried, "cells": results}, arrays
