"""One workload of the experiment: a forward and backward pass of each contender, side by side.

    python -m experiments.throughput.run --workload n128 --output n128.timing.json
    python experiments/throughput/run.py --scale paper --workload n4096 --here --output n4096.timing.json

With `--here` no environment is made: contenders that need only JAX, Flax and this checkout run with the current interpreter;
all others are reported as missing. Use it on a machine that has only JAX, Flax, Optax, matplotlib and numpy.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that `python experiments/throughput/run.py` runs,
importlib.import_module("experiments")  # with stand-ins for what is missing

import yaml

from experiments.common.command_line import check_known, job_parser
from experiments.common.record import recorded

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(1, str(BENCHMARKS / "side_by_side"))

from contenders import Contender, contenders
from measure import measure
from workload import uniform


def main() -> None:
    parser = job_parser(__file__, __doc__, "workload")
    parser.add_argument("--here", action="store_true", help="with the interpreter at hand, without the peers")
    arguments = parser.parse_args()
    config = job_config(yaml.safe_load(arguments.config.read_text()), arguments.scale, arguments.workload)
    with recorded(arguments.output, config=config, seed=0) as result:
        result["load"] = round(os.getloadavg()[0], 1)
        result["records"] = compute(config, here=arguments.here)


def job_config(config: dict[str, Any], scale: str, workload: str) -> dict[str, Any]:
    """The values from config.yaml that one workload depends on."""
    settings = config["scales"][scale]
    check_known("workload", workload, settings["workloads"])
    own = settings["workloads"][workload]
    shared = {name: settings[name] for name in ("rounds", "seconds", "left_out")}
    return shared | {"scale": scale, "workload": workload, "contenders": settings["contenders"][own["benchmark"]]} | own


def compute(config: dict[str, Any], *, here: bool = False) -> list[dict[str, Any]]:
    """The record of `measure` for each contender, in the order of the configuration."""
    chosen = [contender._replace(here=here) for contender in chosen_of(config)]
    workload = uniform(config["steps"], config["size"], config["batch"], config["dtype"])
    return measure(workload, chosen, config["rounds"], config["seconds"])


def chosen_of(config: dict[str, Any]) -> list[Contender]:
    found = {
        contender.name: contender for contender in contenders(BENCHMARKS / config["benchmark"], config["contenders"])
    }
    return [
        found[name]._replace(left_out=left_out(config, found[name].peer)).as_recorded() for name in config["contenders"]
    ]


def left_out(config: dict[str, Any], peer: str) -> str | None:
    """The reason why a peer is not timed at this scale, or None: the workload has too many units for this peer."""
    most = config["left_out"].get(peer, config["size"])
    if config["size"] <= most:
        return None
    return f"left out at the scale {config['scale']!r} for the time that it takes" + (
        f" above N = {most}" if most else ""
    )


if __name__ == "__main__":
    main()
