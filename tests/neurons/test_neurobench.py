"""NeuroBench's harness finds what `complexity` counts, in an environment of its own; without it there are clear errors."""

import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from slax_neurons import LIF, LTC, connect
from slax_neurons.analysis.neurobench import neurobench_model

SCRIPT = Path(__file__).parent / "foreign" / "neurobench_parity.py"


def linear(n_in, n_out):
    return nnx.Linear(n_in, n_out, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_numbers_are_those_of_the_harness_for_our_model_and_for_that_of_snntorch():
    """The script compares; here it is seen that there was something to compare."""
    done = subprocess.run(["uv", "run", "--no-project", "--quiet", "--script", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    table = json.loads(done.stdout)
    assert len(table) == 5
    assert {bool(numbers["effective_macs"]) for numbers in table.values()} == {True, False}
    assert table["dense"]["connection_sparsity"] < 0.2 < table["dense, some weights zero"]["connection_sparsity"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LIF(), r"neurobench_model got LIF, expected a stack. Make one: connect\(\[...\]\)"),
        (
            connect([linear(4, 4), LIF()], {0: [1]}, rngs=nnx.Rngs(0)),
            "an edge from 1 to 0, .*slax_neurons.complexity counts edges",
        ),
        (
            connect([connect([nnx.GRUCell(4, 3, rngs=nnx.Rngs(0))])]),
            "got GRUCell as module 0, expected Linear, Conv, a Neuron",
        ),
        (connect([linear(4, 4), LTC(4, rngs=nnx.Rngs(0))]), "got LTC as module 1, expected Linear, Conv, a Neuron"),
        (connect([nnx.LayerNorm(4, rngs=nnx.Rngs(0))]), "got LayerNorm as module 0, expected Linear"),
    ],
)
def test_what_modules_in_a_row_cannot_show_is_an_error(model, message):
    with pytest.raises(TypeError, match=message):
        neurobench_model(model)


def test_without_neurobench_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "slax_neurons.analysis.replay", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'slax-neurons\[neurobench\]'"):
        neurobench_model(connect([linear(4, 4), lambda x: jnp.abs(x), LIF()]))
