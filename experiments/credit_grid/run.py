"""Train one task under one row of the grid, the cells of one temporal credit, and compare their gradients with BPTT's.

For each seed, all cells start from the same weights and see the same batches. The learning rate of a cell is the one with the
best validation accuracy, in the mean over the seeds below `rate_seeds`. The test split is read once, at this rate.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from experiments.common.learning import SamplesOf, choose
from experiments.common.measures import agreement, agreements, at_the_end
from experiments.common.samples import make_sampler, seeds_of
from experiments.common.tasks import make_model, paths_of
from experiments.credit_grid.grid import REFERENCE, carried_numbers, cells, make_cell


def compute(config: dict[str, Any], references: Path, spikes: Path | None = None) -> dict[str, Any]:
    """The numbers that each cell carries per sample, and the results of the cells.

    Args:
        config: configuration of the row.
        references: the arrays of `experiments.credit_grid.references`.
        spikes: the spikes, if the task reads some.
    """
    model = make_model(config, nnx.Rngs(0))
    carried = {cell: carried_numbers(cell, model, config["layers"][0]) for cell in cells(config)}
    sampler = make_sampler(config, spikes)
    arrays = {path: array[:, None] for path, array in np.load(references).items()}
    reached = {seed: paths_of(model, arrays, place)[0] for place, seed in enumerate(seeds_of(config))}
    return {
        "carried": carried,
        "cells": {cell: results_of_cell(config, cell, sampler, reached) for cell in cells(config)},
    }


def results_of_cell(
    config: dict[str, Any], cell: str, sampler: SamplesOf, reached: dict[int, nnx.State]
) -> dict[str, Any]:
    """The trials of the learning rates, and for each seed the test accuracy after training at the best one, and the agreement
    of the cell's gradient with BPTT's, at initialization, after training with BPTT, and after its own training.

    Args:
        config: configuration of the task.
        cell: the name of the cell, or of a reference.
        sampler: maps a seed to its samples.
        reached: the parameters of each seed after training with BPTT; BPTT itself fills it.
    """

    where = f"credit_grid of {config['task']}, {config['code']}: under {cell}"
    make = partial(make_cell, cell)
    trials, runs = choose(config, "offline", sampler, where, rule_of=lambda config: make, evaluate_at=(0,))
    seeds = []
    for run in runs:
        if cell == REFERENCE:
            reached[run.seed] = nnx.state(run.network()[0], nnx.Param)
        batches = sampler(run.seed).others(config["eval_batches"])
        found = agreements(run, reached[run.seed], batches) | {"own": agreement(*run.network(), batches)}
        seeds.append(at_the_end(run, sampler(run.seed)) | {"agreement": found})
    return {"trials": trials, "seeds": seeds}
