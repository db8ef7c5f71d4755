"""The parsers of our commands, with the options that several of them have."""

import argparse
from typing import Any

from experiments.pipeline.job import SCALES, experiment_names
from experiments.pipeline.plan import PEERS
from experiments.pipeline.results import OUTDATED

SHARED: dict[str, dict[str, Any]] = {
    "experiment": {},
    "--scale": {"choices": SCALES, "default": "quick", "help": "default: quick"},
    "--set": {"action": "append", "default": [], "metavar": "KEY=VALUE", "help": "another value than in config.yaml"},
    "--outdated": {
        "choices": OUTDATED,
        "help": "which results are used: current ones, those of other sources, too, or all; default at full: keep",
    },
    "--peers": {"choices": PEERS, "help": "which peers are timed; default: those of each scale"},
}


def parser_of(command: str, about: str | None, *shared: str) -> argparse.ArgumentParser:
    """A parser for a command, which `about` describes, with some of the shared options."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(command, description=about, formatter_class=form)
    add_shared(parser, *shared)
    return parser


def add_shared(parser: argparse.ArgumentParser, *shared: str) -> None:
    """Add some of the shared options to a parser."""
    for name in shared:
        known = {"help": f"one of: {', '.join(experiment_names())}"} if name == "experiment" else {}
        parser.add_argument(name, **SHARED[name], **known)
