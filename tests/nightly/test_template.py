"""A copy of the package in templates/, as its user has it: installed, beside a repository that is not changed."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Runs commands of Python where the package is installed; the folder of the copy."""
    folder = tmp_path_factory.mktemp("mine")
    copy = shutil.copytree(ROOT / "templates/slax-my-rule", folder / "slax-my-rule")
    install = ["uv", "pip", "install", "-q", "--offline", "--no-build-isolation", "--no-deps", "--python"]
    subprocess.run([*install, sys.executable, "--target", folder / "site-packages", copy], check=True)
    environment = os.environ | {"PYTHONPATH": str(folder / "site-packages")}

    def run(*command, cwd=ROOT):
        done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run, folder


def test_its_own_test_passes(mine):
    run, folder = mine
    assert "1 passed" in run("-m", "pytest", "-q", cwd=folder / "slax-my-rule")


def test_its_rule_is_in_the_figure_beside_otpe_and_in_the_table_of_rules(mine):
    run, folder = mine
    place = ("gradient_similarity", "--jobs", "randman_small", "--scale", "tiny", "--results", folder / "results")
    few = [f"--set={change}" for change in ("seeds=1", "measure_at=[0]", "eval_batches=4")]
    rules = "--set=tasks.randman_small.rules=[discounted, otpe]"
    run("-m", "experiments.run", place[0], "randman_small", *place[3:], rules, *few)
    run("-m", "experiments.plot", *place, "--output", folder / "figures")
    table = (folder / "figures/tiny/gradient_similarity.csv").read_text().splitlines()
    assert {row["rule"] for row in csv.DictReader(table)} == {"otpe", "discounted"}
    assert "| `discounted` | Discounted |" in run("-c", "from docs.rules_page import rules_table; print(rules_table())")
