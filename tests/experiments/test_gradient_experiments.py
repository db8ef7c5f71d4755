"""The experiments that compare gradients: what their terms, shares, cells and windows are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiment_files import (
    config_of,
    promotion,  # noqa: F401
)
from flax import nnx

from experiments.common.job import settings_of
from experiments.common.networks import make_model
from experiments.credit_grid import grid
from experiments.curvature import windows
from experiments.gradient_similarity import plot, run
from slax_rules import RULES

DEEP = {"layers": [10, 8, 7, 4], "input_rate": 0.1, "initial_rate": 0.05, "decay": 0.9, "read_out_decay": 0.9}


def test_shares_have_no_noise_of_the_batches_and_variance_is_relative_to_the_own_length():
    rng = np.random.default_rng(0)
    truth = np.arange(1.0, 9)
    exact = {"1": jnp.asarray(truth + rng.normal(size=(3, 8)), jnp.float32)}
    noise = {"1": jnp.asarray(5 * rng.normal(size=(3, 8)), jnp.float32)}
    products = np.asarray(noise["1"]) @ np.asarray(exact["1"]).T, np.asarray(exact["1"]) @ np.asarray(exact["1"]).T
    expected = [(of.sum() - np.trace(of)) / 6 for of in products]  # over all pairs of two batches
    assert float(run.share(noise, exact)["1"]["share"]) == pytest.approx(expected[0] / expected[1], abs=1e-5)
    assert np.isnan(run.share(exact, noise)["1"]["share"])
    long, short = (run.agreement({"1": factor * exact["1"]}, exact)["1"]["relative_variance"] for factor in (1.0, 0.1))
    variance = np.sum(np.var(np.asarray(exact["1"]), axis=0, ddof=1)) / expected[1]
    assert float(long) == pytest.approx(variance, rel=1e-4) and float(short) == pytest.approx(variance, rel=1e-4)


def test_terms_are_the_paths_that_they_are_called_after(x64):
    """Against a reverse pass written out by hand in NumPy, in which each kind of path can be cut."""
    model = make_model(DEEP, nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.state(model)))
    for neuron in model.modules[1::2]:
        neuron.param_dtype = jnp.dtype(jnp.float64)
    rng = np.random.default_rng(0)
    inputs, labels = (rng.random((9, 5, 10)) < 0.2).astype(float), np.arange(5) % 4
    key = jax.random.key(0)
    by_rule, terms = jax.jit(lambda *batch: run.gradients_of_batch([], model, key, key, *batch))(inputs, labels)

    cuts = {
        "within_step": {},
        "own_membrane": {"own": 1},
        "own_reset": {"own": 1, "reset": 1},
        "above": {"own": 1, "above": 1},
        "above_with_reset": {"own": 1, "above": 1, "reset": 1},
    }
    paths = {name: by_hand(model, inputs, labels, **kept) for name, kept in cuts.items()}
    expected = {
        "within_step": paths["within_step"],
        "own_membrane": minus(paths["own_membrane"], paths["within_step"]),
        "own_reset": minus(paths["own_reset"], paths["own_membrane"]),
        "above": minus(paths["above"], paths["own_membrane"]),
        "above_with_reset": minus(
            minus(paths["above_with_reset"], paths["above"]), minus(paths["own_reset"], paths["own_membrane"])
        ),
    }
    assert set(terms) == set(plot.TERMS) == set(expected)
    for layer, exact in by_rule["bptt"].items():
        unit = float(jnp.abs(exact).max())
        np.testing.assert_allclose(sum(term[layer] for term in terms.values()), exact, rtol=0, atol=1e-13 * unit)
        for name, term in terms.items():
            np.testing.assert_allclose(term[layer], expected[name][layer], rtol=0, atol=1e-12 * unit)
            vanishes = layer == "3" and name != "within_step" and name != "own_membrane"
            assert (float(jnp.abs(term[layer]).max()) < 1e-12 * unit) == vanishes


def minus(a, b):
    return {layer: a[layer] - b[layer] for layer in a}


def by_hand(model, inputs, labels, own=0, above=0, reset=0):
    """The gradient of a stack of LIF and LI, with paths through time in a parameter's own layer, in layers above, and through
    resets, each passed or cut."""
    synapses, neurons = model.modules[::2], model.modules[1::2]
    weights = [np.asarray(synapse.kernel[...]) for synapse in synapses]
    decays = [float(neuron.decay(jnp.zeros(()))) for neuron in neurons]
    x, spikes, psis = inputs, [inputs], []
    for weight, decay in zip(weights, decays, strict=True):
        is_last = len(psis) == len(weights) - 1
        u, psi, s = np.zeros((x.shape[1], weight.shape[1])), [], []
        for t in range(len(x)):
            v = decay * u + x[t] @ weight
            fired = np.zeros_like(v) if is_last else (v >= 1).astype(float)
            u = v - fired
            psi.append(np.ones_like(v) if is_last else 1 / (25 * np.abs(v - 1) + 1) ** 2)
            s.append(v if is_last else fired)
        x = np.stack(s)
        spikes.append(x)
        psis.append(psi)
    shares = np.exp(x - x.max(-1, keepdims=True))
    target = np.eye(x.shape[-1])[labels]
    signal = (shares / shares.sum(-1, keepdims=True) - target) / (x.shape[0] * x.shape[1])

    def through(layer, signal, time):
        """The cotangent of the currents of a layer, of that of its output."""
        after, currents = 0.0, []
        for t in reversed(range(len(signal))):
            psi = psis[layer][t]
            passed = 1 - (psi if reset and layer < len(weights) - 1 else 0)
            current = psi * signal[t] + passed * after
            after = time * decays[layer] * current
            currents.append(current)
        return np.stack(currents[::-1])

    gradient = {}
    for layer in reversed(range(len(weights))):
        current = through(layer, signal, own)
        parts = {"kernel": np.einsum("tbi,tbo->io", spikes[layer], current), "bias": current.sum((0, 1))}
        gradient[str(layer + 1)] = np.concatenate([parts[name].ravel() for name in ("bias", "kernel")])
        signal = through(layer, signal, above) @ weights[layer].T
    return gradient


PUBLISHED = {
    "ostl": "ostl/symmetric",
    "hypr": "ostl/symmetric",
    "otpe": "otpe/symmetric",
    "approximate_otpe": "approximate_otpe/symmetric",
    "ottt": "ottt/symmetric",
    "sltt": "sltt/symmetric",
    "e_prop": "e_prop/symmetric",
    "e_prop_random": "e_prop/random",
    "e_prop_adaptive": "e_prop/adaptive",
    "e_prop_direct": "e_prop/direct",
    "pp_prop": "pp_prop/symmetric",
    "decolle": "ottt/local",
    "s_tllr": "s_tllr/symmetric",
    "tess": "s_tllr/fixed_bases",
    "osttp": "ostl/target",
    "etlp": "ottt/target",
    "dfa": "sltt/direct",
    "drtp": "sltt/target",
}


def test_published_rules_are_known_as_cells_and_have_their_route_and_random_matrices():
    assert {name: grid.cell_of(name) for name in RULES if grid.cell_of(name)} == PUBLISHED
    model = make_model(DEEP, nnx.Rngs(3))
    for name in ("decolle", "osttp", "etlp"):
        makers = (RULES[name].make, partial(grid.make_cell, PUBLISHED[name]))
        of_name, of_cell = (make(rngs=nnx.Rngs(5), model=model) for make in makers)
        assert type(of_name.route) is type(of_cell.route)
        same = jax.tree.map(lambda a, b: (a == b).all(), nnx.state(of_name.route), nnx.state(of_cell.route))
        assert all(jax.tree.leaves(same)) and jax.tree.leaves(same)


def test_window_is_the_rule_of_tbptt_and_nothing_to_a_rule_for_layers():
    small = {"seeds": 1, "layers": [8, 6, 3], "input_rate": 0.05, "initial_rate": 0.3, "batch_size": 6}
    few = {"rules": ["tbptt", "sltt"], "windows": [1, 4], "steps": 3, "repeats": 2}
    tiny = settings_of("curvature", "tiny")
    config = config_of("curvature", "windows", tiny | small | {"windows": tiny["windows"] | few})
    numbers, times = windows.compute(config)
    found = {(cell["rule"], cell["window"], cell["stage"]): cell["seeds"][0] for cell in numbers["cells"]}
    for stage in ("initial", "trained"):
        bptt, step, sltt = (found[rule, window, stage] for rule, window in (("tbptt", 4), ("tbptt", 1), ("sltt", 1)))
        assert bptt["change"] == 0 and sltt["change"] < 1e-6 < 1e-2 < step["change"]
        assert all(layer["cosine"] == pytest.approx(1, abs=1e-5) for layer in bptt["layers"].values())
        for layer, of_layer in sltt["layers"].items():
            assert step["layers"][layer] == pytest.approx(of_layer, abs=1e-5)
    assert found["sltt", 1, "initial"] != found["sltt", 1, "trained"]
    assert all(len(cost["milliseconds"]) == 2 and cost["temporary_bytes"] > 0 for cost in times["cells"])
