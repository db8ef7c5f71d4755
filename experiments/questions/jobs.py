"""One job for each task, optimizer and way to learn, with all seeds; and one for each task of which memory is asked."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import TRAINING_KEYS, Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, ways, merged in each_task(settings):
        config, longer = drop(merged, "longer"), merged.get("longer", [1])
        if config["memory"]:
            alone = drop(config, *TRAINING_KEYS, "optimizers", "momentum_rules", "memory", "dataset", "code")
            yield Job(f"{task}/growth", alone | {"longer": longer}, module="growth")
        for optimizer in config["optimizers"]:
            own = drop(config, "optimizers", "momentum_rules") | {"optimizer": optimizer}
            own["learning_rates"] = config["learning_rates"][optimizer]
            more = config.get("momentum_rules", []) if optimizer == "momentum" else []
            for way in [*ways, *more]:
                yield Job(f"{task}/{optimizer}/{way}", own | {"way": way})
