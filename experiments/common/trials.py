"""The one procedure by which rules are compared: the learning rate is chosen on validation samples, with as many trials for
each rule, and the test set is read once, by networks trained at the chosen rate.

With one seed all rules start from the same weights and see the same batches, so differences between rules are paired.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.keys import key_of
from experiments.common.samples import SeedSamples
from experiments.common.trainer import Trained, Trainer
from experiments.common.training import check_losses


class Trials(NamedTuple):
    """The trials that a learning rate was chosen by.

    learning_rates: the rates.
    validation: the score on the validation samples, by seed and rate.
    """

    learning_rates: list[float]
    validation: list[list[float]]

    @property
    def chosen(self) -> float:
        """The rate with the best mean score, the smaller of two equals."""
        return self.learning_rates[int(np.argmax(np.mean(self.validation, axis=0)))]

    def as_json(self) -> dict[str, Any]:
        """The trials and the chosen rate."""
        return self._asdict() | {"chosen": self.chosen}


class Training(NamedTuple):
    """A training with one seed.

    seed, samples: the seed and its samples.
    start, trained: the arrays before and after training.
    losses: the losses of all batches.
    """

    seed: int
    samples: SeedSamples
    start: Trained
    trained: Trained
    losses: jax.Array


def try_rates(config: dict[str, Any], trainer: Trainer, sampler: Callable[[int], SeedSamples], where: str) -> Trials:
    """Train at each of the `learning_rates` with each of the first `rate_seeds` seeds, and score the validation samples.

    A training may diverge at a rate that is too high: its score is then zero or near chance.

    Args:
        config: provides `learning_rates`, in increasing order, and `rate_seeds`.
        trainer: trains and scores.
        sampler: maps a seed to its samples.
        where: the name of the experiment, the task and the rule, for the progress bar.
    """
    rates = sorted(config["learning_rates"])
    validation = []
    for seed in tqdm(range(config["rate_seeds"]), desc=f"{where}, learning rates", unit="seed", disable=None):
        samples, start = sampler(seed), start_of(trainer, seed)
        ends = [trainer.train(start, rate, samples.parts())[0] for rate in rates]
        validation.append([float(trainer.score(end, *samples.validation)) for end in ends])
    return Trials(rates, validation)


def train_seeds(
    config: dict[str, Any], trainer: Trainer, sampler: Callable[[int], SeedSamples], rate: float, where: str
) -> Iterator[Training]:
    """Train with each of the `seeds` seeds at one rate; the program stops at a loss that is not finite."""
    for seed in tqdm(range(config["seeds"]), desc=where, unit="seed", disable=None):
        samples, start = sampler(seed), start_of(trainer, seed)
        trained, losses = trainer.train(start, rate, samples.parts())
        check_losses(where, seed, losses)
        yield Training(seed, samples, start, trained, losses)


def start_of(trainer: Trainer, seed: int) -> Trained:
    """The arrays of a seed before training: the weights are the same for all rules."""
    return trainer.start(key_of(seed, "start"))
