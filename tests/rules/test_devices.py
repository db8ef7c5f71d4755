"""Many devices give the numbers of one, and share the work. Measured in eight_devices.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("eight_devices.py")
T, B, DEVICES = 6, 16, 8


@pytest.fixture(scope="module")
def measured():
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_loss_gradient_and_training_are_those_of_one_device(measured):
    """With masks that leave a device without a sample that counts, statistics over the batch, dropout, windows, edges."""
    assert len(measured["float64"]) == 6
    assert {name: value for name, value in measured["float64"].items() if not value < 1e-12} == {}
    assert measured["float32"]["plain"] < 1e-5


@pytest.mark.parametrize("model", ["plain", "ostl"])
def test_each_device_works_on_its_share_alone(model, measured):
    """Products have the rows of a device's samples, of all steps or of one, and only sums go from device to device."""
    program = measured["programs"][model]
    assert {T * B // DEVICES, B // DEVICES} <= set(program["rows"])
    assert not {T * B, B} & set(program["rows"])
    assert program["collectives"] == ["all-reduce"]


@pytest.mark.parametrize(
    "attempt, message",
    [
        ("batch", "a batch of 7 samples for 8 devices, expected a multiple of 8"),
        ("gradients", "a batch of 7 samples for 8 devices, expected a multiple of 8"),
        ("key", 'a random key in its carry, .* Use Dropout(..., mask="sequence")'),
        ("stream", "Use slax_neurons.Dropout in place of nnx.Dropout"),
        ("twice", "split already"),
    ],
)
def test_what_cannot_be_split_is_refused(attempt, message, measured):
    for part in message.split(" .* "):
        assert part in measured["refusals"][attempt]
