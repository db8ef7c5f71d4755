"""One job for each task and entry of its seeds, with all rules."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for task, rules, config in each_task(settings):
        own = drop(config, "seeds") | {"rules": rules, "compared": compared(rules, rules)}
        if "spikes" in own:
            weights = [seed for seeds in config["seeds"] for seed in seeds["weights"]]
            recordings = drop(own, "dim", "alpha", "test_size") | {"weights": weights}
            yield Job(f"{task}/recordings", recordings, spikes=own["spikes"])
        else:
            for seeds in config["seeds"]:
                of_job = seeds.get("rules", rules)
                name = "_".join(
                    map(str, ("manifold", seeds["manifold"], "weights", *seeds["weights"], *seeds.get("rules", ())))
                )
                yield Job(f"{task}/{name}", own | {"compared": compared(of_job, rules)} | seeds)


def compared(trained: list[str], rules: list[str]) -> list[str]:
    """The rules that are compared with BPTT where it is trained."""
    return [rule for rule in rules if rule != "bptt"] if "bptt" in trained else []
