"""One job for each workload, in which all contenders take turns. A job needs the environment of each contender's library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.common.job import TIMES, Job, drop

ROOT = Path(__file__).parents[2]
OURS = ("slax", "plain", "matmul")
CLOSEST = ("slax_original", "spyx", "jaxpike")  # the libraries that are timed without being asked for


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for workload, own in settings["workloads"].items():
        names = settings["contenders"][own["benchmark"]]
        config = drop(settings, "workloads") | {"workload": workload, "contenders": names} | own
        peers = sorted({name.split(":")[0] for name in config["contenders"]})
        timed = [peer for peer in peers if own["size"] <= config["left_out"].get(peer, own["size"])]
        light = settings["own_environments"] == "light"
        if light:
            timed = [peer for peer in timed if peer in (*OURS, *CLOSEST)]
        files = [str(file.relative_to(ROOT)) for file in sorted(ROOT.glob("benchmarks/side_by_side/*.py"))]
        files += [f"benchmarks/peers/{peer}.py" for peer in timed]
        if settings["own_environments"]:
            files += [f"benchmarks/.envs/{peer}.json" for peer in timed if not (light and peer in OURS)]
        if light:
            files.append("experiments/throughput/shipped.csv")
        yield Job(workload, config, endings=(TIMES,), files=tuple(files))
