"""Time a forward and backward pass of each contender on one workload, side by side.

With `own_environments` set to "light", contenders that need PyTorch are not run; the pipeline's `--config peers=all` sets it to
true. With false, no environment is made: contenders that need only JAX, Flax and this checkout run with the current
interpreter, and all others are reported as missing. Use it on a machine that has only JAX, Flax, Optax, matplotlib and numpy:
`python -m experiments.run throughput rules_n128 --set own_environments=false --results trial`.
"""

import os
from typing import Any

from benchmarks.side_by_side.contenders import Contender, contenders, needs_torch
from benchmarks.side_by_side.measure import measure
from benchmarks.side_by_side.workload import uniform

NEEDS_TORCH = "not run: it needs PyTorch, which is asked for with --config peers=all"


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The record of `measure` for each contender, in the order of the configuration, and the load of the machine before."""
    load = round(os.getloadavg()[0], 1)
    workload = uniform(config["steps"], config["size"], config["batch"], config["dtype"])
    return {"load": load, "records": measure(workload, chosen_of(config), config["rounds"], config["seconds"])}


def chosen_of(config: dict[str, Any]) -> list[Contender]:
    found = {contender.name: contender for contender in contenders(config["benchmark"], config["contenders"])}
    chosen = [found[name]._replace(left_out=left_out(config, found[name])) for name in config["contenders"]]
    if not config["own_environments"]:
        return [contender._replace(here=True) for contender in chosen]
    return [contender.as_recorded() for contender in chosen]


def left_out(config: dict[str, Any], contender: Contender) -> str | None:
    """The reason why a contender is not timed, or None: it needs PyTorch, or is too slow for so many units at this scale."""
    if config["own_environments"] == "light" and needs_torch(contender.peer):
        return NEEDS_TORCH
    most = config["left_out"].get(contender.peer, config["size"])
    if config["size"] <= most:
        return None
    return f"left out at the scale {config['scale']!r} for the time that it takes" + (
        f" above N = {most}" if most else ""
    )
