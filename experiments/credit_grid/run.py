"""Train one task under every cell of the grid, and compare the gradient of each cell with BPTT's.

For each code and seed, all cells start from the same weights and see the same batches. The learning rate of a cell is the one
with the best validation accuracy, in the mean over the seeds below `rate_seeds`. The test split is read once, at this rate.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.training import check_losses, loss_at_the_end, make_model, plain_layers
from experiments.credit_grid.data import Data, make_sampler
from experiments.credit_grid.grid import FIXED, REFERENCE, REFERENCES, carried_numbers, cells, kept_numbers
from experiments.credit_grid.trainer import Arrays, Measures, Trainer, make_measures, make_trainer, mean_gradient, train

Results = dict[str, dict[str, Any]]


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The numbers that BPTT keeps and each cell carries per sample, and for each code the results of references and cells."""
    codes = {code: config | {"code": code, "input_rate": rate} for code, rate in config["codes"].items()}
    some = next(iter(codes.values()))  # the programs are the same for all codes
    model = make_model(some, nnx.Rngs(0))
    trainers = {cell: make_trainer(some, cell) for cell in (*REFERENCES, *cells(config))}
    measures = make_measures(some)
    carried = {cell: carried_numbers(cell, model, config["layers"][0]) for cell in (FIXED, *cells(config))}
    kept = kept_numbers(model, (config["n_steps"], config["batch_size"], config["layers"][0]))
    return {
        "carried": {REFERENCE: kept} | carried,
        "codes": {code: results_of_code(own, trainers, measures, spikes) for code, own in codes.items()},
    }


def results_of_code(
    config: dict[str, Any], trainers: dict[str, Trainer], measures: Measures, spikes: Path | None
) -> Results:
    """The results by cell: the validation accuracy of each learning rate, the best one, and the numbers of each seed."""
    sample = make_sampler(config, spikes)
    progress = partial(_progress, config)
    results: Results = {cell: {"validation": [], "seeds": []} for cell in trainers}
    for seed in progress(config["rate_seeds"], "learning rates"):
        for cell, accuracies in validated(config, trainers, measures, seed, sample(seed)).items():
            results[cell]["validation"].append(accuracies)
    for of_cell in results.values():
        best = int(np.argmax(np.mean(of_cell["validation"], axis=0)))
        of_cell["learning_rate"] = config["learning_rates"][best]
    for seed in progress(config["seeds"], "training"):
        rates = {cell: of_cell["learning_rate"] for cell, of_cell in results.items()}
        for cell, numbers in measured(config, trainers, measures, seed, sample(seed), rates).items():
            results[cell]["seeds"].append({"seed": seed, **numbers})
    return results


def validated(
    config: dict[str, Any], trainers: dict[str, Trainer], measures: Measures, seed: int, data: Data
) -> dict[str, list[float]]:
    """The validation accuracy of each cell after training at each learning rate."""
    reached: dict[str, list[float]] = {}
    for cell, start in starts(config, trainers, seed).items():
        ends = [train(trainers[cell], start, rate, data.train)[0] for rate in config["learning_rates"]]
        reached[cell] = [float(measures.accuracy(params, *data.validation)) for params in ends]
    return reached


def measured(
    config: dict[str, Any],
    trainers: dict[str, Trainer],
    measures: Measures,
    seed: int,
    data: Data,
    rates: dict[str, float],
) -> dict[str, dict[str, Any]]:
    """The test accuracy of each cell after training at its rate, the loss at the end, and the agreement of its gradient with
    BPTT's, at initialization and after training with BPTT."""
    numbers: dict[str, dict[str, Any]] = {}
    stages: dict[str, Arrays] = {}
    exact: dict[str, Arrays] = {}
    for cell, (params, others) in starts(config, trainers, seed).items():  # BPTT comes first
        trained, losses = train(trainers[cell], (params, others), rates[cell], data.train)
        check_losses(f"credit_grid of {config['task']}, {config['code']}", seed, {cell: losses})
        stages = stages or {"initial": params, "trained": trained}
        # Matrices of the rule stay as drawn: they are no parameters of the network that BPTT trained.
        found = {
            stage: mean_gradient(trainers[cell], [*of_model, *params[len(of_model) :]], others, data.compared)
            for stage, of_model in stages.items()
        }
        exact = exact or found
        numbers[cell] = {
            "accuracy": float(measures.accuracy(trained, *data.test)),
            "loss": float(loss_at_the_end(losses)),
            "agreement": {stage: plain_layers(measures.agreement(found[stage], exact[stage])) for stage in stages},
        }
    return numbers


def starts(config: dict[str, Any], trainers: dict[str, Trainer], seed: int) -> dict[str, tuple[Arrays, Arrays]]:
    """The start of each cell: the same model, and the random matrices of the cell's route."""
    model_key, rule_key = random.split(random.fold_in(random.key(seed), 1))
    model = make_model(config, nnx.Rngs(model_key))
    return {cell: trainer.start(model, rule_key) for cell, trainer in trainers.items()}


def _progress(config: dict[str, Any], seeds: int, what: str) -> Any:
    return tqdm(range(seeds), desc=f"{config['task']}, {config['code']}: {what}", unit="seed", disable=None)
