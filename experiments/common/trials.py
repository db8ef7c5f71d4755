"""The one procedure by which rules are compared: settings are chosen on validation samples, with as many trials for each rule,
and the test set is read once, by networks trained with the chosen settings.

First, all `learning_rates` are tried. Then, if the configuration has `second_trials`, two values of a second setting are tried
at the best rate. It is a setting of the rule's own: the alpha of FPTT, or the window between two online updates. A rule without
such a setting tries two more learning rates instead, halfway (in the logarithm) between the best rate and its neighbors.

With one seed all rules start from the same weights and see the same batches, so differences between rules are paired.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.keys import key_of
from experiments.common.samples import SeedSamples
from experiments.common.trainer import Trained, Trainer
from experiments.common.training import Update, check_losses
from slax_rules import RULES

RATE, WINDOW, ALPHA = "learning_rate", "online_window", "alpha"

Sampler = Callable[[int], SeedSamples]


class SecondTrials(NamedTuple):
    """The trials of a second setting, at the best of the learning rates.

    setting: its name.
    values: the values that were tried.
    validation: the score on the validation samples, by seed and value.
    """

    setting: str
    values: list[float]
    validation: list[list[float]]


class Trials(NamedTuple):
    """The trials that the settings of a training were chosen by.

    learning_rates: the rates.
    validation: the score on the validation samples, by seed and rate.
    second: the trials of a second setting, if there were any.
    """

    learning_rates: list[float]
    validation: list[list[float]]
    second: SecondTrials | None = None

    @property
    def best_rate(self) -> float:
        """The rate with the best mean score, the smaller of two equals."""
        return self.learning_rates[int(np.argmax(self._means))]

    @property
    def chosen(self) -> dict[str, float]:
        """The chosen learning rate, and the value of the second setting if it is better than the configured one."""
        found = {RATE: self.best_rate}
        if self.second:
            means = np.mean(self.second.validation, axis=0)
            if means.max() > self._means.max():
                found[self.second.setting] = self.second.values[int(np.argmax(means))]
        return found

    def as_json(self) -> dict[str, Any]:
        """The trials and the chosen settings."""
        second = self.second and self.second._asdict()
        return self._asdict() | {"second": second, "chosen": self.chosen}

    @property
    def _means(self) -> np.ndarray:
        means: np.ndarray = np.mean(self.validation, axis=0)
        return means


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


def choose(
    config: dict[str, Any], make: Callable[[dict[str, Any]], Trainer], sampler: Sampler, where: str, second: str = RATE
) -> tuple[Trials, Trainer]:
    """The trials of the first `rate_seeds` seeds, and the trainer with the chosen settings except for the learning rate.

    A training may diverge at a rate that is too high: its score is then zero or near chance.

    Args:
        config: provides `learning_rates`, in increasing order, `rate_seeds`, and perhaps `second_trials`, two values for each
            name of a second setting; without it, there are none.
        make: makes the trainer of a configuration.
        sampler: maps a seed to its samples.
        where: the name of the experiment, the task and the rule, for the progress bar.
        second: the name of the second setting.
    """
    rates = sorted(config["learning_rates"])
    trainer = make(config)
    trials = Trials(rates, _scores(config, [(trainer, rate) for rate in rates], sampler, f"{where}, learning rates"))
    if config.get("second_trials") is None:
        return trials, trainer
    if second == RATE:
        values = halfway(rates, trials.best_rate)
        pairs = [(trainer, value) for value in values]
    else:
        values = config["second_trials"][second]
        pairs = [(make(with_setting(config, second, value)), trials.best_rate) for value in values]
    scores = _scores(config, pairs, sampler, f"{where}, {second.replace('_', ' ')}")
    trials = trials._replace(second=SecondTrials(second, values, scores))
    chosen = trials.chosen.get(second)
    return trials, pairs[values.index(chosen)][0] if chosen in values else trainer


def second_setting(rule: str, update: Update) -> str:
    """The setting that a rule of `RULES` tries second: TBPTT(K) has its window by its name."""
    if RULES[rule].optimizer:
        return ALPHA
    return WINDOW if update == "online" and rule != "tbptt" else RATE


def with_setting(config: dict[str, Any], name: str, value: float) -> dict[str, Any]:
    """The configuration with another value of a second setting."""
    return config | ({"optimizer_options": {ALPHA: value}} if name == ALPHA else {name: value})


def halfway(rates: list[float], best: float) -> list[float]:
    """The two rates halfway, in the logarithm, from the best rate to its neighbors.

    Beyond an end of the rates, it is as far as on the other side.
    """
    place = rates.index(best)
    below = rates[place - 1] if place else best**2 / rates[1]
    above = rates[place + 1] if best != rates[-1] else best**2 / rates[-2]
    return [math.sqrt(below * best), math.sqrt(best * above)]


def _scores(
    config: dict[str, Any], trials: list[tuple[Trainer, float]], sampler: Sampler, what: str
) -> list[list[float]]:
    """The validation scores by seed and trial, each a trainer and its learning rate."""
    scores = []
    for seed in tqdm(range(config["rate_seeds"]), desc=what, unit="seed", disable=None):
        samples = sampler(seed)
        ends = [(trainer, trainer.train(start_of(trainer, seed), rate, samples.parts())[0]) for trainer, rate in trials]
        scores.append([float(trainer.score(end, *samples.validation)) for trainer, end in ends])
    return scores


def train_seeds(
    config: dict[str, Any], trainer: Trainer, sampler: Sampler, rate: float, where: str
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
