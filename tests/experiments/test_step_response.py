"""The responses obey the neurons' laws, every neuron is there, and the page about them is up to date."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of

from experiments.step_response import run
from slax_neurons import NEURONS, unroll

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
NAMES = list(CONFIG["scales"]["quick"]["neurons"])
PAGE = (ROOT.parents[1] / "docs" / "neurons.md").read_text()
ON, OFF = (CONFIG["scales"]["quick"][f"current_{when}"] for when in ("on", "off"))


def config(name, **changes):
    return config_of("step_response", name, CONFIG["scales"]["quick"]) | changes


@pytest.fixture(scope="module")
def results():
    """What the pipeline would write, by neuron."""
    return {name: as_written(config(name), run.compute(config(name))) for name in NAMES}


def intervals(result):
    return np.diff(np.flatnonzero(result["output"]))


def membrane(result, start=0, stop=None):
    return np.array(result["membrane"][start:stop])


@pytest.mark.parametrize("scale", CONFIG["scales"])
def test_every_neuron_is_in_the_configuration(scale):
    assert set(CONFIG["scales"][scale]["neurons"]) == set(NEURONS)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_of_the_cell(name, results):
    """The last states and all outputs are those of `unroll`, and the neuron fires where its membrane is at the threshold."""
    neuron, result = run.make_neuron(config(name)), results[name]
    currents = np.array(result["current"], np.float32)[:, None, None]
    carry, outputs = unroll(neuron, neuron.initialize_carry((1, 1)), run.jnp.asarray(currents))
    np.testing.assert_allclose(result["output"], outputs.ravel(), rtol=1e-5)
    for field, state in run.by_name(carry).items():
        np.testing.assert_allclose(result["states"][field][-1], state.ravel(), rtol=1e-5, atol=1e-6)
    if result["threshold"] is None:
        return
    assert 3 <= sum(result["output"]) <= 30
    distance, fired = membrane(result) - result["threshold"], np.array(result["output"]) == 1
    assert np.all(distance[fired] > -1e-6)
    assert np.all(distance[~fired] < 1e-6)


def test_fixed_threshold_is_a_constant_and_an_adaptive_one_is_raised_by_the_last_state(results):
    for name in ("if", "lif", "cuba_lif", "adlif"):
        np.testing.assert_allclose(results[name]["threshold"], 1, atol=1e-5)
    for name, state, weight in (("alif", "a", config("alif")["options"]["beta"]), ("brf", "q", 1.0)):
        before = np.array([0, *results[name]["states"][state][:-1]])
        np.testing.assert_allclose(results[name]["threshold"], 1 + weight * before, atol=1e-5)


def test_if_fires_every_threshold_over_current_steps_and_keeps_its_charge(results):
    assert set(intervals(results["if"])) == {1 / config("if")["current"]}
    charge = membrane(results["if"], OFF - 1)
    assert charge[0] > 0
    assert np.all(charge == charge[0])


def defaults(function):
    arguments = inspect.signature(function).parameters.values()
    return {a.name: a.default for a in arguments if isinstance(a.default, int | float)}


@pytest.mark.parametrize("kind", NEURONS.values())
def test_page_has_equations_and_defaults_of_every_neuron(kind):
    (row,) = re.findall(rf"^\| `{kind.__name__}` \|.*$", PAGE, re.MULTILINE)
    for name, value in defaults(vars(kind).get("__init__", lambda: None)).items():
        assert f"`{name}={value:.4g}`" in row
    assert len(re.findall(rf"^\*\*{kind.__name__}\*\*.*\n\n    ", PAGE, re.MULTILINE)) == 1
