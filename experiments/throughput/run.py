"""Time a forward and backward pass of each contender on one workload, side by side.

With `own_environments` set to "light", only the libraries that are closest to ours are run; the pipeline's `--config peers=all`
sets it to true. With false, no environment is made: contenders that need only JAX, Flax and this checkout run with the current
interpreter, and all others are reported as missing. Use it on a machine that has only JAX, Flax, Optax, matplotlib and numpy:
`python -m experiments.run throughput rules_n128 --set own_environments=false --results trial`.

With `starts`, all processes are started that many times, one start after the other, each with all of its rounds. Nothing else
may run on the machine meanwhile: the result has the load before.
"""

import os
from typing import Any

from benchmarks.side_by_side.contenders import Contender, contender
from benchmarks.side_by_side.measure import measure
from benchmarks.side_by_side.workload import Workload, uniform
from experiments.throughput.jobs import CLOSEST, OURS

NOT_ASKED = "not run: asked for with --config peers=all"


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The record of `measure` for each contender, in the order of the configuration, and the load of the machine before."""
    load = round(os.getloadavg()[0], 1)
    sizes = (config[name] for name in ("steps", "size", "batch", "dtype"))
    workload = uniform(*sizes, config.get("inputs", "spikes"))
    return {"load": load, "records": of_all_starts(config, workload, chosen_of(config))}


def of_all_starts(config: dict[str, Any], workload: Workload, chosen: list[Contender]) -> list[dict[str, Any]]:
    """The records of the first start, with the rounds of all. What fails or is left out in a start is not started again."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(config.get("starts", 1)):
        gone = {name for name, record in found.items() if record["error"] or record["left_out"]}
        able = [one for one in chosen if one.name not in gone]
        for record in measure(
            workload, able, config["rounds"], config["seconds"], first_round=start * config["rounds"]
        ):
            before = found.setdefault(record["name"], record | {"rounds": []})
            before["rounds"] += record["rounds"]
            before |= {key: record[key] for key in ("error", "left_out")}
    return list(found.values())


def chosen_of(config: dict[str, Any]) -> list[Contender]:
    """The contenders of the configuration, and the reason for each that is not timed: not asked for, no file in
    benchmarks/peers, or too slow for so many units at this scale."""
    own, size, found = config["own_environments"], config["size"], []
    for one in (contender(config["benchmark"], name) for name in config["contenders"]):
        is_ours, reason, most = one.peer in OURS, one.left_out, config["left_out"].get(one.peer, size)
        if own == "light" and not is_ours and one.peer not in CLOSEST:
            reason = NOT_ASKED
        elif size > most and not reason:
            above = f" above N = {most}" if most else ""
            reason = f"left out at the scale {config['scale']!r} for the time that it takes{above}"
        is_here = not own or (own == "light" and is_ours)  # runs with the current interpreter
        found.append(one._replace(here=is_here, left_out=reason))
    return found
