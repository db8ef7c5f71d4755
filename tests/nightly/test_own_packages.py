"""Packages of users, installed beside a repository that is not changed: a copy of that in templates/, and one with the rest.

A rule, a code and a data set are known by their names to all experiments.
"""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOYS = """
import jax.numpy as jnp
from slax_data import DATASETS, ENCODERS, Encoder, image_task

def encode(intensities, *, n_steps):
    return jnp.zeros((n_steps, *intensities.shape)).at[0].set(intensities > 0.5)

ENCODERS["toy"] = Encoder(encode, random=False)

def toy_task(key, *, n_steps=8, code="latency"):
    labels = jnp.arange(20) % 2
    images = jnp.repeat(labels[:, None].astype(jnp.float32), 4, axis=1), labels
    return image_task(key, {"train": images, "test": images}, n_classes=2, n_steps=n_steps, code=code)

DATASETS["toy_set"] = toy_task
"""
TASK = "{dataset: toy_set, code: toy, input_rate: 0.3, layers: [4, 8, 2], n_steps: 8, rules: [bptt, discounted]}"


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Runs commands of Python where the packages are installed; the folder of the copy."""
    folder = tmp_path_factory.mktemp("mine")
    site, copy = folder / "site-packages", shutil.copytree(ROOT / "templates/slax-my-rule", folder / "slax-my-rule")
    install = ["uv", "pip", "install", "-q", "--offline", "--no-build-isolation", "--no-deps", "--python"]
    subprocess.run([*install, sys.executable, "--target", site, copy], check=True)
    (site / "toys.py").write_text(TOYS)

    def run(*command, cwd=ROOT):
        environment = os.environ | {"PYTHONPATH": str(site), "SLAX_IMPORTS": "slax_my_rule toys"}
        done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run, folder


def drawn(mine, experiment, jobs, *changes):
    """The rows of the table of a figure of the tiny scale."""
    run, folder = mine
    place = ("--scale", "tiny", "--results", folder / "results")
    run("-m", "experiments.run", experiment, *jobs, *place, *(f"--set={change}" for change in changes))
    run("-m", "experiments.plot", experiment, "--jobs", *jobs, *place, "--output", folder / "figures")
    return list(csv.DictReader((folder / f"figures/tiny/{experiment}.csv").read_text().splitlines()))


def test_an_experiment_trains_by_the_rule_on_the_set_in_the_code(mine):
    changes = (f"tasks={{toys: {TASK}}}", "steps=2", "batch_size=2", "validation_size=2")
    rows = drawn(mine, "accuracy", ["toys/bptt", "toys/discounted"], *changes)
    assert {(row["task"], row["rule"]) for row in rows} == {("toys", "bptt"), ("toys", "discounted")}
