"""One job for each workload, in which all contenders take turns. It needs the environment of each contender's library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.common.job import Job, without

ROOT = Path(__file__).parents[2]


def jobs(settings: dict[str, Any]) -> Iterator[Job]:
    for workload, own in settings["workloads"].items():
        names = settings["contenders"][own["benchmark"]]
        config = without(settings, "workloads") | {"workload": workload, "contenders": names} | own
        peers = sorted({name.split(":")[0] for name in names})
        timed = [peer for peer in peers if own["size"] <= settings["left_out"].get(peer, own["size"])]
        needs = [str(file.relative_to(ROOT)) for file in sorted(ROOT.glob("benchmarks/side_by_side/*.py"))]
        needs += [f"benchmarks/peers/{peer}.py" for peer in timed]
        if settings["own_environments"]:
            needs += [f"benchmarks/.envs/{peer}.json" for peer in timed]
        yield Job(f"{workload}.timing", config, needs=tuple(needs), alone=True)
