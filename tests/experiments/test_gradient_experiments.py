"""The experiments that compare gradients: each runs once at a toy size, and its numbers obey the laws of the rules."""

import copy
import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, only, promotion, tables  # noqa: F401
from flax import nnx

from experiments.common.networks import make_model
from experiments.credit_grid import cost, grid, references
from experiments.credit_grid import plot as grid_plot
from experiments.credit_grid import run as credit_grid
from experiments.curvature import online, solutions, windows
from experiments.gradient_similarity import plot, run
from slax_rules import RULES, cross_entropy, gradients

EXPERIMENTS = Path(run.__file__).parents[1]
QUICK = {
    name: yaml.safe_load((EXPERIMENTS / name / "config.yaml").read_text())["scales"]["quick"]
    for name in ("gradient_similarity", "credit_grid", "curvature")
}

# Similarity of gradients

TASK = {"dataset": "randman", "code": "time", "network": "slax_demo", "layers": [12, 8, 3], "n_steps": 6}
TINY = {"seeds": 2, "measure_at": [0, 4], "batch_size": 32, "learning_rate": 0.05, "eval_batches": 3, "test_size": 10}
TINY |= {"rules": ["uoro", "otpe", "ostl", "sltt"]}
DEEP = {"network": "fluctuation_driven", "layers": [24, 20, 20, 20, 5], "n_steps": 20}
DEEP |= {"input_rate": 0.1, "initial_rate": 0.05, "decay": 0.9, "read_out_decay": 0.9}


def config(**changes):
    task = TASK | {key: changes.pop(key) for key in list(changes) if key in TASK}
    settings = QUICK["gradient_similarity"] | TINY | {"tasks": {"tiny": task}} | changes
    return config_of("gradient_similarity", "tiny", settings)


def spikes_and_labels(settings, key, batch=16):
    layers = settings["layers"]
    shape = (settings["n_steps"], batch, layers[0])
    return jax.random.bernoulli(key, 0.2, shape).astype(jnp.float32), jnp.arange(batch) % layers[-1]


def test_rules_obey_their_laws_before_and_after_training(tmp_path):
    """OSTL is exact in the last layer, SLTT too short; the noise of UORO is large; the shares of all terms add up to one."""
    seeds = run.compute(config())["seeds"]
    assert [seed["seed"] for seed in seeds] == [0, 1] and seeds[0]["stages"] != seeds[1]["stages"]
    for stage in (stage for seed in seeds for stage in seed["stages"]):
        rules, terms = stage["rules"], stage["terms"]
        assert set(rules) == {"bptt", *TINY["rules"]} and stage["spikes"].keys() == {"1"}
        assert rules["ostl"]["2"]["cosine"] == pytest.approx(1, abs=1e-5) == rules["ostl"]["2"]["norm_ratio"]
        assert rules["ostl"]["1"]["cosine"] < 0.9999 and rules["sltt"]["2"]["norm_ratio"] < 0.99
        for layer, numbers in rules["bptt"].items():
            if numbers["variance"] is not None:
                assert numbers["bias_squared"] == 0 and rules["uoro"][layer]["variance"] > 2 * numbers["variance"]
            shares = [term[layer]["share"] for term in terms.values()]
            assert None in shares or sum(shares) == pytest.approx(1, abs=1e-3)
        for name in ("above", "above_with_reset"):
            assert terms[name]["2"]["norm_ratio"] < 1e-5 < terms[name]["1"]["norm_ratio"]
    assert seeds[0]["stages"][0]["rules"] != seeds[0]["stages"][1]["rules"]
    table = tables("gradient_similarity", [as_written(config(), {"seeds": seeds})], tmp_path)["gradient_similarity"]
    row = only(table, rule="sltt", training_steps="4", layer="2")
    cosines = [seed["stages"][1]["rules"]["sltt"]["2"]["cosine"] for seed in seeds]
    assert float(row["cosine"]) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_what_does_not_fit_stops(monkeypatch):
    for changes, message in (
        ({"measure_at": [3, 1]}, r"measure_at is \[3, 1\]"),
        ({"rules": ["fptt"]}, "There is no rule fptt, expected some of: "),
        ({"layers": [12, 8, 5], "dataset": "digits", "code": "latency"}, "its data have 64 units and 10 classes"),
    ):
        with pytest.raises(SystemExit, match=message):
            run.compute(config(**changes))
    measured = {"finite": {"bptt": np.array(True), "ostl": np.array(False)}}
    with pytest.raises(SystemExit, match="Gradients of tiny are NaN or infinite: ostl"):
        run._as_json(config(), 0, measured)


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


def test_each_batch_draws_its_noise_and_none_its_read_outs():
    model = run.make_network(config(), nnx.Rngs(0))
    inputs, labels = spikes_and_labels(config(), jax.random.key(0))
    program = jax.jit(partial(run.gradients_of_batch, ["uoro", "decolle"], model))
    one, other = (program(jax.random.key(1), jax.random.key(key), inputs, labels)[0] for key in (2, 3))
    moved, _ = program(jax.random.key(4), jax.random.key(2), inputs, labels)
    assert not np.allclose(one["uoro"]["1"], other["uoro"]["1"])
    np.testing.assert_array_equal(one["decolle"]["1"], other["decolle"]["1"])
    np.testing.assert_array_equal(one["uoro"]["1"], moved["uoro"]["1"])
    assert not np.allclose(one["decolle"]["1"], moved["decolle"]["1"])


def test_terms_are_the_paths_that_they_are_called_after(x64):
    """Against a reverse pass written out by hand in NumPy, in which each kind of path can be cut."""
    settings = config() | DEEP | {"layers": [10, 8, 7, 4], "n_steps": 9}
    model = run.make_network(settings, nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.state(model)))
    for neuron in model.modules[1::2]:
        neuron.param_dtype = jnp.dtype(jnp.float64)
    inputs, labels = spikes_and_labels(settings, jax.random.key(1), batch=5)
    inputs = inputs.astype(jnp.float64)
    key = jax.random.key(0)
    by_rule, terms = jax.jit(lambda *batch: run.gradients_of_batch([], model, key, key, *batch))(inputs, labels)

    cuts = {
        "within_step": {},
        "own_membrane": {"own": 1},
        "own_reset": {"own": 1, "reset": 1},
        "above": {"own": 1, "above": 1},
        "above_with_reset": {"own": 1, "above": 1, "reset": 1},
    }
    paths = {name: by_hand(model, np.asarray(inputs), np.asarray(labels), **kept) for name, kept in cuts.items()}
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


# The grid of credit

GRID_TASK = {"dataset": "randman", "codes": {"time": 0.2}, "layers": [12, 8, 7, 3], "n_steps": 6}
GRID = {"seeds": 2, "rate_seeds": 1, "steps": 3, "batch_size": 4, "learning_rates": [0.01, 0.1], "eval_batches": 2}
GRID |= {
    "validation_size": 20,
    "test_size": 30,
    "temporal": ["sltt", "ostl"],
    "spatial": ["symmetric", "direct", "local"],
}
GRID |= {"tasks": {"tiny": GRID_TASK}, "cost_tasks": ["tiny"], "cost_repeats": 2, "cost_window": 2}
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


def of_grid(row):
    name = f"tiny/time/{row}" if row else "tiny_cost"
    return config_of("credit_grid", name, QUICK["credit_grid"] | GRID)


def test_published_rules_are_known_as_cells_and_have_their_gradient():
    assert {name: grid.cell_of(name) for name in RULES if grid.cell_of(name)} == PUBLISHED
    model = make_model(of_grid("sltt"), nnx.Rngs(3))
    rng = np.random.default_rng(0)
    batch = jnp.asarray(rng.random((6, 4, 12)) < 0.3, jnp.float32), jnp.array([0, 1, 2, 0])
    for name in ("decolle", "osttp", "etlp"):
        of_name = RULES[name].make(rngs=nnx.Rngs(5), model=model)
        cell = grid.make_cell(PUBLISHED[name], rngs=nnx.Rngs(5), model=model)
        of_cell = dataclasses.replace(cell, **RULES[name].options)
        pair = [gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in (of_name, of_cell)]
        jax.tree.map(np.testing.assert_array_equal, *pair)


def test_carried_numbers_are_those_of_the_registry():
    """LIF and LI have one state each. A bias counts as one more input, for eligibilities and for OTTT's traces."""
    model = make_model(of_grid("sltt"), nnx.Rngs(3))
    eligibility = [13 * 8, 9 * 7, 8 * 3]
    carried = {
        cell: grid.carried_numbers(cell, model, 12) for cell in ("fixed", "sltt/local", "ottt/random", "ostl/target")
    }
    assert list(carried.values()) == [eligibility[-1], 0, 13 + 9 + 8, sum(eligibility)]
    assert grid.carried_numbers("e_prop/direct", model, 12) == 2 * sum(eligibility[:-1]) + eligibility[-1]


def test_cells_obey_the_laws_of_their_rules(tmp_path):
    """All are exact in the last layer; hidden layers that are fixed have no gradient; OSTL differs from SLTT in the first."""
    numbers, arrays = references.compute(of_grid("references"))
    np.savez(tmp_path / "references.npz", **arrays)
    rows = {"references": numbers, "ostl": credit_grid.compute(of_grid("ostl"), tmp_path / "references.npz")}
    cells = {cell: of for row in rows.values() for cell, of in row["cells"].items()}
    assert list(cells) == ["bptt", "fixed", "ostl/symmetric", "ostl/direct", "ostl/local"]
    for cell, of_cell in cells.items():
        scores = of_cell["trials"]["validation"][0]
        assert scores[GRID["learning_rates"].index(of_cell["trials"]["chosen"]["learning_rate"])] == max(scores)
        for seed in of_cell["seeds"]:
            for layers in seed["agreement"].values():
                assert layers["3"]["cosine"] == pytest.approx(1, abs=1e-5)
                if cell == "fixed":
                    assert layers["1"]["cosine"] is None is layers["2"]["cosine"]
                if cell == "bptt":
                    assert layers["1"]["cosine"] == pytest.approx(1, abs=1e-5) == layers["1"]["norm_ratio"]
            if cell == "ostl/symmetric":
                assert seed["agreement"]["initial"] != seed["agreement"]["trained"]
    written = [as_written(of_grid(row), of) for row, of in rows.items()]
    sltt = copy.deepcopy(rows["ostl"])
    sltt = {part: {cell.replace("ostl", "sltt"): of for cell, of in by_cell.items()} for part, by_cell in sltt.items()}
    costs = cost.compute(of_grid(None))
    assert min(min(of["milliseconds"]) for of in costs["costs"].values()) > 0
    written += [as_written(of_grid("sltt"), sltt), as_written(of_grid(None), costs)]
    table = tables("credit_grid", written, tmp_path)["credit_grid"]
    row = only(table, temporal="ostl", spatial="direct")
    reached = {cell: np.array([seed["accuracy"] for seed in cells[cell]["seeds"]]) for cell in ("ostl/direct", "bptt")}
    assert float(row["minus_bptt"]) == pytest.approx((reached["ostl/direct"] - reached["bptt"]).mean(), abs=1e-6)
    with pytest.raises(SystemExit, match="The figures of tiny, time need its references: name the job tiny/time/ref"):
        grid_plot.prepare(written[1:2])


# Curvature and windows

CURVATURE = {"seeds": 2, "layers": [8, 6, 3], "input_rate": 0.05, "initial_rate": 0.3, "n_steps": 4, "batch_size": 6}
CURVATURE |= {"rate_seeds": 1, "learning_rates": [0.002, 0.02], "validation_size": 30, "test_size": 20}
PARTS = {
    "solutions": {"rules": ["bptt"], "steps": 3, "samples": 7, "eigenvalues": 2, "products": 40, "trace_samples": 5},
    "online": {"rules": ["tbptt"], "steps": 6, "windows": [4]},
    "windows": {"rules": ["tbptt", "sltt"], "windows": [1, 4], "steps": 3, "repeats": 2},
}


def of_curvature(part, rule=None):
    quick = QUICK["curvature"]
    settings = quick | CURVATURE | {name: quick[name] | PARTS[name] for name in PARTS}
    return config_of("curvature", f"{part}/{rule}" if rule else part, settings)


def test_window_is_the_rule_of_tbptt_and_nothing_to_a_rule_for_layers(tmp_path):
    numbers, times = windows.compute(of_curvature("windows"))
    cells = numbers["cells"]
    found = {(cell["rule"], cell["window"], cell["stage"]): cell["seeds"] for cell in cells}
    for stage in ("initial", "trained"):
        for bptt, step, sltt in zip(
            *(found[*cell, stage] for cell in (("tbptt", 4), ("tbptt", 1), ("sltt", 1))), strict=True
        ):
            assert bptt["change"] == 0 and sltt["change"] < 1e-6 < 1e-2 < step["change"]
            assert all(layer["cosine"] == pytest.approx(1, abs=1e-5) for layer in bptt["layers"].values())
            for layer, of_layer in sltt["layers"].items():
                assert step["layers"][layer] == pytest.approx(of_layer, abs=1e-5)
    assert found["sltt", 1, "initial"] != found["sltt", 1, "trained"]
    assert all(len(cost["milliseconds"]) == 2 and cost["temporary_bytes"] > 0 for cost in times["cells"])
    accuracies = online.compute(of_curvature("online", "tbptt"))["cells"]
    offline, online_ = accuracies  # one window online is offline
    assert (offline["mode"], online_["mode"]) == ("offline", "online")
    assert offline["trials"] == online_["trials"] and offline["accuracy"] == online_["accuracy"]
    solved = solutions.compute(of_curvature("solutions", "bptt"))["seeds"]
    for seed in solved:
        assert 0 <= seed["accuracy"] <= 1 and seed["loss"] > 0 and seed["gradient"] > 0
        assert seed["smallest"]["values"][0] < seed["largest"]["values"][0]
        assert seed["trace"]["mean"] == pytest.approx(np.mean(seed["trace"]["samples"]), abs=1e-4)
    results = [
        as_written(of_curvature("online", "tbptt"), {"cells": accuracies}),
        as_written(of_curvature("windows"), numbers | {"times": times}),
        as_written(of_curvature("solutions", "bptt"), {"seeds": solved}),
    ]
    row = only(tables("curvature", results, tmp_path)["curvature"], rule="bptt", quantity="eigenvalue", which="-2")
    assert float(row["mean"]) == pytest.approx(np.mean([seed["smallest"]["values"][1] for seed in solved]), abs=1e-6)
