"""Several devices give the numbers of one, under each kind of rule, and share the work. Measured in eight_devices.py."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from training.eight_devices import DEVICES, KINDS, B, T

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured():
    program = Path(__file__).with_name("eight_devices.py")
    run = subprocess.run([sys.executable, program], env=os.environ, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_training_and_gradients_are_those_of_one_device(measured):
    """Under rules: windows, updates, a mask, a penalty; norms, dropout, data by key, evaluation, sharded weights."""
    found = measured["measured"]
    assert set(KINDS) < found.keys() and len(found) == len(KINDS) + 4
    assert {name: value for name, value in found.items() if not value < 1e-12} == {}


def test_each_device_works_on_its_share_alone(measured):
    """Products have the rows of a device's samples, of all steps, and only sums go from device to device."""
    rows = {int(count) for count in re.findall(r"= f32\[(\d+),\d+\]\S* dot\(", measured["program"])}
    assert T * B // DEVICES in rows and not {T * B, B} & rows
    sent = r" (all-[a-z]+|collective-permute|reduce-scatter)\("
    assert set(re.findall(sent, measured["program"])) == {"all-reduce"}


@pytest.mark.parametrize(
    "attempt, message",
    [
        ("batch", "a batch of 7 samples for 8 devices, expected a multiple of 8"),
        ("key", r'a random key in its state, .* Use Dropout\(..., mask="sequence"\)'),
        ("stream", "Use slax_neurons.Dropout in place of nnx.Dropout"),
        ("uoro", "a random key in its state, .* UORO"),
        ("rate", "stopped at step 1 .* the update makes .* NaN"),
    ],
)
def test_what_cannot_be_split_or_is_not_finite_is_told(attempt, message, measured):
    assert re.search(message, measured["refusals"][attempt])
