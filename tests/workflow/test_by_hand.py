"""Experiments by hand, on a machine with JAX, Flax, Optax, matplotlib and numpy, where none of our packages is installed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.parent.name for path in ROOT.glob("experiments/*/run.py"))
MISSING = ("jaxtyping", "tqdm", "orbax", "slax")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """All that is installed, but for our packages and what is stood in for, or imported where it is used."""
    folder = tmp_path_factory.mktemp("installed")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(MISSING):
            (folder / path.name).symlink_to(path)
    return folder


def by_hand(installed, script, *options):
    """Runs a script of an experiment, without the environment's own packages."""
    command = [sys.executable, "-S", str(ROOT / "experiments" / script), *map(str, options)]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=installed, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_script_says_how_it_is_called(experiment, installed):
    assert "usage: run.py" in by_hand(installed, f"{experiment}/run.py", "--help")


def test_rule_is_trained_by_hand(installed, tmp_path):
    cell = ["--scale", "tiny", "--task", "digits", "--rule", "otpe", "--output", tmp_path / "otpe.json"]
    by_hand(installed, "rules_table/run.py", *cell)
    assert (tmp_path / "otpe.json").stat().st_size > 1000
