"""What docs/coming_from.md says holds: the programs of pages/ agree with runs of the frameworks; see data/README.md."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_neurons
from nightly.coming_from.snippets_of_pages import NAMES, blocks, rows, snippet, text_of
from slax_neurons import SpikingNeuron, connect, unroll
from slax_rules import OSTL, cross_entropy, gradients

DATA = Path(__file__).parent / "data"
ROUNDING = 1e-4  # of gradients, relative to the largest: float32, summed in another order
LATE = {"spyx": 1}  # steps by which the spikes of a layer come later than here


@cache
def recorded(name):
    with np.load(DATA / f"{name}.npz") as file:
        return dict(file)


class Ours(NamedTuple):
    """What the page's program leaves.

    Args:
        names: the variables at its end.
        step: those after its first block.
        kernels: the weights of the two layers then.
        decays: their trained parameters then, of the neurons that have any.
    """

    names: dict[str, Any]
    step: dict[str, Any]
    kernels: list[np.ndarray]
    decays: list[float]


@cache
def ours(name):
    """The page's program, run with the settings of a reader."""
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        first, *rest = blocks(name)
        exec(first, names)
        step = dict(names)
        model = nnx.clone(step["model"])
        for block in rest:
            exec(block, names)
    kernels = [np.asarray(model.modules[i].kernel[...]) for i in (0, 2)]
    decays = [float(parameter) for i in (1, 3) for parameter in jax.tree.leaves(nnx.state(model.modules[i], nnx.Param))]
    return Ours(names, step, kernels, decays)


def entries(heading):
    return [
        pytest.param(name, index, their_text, our_text, id=f"{name}-{their_text}")
        for name in NAMES
        for index, (their_text, our_text) in enumerate(rows(name, heading))
    ]


def evaluated(name, text):
    """An entry of a table, with the names of the page's program and all that slax_neurons exports."""
    return eval(text, vars(slax_neurons) | {"jax": jax, "jnp": jnp, "nnx": nnx} | ours(name).names)


def deviation(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


@pytest.mark.parametrize("name", NAMES)
def test_their_program_is_the_one_that_ran(name):
    assert str(recorded(name)["snippet"]) == snippet(name), "write it again: data/README.md"


@pytest.mark.parametrize("name", NAMES)
def test_spikes_are_those_of_the_framework(name):
    names, theirs = ours(name).step, recorded(name)
    for key in ("inputs", "labels"):
        np.testing.assert_array_equal(names[key], theirs[key])
    # A layer of spyx sends its spikes one step late, so two layers are two steps late.
    late = 2 * LATE.get(name, 0)
    np.testing.assert_array_equal(names["spikes"], theirs["spikes"][late:])
    assert 0.05 < theirs["spikes"].mean() < 0.95 and (theirs["spikes"].sum(axis=(0, 1)) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_that_of_the_framework(name):
    np.testing.assert_allclose(ours(name).step["loss"], recorded(name)["loss"], rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_step_changes_the_weights_as_in_the_framework(name):
    theirs = recorded(name)
    for index, kernel in enumerate(ours(name).kernels):
        before = theirs[f"kernel_{index}"]
        np.testing.assert_array_equal(ours(name).step["kernels"][index], before)
        change = theirs[f"trained_{index}"] - before
        assert np.abs(change).max() > 1e-3
        # A change is the difference of rounded weights.
        bound = ROUNDING + 2 * np.finfo(np.float32).eps * np.abs(before).max() / np.abs(change).max()
        assert deviation(kernel - before, change) < bound


@pytest.mark.parametrize(
    ("name", "decay", "their_start", "their_slope"),
    [("spyx", 0.9, 0.9, 1.0), ("jaxpike", np.exp(-0.1), np.log(10.0), 0.1 * np.exp(-0.1))],
)
def test_gradient_of_a_decay_is_that_of_the_framework(name, decay, their_start, their_slope):
    """Theirs is trained as `beta` or as log tau, ours as its logit: `slope` is the derivative of the decay by either."""
    our_slope = decay * (1 - decay)
    our_changes = np.array(ours(name).decays) - np.log(decay / (1 - decay))
    their_changes = recorded(name)["trained_decays"] - their_start
    np.testing.assert_allclose(our_changes / our_slope, their_changes / their_slope, rtol=1e-3)


@pytest.mark.parametrize(("name", "index", "their_text", "our_text"), entries("Neurons"))
def test_neuron_is_that_of_the_framework(name, index, their_text, our_text):
    """Its outputs, and the gradient of a weighted sum of them with respect to the currents."""
    theirs = recorded(name)
    assert str(theirs[f"neuron_{index}"]) == their_text, "write it again: data/README.md"
    neuron = evaluated(name, our_text)
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


@pytest.mark.parametrize(("name", "index", "their_text", "our_text"), entries("Surrogates"))
def test_surrogate_is_that_of_the_framework(name, index, their_text, our_text):
    theirs = recorded(name)
    assert str(theirs[f"surrogate_{index}"]) == their_text, "write it again: data/README.md"
    slopes = jax.vmap(jax.grad(evaluated(name, our_text)))(jnp.asarray(theirs["grid"]))
    assert deviation(slopes, theirs[f"slopes_{index}"]) < ROUNDING


@pytest.mark.parametrize(("name", "index", "their_text", "our_text"), entries("Initial weights"))
def test_initial_weights_are_distributed_as_in_the_framework(name, index, their_text, our_text):
    theirs = recorded(name)
    assert str(theirs[f"initial_{index}"]) == their_text, "write it again: data/README.md"
    drawn = np.abs(evaluated(name, our_text)(jax.random.key(0), (400, 400)))
    np.testing.assert_allclose(np.quantile(drawn, [0.25, 0.5, 0.75, 0.95]), theirs[f"quantiles_{index}"], rtol=0.02)


@pytest.mark.parametrize("heading", ["Neurons", "Surrogates", "Initial weights"])
@pytest.mark.parametrize("name", NAMES)
def test_every_line_of_a_table_is_tested(name, heading):
    section = text_of(name).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(lines) == len(rows(name, heading)) + 1, "the first two columns have to be code"


@pytest.mark.parametrize("name", NAMES)
def test_neurons_and_surrogates_of_the_page_for_readers_are_those_that_are_compared(name):
    text = (Path(__file__).parents[3] / "docs" / "coming_from.md").read_text()
    section = re.search(rf"^## {name}\b.*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL | re.IGNORECASE)[0]
    pairs = re.findall(r"^\| `([^`]*)` \| `([^`]*)` \|$", section, flags=re.MULTILINE)
    compared = dict(pair for heading in ("Neurons", "Surrogates", "Initial weights") for pair in rows(name, heading))
    shown = {theirs: ours for theirs, ours in pairs if theirs in compared}
    assert len(shown) >= 3 and shown.items() <= compared.items()


def gradients_of_layers(neuron, **options):
    """Of two layers of a neuron that is made for each of them."""
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(8, 10, rngs=rngs), neuron(), nnx.Linear(10, 3, rngs=rngs), neuron()])
    for layer in model.modules[::2]:
        layer.kernel[...] *= 10
    inputs = jax.random.bernoulli(jax.random.key(0), 0.4, (20, 3, 8)).astype(jnp.float32)
    _, gradient = gradients(model, cross_entropy, inputs, jnp.arange(3), **options)
    return [np.asarray(gradient["modules"][i]["kernel"][...]) for i in (0, 2)]


@pytest.mark.parametrize(
    ("name", "neuron"),
    [("snntorch", "LateReset"), ("spyx", "LateReset"), ("jaxpike", "WeightedLIF"), ("braintrace", "HardReset")],
)
def test_neurons_of_the_pages_work_under_rules_for_layers(name, neuron):
    """Shown by OSTL, which is exact in the last layer."""
    make = evaluated(name, f"lambda: {neuron}(decay=0.9)")
    hidden, last = gradients_of_layers(make, rule=OSTL())
    assert np.abs(hidden).max() > 0
    assert deviation(last, gradients_of_layers(make)[1]) < ROUNDING


def test_layer_below_late_spikes_learns_nothing_under_a_rule_for_layers():
    """So the page about Spyx says, whose spikes leave a step late."""

    class Late(SpikingNeuron):
        def __call__(self, carry, inputs):
            spikes = self.spike_fn(carry - self.threshold(carry))
            return 0.9 * carry + inputs - self.threshold(carry) * spikes, spikes

    assert np.abs(gradients_of_layers(Late)[0]).max() > 0
    assert np.abs(gradients_of_layers(Late, rule=OSTL())[0]).max() == 0
