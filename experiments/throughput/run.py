"""Time a forward and backward pass of each contender on one workload, side by side.

With `own_environments` set to "light", only the libraries that are closest to ours are run, and the records of the others have
their ratio to ours from the shipped results; the pipeline's `--config peers=all` sets it to true. With false, no environment is
made: contenders that need only JAX, Flax and this checkout run with the current interpreter, and all others are reported as
missing. Use it on a machine that has only JAX, Flax, Optax, matplotlib and numpy:
`python -m experiments.run throughput rules_n128 --set own_environments=false --results trial`.

With `starts`, all processes are started that many times, one start after the other, each with all of its rounds. With
`others_at_most`, the program stops if other programs use more cores than this before a start or during it.
"""

import os
from typing import Any

from benchmarks.side_by_side.contenders import Contender, contenders
from benchmarks.side_by_side.measure import measure
from benchmarks.side_by_side.workload import Workload, uniform
from experiments.throughput.jobs import CLOSEST, OURS
from experiments.throughput.memory import free_bytes, that_fit
from experiments.throughput.others import Others, check, cores_before
from experiments.throughput.shipped import shipped

NOT_ASKED = "not run: asked for with --config peers=all"


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The record of `measure` for each contender, in the order of the configuration; the load of the machine before, and how
    many cores other programs used, before and during each start."""
    load = round(os.getloadavg()[0], 1)
    sizes = (config[name] for name in ("steps", "size", "batch", "dtype"))
    workload = uniform(*sizes, config.get("inputs", "spikes"))
    check(before := cores_before(), config.get("others_at_most"), "before the first start")
    records, during = of_all_starts(config, workload, that_fit(chosen_of(config), workload, free_bytes()))
    if config["own_environments"] == "light":
        known = shipped(config["workload"])
        records = [record | {"shipped": known.get(record["name"])} for record in records]
    return {"load": load, "others": {"before": before, "during": during}, "records": records}


def of_all_starts(
    config: dict[str, Any], workload: Workload, chosen: list[Contender]
) -> tuple[list[dict[str, Any]], list[float | None]]:
    """The records of the first start, with the rounds of all, and how many cores other programs used during each start. What
    fails in a start has failed, and is not started again."""
    found: dict[str, dict[str, Any]] = {}
    during = []
    for start in range(config.get("starts", 1)):
        able = [one for one in chosen if not found.get(one.name, {}).get("error")]
        first, watch = start * config["rounds"], Others()
        for record in measure(workload, able, config["rounds"], config["seconds"], first_round=first):
            before = found.setdefault(record["name"], record | {"rounds": []})
            before["rounds"] += record["rounds"]
            before["error"] = record["error"]
        during.append(watch.cores())
        check(during[-1], config.get("others_at_most"), f"during start {start + 1}")
    return [found[contender.name] for contender in chosen], during


def chosen_of(config: dict[str, Any]) -> list[Contender]:
    found = {contender.name: contender for contender in contenders(config["benchmark"], config["contenders"])}
    chosen = [found[name]._replace(left_out=left_out(config, found[name])) for name in config["contenders"]]
    if not config["own_environments"]:
        return [contender._replace(here=True) for contender in chosen]
    light = config["own_environments"] == "light"  # ours run with the current interpreter
    return [c._replace(here=True) if light and c.peer in OURS else c.as_recorded() for c in chosen]


def left_out(config: dict[str, Any], contender: Contender) -> str | None:
    """The reason why a contender is not timed, or None: not asked for, or too slow for so many units at this scale."""
    if config["own_environments"] == "light" and contender.peer not in (*OURS, *CLOSEST):
        return NOT_ASKED
    most = config["left_out"].get(contender.peer, config["size"])
    if config["size"] <= most:
        return None
    return f"left out at the scale {config['scale']!r} for the time that it takes" + (
        f" above N = {most}" if most else ""
    )
