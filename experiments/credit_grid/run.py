"""Train one task under one row of the grid, the cells of one temporal credit, and compare their gradients with BPTT's.

For each seed, all cells start from the same weights and see the same batches. The learning rate of a cell is the one with the
best validation accuracy, in the mean over the seeds below `rate_seeds`. The test split is read once, at this rate.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.common.agreement import make_agreement
from experiments.common.samples import make_sampler
from experiments.common.trainer import Trained, Trainer, make_trainer
from experiments.common.training import loss_at_the_end, make_model
from experiments.common.trials import RATE, Sampler, choose, train_seeds
from experiments.credit_grid.grid import REFERENCE, carried_numbers, cells, make_cell
from slax_rules.training.paths import by_path


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
    reached = params_of_seeds(model, references)
    return {
        "carried": carried,
        "cells": {cell: results_of_cell(config, cell, sampler, reached) for cell in cells(config)},
    }


def params_of_seeds(model: nnx.Module, file: Path) -> list[nnx.State]:
    """The parameters of each seed after training with BPTT, matched by path."""
    arrays = dict(np.load(file))
    params = nnx.state(model, nnx.Param)
    stacked = jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(arrays[path]) for path in by_path(params)])
    return [jax.tree.map(lambda array, seed=seed: array[seed], stacked) for seed in range(len(arrays[min(arrays)]))]


def results_of_cell(config: dict[str, Any], cell: str, sampler: Sampler, reached: list[nnx.State]) -> dict[str, Any]:
    """The trials of the learning rates, and for each seed the test accuracy after training at the best one, and the agreement
    of the cell's gradient with BPTT's, at initialization and after training with BPTT.

    Args:
        config: configuration of the task.
        cell: the name of the cell, or of a reference.
        sampler: maps a seed to its samples.
        reached: the parameters of each seed after training with BPTT; a list that BPTT itself fills.
    """

    def make(config: dict[str, Any]) -> Trainer:
        return make_trainer(config, "offline", make_model, partial(make_cell, cell))

    where = f"credit_grid of {config['task']}, {config['code']}: under {cell}"
    trials, trainer = choose(config, make, sampler, where)
    agreement = make_agreement(trainer)
    seeds = []
    for seed, samples, start, trained, losses in train_seeds(config, trainer, sampler, trials.chosen[RATE], where):
        if cell == REFERENCE:
            reached.append(params_of(trainer, trained))
        # Matrices of the rule stay as drawn: they are no parameters of the network that BPTT trained.
        stages = {"initial": params_of(trainer, start), "trained": reached[seed]}
        compared = samples.others(config["eval_batches"])
        seeds.append(
            {
                "seed": seed,
                "accuracy": float(trainer.score(trained, *samples.test)),
                "loss": float(loss_at_the_end(losses)),
                "agreement": {name: agreement(start, state, compared) for name, state in stages.items()},
            }
        )
    return {"trials": trials.as_json(), "seeds": seeds}


def params_of(trainer: Trainer, trained: Trained) -> nnx.State:
    """The parameters of the network alone."""
    return nnx.state(trainer.network(trained)[0], nnx.Param)
