"""The order of results, and the cells of tables: means over seeds with their intervals, and the numbers themselves."""

import csv
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.drawing.statistics import POSITIVE, Bounds, count, interval, ratio_interval, seeds_and_tests
from slax_rules import RULES

Results = dict[str, dict[str, dict[str, Any]]]

SUMMARY = ("mean", "low", "high", "values")  # the columns of a `summary`
OF_SEEDS = (*SUMMARY, "seeds")  # the columns of `of_seeds`
OF_TESTS = (*OF_SEEDS, "tests")  # the columns of `of_tests`

# Recordings of one speaker and digit in a test set, in a row.
ALIKE = {"spoken_digits": 5, "spoken_digits_new_speakers": 50}


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that comes with an experiment, such as published.csv."""
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def by_task_and_rule(results: Iterable[dict[str, Any]]) -> Results:
    """The results of each task by rule, in the order of the table of rules."""
    order = list(RULES)
    tasks: Results = {}
    for result in sorted(results, key=lambda result: order.index(result["config"]["rule"])):
        task, rule = (result["config"][name] for name in ("task", "rule"))
        tasks.setdefault(task, {})[rule] = result
    return {task: tasks[task] for task in sorted(tasks)}


def each(tasks: Results) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each task, rule and result."""
    return ((task, rule, result) for task, rules in tasks.items() for rule, result in rules.items())


def in_order(*rules: Container[str]) -> list[str]:
    """The rules that are in some of these, in the order of the table of rules."""
    return [rule for rule in RULES if any(rule in some for some in rules)]


def config_of(rules: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """The configuration of the first of some results."""
    config: dict[str, Any] = next(iter(rules.values()))["config"]
    return config


def accuracies(result: dict[str, Any], scale: float = 1) -> list[float]:
    """The test accuracy of each seed at the end."""
    return [scale * seed["accuracy"] for seed in result["seeds"]]


def spikes_of(seeds: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """The spikes per step and neuron of each layer, as `spikes_1`, with a number for each seed."""
    return {f"spikes_{layer}": [seed["spikes"][layer] for seed in seeds] for layer in seeds[0]["spikes"]}


def tested_summary(numbers: Any, bounds: Bounds) -> list[float | str | None]:
    """The cells of `tested_columns`, of a quantity of all seeds: mean, ends of its interval, the numbers themselves, and the
    sums over seeds for each sample of the test set, empty if seeds have none in common.

    A claim that compares two quantities is judged by the differences of the numbers at the same place. A number that is missing
    is None and keeps its place.

    Args:
        numbers: one for each seed, or a matrix by seed and test sample: see `statistics.seeds_and_tests`.
        bounds: bounds of each number.
    """
    of_seeds, tests = seeds_and_tests(numbers)
    return [*interval(numbers, bounds), listed(of_seeds), listed((len(numbers) * tests).round(6).tolist())]


def summary(numbers: Any, bounds: Bounds) -> list[float | str | None]:
    """The same without the test samples: the cells of `summary_columns`."""
    return tested_summary(numbers, bounds)[:-1]


def of_seeds(numbers: Any, bounds: Bounds) -> list[float | str | int | None]:
    """The cells of `OF_SEEDS`: the summary of a quantity, and of how many seeds it is not missing."""
    return [*summary(numbers, bounds), count(numbers)]


def of_tests(numbers: Any, bounds: Bounds) -> list[float | str | int | None]:
    """The cells of `OF_TESTS`: the same with the sums over seeds for each test sample."""
    *cells, tests = tested_summary(numbers, bounds)
    return [*cells, count(numbers), tests]


def tested(task: str, seeds: Sequence[dict[str, Any]], batches: int | None = None) -> np.ndarray:
    """The test accuracies of seeds after some batches, at the end by default, by seed and what is independent in the test set.

    These are test samples, or the means of all recordings of one speaker and digit, which are alike: [S, I]. It is [S, 1] if
    each seed has a test set of its own.
    """
    if "lengths" not in seeds[0]:  # before training, and of a result that has the end alone
        return np.array([[seed["accuracy"]] for seed in seeds])
    entries = [at_length(seed, batches) for seed in seeds]
    if not seeds[0]["common_test"]:
        return np.array([[entry["accuracy"]] for entry in entries])
    right = np.array([unpack(entry["right"], seeds[0]["test_size"]) for entry in entries], float)
    return right.reshape(len(right), -1, ALIKE.get(task, 1)).mean(axis=2)


def at_length(seed: dict[str, Any], batches: int | None) -> dict[str, Any]:
    """What a seed has of its network after some batches, at the end by default."""
    if batches is None:
        return seed["lengths"][-1]
    (entry,) = (entry for entry in seed["lengths"] if entry["batches"] == batches)
    return entry


def unpack(text: str, count: int) -> np.ndarray:
    """The bits that `experiments.common.measures.pack` made a text of."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)


def of_cost(numbers: dict[str, Any], bptt: dict[str, Any]) -> list[Any]:
    """The cells of `OF_COST`: the times and the memory of a gradient, and both relative to those of BPTT."""
    times, size = numbers["milliseconds"], numbers["temporary_bytes"]
    ratios = [time / other for time, other in zip(times, bptt["milliseconds"], strict=True)]  # round by round
    in_memory = [size, size / bptt["temporary_bytes"], numbers.get("input_bytes")]
    return [*summary(times, POSITIVE), *summary(ratios, POSITIVE), len(times), *in_memory]


def ratio_summary(numbers: Sequence[float]) -> list[float | str | None]:
    """The cells of `ratio_columns`: as in `summary`, but with the geometric mean; a claim is judged by the logarithms."""
    return [*ratio_interval(numbers), listed(numbers), "geometric"]


def ratio_columns(quantity: str) -> list[str]:
    """The columns of `ratio_summary`: `ratio`, `ratio_low`, `ratio_high`, `ratio_values` and `ratio_mean`."""
    return [*summary_columns(quantity), f"{quantity}_mean"]


def listed(numbers: Iterable[float | None]) -> str:
    """Numbers in seven digits, which are those of a float32; whole numbers in all of their digits."""
    return " ".join("None" if n is None else f"{n:.0f}" if n == int(n) else f"{n:.7g}" for n in numbers)


def summary_columns(*quantities: str) -> list[str]:
    """The columns of the summaries of several quantities: `cosine`, `cosine_low`, `cosine_high` and `cosine_values`."""
    return [name for quantity in quantities for name in (quantity, *(f"{quantity}_{end}" for end in SUMMARY[1:]))]


def tested_columns(*quantities: str) -> list[str]:
    """The columns of the summaries of accuracies, such as `accuracy`, ..., `accuracy_values` and `accuracy_tests`."""
    return [name for quantity in quantities for name in (*summary_columns(quantity), f"{quantity}_tests")]


OF_COST = [*summary_columns("milliseconds", "times_bptt"), "rounds"]
OF_COST += ["temporary_bytes", "bytes_times_bptt", "input_bytes"]


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with numbers to six decimal places and an empty cell for None."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"{path.name}: got a row of {len(row)} cells, expected {len(columns)}: {row}.")
            table.writerow([round(cell, 6) if isinstance(cell, float) else cell for cell in row])
