"""Experiments by hand, on a machine with JAX, Flax, Optax, matplotlib and numpy, where none of our packages is installed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from experiments.pipeline.job import experiment_names, jobs_of, settings_of

ROOT = Path(__file__).parents[2]
MISSING = ("jaxtyping", "tqdm", "orbax", "slax")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """All that is installed, but for our packages and what is stood in for, or imported where it is used."""
    folder = tmp_path_factory.mktemp("installed")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(MISSING):
            (folder / path.name).symlink_to(path)
    return folder


def by_hand(installed, *command):
    """Runs Python in the checkout, without the environment's own packages."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-S", *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_that_computes_or_draws_can_be_imported(installed):
    modules = {f"experiments.{name}.plot" for name in experiment_names()}
    for name in experiment_names():
        modules |= {
            f"experiments.{name}.{job.module}" for job in jobs_of(name, "quick", settings_of(name, "quick")).values()
        }
    by_hand(installed, "-c", "import importlib\n" + "".join(f"importlib.import_module({name!r})\n" for name in modules))


def test_rule_is_trained_and_drawn_by_hand(installed, tmp_path):
    options = ["--scale", "tiny", "--results", tmp_path]
    by_hand(installed, "-m", "experiments.run", "activity", "ottt", *options)
    assert (tmp_path / "tiny" / "activity" / "ottt.json").stat().st_size > 1000
    by_hand(
        installed, "-m", "experiments.plot", "activity", "--jobs", "ottt", *options, "--output", tmp_path / "figures"
    )
    assert (tmp_path / "figures" / "tiny" / "activity_raster.png").exists()
