"""The experiment's numbers obey the rules' laws, and tables and figures hold what the results hold."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw
from flax import nnx
from matplotlib.colors import to_rgb

from experiments.common.figures import in_full
from experiments.common.schemas import validator
from experiments.common.styles import STYLES
from experiments.gradient_similarity import plot, run
from experiments.gradient_similarity.terms import terms_of, without_reset_gradient
from slax_rules import RULES

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
TASK = {"dataset": "randman", "code": "time", "network": "slax_demo", "layers": [12, 8, 3], "n_steps": 6}
TINY = {
    "seeds": 2,
    "measure_at": [0, 4],
    "batch_size": 32,
    "learning_rate": 0.05,
    "eval_batches": 3,
    "test_size": 10,
    "rules": ["uoro", "otpe", "ostl", "sltt"],
}
DEEP = {"network": "fluctuation_driven", "layers": [24, 20, 20, 20, 5], "n_steps": 20}
DEEP |= {"input_rate": 0.1, "initial_rate": 0.05, "decay": 0.9, "read_out_decay": 0.9}


def config(**changes):
    task = TASK | {key: changes.pop(key) for key in list(changes) if key in TASK}
    settings = CONFIG["scales"]["quick"] | TINY | {"tasks": {"tiny": task}} | changes
    return config_of("gradient_similarity", "tiny", settings)


def spikes_and_labels(settings, key, batch=16):
    layers = settings["layers"]
    shape = (settings["n_steps"], batch, layers[0])
    return jax.random.bernoulli(key, 0.2, shape).astype(jnp.float32), jnp.arange(batch) % layers[-1]


@pytest.fixture(scope="module")
def seeds():
    with jax.numpy_dtype_promotion("standard"):
        return run.compute(config())["seeds"]


def test_rules_obey_their_laws(seeds):
    assert [seed["seed"] for seed in seeds] == [0, 1] and seeds[0]["stages"] != seeds[1]["stages"]
    for stage in (stage for seed in seeds for stage in seed["stages"]):
        rules = stage["rules"]
        assert set(rules) == {"bptt", *TINY["rules"]}
        assert rules["ostl"]["2"]["cosine"] == pytest.approx(1, abs=1e-5)
        assert rules["ostl"]["2"]["norm_ratio"] == pytest.approx(1, abs=1e-5)
        assert rules["ostl"]["1"]["cosine"] < 0.9999
        assert rules["sltt"]["2"]["norm_ratio"] < 0.99
        assert stage["spikes"].keys() == {"1"}
        for layer in ("1", "2"):
            assert rules["bptt"][layer]["cosine"] == pytest.approx(1, abs=1e-5)
            assert rules["bptt"][layer]["batches"] == TINY["eval_batches"]
            if rules["bptt"][layer]["variance"] is not None:
                assert sum(term[layer]["share"] for term in stage["terms"].values()) == pytest.approx(1, abs=1e-4)
            else:
                assert {term[layer]["share"] for term in stage["terms"].values()} == {None}
        for name in ("above", "above_with_reset"):
            assert stage["terms"][name]["2"]["norm_ratio"] < 1e-5 < stage["terms"][name]["1"]["norm_ratio"]


def test_noise_of_a_rule_is_about_its_mean_and_that_of_uoro_is_large(seeds):
    defined = [
        (layer, stage["rules"])
        for seed in seeds
        for stage in seed["stages"]
        for layer in ("1", "2")
        if stage["rules"]["bptt"][layer]["variance"] is not None
    ]
    assert {layer for layer, _ in defined} == {"1", "2"}
    for layer, rules in defined:
        assert rules["bptt"][layer]["bias_squared"] == 0
        assert rules["bptt"][layer]["projection"] == pytest.approx(1, abs=1e-4)
        assert rules["uoro"][layer]["variance"] > 2 * rules["bptt"][layer]["variance"]
    assert all(rules["sltt"]["1"]["bias_squared"] > 0.1 for layer, rules in defined if layer == "1")


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


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_gradient_that_is_not_finite_stops(broken, monkeypatch):
    real = run.gradients_of_batch

    def with_a_broken_number(*arguments):
        by_rule, terms = real(*arguments)
        by_rule["ostl"]["2"] = by_rule["ostl"]["2"].at[0].set(broken)
        return by_rule, terms

    monkeypatch.setattr(run, "gradients_of_batch", with_a_broken_number)
    with (
        pytest.raises(SystemExit, match="Gradients of tiny are NaN or infinite: ostl"),
        jax.numpy_dtype_promotion("standard"),
    ):
        run.compute(config(rules=["ostl"], seeds=1, measure_at=[0]))


def test_all_rules_agree_in_a_sequence_of_one_step():
    names = ["uoro", "otpe"]
    model = run.make_network(config(), nnx.Rngs(0))
    with jax.numpy_dtype_promotion("standard"):
        inputs, labels = spikes_and_labels(config(n_steps=1), jax.random.key(0))
        by_rule, terms = jax.jit(partial(run.gradients_of_batch, names, model))(
            jax.random.key(1), jax.random.key(2), inputs, labels
        )
    for name in names:
        for layer in ("1", "2"):
            np.testing.assert_allclose(by_rule[name][layer], by_rule["bptt"][layer], rtol=1e-4, atol=1e-7)
    for layer in ("1", "2"):
        np.testing.assert_allclose(terms["within_step"][layer], by_rule["bptt"][layer], rtol=1e-4, atol=1e-7)


def test_each_batch_draws_its_noise_and_none_its_read_outs():
    model = run.make_network(config(), nnx.Rngs(0))
    inputs, labels = spikes_and_labels(config(), jax.random.key(0))
    with jax.numpy_dtype_promotion("standard"):
        program = jax.jit(partial(run.gradients_of_batch, ["uoro", "decolle"], model))
        one, other = (program(jax.random.key(1), jax.random.key(key), inputs, labels)[0] for key in (2, 3))
        moved, _ = program(jax.random.key(4), jax.random.key(2), inputs, labels)
    assert not np.allclose(one["uoro"]["1"], other["uoro"]["1"])
    np.testing.assert_array_equal(one["decolle"]["1"], other["decolle"]["1"])
    np.testing.assert_array_equal(one["uoro"]["1"], moved["uoro"]["1"])
    assert not np.allclose(one["decolle"]["1"], moved["decolle"]["1"])


def test_training_to_a_step_is_the_same_whatever_is_measured_before(seeds):
    with jax.numpy_dtype_promotion("standard"):
        (first, *_) = run.compute(config(measure_at=[2, 4], seeds=1))["seeds"]
    two, four = first["stages"]
    start, last = seeds[0]["stages"]
    assert [stage["step"] for stage in (start, two, four, last)] == [0, 2, 4, 4]
    assert start["rules"] != two["rules"] != four["rules"]
    for one, other in zip(*map(jax.tree.leaves, (four, last)), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


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


def test_model_without_reset_gradients_is_the_same_but_for_them():
    model = run.make_network(config(), nnx.Rngs(0))
    cut = without_reset_gradient(model)
    assert [neuron.stop_reset_gradient for neuron in cut.modules[1::2]] == [True, True]
    assert [neuron.stop_reset_gradient for neuron in model.modules[1::2]] == [False, False]
    jax.tree.map(np.testing.assert_array_equal, nnx.state(cut), nnx.state(model))
    tree = {"sltt": {"1": 1.0}, "ostl": {"1": 3.0}, "bptt": {"1": 10.0}}
    terms = terms_of(tree, {"ostl": {"1": 2.5}, "bptt": {"1": 6.0}})
    assert [term["1"] for term in terms.values()] == [1.0, 1.5, 0.5, 3.5, 3.5]


def test_otpe_is_closer_than_ostl_and_ottt_in_hidden_layers_of_deep_nets():
    """The statement of the paper on OTPE (arXiv 2311.16151), in a net with three hidden layers, as a mean over five of them."""
    settings = config(rules=["otpe", "approximate_otpe", "ostl", "ottt"]) | DEEP

    def cosines(key):
        keys = jax.random.split(key, 2)
        model = run.make_network(settings, nnx.Rngs(keys[0]))
        inputs, labels = spikes_and_labels(settings, keys[1], batch=64)
        by_rule, _ = run.gradients_of_batch(settings["rules"], model, key, key, inputs, labels)
        exact = by_rule["bptt"]
        return {
            name: {layer: found.cosine for layer, found in run.in_each_layer(by_rule[name], exact).items()}
            for name in settings["rules"]
        }

    with jax.numpy_dtype_promotion("standard"):
        found = jax.jit(lambda keys: jax.lax.map(cosines, keys))(jax.random.split(jax.random.key(0), 5))
    mean = {name: {layer: float(x.mean()) for layer, x in layers.items()} for name, layers in found.items()}
    for layer in ("1", "2"):
        for other in ("ostl", "ottt"):
            assert mean["otpe"][layer] > mean[other][layer] + 0.1
            assert mean["approximate_otpe"][layer] > mean[other][layer] + 0.1
    for layer in ("3", "4"):
        assert mean["otpe"][layer] == pytest.approx(1, abs=1e-4)  # the two below and in a read-out that integrates
    assert mean["otpe"]["1"] < mean["otpe"]["2"] < 0.999


@pytest.fixture(scope="module")
def results(seeds):
    """What the pipeline would write: of this task, and of a deeper one whose first layer has no number."""
    deep = json.loads(json.dumps(seeds))
    for seed in deep:
        for stage in seed["stages"]:
            stage["rules"] = {name: stage["rules"][name] for name in ("bptt", "ostl")}
            for numbers in [*stage["rules"].values(), *stage["terms"].values()]:
                numbers["3"] = dict(numbers["2"])
            stage["spikes"]["2"] = stage["spikes"]["1"]
            stage["rules"]["ostl"]["1"] = dict.fromkeys(stage["rules"]["ostl"]["1"]) | {"batches": 0.0}
    changes = {"task": "deep", "layers": [12, 8, 8, 3], "rules": ["ostl"]}
    return [as_written(config() | changes, {"seeds": deep}), as_written(config(), {"seeds": seeds})]


def test_tables_are_the_means_of_the_results(results, seeds, tmp_path):
    tables = draw("gradient_similarity", results, tmp_path)
    kinds = {
        "gradient_similarity": ("rules", ["cosine"]),
        "gradient_similarity_norms": ("rules", ["norm_ratio"]),
        "gradient_similarity_noise": ("rules", list(plot.NOISE)),
        "gradient_similarity_terms": ("terms", ["share", "norm_ratio"]),
    }
    for stem, (kind, quantities) in kinds.items():
        rows = tables[stem]
        assert {row["task"] for row in rows} == {"tiny", "deep"}
        for row in rows:
            stage = TINY["measure_at"].index(int(row["training_steps"]))
            if row["task"] == "deep":
                if row.get("rule") == "ostl" and row["layer"] == "1":
                    assert row["seeds"] == "0" and row[quantities[0]] == ""
                continue
            name = row["rule" if kind == "rules" else "term"]
            if "batches" in row:
                assert int(row["batches"]) == min(
                    seed["stages"][stage]["rules"][name][row["layer"]]["batches"] for seed in seeds
                )
            for quantity in quantities:
                of_seeds = [seed["stages"][stage][kind][name][row["layer"]][quantity] for seed in seeds]
                known = [number for number in of_seeds if number is not None]
                if quantity in plot.COUNTED:
                    assert int(row[f"{quantity}_seeds"]) == len(known)
                if len(known) < len(seeds) and (stem == "gradient_similarity_noise" or quantity == "share"):
                    known = []  # noise would choose the seeds
                if known:
                    assert float(row[quantity]) == pytest.approx(np.mean(known), rel=1e-5, abs=1e-6)
                assert (row[quantity] == "") == (not known)
                if known:  # a seed without a number keeps its place
                    assert row[f"{quantity}_values"].split() == [*map(in_full, of_seeds)]
                assert (row[f"{quantity}_low"] == "") == (len(known) < 2)


def result_of(**numbers):
    """A result of three seeds and one step, of the rule OSTL, whose layers have these numbers of each seed."""
    layers = ("1", "2")
    stages = [
        {
            "rules": {
                rule: {layer: {name: of[i] for name, of in numbers.items()} for layer in layers}
                for rule in ("bptt", "ostl")
            },
            "terms": {term: {layer: {"share": share} for layer in layers} for term, share in SHARES.items()},
        }
        for i in range(3)
    ]
    settings = {"measure_at": [7], "layers": [4, 3, 2], "n_steps": 5, "task": "t", "rules": ["ostl"]}
    return {"config": settings | {"network": "slax_demo"}, "seeds": [{"stages": [stage]} for stage in stages]}


SHARES = {"within_step": 0.25, "own_membrane": 0.5, "own_reset": -0.25, "above": 0.75, "above_with_reset": -0.25}


def test_marks_of_noise_are_the_means_in_the_colors_of_the_rules_and_none_where_a_seed_is_missing():
    _, ax = plot.plt.subplots()
    plot.draw_noise_of(
        ax, result_of(bias_squared=[1.0, 2.0, 6.0], variance=[1.0, None, 3.0]), "1", ["bptt", "ostl", "sltt"]
    )
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in marks] == [(3.0, -0.17), (3.0, pytest.approx(0.83))]
    assert [line.get_color() for line in marks] == [STYLES[rule].color for rule in ("bptt", "ostl")]
    assert not [line for line in ax.lines if line.get_marker() == "D"]
    plot.plt.close("all")


def test_shares_are_stacked_up_where_positive_and_down_where_negative():
    _, ax = plot.plt.subplots()
    plot.draw_shares(ax, result_of())
    first = [bar for bar in ax.patches if bar.get_x() < 0.5]
    assert [bar.get_facecolor()[:3] for bar in first] == [to_rgb(term.color) for term in plot.TERMS.values()]
    assert [(bar.get_y(), bar.get_height()) for bar in first] == [
        (0, 0.25), (0.25, 0.5), (0, -0.25), (0.75, 0.75), (-0.25, -0.25)
    ]  # fmt: skip
    assert len(ax.patches) == 2 * len(first)
    plot.plt.close("all")


def test_blocks_are_placed_without_overlap():
    assert plot.places([2, 2, 2, 3, 3, 3, 5], 6) == [(0, 0), (0, 2), (0, 4), (1, 0), (1, 3), (2, 0), (3, 0)]
    assert plot.places([4, 4], 6) == [(0, 0), (1, 0)]


def test_layers_are_counted_from_one():
    gradient = {
        "modules": {0: {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, 2: {"kernel": jnp.full((3, 1), 2.0)}}
    }
    vectors = run.by_layer(nnx.State(jax.tree.map(nnx.Param, gradient)))
    assert {layer: vector.tolist() for layer, vector in vectors.items()} == {"1": [0.0] * 3 + [1.0] * 6, "2": [2.0] * 3}


def test_every_rule_that_makes_a_gradient_can_be_compared_and_is():
    schema = validator(yaml.safe_load((ROOT / "config.schema.yaml").read_text()))
    settings = CONFIG["scales"]["full"]
    comparable = {name for name, rule in RULES.items() if rule.optimizer is None} - {"bptt"}
    assert {name for name in RULES if schema.is_valid(settings | {"rules": [name]})} == comparable
    assert RULES["hypr"].make() == RULES["ostl"].make()
    assert set(settings["rules"]) == comparable - {"ostl_with_recurrence", "hypr"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure_at": [20, 5]}, r"measure_at is \[20, 5\], expected steps in increasing order"),
        ({"rules": ["nonsense"]}, "There is no rule nonsense, expected some of: tbptt, rtrl"),
        ({"rules": ["fptt"]}, "There is no rule fptt, expected some of: tbptt"),
    ],
)
def test_config_that_would_give_wrong_numbers_stops(changes, message):
    with pytest.raises(SystemExit, match=message):
        run.compute(config(**changes))


def test_task_has_its_own_values_and_leaves_out_rules():
    task = TASK | {"seeds": 1, "without": ["uoro"]}
    cell = config_of("gradient_similarity", "t", CONFIG["scales"]["quick"] | TINY | {"tasks": {"t": task}})
    assert cell["seeds"] == 1 and cell["rules"] == ["otpe", "ostl", "sltt"] and "without" not in cell


def test_layers_that_do_not_match_the_data_stop():
    with pytest.raises(SystemExit, match=r"its data have 64 units and 10 classes"):
        run.compute(config(dataset="digits", code="latency", layers=[64, 8, 5]))


def test_task_of_spikes_asks_for_them():
    with pytest.raises(SystemExit, match=r"reads spikes, expected the file words\.npz"):
        run.compute(config() | {"spikes": "words"})
