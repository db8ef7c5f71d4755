"""Several devices give the numbers of one, under every rule, and share the work. Measured in eight_devices.py."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rules.eight_devices import DEVICES, FEW_TRIED, RULE_NAMES, WITH_LOSSES, B, T, ways

PROGRAM = Path(__file__).with_name("eight_devices.py")


@functools.cache
def measured(part):
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.run([sys.executable, PROGRAM, part], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_training_and_gradients_are_those_of_one_device(rule):
    """Parameters after three steps, and three losses with their gradients: windows, updates, masks, devices, `fit`."""
    found = measured(rule)
    losses = 0 if rule == "fptt" else sum(name == rule for name, *_ in WITH_LOSSES)
    assert len(found) == len(ways(rule)) + losses + 1
    assert {name: value for name, value in found.items() if not value < 1e-12} == {}


def test_training_and_gradients_of_other_combinations_are_those_of_one_device():
    found = measured("few")
    assert len(found) == len(FEW_TRIED) * 2
    assert {name: value for name, value in found.items() if not value < 1e-12} == {}


def test_statistics_dropout_and_data_by_key_are_those_of_one_device():
    found = measured("others")
    assert {name: value for name, value in found["float64"].items() if not value < 1e-12} == {}
    assert found["float32"] < 1e-5


@pytest.mark.parametrize("rule", ["bptt", "ostl"])
def test_each_device_works_on_its_share_alone(rule):
    """Products have the rows of a device's samples, of all steps, and only sums go from device to device."""
    program = measured("others")["programs"][rule]
    assert T * B // DEVICES[-1] in program["rows"]
    assert not {T * B, B} & set(program["rows"])
    assert program["collectives"] == ["all-reduce"]


@pytest.mark.parametrize(
    "attempt, message",
    [
        ("batch", "a batch of 7 samples for 8 devices, expected a multiple of 8"),
        ("split_batch", "a batch of 7 samples for 8 devices, expected a multiple of 8"),
        ("key", 'a random key in its state, .* Use Dropout(..., mask="sequence")'),
        ("stream", "Use slax_neurons.Dropout in place of nnx.Dropout"),
        ("uoro", "a random key in its state, .* UORO"),
        ("rate", "stopped at step 1 .* the update makes .* NaN"),
    ],
)
def test_what_cannot_be_split_or_is_not_finite_is_told(attempt, message):
    for part in message.split(" .* "):
        assert part in measured("others")["refusals"][attempt]
