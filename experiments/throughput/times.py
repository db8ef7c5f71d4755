"""The times of contenders in results: their ratios round by round, and the samples over rounds or over starts of processes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

SIZE = ["n", "batch", "dtype", "steps"]  # columns of tables

Results = list[dict[str, Any]]


def size_of(config: dict[str, Any]) -> list[Any]:
    return [config[name] for name in ("size", "batch", "dtype", "steps")]


def inputs_of(config: dict[str, Any]) -> str:
    """What the first layer receives."""
    return str(config.get("inputs", "spikes"))


def starts_of(config: dict[str, Any]) -> int:
    """How often all processes were started."""
    return int(config.get("starts", 1))


def records_of(results: Results) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each result with each of its records."""
    return ((result, record) for result in results for record in result["records"])


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {record["name"]: record for record in result["records"]}


def contenders(results: Results) -> list[str]:
    """The names of all contenders, in the order of the results."""
    return list(dict.fromkeys(record["name"] for _, record in records_of(results)))


def names_of(record: dict[str, Any]) -> tuple[str, str]:
    peer, _, variant = record["name"].partition(":")
    return peer, variant


def reason_of(record: dict[str, Any]) -> str:
    """The reason why there is no time; empty if there is one."""
    return record["error"] or record["left_out"] or ""


def times_of(record: dict[str, Any]) -> list[float]:
    return [] if reason_of(record) else [time for turn in record["rounds"] for time in turn]


def ratios_of(record: dict[str, Any], other: dict[str, Any] | None) -> list[float]:
    """The ratio of medians between a record and another contender in each round of each start."""
    if other is None or not times_of(record) or not times_of(other):
        return []
    pairs = zip(record["rounds"], other["rounds"], strict=True)
    return [float(np.median(mine) / np.median(theirs)) for mine, theirs in pairs]


def samples_of(ratios: list[float], starts: int) -> tuple[list[float], str]:
    """The samples of a geometric mean, and what each is of: a "round", or, of several starts, a "start" of the processes.

    Rounds of one start share the layout of memory and the placement of threads, and what these do to a time is not seen in
    their spread. The geometric means of the starts have all of it, and the same geometric mean as the rounds.

    Args:
        ratios: of all rounds, start by start, as many in each.
        starts: their number.
    """
    if starts == 1 or not ratios:
        return ratios, "round"
    return np.exp(np.log(np.reshape(ratios, (starts, -1))).mean(axis=1)).tolist(), "start"


def others_of(result: dict[str, Any]) -> float | None:
    """The most cores that other programs used before or during a start; None where that was not looked at."""
    found = result.get("others", {"before": None, "during": []})
    return max((cores for cores in (found["before"], *found["during"]) if cores is not None), default=None)


def ranks_of(result: dict[str, Any]) -> dict[str, int]:
    """The place of each contender among the forms of its library, by the geometric mean of its medians of rounds, as in ratios:
    1 is the fastest, and those without a time come last."""

    def time(record: dict[str, Any]) -> float:
        return float(np.log([*map(np.median, record["rounds"])]).mean()) if times_of(record) else np.inf

    ranks: dict[str, int] = {}
    for record in sorted(result["records"], key=time):
        library = names_of(record)[0]
        ranks[record["name"]] = 1 + sum(other.partition(":")[0] == library for other in ranks)
    return ranks


def fastest_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By library, the record of its fastest form, of those that were timed."""
    ranks = ranks_of(result)
    return {
        names_of(record)[0]: record for record in result["records"] if times_of(record) and ranks[record["name"]] == 1
    }


def main_line(results: Results) -> Results:
    """The workloads that share batch, type and steps with the first, by size, and at each size those with more starts last."""
    first = results[0]["config"]
    alike = [r for r in results if all(r["config"][name] == first[name] for name in ("batch", "dtype", "steps"))]
    return sorted(alike, key=lambda result: (result["config"]["size"], starts_of(result["config"])))
