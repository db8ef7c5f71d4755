"""Train one task under every cell of the grid, and compare the gradient of each cell with BPTT's.

For each seed, all cells start from the same weights and see the same batches. The learning rate of a cell is the one with the
best validation accuracy, in the mean over the seeds below `rate_seeds`. The test split is read once, at this rate.
"""

from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx

from experiments.common.agreement import make_agreement, model_state
from experiments.common.samples import make_sampler
from experiments.common.trainer import Trainer, make_trainer
from experiments.common.training import loss_at_the_end, make_model
from experiments.common.trials import RATE, choose, train_seeds
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, carried_numbers, cells, kept_numbers, make_cell


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The numbers that BPTT keeps and each cell carries per sample, and the results of references and cells."""
    model = make_model(config, nnx.Rngs(0))
    carried = {cell: carried_numbers(cell, model, config["layers"][0]) for cell in (FIXED, *cells(config))}
    kept = kept_numbers(model, (config["n_steps"], config["batch_size"], config["layers"][0]))
    sampler = make_sampler(config, spikes)
    trained_by_bptt: dict[int, nnx.State] = {}  # the parameters of each seed
    results = {cell: results_of_cell(config, cell, sampler, trained_by_bptt) for cell in (*REFERENCES, *cells(config))}
    return {"carried": {REFERENCE: kept} | carried, "cells": results}


def results_of_cell(
    config: dict[str, Any], cell: str, sampler: Any, trained_by_bptt: dict[int, nnx.State]
) -> dict[str, Any]:
    """The trials of the learning rates, and for each seed the test accuracy after training at the best one, and the agreement
    of the cell's gradient with BPTT's, at initialization and after training with BPTT.

    BPTT comes first: it fills `trained_by_bptt`.
    """

    def make(config: dict[str, Any]) -> Trainer:
        return make_trainer(config, "offline", make_model, partial(make_cell, cell))

    where = f"credit_grid of {config['task']}, {config['code']}: under {cell}"
    trials, trainer = choose(config, make, sampler, where)
    agreement = make_agreement(trainer)
    seeds = []
    for seed, samples, start, trained, losses in train_seeds(config, trainer, sampler, trials.chosen[RATE], where):
        if cell == REFERENCE:
            trained_by_bptt[seed] = model_state(trainer, trained)
        # Matrices of the rule stay as drawn: they are no parameters of the network that BPTT trained.
        stages = {"initial": model_state(trainer, start), "trained": trained_by_bptt[seed]}
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
