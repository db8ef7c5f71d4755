"""The common options of all experiment scripts, and their error for unknown names."""

import argparse
from collections.abc import Collection
from pathlib import Path


def job_parser(script: str, description: str | None, *cell: str) -> argparse.ArgumentParser:
    """The parser of a script that makes one result: settings, scale, the options that select the cell, and the output.

    Args:
        script: the script's `__file__`; config.yaml is in the same folder.
        description: the script's docstring.
        cell: options that select from the config, as "task" does from `tasks`.
    """
    parser = _parser(description)
    parser.add_argument("--config", type=Path, default=Path(script).with_name("config.yaml"), help="default: beside it")
    parser.add_argument("--scale", choices=("tiny", "quick", "paper"), default="quick", help="default: quick")
    for name in cell:
        parser.add_argument(f"--{name}", required=True, help=f"a name under `{name}s` in the config")
    parser.add_argument("--output", type=Path, required=True, help="the result's path, ending in .json")
    return parser


def plot_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of a script that makes a figure and a table from results."""
    parser = _parser(description)
    parser.add_argument("--results", type=Path, nargs="+", required=True, help="results of run.py, of one scale")
    parser.add_argument("--output", type=Path, required=True, help="path of the figure without its ending")
    return parser


def check_known(kind: str, name: str | None, known: Collection[str], where: str = "") -> None:
    """Stop with a list of the known names of a kind, such as "task", if `name` is not one of them."""
    if name not in known:
        raise SystemExit(f"There is no {kind} {name!r}{where}, expected one of: {', '.join(known)}.")


def _parser(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
