"""The parsers of our commands, with the options that several of them have."""

import argparse
from pathlib import Path
from typing import Any

from experiments.pipeline.job import SCALES, experiment_names
from experiments.pipeline.plan import OUTDATED, PEERS

SHARED: dict[str, dict[str, Any]] = {
    "experiment": {"choices": experiment_names()},
    "--scale": {"choices": SCALES, "default": "quick", "help": "default: quick"},
    "--set": {"action": "append", "default": [], "metavar": "KEY=VALUE", "help": "another value than in config.yaml"},
    "--outdated": {
        "choices": OUTDATED,
        "help": "results that are older than the sources; default: keep at the full scale",
    },
    "--peers": {"choices": PEERS, "help": "which peers are timed; default: those of each scale"},
    "--data": {"type": Path, "default": Path("data/processed"), "help": "folder of spikes; default: data/processed"},
}


def parser_of(command: str, about: str | None, *shared: str) -> argparse.ArgumentParser:
    """A parser for a command, which `about` tells about, with some of the shared options."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(command, description=about, formatter_class=form)
    for name in shared:
        parser.add_argument(name, **SHARED[name])
    return parser
