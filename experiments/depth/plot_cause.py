"""Why is OTPE ahead of BPTT in deep networks? The lengths of gradients by layer, how alike they are from batch to batch, and
what trainings with other lengths reach."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.depth.jobs import COMPARED
from experiments.drawing import names, statistics, tables

COLUMNS = ["training", "rule", "batches", "quantity", "gradient", "layer", *tables.OF_SEEDS]
QUANTITIES = {"log10_length": statistics.ANY, "alike": statistics.COSINE}  # of a layer

Tasks = dict[str, dict[int, dict[str, Any]]]
Trainings = dict[str, dict[str, dict[str, Any]]]
Key = tuple[int, str, str, str]  # batches, quantity, rule of the gradient, and layer


class Data(NamedTuple):
    """The results of all rules by task and number of hidden layers, and of two rules by training."""

    tasks: Tasks
    trainings: Trainings


def trainings_of(results: list[dict[str, Any]]) -> Trainings:
    """The results of the two rules by training, in the order of their names."""
    found: Trainings = {training: {} for training in names.TRAININGS_IN_DEPTH}
    for result in (result for result in results if "training" in result["config"]):
        found[result["config"]["training"]][result["config"]["rule"]] = result
    return {training: of for training, of in found.items() if of}


def of_seeds(result: dict[str, Any]) -> dict[Key, list[float | None]]:
    """The numbers of the seeds, by what they are of."""
    seeds = result["seeds"]
    found: dict[Key, list[float | None]] = {
        (entry["batches"], "accuracy", "", ""): [seed["lengths"][place]["accuracy"] for seed in seeds]
        for place, entry in enumerate(seeds[0]["lengths"])
    }
    for step, of_rules in sorted(seeds[0]["gradients"].items(), key=lambda item: int(item[0])):
        for rule, of_rule in of_rules.items():
            every = [seed["gradients"][step][rule] for seed in seeds]
            found[int(step), "clipped", rule, ""] = [of["clipped"] for of in every]
            for layer in of_rule["layers"]:
                for name in QUANTITIES:
                    found[int(step), name, rule, layer] = [of["layers"][layer][name] for of in every]
    return found


def rows(data: Data) -> Iterator[list[Any]]:
    for training, results in data.trainings.items():
        numbers = {rule: of_seeds(result) for rule, result in results.items()}
        for rule, of_rule in numbers.items():
            for key, found in of_rule.items():
                yield [training, rule, *key, *tables.of_seeds(found, QUANTITIES.get(key[1], statistics.SHARE))]
                if key[1] == "accuracy" and rule != COMPARED[0]:
                    gaps = [one - other for one, other in zip(found, numbers[COMPARED[0]][key], strict=True)]
                    place = [key[0], "minus_bptt", *key[2:]]
                    yield [training, rule, *place, *tables.of_seeds(gaps, statistics.DIFFERENCE)]
