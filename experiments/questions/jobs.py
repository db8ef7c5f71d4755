"""One job for each task, optimizer and way to learn, with all seeds; and where memory is asked for, one for recomputation."""

from collections.abc import Iterator
from typing import Any

from experiments.common.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, ways, config in each_task(settings):
        if config["memory"]:
            alone = drop(config, "optimizers", "momentum_rules", "learning_rates", "rate_seeds", "validation_size", "test_size")
            recomputed = alone | {"optimizer": "adam", "way": "recomputed"}
            yield Job(f"{task}/recomputed", recomputed, module="recomputed")
        for optimizer in config["optimizers"]:
            own = drop(config, "optimizers", "momentum_rules") | {"optimizer": optimizer}
            own["learning_rates"] = config["learning_rates"][optimizer]
            more = config.get("momentum_rules", []) if optimizer == "momentum" else []
            for way in [*ways, *more]:
                yield Job(f"{task}/{optimizer}/{way}", own | {"way": way})
