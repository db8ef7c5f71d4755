"""Does the cosine to BPTT tell how accurate a rule gets? Its rank correlation with the accuracy, over sets of rules.

A set is `with_feedback` if an error or a label from the output reaches hidden layers, through the weights (`symmetric`) or
through `other` matrices; `best` are the four most accurate ones with symmetric feedback; `all` also has rules whose layers have
losses of their own. Rules that are the same in a network count once.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from experiments.drawing import statistics, tables

Feedback = Literal["symmetric", "other", "none"]

COLUMNS = ["stage", "number", *tables.OF_SEEDS, "rules_from", "rules_to"]  # after the task and the set
FEWEST = 3  # rules that have an order
BEST = 4  # rules of the set of this name
DRAWS = 4000  # of a bootstrap


def sets_of(rules: Iterable[tuple[Feedback, np.ndarray]]) -> dict[str, np.ndarray]:
    """The numbers of rules in each set that has enough of them, [N, K, S].

    Args:
        rules: of each, its feedback, and by seed its cosines at some weights and then its accuracy, [K, S].
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("with_feedback", "symmetric", "other", "best", "all")}
    for feedback, numbers in rules:
        if not any(np.array_equal(numbers, other) for other in found["all"]):
            for name in ("all",) if feedback == "none" else ("with_feedback", feedback, "all"):
                found[name].append(numbers)
    found["best"] = sorted(found["symmetric"], key=lambda numbers: float(numbers[-1].mean()))[-BEST:]
    return {name: np.array(of) for name, of in found.items() if len(of) >= FEWEST}


def rows(start: Sequence[Any], stages: Sequence[str], sets: dict[str, np.ndarray]) -> Iterator[list[Any]]:
    """The rows of a task: for each set and stage of weights, the correlation of each seed, and its interval over rules."""
    for name, numbers in sets.items():
        *of_stages, accuracies = (of.T for of in numbers.swapaxes(0, 1))  # [S, N]
        for stage, cosines in zip(stages, of_stages, strict=True):
            of_seeds = rank_correlations(cosines, accuracies).tolist()
            cells = [*tables.of_seeds(of_seeds, statistics.COSINE), *over_rules(cosines, accuracies)]
            yield [*start, name, stage, len(numbers), *cells]


def correlation(numbers: np.ndarray, place: int) -> float:
    """The mean correlation over seeds of the numbers of a set with cosines at the weights of this place among the stages."""
    return float(rank_correlations(numbers[:, place].T, numbers[:, -1].T).mean())


def rank_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis of two arrays [..., N]; 0 where all numbers of one are the same."""
    ranks = [rankdata(of, axis=-1) for of in (x, y)]
    (left, right) = (of - of.mean(axis=-1, keepdims=True) for of in ranks)
    size = np.sqrt((left**2).sum(axis=-1) * (right**2).sum(axis=-1))
    return np.asarray((left * right).sum(axis=-1) / np.where(size > 0, size, 1))


def over_rules(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The 95 % interval over rules of their mean rank correlation over seeds, of two arrays by seed and rule [S, N]: a
    bootstrap that draws N rules with replacement, the same ones for all seeds, and takes the percentiles of `DRAWS` means.

    The interval over seeds takes the rules as they are; this one asks what other rules of their kind would say.
    """
    drawn = np.random.default_rng(0).integers(x.shape[1], size=(DRAWS, x.shape[1]))
    low, high = np.percentile(rank_correlations(x[:, drawn], y[:, drawn]).mean(axis=0), [2.5, 97.5])
    return float(low), float(high)
