"""One job for each task, optimizer and way to learn, with all seeds; and for some tasks the memory or times of gradients."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import TIMES, TRAINING_KEYS, Job, drop, each_task

IN_TIME = "_in_time"  # the end of the name of a way that is trained for as long as OTPE
OF_TASK = ("optimizers", "momentum_rules", "in_time", "timed", "repeats")  # what no training depends on


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, ways, merged in each_task(settings):
        config, longer = drop(merged, "longer"), merged.get("longer", [1])
        alone = drop(config, *TRAINING_KEYS, *OF_TASK, "memory", "dataset", "code")
        if config["memory"]:
            yield Job(f"{task}/growth", alone | {"longer": longer}, module="growth")
        if config.get("timed"):
            timed = alone | {
                "ways": [*dict.fromkeys(way.removesuffix(IN_TIME) for way in ways)],
                "repeats": config["repeats"],
            }
            yield Job(f"{task}/cost", timed, module="cost", endings=(TIMES,))
        for optimizer in config["optimizers"]:
            own = drop(config, *OF_TASK) | {"optimizer": optimizer}
            own["learning_rates"] = config["learning_rates"][optimizer]
            more = config.get("momentum_rules", []) if optimizer == "momentum" else []
            for way in [*ways, *more]:
                batches = {"steps": round(config["in_time"] * config["steps"])} if way.endswith(IN_TIME) else {}
                yield Job(f"{task}/{optimizer}/{way}", own | {"way": way} | batches)
