"""One job of the experiment.

    python -m experiments.curvature.run --part solutions --rule bptt --output bptt.json
    python -m experiments.curvature.run --part online --rule otpe --output otpe.json
    python -m experiments.curvature.run --part windows --output windows.json

The parts are the Hessian at the solutions of one rule, see `experiments.curvature.solutions`; the online accuracy of one rule
by window, see `experiments.curvature.online`; and the gradients of all rules by window, see `experiments.curvature.windows`.
Time and memory, which differ from run to run, are written separately to windows.timing.json.

On a machine that has only JAX, Flax, Optax, matplotlib and numpy, `python experiments/curvature/run.py` does the same.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that `python experiments/curvature/run.py` runs,
importlib.import_module("experiments")  # with stand-ins for what is missing

import yaml

from experiments.common.command_line import check_known, job_parser
from experiments.common.record import recorded
from experiments.curvature.online import online
from experiments.curvature.solutions import solutions
from experiments.curvature.windows import windows

OF_ONE_RULE = ("solutions", "online")
PARTS = (*OF_ONE_RULE, "windows")


def main() -> None:
    parser = job_parser(__file__, __doc__, "part")
    parser.add_argument("--rule", help="of the parts solutions and online, which make one rule each")
    arguments = parser.parse_args()
    content, output = yaml.safe_load(arguments.config.read_text()), arguments.output
    config = part_config(content, arguments.scale, arguments.part, arguments.rule)
    with recorded(output, config=config, seed=0) as result:
        match arguments.part:
            case "solutions":
                result["seeds"] = solutions(config)
            case "online":
                result["cells"] = online(config)
            case "windows":
                with recorded(output.with_suffix(".timing.json"), config=config, seed=0) as timing:
                    result["cells"], timing["cells"] = windows(config)


def part_config(config: dict[str, Any], scale: str, part: str, rule: str | None = None) -> dict[str, Any]:
    """The values from config.yaml that one part, or one rule of a part, depends on."""
    settings = config["scales"][scale]
    check_known("part", part, PARTS)
    shared = {name: value for name, value in settings.items() if name not in PARTS} | {"scale": scale, "part": part}
    known = settings[part]["rules"]
    if part not in OF_ONE_RULE:
        return shared | settings[part]
    check_known("rule", rule, known, f" in {part}")
    return shared | {name: value for name, value in settings[part].items() if name != "rules"} | {"rule": rule}


if __name__ == "__main__":
    main()
