"""Print the validation accuracy of each rule at each learning rate: how the `learning_rates` of config.yaml were chosen.

    python -m experiments.deep.choose                 # all tasks of the scale quick
    python -m experiments.deep.choose digits          # one of them

The networks are trained as in `run.py`, with one seed, on nine tenths of the training split, and tested on the last tenth. The
test split is not read.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from experiments.common.job import jobs_of, settings_of
from experiments.common.tasks import task_maker, with_validation
from experiments.deep.run import results
from slax_data import Task


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("experiments.deep.choose", description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all")
    parser.add_argument("--scale", default="quick", help="default: quick")
    parser.add_argument(
        "--data", type=Path, default=Path("data/processed"), metavar="FOLDER", help="with stored spikes"
    )
    options = parser.parse_args(arguments)
    settings = settings_of("deep", options.scale)
    print("| task | rule |", " | ".join(f"{rate:g}" for rate in settings["rates_to_try"]), "|")
    print("|---|---|", "---|" * len(settings["rates_to_try"]), sep="")
    for task, rule, accuracies in validated(settings, options.scale, options.tasks, options.data):
        print(f"| {task} | {rule} |", " | ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies), "|", flush=True)


def validated(
    settings: dict[str, Any], scale: str, tasks: list[str], data: Path
) -> Iterator[tuple[str, str, list[float]]]:
    """For each task and rule, the validation accuracy at each learning rate."""
    for job in jobs_of("deep", scale, settings).values():
        config = job.config | {"seeds": 1}
        if not tasks or config["task"] in tasks:
            make = task_maker(config, data / f"{job.spikes}.npz" if job.spikes else None)
            unseen = tested_on_validation(with_validation(make(jax.random.key(0))))
            trained = [
                results(config | {"learning_rate": rate}, lambda _, unseen=unseen: unseen)
                for rate in settings["rates_to_try"]
            ]
            yield config["task"], config["rule"], [numbers[0]["accuracy"] for numbers in trained]


def tested_on_validation(task: Task) -> Task:
    """The task with its validation split in the place of its test split."""
    splits = task.full_split
    if splits is None:
        return task
    return replace(task, full_split=lambda split: splits("validation" if split == "test" else split))


if __name__ == "__main__":
    main()
