"""Graphs of other frameworks fire here as they do there, and theirs read what is written here; see data/README.md."""

from pathlib import Path

import jax.numpy as jnp
import nir
import numpy as np
import pytest

from slax_neurons import LIF, CuBaLIF, unroll
from slax_neurons.nir import from_nir, to_nir

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in DATA.glob("*.nir"))
READ_OUT = [name for name in NAMES if name.startswith("norse")]
SPIKING = [name for name in NAMES if name not in READ_OUT]
ROUNDING = 2e-6


def fixture(name, **options):
    """What the model of a graph makes of the framework's input, and what the framework made of it."""
    run = np.load(DATA / f"{name}.npz")
    reset = "subtract" if name == "snntorch_subtract" else "zero"
    options = {"dt": float(run["dt"]), "integration": "euler", "reset": reset} | options
    model = from_nir(nir.read(DATA / f"{name}.nir"), **options)
    x = jnp.asarray(run["inputs"], jnp.float32)
    x = jnp.moveaxis(x, 2, -1) if x.ndim > 3 else x
    return model, np.asarray(unroll(model, model.initialize_carry(x.shape[1:]), x)[1]), run["outputs"]


@pytest.mark.parametrize("name", SPIKING)
def test_spikes_are_those_of_the_framework(name):
    _, ours, theirs = fixture(name)
    np.testing.assert_array_equal(ours, theirs)
    assert 0.02 < theirs.mean() < 0.98


@pytest.mark.parametrize("name", READ_OUT)
def test_read_out_is_that_of_the_framework(name):
    """Up to rounding: one spike more or less in the layer below would be a hundred times as much."""
    model, ours, theirs = fixture(name)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING)
    assert np.abs(model.modules[2].kernel[...]).min() > 100 * ROUNDING


@pytest.mark.parametrize("change", [{"dt": 0.7}, {"integration": "exponential"}, {"reset": "none"}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_another_step_integration_or_reset_is_seen(name, change):
    """So that the tests above would see it too. The graph that is written here says itself how it is reset."""
    if "dt" in change:
        change = {"dt": float(np.load(DATA / f"{name}.npz")["dt"]) * change["dt"]}
    _, ours, theirs = fixture(name, **change)
    assert np.allclose(ours, theirs, rtol=0, atol=ROUNDING) == (name == "slax_chain" and "reset" in change)


def test_what_other_frameworks_write_is_all_there():
    models = {name: from_nir(nir.read(DATA / f"{name}.nir"), dt=1e-4, integration="euler") for name in NAMES}
    neurons = {name: type(model.modules[1]) for name, model in models.items()}
    assert {name for name in NAMES if neurons[name] is CuBaLIF} == {"norse_recurrent", "snntorch_synaptic"}
    assert {name for name in NAMES if neurons[name] is LIF} == set(NAMES) - {"norse_recurrent", "snntorch_synaptic"}
    assert {name for name in NAMES if models[name].edges} == {"norse_recurrent", "snntorch_recurrent"}


def test_a_graph_that_snntorch_has_read_is_what_is_written_today():
    """Its spikes are tested above."""
    graph = nir.read(DATA / "slax_chain.nir")
    again = to_nir(from_nir(graph, dt=1e-4), dt=1e-4, input_shape=(6,), integration="euler")
    assert sorted(again.edges) == sorted(graph.edges)
    assert again.metadata == graph.metadata
    assert again.nodes.keys() == graph.nodes.keys()
    for name, node in graph.nodes.items():
        written = again.nodes[name].to_dict()
        for key, value in node.to_dict().items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(written[key], value, rtol=1e-14, err_msg=f"{name} {key}")
            else:
                assert written[key] == value
