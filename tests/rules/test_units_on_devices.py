"""Units of layers split over eight virtual devices of a CPU: numbers of one device, at an eighth of the memory per array."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from flax import nnx

from kinds_of_rules import of_each_kind
from slax_neurons import LIF, connect
from slax_rules import split_units


@pytest.fixture(scope="module")
def measured():
    script = Path(__file__).parent / "units_on_devices.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_gradients_training_and_evaluation_are_those_of_one_device(measured):
    ways = {
        "recurrent",
        "convolution",
        "penalty",
        "mask",
        "fit",
        "online",
        "stream",
        "resumed",
        "evaluate",
        "in one window",
    }
    assert measured["found"].keys() == ways | set(of_each_kind())
    for name, (deviation, _, _) in measured["found"].items():
        assert deviation < 1e-12, name


def test_gradients_and_trained_parameters_stay_with_their_units(measured):
    for name, (_, share, number) in measured["found"].items():
        if name != "evaluate":
            assert share == 1 / 8 and number >= 2, name


def test_memory_of_a_device_falls(measured):
    """A layer of 512 units on eight devices; BPTT and OTTT also keep spikes [T, B, N] whole while a product reads them."""
    assert measured["memory"]["ostl"] < 0.25 and measured["memory"]["bptt"] < 0.6 and measured["memory"]["ottt"] < 0.6


@pytest.mark.parametrize("way", ["fit", "gradients"])
def test_a_batch_is_not_split_over_devices_that_share_the_units(measured, way):
    assert "whose units are split over devices already" in measured["refused"][way]


def test_no_devices_are_an_error():
    with pytest.raises(ValueError, match="split_units got no devices"):
        split_units(connect([nnx.Linear(4, 3, rngs=nnx.Rngs(0)), LIF()]), [])


def test_devices_that_divide_nothing_are_an_error():
    model = connect([nnx.Linear(4, 3, rngs=nnx.Rngs(0)), LIF()])
    with pytest.raises(
        ValueError, match=r"arrays of shapes \[3\], \[4, 3\], expected one whose last axis 2 devices divide"
    ):
        split_units(model, jax.devices() * 2)
