"""What docs/coming_from.md says holds: the programs of pages/ agree with runs of the frameworks; see data/README.md."""

import re
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_neurons
from slax_neurons import SpikingNeuron, unroll

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("pages/*.md"))
HEADINGS = {"Neurons": "neuron", "Surrogates": "surrogate", "Initial weights": "initial"}
ROUNDING = 1e-4  # of gradients, relative to the largest: float32, summed in another order
LATE = {"spyx": 1}  # steps by which the spikes of a layer come later than here


@cache
def recorded(name):
    with np.load(HERE / "data" / f"{name}.npz") as file:
        return dict(file)


def blocks(name, language):
    """Programs of a page: `py` is that of the other framework. The first one in `python` has our network and its step."""
    return re.findall(rf"```{language}\n(.*?)```", (HERE / "pages" / f"{name}.md").read_text(), flags=re.DOTALL)


def rows(name, heading):
    """The pairs (theirs, ours) of the table under a heading, all of which have to be code."""
    section = (HERE / "pages" / f"{name}.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [re.match(r"\| `([^`]*)` \| `([^`]*)` \|", line).groups() for line in lines[1:]]


@cache
def ours(name):
    """The names that our program leaves, run with the settings of a reader; `after` is what its first block leaves."""
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        first, *rest = blocks(name, "python")
        exec(first, names)
        after = names | {"model": nnx.clone(names["model"])}
        for block in rest:
            exec(block, names)
    return names | {"after": after}


def entries(heading):
    """The lines of a table of all pages, with the place of what was recorded."""
    return pytest.mark.parametrize(
        ("name", "index", "text"),
        [
            pytest.param(name, index, text, id=f"{name}-{theirs}")
            for name in NAMES
            for index, (theirs, text) in enumerate(rows(name, heading))
        ],
    )


def evaluated(name, text):
    """An entry of a table, with the names of the page's program and all that slax_neurons exports."""
    return eval(text, vars(slax_neurons) | {"jax": jax, "jnp": jnp, "nnx": nnx} | ours(name))


def deviation(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_recorded_is_what_the_page_has(name):
    (snippet,), theirs = blocks(name, "py"), recorded(name)
    assert str(theirs["snippet"]) == snippet, "write it again: data/README.md"
    for heading, key in HEADINGS.items():
        for index, (text, _) in enumerate(rows(name, heading)):
            assert str(theirs[f"{key}_{index}"]) == text, "write it again: data/README.md"


@pytest.mark.parametrize("name", NAMES)
def test_spikes_loss_and_step_are_those_of_the_framework(name):
    after, theirs = ours(name)["after"], recorded(name)
    for key in ("inputs", "labels"):
        np.testing.assert_array_equal(after[key], theirs[key])
    # A layer of spyx sends its spikes one step late, so two layers are two steps late.
    np.testing.assert_array_equal(after["spikes"], theirs["spikes"][2 * LATE.get(name, 0) :])
    assert 0.05 < theirs["spikes"].mean() < 0.95 and (theirs["spikes"].sum(axis=(0, 1)) > 0).all()
    np.testing.assert_allclose(after["loss"], theirs["loss"], rtol=1e-5)
    for index, before in enumerate(after["kernels"]):
        np.testing.assert_array_equal(before, theirs[f"kernel_{index}"])
        change = theirs[f"trained_{index}"] - before
        assert np.abs(change).max() > 1e-3
        # A change is the difference of rounded weights.
        bound = ROUNDING + 2 * np.finfo(np.float32).eps * np.abs(before).max() / np.abs(change).max()
        assert deviation(after["model"].modules[2 * index].kernel[...] - before, change) < bound


@entries("Neurons")
def test_neuron_is_that_of_the_framework(name, index, text):
    """Its outputs, and the gradient of a weighted sum of them with respect to the currents."""
    theirs, neuron = recorded(name), evaluated(name, text)
    currents, weights = jnp.asarray(theirs[f"gain_{index}"] * theirs["currents"]), theirs["weights"]
    late = LATE.get(name, 0) if isinstance(neuron, SpikingNeuron) else 0
    n_steps = len(currents) - late

    def outputs(currents):
        return unroll(neuron, neuron.initialize_carry(currents.shape[1:]), currents)[1]

    def total(currents):
        return jnp.sum(weights[late:] * outputs(currents)[:n_steps])

    expected = theirs[f"outputs_{index}"]
    np.testing.assert_allclose(outputs(currents)[:n_steps], expected[late:], rtol=0, atol=ROUNDING)
    assert deviation(jax.grad(total)(currents), theirs[f"gradient_{index}"]) < ROUNDING


@entries("Surrogates")
def test_surrogate_is_that_of_the_framework(name, index, text):
    theirs = recorded(name)
    slopes = jax.vmap(jax.grad(evaluated(name, text)))(jnp.asarray(theirs["grid"]))
    assert deviation(slopes, theirs[f"slopes_{index}"]) < ROUNDING


@entries("Initial weights")
def test_initial_weights_are_distributed_as_in_the_framework(name, index, text):
    drawn = np.abs(evaluated(name, text)(jax.random.key(0), (400, 400)))
    quantiles = recorded(name)[f"quantiles_{index}"]
    np.testing.assert_allclose(np.quantile(drawn, [0.25, 0.5, 0.75, 0.95]), quantiles, rtol=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_neurons_and_surrogates_of_the_page_for_readers_are_those_that_are_compared(name):
    text = (HERE.parents[2] / "docs" / "coming_from.md").read_text()
    section = re.search(rf"^## {name}\b.*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL | re.IGNORECASE)[0]
    pairs = re.findall(r"^\| `([^`]*)` \| `([^`]*)` \|$", section, flags=re.MULTILINE)
    compared = dict(pair for heading in HEADINGS for pair in rows(name, heading))
    shown = {theirs: ours for theirs, ours in pairs if theirs in compared}
    assert len(shown) >= 3 and shown.items() <= compared.items()
