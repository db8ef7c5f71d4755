"""One job for each task and entry of its seeds, with all rules; and one for each point of the grid, in which BPTT alone is
trained."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    scale = drop(settings, "grid")
    for task, rules, config in each_task(scale):
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
    if settings["grid"]:
        grid = drop(scale, "tasks", "seeds") | drop(settings["grid"], "points") | {"task": "grid", "rules": ["bptt"]}
        for point in settings["grid"]["points"]:
            n_units, *_, n_classes = grid["layers"]
            changed = {
                "slope": point["slope"],
                "tau": point["tau"],
                "layers": [n_units, point["width"], point["width"], n_classes],
            }
            name = "_".join(f"{key}_{value}" for key, value in point.items())
            seeds = {"manifold": 0, "weights": [0]}
            yield Job(f"grid/{name}", grid | changed | seeds | {"compared": compared(["bptt"], scale["rules"])})


def compared(trained: list[str], rules: list[str]) -> list[str]:
    """The rules that are compared with BPTT where it is trained."""
    return [rule for rule in rules if rule != "bptt"] if "bptt" in trained else []
