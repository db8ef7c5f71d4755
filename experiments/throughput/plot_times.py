"""The times of contenders on a workload: their ratios round by round, and the samples over rounds or over starts."""

from functools import cached_property
from typing import Any

import numpy as np

SIZE = ["n", "batch", "dtype", "steps"]  # columns of tables
OF_RATIO = ["starts", "rounds", "unit"]  # columns about the samples of a ratio


class Timed:
    """A result: the records of a workload by contender.

    Attributes:
        n, size: the number of units; that with the batch, the type and the steps.
        inputs: what the first layer receives.
        starts, rounds: how often all processes were started, and the rounds of each start.
        reasons: by contender, why there is no time; empty if there is one.
        times: by contender that was timed, all seconds.
        medians: the same, the median of each round of each start.
    """

    def __init__(self, result: dict[str, Any]):
        self.result, self.config, self.n = result, result["config"], result["config"]["size"]
        self.size = [self.config[name] for name in ("size", "batch", "dtype", "steps")]
        self.inputs, self.starts = self.config.get("inputs", "spikes"), self.config.get("starts", 1)
        self.rounds = self.config["rounds"]
        self.records = {record["name"]: record for record in result["records"]}
        self.reasons = {name: one["error"] or one["left_out"] or "" for name, one in self.records.items()}
        rounds = {name: one["rounds"] for name, one in self.records.items() if one["rounds"] and not self.reasons[name]}
        self.times = {name: [time for turn in turns for time in turn] for name, turns in rounds.items()}
        self.medians = {name: np.array([np.median(turn) for turn in turns]) for name, turns in rounds.items()}

    @cached_property
    def ranks(self) -> dict[str, int]:
        """The place of each contender among the forms of its library, by the geometric mean of its medians, as in ratios: 1 is
        the fastest, and those without a time come last."""
        means = {name: float(np.log(medians).mean()) for name, medians in self.medians.items()}
        ranks: dict[str, int] = {}
        for name in sorted(self.records, key=lambda name: means.get(name, np.inf)):
            ranks[name] = 1 + sum(library_of(other) == library_of(name) for other in ranks)
        return ranks

    @cached_property
    def fastest(self) -> dict[str, str]:
        """By library, its fastest form."""
        return {library_of(name): name for name in self.times if self.ranks[name] == 1}

    def ratios(self, name: str | None, reference: str | None) -> list[float]:
        """The samples of the time of a contender over that of another one; none if one of them was not timed."""
        if name not in self.medians or reference not in self.medians:
            return []
        return samples_of((self.medians[name] / self.medians[reference]).tolist(), self.starts)

    def of_ratio(self, ratios: list[float]) -> list[Any]:
        """The cells of `OF_RATIO`."""
        return [self.starts, self.rounds, ("start" if self.starts > 1 else "round") if ratios else ""]


def library_of(name: str) -> str:
    return name.partition(":")[0]


def samples_of(ratios: list[float], starts: int) -> list[float]:
    """The samples of a geometric mean of the ratios of all rounds, as many in each start: of several starts, one for each.

    Rounds of one start share the layout of memory and the placement of threads, and what these do to a time is not seen in
    their spread. The geometric means of the starts have all of it, and the same geometric mean as the rounds.
    """
    return ratios if starts == 1 else np.exp(np.log(np.reshape(ratios, (starts, -1))).mean(axis=1)).tolist()


def main_line(results: list[Timed]) -> list[Timed]:
    """The workloads that share batch, type and steps with the first, by size, and at each size those with more starts last."""
    alike = [one for one in results if one.size[1:] == results[0].size[1:]]
    return sorted(alike, key=lambda one: (one.n, one.starts))
