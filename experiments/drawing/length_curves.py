"""The table of training length: how accurate each rule is along its training, and whether its end is flat."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.drawing import figures, statistics, tables

COLUMNS = ["batches", "quantity", *tables.OF_TESTS, "flat"]  # after what `plot` starts with
FLAT = 0.01  # a validation curve is flat if its last gain is surely less


class Curve(NamedTuple):
    """The results of a rule along its training.

    cells: its first cells in the table, the task before all.
    seeds: for each seed, the numbers of `experiments.common.measures.along`.
    config: its configuration.
    """

    cells: Sequence[Any]
    seeds: Sequence[dict[str, Any]]
    config: dict[str, Any]

    @property
    def batches(self) -> list[int]:
        """The numbers of batches after which there are accuracies."""
        return [entry["batches"] for entry in self.seeds[0].get("lengths", [])] or [self.config["steps"]]

    def tested(self) -> dict[float, np.ndarray]:
        """The test accuracies by the number of batches."""
        return {batches: tables.tested(self.cells[0], self.seeds, batches) for batches in self.batches}

    def validated(self, batches: int) -> list[float]:
        """The validation accuracy of each seed after some batches."""
        return [tables.at_length(seed, batches)["validation_accuracy"] for seed in self.seeds]


def of_modes(tasks: tables.Results, seeds_of: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[Curve]:
    """The curve of each task, way of updating and rule, where `seeds_of` gives the seeds of a result by way of updating."""
    for task, rule, result in tables.each(tasks):
        for mode, seeds in seeds_of(result).items():
            yield Curve([task, mode, rule], seeds, result["config"])


def rows(curve: Curve) -> Iterator[list[Any]]:
    """The rows of a curve: test and validation accuracy at each length; then whether its end is flat."""
    for batches, accuracies in curve.tested().items():
        start = [*curve.cells, batches]
        yield [*start, "accuracy", *tables.of_tests(accuracies, statistics.SHARE), None]
        if "lengths" in curve.seeds[0]:
            validated = curve.validated(batches)
            yield [*start, "validation_accuracy", *tables.of_tests(validated, statistics.SHARE), None]
    if len(curve.batches) > 1:
        before, after = map(curve.validated, curve.batches[-2:])
        gains = np.subtract(after, before).tolist()
        yield [*start, "gain", *tables.of_tests(gains, statistics.DIFFERENCE), int(is_flat(gains))]


def is_flat(gains: Sequence[float]) -> bool:
    """True if a validation curve is flat: with 97.5 % confidence, the mean gain of the seeds from the second last length to the
    last is below a point. Two seeds are the fewest that can tell."""
    _, _, high = statistics.interval(gains, statistics.DIFFERENCE)
    return high is not None and high < FLAT


def table(start: Sequence[str], curves_of: Callable[[Any], Iterable[Curve]]) -> figures.Plot:
    """The table of training length.

    Args:
        start: titles of the first cells of a curve in the table.
        curves_of: the curves, from what `prepare` makes.
    """

    def all_rows(data: Any) -> Iterator[list[Any]]:
        return (row for curve in curves_of(data) for row in rows(curve))

    return figures.Plot([*start, *COLUMNS], all_rows)
