"""One job for each workload, in which all contenders take turns. A job needs the environment of each contender's library."""

from collections.abc import Iterator
from typing import Any

from experiments.pipeline.job import ROOT, TIMES, Job, drop

PEERS = ROOT / "benchmarks/peers"
OURS = ("slax", "matmul")
CLOSEST = ("slax_original", "spyx", "jaxpike")  # the libraries that are timed without being asked for


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    light = settings["own_environments"] == "light"
    for workload, own in settings["workloads"].items():
        names = settings["contenders"][own["benchmark"]]
        config = drop(settings, "workloads") | {"workload": workload, "contenders": names} | own
        peers = sorted({name.split(":")[0] for name in config["contenders"]})
        timed = [peer for peer in peers if own["size"] <= config["left_out"].get(peer, own["size"])]
        timed = [peer for peer in timed if (PEERS / f"{peer}.py").exists() and (not light or peer in (*OURS, *CLOSEST))]
        # A file for another version imports the first one, slax_original_jax04.py that of slax_original.
        files = {f"benchmarks/peers/{name}.py" for peer in timed for name in (peer, peer.rpartition("_jax")[0] or peer)}
        apart = [peer for peer in timed if settings["own_environments"] and not (light and peer in OURS)]
        needs = tuple(f"benchmarks/.envs/{peer}.json" for peer in apart)
        yield Job(workload, config, endings=(TIMES,), sources=("benchmarks/side_by_side", *sorted(files)), needs=needs)
