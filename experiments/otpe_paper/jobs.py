"""One job for each task and seed of the manifolds, with all rules and seeds of the weights; and one for each point of the grid,
in which BPTT alone is trained."""

from collections.abc import Iterator
from typing import Any

from experiments.common.job import Job, drop, each_task


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    scale = drop(settings, "grid")
    for task, rules, config in each_task(scale):
        own = drop(config, "seeds") | {"rules": rules, "compared": others(rules)}
        if "spikes" in own:
            weights = [seed for seeds in config["seeds"] for seed in seeds["weights"]]
            recordings = drop(own, "dim", "alpha", "test_size") | {"weights": weights}
            yield Job(f"{task}/recordings", recordings, spikes=own["spikes"])
        else:
            for seeds in config["seeds"]:
                yield Job(f"{task}/manifold_{seeds['manifold']}", own | seeds)
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
            yield Job(
                f"grid/{name}", grid | changed | {"compared": others(scale["rules"]), "manifold": 0, "weights": [0]}
            )


def others(rules: list[str]) -> list[str]:
    """The rules that are compared with BPTT where it is trained."""
    return [rule for rule in rules if rule != "bptt"] if "bptt" in rules else []
