"""The order of results, and the cells of tables: means over seeds with their intervals, and the numbers themselves."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from experiments.common import lengths
from experiments.common.intervals import freedom_and_error
from experiments.common.names import task_name
from slax_rules import RULES
from slax_viz import mean_interval

Results = dict[str, dict[str, dict[str, Any]]]
Bounds = tuple[float, float]

ANY, POSITIVE, SHARE, COSINE = (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0), (-1.0, 1.0)  # bounds of numbers
SUMMARY = ("mean", "low", "high", "values")  # the columns of a `summary`
OF_SEEDS = (*SUMMARY, "seeds")  # the columns of `of_seeds`
OF_TESTS = (*OF_SEEDS, "tests")  # the columns of `of_tests`

ALIKE = {
    "spoken_digits": 5,
    "spoken_digits_new_speakers": 50,
}  # recordings of one speaker and digit in a test set, in a row


def network(config: dict[str, Any]) -> str:
    """The sizes of the layers: "64-128-10"."""
    return "-".join(map(str, config["layers"]))


def title_of(config: dict[str, Any]) -> str:
    """The task, and below it its network and the length of its sequences."""
    return f"{task_name(config['task'])}\n{network(config)}, T = {config['n_steps']}"


def randman(config: dict[str, Any]) -> str:
    """The same of an experiment on Randman, in one line, with its code."""
    return f"Randman, {config['code']} code, {network(config)}, T = {config['n_steps']}"


def numbers_of_seeds(of_seeds: Iterable[Sized]) -> str:
    """The numbers of seeds that occur in lists of what seeds have: "3", or "3, 20"."""
    return ", ".join(map(str, sorted({*map(len, of_seeds)})))


def updates_of(configs: Iterable[dict[str, Any]]) -> str:
    """The numbers of updates, or of sequences where a rule updates within them, of trainings: "400 or 500 batches of 32"."""
    pairs = [(config["steps"], config["batch_size"]) for config in configs]
    steps, sizes = zip(*pairs, strict=True)
    return f"{listed(steps)} batches of {listed(sizes)}"


def listed(numbers: Iterable[int]) -> str:
    """Numbers without repetitions: "100, 400 or 500"."""
    *first, last = (f"{number:,}" for number in sorted(set(numbers)))
    return f"{', '.join(first)} or {last}" if first else last


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that comes with an experiment, such as published.csv."""
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def by_task_and_rule(results: Iterable[dict[str, Any]]) -> Results:
    """The results of each task by rule, in the order of the table of rules."""
    order = list(RULES)
    tasks: Results = {}
    for result in sorted(results, key=lambda result: order.index(result["config"]["rule"])):
        task, rule = (result["config"][name] for name in ("task", "rule"))
        if rule in tasks.get(task, {}):
            raise SystemExit(f"Got two results of the task {task} and the rule {rule}, expected one of each.")
        tasks.setdefault(task, {})[rule] = result
    return {task: tasks[task] for task in sorted(tasks)}


def each(tasks: Results) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each task, rule and result."""
    return ((task, rule, result) for task, rules in tasks.items() for rule, result in rules.items())


def rules_of(tasks: Results) -> list[str]:
    """The rules that some task has a result of, in the order of the table of rules."""
    return [rule for rule in RULES if any(rule in rules for rules in tasks.values())]


def config_of(rules: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """The configuration of the first of some results."""
    config: dict[str, Any] = next(iter(rules.values()))["config"]
    return config


def spikes_of(seeds: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """The spikes per step and neuron of each layer, as `spikes_1`, with a number for each seed."""
    return {f"spikes_{layer}": [seed["spikes"][layer] for seed in seeds] for layer in seeds[0]["spikes"]}


def interval(
    numbers: Sequence[float | None], bounds: Bounds, tests: Sequence[float] = ()
) -> tuple[float | None, float | None, float | None]:
    """The mean, and the low and high ends of its 95 % interval, without the numbers that are missing (None); None where there
    are too few numbers.

    `tests` are the means over the seeds for each sample of a test set that seeds have in common: with them, the interval
    contains what other test samples would change (`experiments.common.intervals`).
    """
    known = [number for number in numbers if number is not None]
    if len(known) < 2:
        return (known[0] if known else None), None, None
    if len(tests):
        parts = [(float(np.var(of, ddof=1)), len(of)) for of in (known, tests)]
        freedom, error = freedom_and_error(parts)
        mean, half = float(np.mean(known)), float(stdtrit(freedom, 0.975) * error)
        return mean, max(bounds[0], mean - half), min(bounds[1], mean + half)
    mean, low, high = (float(number) for number in mean_interval(known, bounds=bounds))
    return mean, low, high


def further(numbers: Sequence[float | None], bounds: Bounds, runs: int = 1) -> tuple[float | None, float | None]:
    """The ends of the interval in which the mean of further runs would be with 95 % probability, cut at the bounds; None where
    there are too few numbers.

    With n numbers of standard deviation s, it extends t(n - 1) s sqrt(1 / n + 1 / runs) to both sides of their mean.
    """
    mean, low, high = interval(numbers, ANY)
    if mean is None or low is None or high is None:
        return None, None
    half = (high - low) / 2 * math.sqrt(1 + count(numbers) / runs)
    return max(bounds[0], mean - half), min(bounds[1], mean + half)


def mean_or_nan(numbers: Sequence[float | None]) -> float:
    """The mean without the numbers that are missing; NaN if all of them are."""
    mean, _, _ = interval(numbers, ANY)
    return math.nan if mean is None else mean


def ratios(times: Sequence[float], reference: Sequence[float]) -> list[float]:
    """The ratios of two times round by round, in which other load on the machine is common to both."""
    return [time / other for time, other in zip(times, reference, strict=True)]


def summary(numbers: Sequence[float | None], bounds: Bounds) -> list[float | str | None]:
    """The cells of a quantity of all seeds, or of all rounds of timing: mean, ends of its interval, and the numbers themselves.

    A claim that compares two quantities is judged by the differences of the numbers at the same place. A number that is missing
    is None and keeps its place.

    Args:
        numbers: one for each seed.
        bounds: bounds of each number.
    """
    return [*interval(numbers, bounds), " ".join(map(repr_float, numbers))]


def of_seeds(numbers: Sequence[float | None], bounds: Bounds) -> list[float | str | None]:
    """The cells of `OF_SEEDS`: the summary of a quantity, and of how many seeds it is not missing."""
    return [*summary(numbers, bounds), count(numbers)]


def tested(task: str, seeds: Sequence[dict[str, Any]], batches: int | None = None) -> np.ndarray:
    """The test accuracies of seeds after some batches, at the end by default, by seed and what is independent in the test set.

    These are test samples, or the means of all recordings of one speaker and digit, which are alike: [S, I]. It is [S, 1] if
    each seed has a test set of its own.
    """
    matrix = lengths.tested(seeds, batches)
    alike = ALIKE.get(task, 1) if matrix.shape[1] > 1 else 1
    return matrix.reshape(len(matrix), -1, alike).mean(axis=2)


def tested_summary(matrix: np.ndarray, bounds: Bounds) -> list[float | str | None]:
    """The cells of `tested_columns`: a summary of accuracies or of their differences, and the sums over seeds for each sample
    of the test set, empty if seeds have none in common.

    Args:
        matrix: by seed and test sample [S, I], or the accuracies of the seeds [S, 1]: see `tested`.
        bounds: bounds of each number.
    """
    numbers, tests = seeds_and_tests(matrix)
    sums = (len(numbers) * tests).round(6).tolist()
    return [*interval(numbers, bounds, tests), " ".join(map(repr_float, numbers)), " ".join(map(repr_float, sums))]


def seeds_and_tests(matrix: Any) -> tuple[list[float], np.ndarray]:
    """The means of the seeds, and of the test samples, if seeds have these in common.

    Args:
        matrix: by seed and test sample [S, I], or one number for each seed, [S, 1] or [S].
    """
    numbers = np.asarray(matrix, float).reshape(len(matrix), -1)
    return numbers.mean(axis=1).tolist(), numbers.mean(axis=0) if numbers.shape[1] > 1 else np.array([])


def of_tests(matrix: np.ndarray, bounds: Bounds) -> list[float | str | None]:
    """The cells of `OF_TESTS`: of `tested_summary`, with the number of seeds."""
    *cells, tests = tested_summary(matrix, bounds)
    return [*cells, len(matrix), tests]


def without_tests(numbers: Sequence[float | None], bounds: Bounds) -> list[float | str | None]:
    """The cells of `OF_TESTS` of a quantity that is not a mean over test samples."""
    return [*of_seeds(numbers, bounds), ""]


def of_cost(numbers: dict[str, Any], bptt: dict[str, Any]) -> list[Any]:
    """The cells of `OF_COST`: the times and the memory of a gradient, and both relative to those of BPTT."""
    times, size = numbers["milliseconds"], numbers["temporary_bytes"]
    relative = summary(ratios(times, bptt["milliseconds"]), POSITIVE)
    return [*summary(times, POSITIVE), *relative, len(times), size, size / bptt["temporary_bytes"]]


def ratio_interval(numbers: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The geometric mean of ratios of times, and the ends of its 95 % interval, which is that of their logarithms.

    A mean of ratios a / b is above 1 even if a and b are times of the same program, since noise makes it so, and so is the mean
    of b / a. The geometric mean of one is the inverse of the other.
    """
    mean, low, high = (None if end is None else math.exp(end) for end in interval([*map(math.log, numbers)], ANY))
    return mean, low, high


def ratio_summary(numbers: Sequence[float]) -> list[float | str | None]:
    """The cells of `ratio_columns`: as in `summary`, but with the geometric mean; a claim is judged by the logarithms."""
    return [*ratio_interval(numbers), " ".join(map(repr_float, numbers)), "geometric"]


def ratio_columns(quantity: str) -> list[str]:
    """The columns of `ratio_summary`: `ratio`, `ratio_low`, `ratio_high`, `ratio_values` and `ratio_mean`."""
    return [*summary_columns(quantity), f"{quantity}_mean"]


def repr_float(number: float | None) -> str:
    """A number in seven digits, which are those of a float32; a whole number in all of its digits."""
    if number is None:
        return "None"
    return f"{number:.0f}" if number == int(number) else f"{number:.7g}"


def summary_columns(*quantities: str) -> list[str]:
    """The columns of the summaries of several quantities: `cosine`, `cosine_low`, `cosine_high` and `cosine_values`."""
    return [name for quantity in quantities for name in (quantity, *(f"{quantity}_{end}" for end in SUMMARY[1:]))]


def tested_columns(*quantities: str) -> list[str]:
    """The columns of the summaries of accuracies, such as `accuracy`, ..., `accuracy_values` and `accuracy_tests`."""
    return [name for quantity in quantities for name in (*summary_columns(quantity), f"{quantity}_tests")]


OF_COST = [*summary_columns("milliseconds", "times_bptt"), "rounds", "temporary_bytes", "bytes_times_bptt"]


def count(numbers: Iterable[float | None]) -> int:
    """How many of the numbers are not missing."""
    return sum(number is not None for number in numbers)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with numbers to six decimal places and an empty cell for None."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        for row in rows:
            table.writerow([round(cell, 6) if isinstance(cell, float) else cell for cell in row])
