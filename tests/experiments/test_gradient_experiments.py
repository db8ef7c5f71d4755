"""The experiments that compare gradients: what their terms, shares, cells and windows are."""

import dataclasses
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from experiment_files import config_of
from flax import nnx

from experiments.common import learning
from experiments.common.measures import layer_of
from experiments.common.tasks import make_model
from experiments.credit_grid import grid
from experiments.curvature import windows
from experiments.depth import cause, plot_cause
from experiments.depth import plot as depth_plot
from experiments.gradient_similarity import plot, run
from experiments.pipeline.job import settings_of
from slax_rules import RULES, cross_entropy, gradients
from slax_rules.train.agreement import by_path

BATCHES = (10, 20, 30, 40)
DEEP = {"layers": [10, 8, 7, 4], "input_rate": 0.1, "initial_rate": 0.05, "decay": 0.9, "read_out_decay": 0.9}


def test_terms_are_the_paths_that_they_are_called_after(x64):
    """Against the derivative of the stack written out, in which each kind of path can be cut."""
    model = make_model(DEEP, nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.state(model)))
    for neuron in model.modules[1::2]:
        vars(neuron)["param_dtype"] = jnp.dtype(jnp.float64)
    rng, key = np.random.default_rng(0), jax.random.key(0)
    inputs, labels = (rng.random((9, 5, 10)) < 0.2).astype(float), np.arange(5) % 4
    by_rule, terms = jax.jit(lambda *batch: run.gradients_of_batch([], model, key, key, *batch))(inputs, labels)

    cut = paths(model, inputs, labels)
    within, own, own_reset = cut(), cut(own=1), cut(own=1, reset=1)
    above, everything = cut(own=1, above=1), cut(own=1, above=1, reset=1)
    expected = {
        "within_step": within,
        "own_membrane": own - within,
        "own_reset": own_reset - own,
        "above": above - own,
        "above_with_reset": everything - above - (own_reset - own),
    }
    assert set(terms) == set(plot.TERMS) == set(expected)
    for layer, exact in by_rule["bptt"].items():
        unit = float(jnp.abs(exact).max())
        np.testing.assert_allclose(sum(term[layer] for term in terms.values()), exact, rtol=0, atol=1e-13 * unit)
        for name, term in terms.items():
            np.testing.assert_allclose(term[layer], expected[name][int(layer) - 1], rtol=0, atol=1e-12 * unit)
            vanishes = layer == "3" and name != "within_step" and name != "own_membrane"
            assert (float(jnp.abs(term[layer]).max()) < 1e-12 * unit) == vanishes


def paths(model, inputs, labels):
    """A function that has the gradient of each layer of a stack of LIF and LI, with paths through time in its own layer, in
    layers above, and through resets, each passed (1) or cut (0)."""
    synapses, neurons = model.modules[::2], model.modules[1::2]
    parameters = [(synapse.bias[...], synapse.kernel[...]) for synapse in synapses]
    decays = [neuron.decay(jnp.zeros(())) for neuron in neurons]

    def passing(x, share):
        return share * x + (1 - share) * jax.lax.stop_gradient(x)

    @jax.jit
    @jax.grad
    def gradient(parameters, through_time, through_reset):
        membranes, loss = [jnp.zeros((5, 1))] * len(parameters), 0.0
        for x in inputs:
            for index, (bias, kernel) in enumerate(parameters):
                v = decays[index] * passing(membranes[index], through_time[index]) + x @ kernel + bias[None]
                is_last = index == len(parameters) - 1
                x = v if is_last else neurons[index].spike_fn(v - 1)
                membranes[index] = v if is_last else v - passing(x, through_reset)
            loss -= jax.nn.log_softmax(x)[np.arange(5), labels].mean() / len(inputs)
        return loss

    def of_each_layer(own=0, above=0, reset=0):
        found = []
        for layer in range(len(parameters)):
            times = np.where(np.arange(len(parameters)) == layer, own, above).astype(float)
            found.append(np.concatenate([np.ravel(part) for part in gradient(parameters, times, float(reset))[layer]]))
        return np.array(found, object)

    return of_each_layer


def test_cells_of_published_rules_have_their_gradient():
    model, rng = make_model(DEEP, nnx.Rngs(3)), np.random.default_rng(0)
    inputs, labels = (rng.random((6, 4, 10)) < 0.3).astype(np.float32), np.array([0, 1, 2, 0])

    rules = []
    for name in (
        "decolle",
        "osttp",
        "rflo",
        "etlp",
        "tess",
        "e_prop_random",
    ):  # with read-outs, targets and random matrices
        cell = grid.make_cell(grid.cell_of(name), rngs=nnx.Rngs(5), model=model)
        of_cell = dataclasses.replace(cell, **RULES[name].options)
        rules.append((RULES[name].make(rngs=nnx.Rngs(5), model=model), of_cell))

    @nnx.jit
    def gradient(model, rules, *batch):
        return [[gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in pair] for pair in rules]

    for pair in gradient(model, rules, inputs, labels):
        jax.tree.map(np.testing.assert_array_equal, *pair)


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


@pytest.mark.parametrize(
    ("training", "long", "short"),
    [
        ("clipped", 5 / 25.25**0.5, 0.5 / 25.25**0.5),
        ("longer", 5 / 25.25**0.5, 0.5 / 25.25**0.5),
        ("unclipped", 5, 0.5),
        ("clipped_by_array", 1, 0.5),
        ("length_one", 1, 1),
    ],
)
def test_a_training_has_the_lengths_that_it_is_named_after(training, long, short, monkeypatch):
    monkeypatch.setitem(learning.OPTIMIZERS, "plain", optax.sgd)
    made = cause.optimizer_of({"training": training, "optimizer": "plain", "clip": 1.0}, 1.0)
    gradient = {"long": jnp.array([3.0, 4.0]), "short": jnp.array([0.3, 0.4]), "zero": jnp.zeros(2)}
    (updates, _) = made.update(gradient, made.init(gradient))
    for name, length in (("long", long), ("short", short), ("zero", 0)):
        np.testing.assert_allclose(updates[name], -length * np.array([0.6, 0.8]), rtol=1e-6)


def test_longer_and_larger_trainings_change_what_they_are_called_after():
    settings = settings_of("depth", "quick")
    plain, longer, larger = (
        config_of("depth", f"cause/{name}/otpe", settings) for name in ("clipped", "longer", "larger")
    )
    names = {"training": "longer", "steps": settings["cause"]["longer"]}
    assert longer == plain | names and longer["steps"] != plain["steps"]
    assert larger == plain | {"training": "larger", "batch_size": settings["cause"]["larger"]}


@pytest.mark.parametrize(
    ("ahead", "start"), [([1, -1, 1, 1], 30), ([1, 1, 1, 1], 10), ([1, 1, 1, 0], None), ([1, 1, 1, -1], None)]
)
def test_otpe_is_ahead_from_where_it_stays_ahead_to_the_end(ahead, start):
    """Seed by seed: each accuracy varies more than the two differ."""
    bptt = np.array([[0.3], [0.6], [0.9]])
    gaps = [0.05 * sign + 0.01 * np.array([[-1], [0], [1]]) for sign in ahead]
    courses = {"bptt": [bptt] * 4, "otpe": [bptt + gap for gap in gaps]}
    curves = {
        rule: SimpleNamespace(tested=lambda of=of: dict(zip(BATCHES, of, strict=True))) for rule, of in courses.items()
    }
    assert depth_plot.ahead_from(curves) == start
    seeds = {
        rule: [
            {
                "lengths": [{"batches": at, "accuracy": of[seed, 0]} for at, of in zip(BATCHES, course, strict=True)],
                "gradients": {},
            }
            for seed in range(3)
        ]
        for rule, course in courses.items()
    }
    trainings = {"clipped": {rule: {"seeds": of} for rule, of in seeds.items()}}
    minus = [row for row in plot_cause.rows(plot_cause.Data({}, trainings)) if row[3] == "minus_bptt"]
    assert {row[1] for row in minus} == {"otpe"} and [row[6] for row in minus] == pytest.approx(
        [0.05 * sign for sign in ahead]
    )


def test_gradients_of_batches_are_measured_one_by_one():
    """The mean logarithm of their lengths, the mean cosine of two, and the share above a length, against batch after batch."""
    model, rng = make_model(DEEP, nnx.Rngs(3)), np.random.default_rng(0)
    batches = rng.random((3, 6, 4, 10)) < 0.3, np.array([[0, 1, 2, 3], [0, 0, 1, 1], [3, 2, 2, 1]])
    vectors = {"bptt": [], "otpe": []}
    for rule, of_rule in vectors.items():
        for inputs, labels in zip(*batches, strict=True):
            found = gradients(model, cross_entropy, inputs.astype(np.float32), labels, rule=RULES[rule].make())[1]
            of_rule.append({layer: [] for layer in "123"})
            for path, array in by_path(found).items():
                of_rule[-1][layer_of(model)(path)].extend(np.ravel(array))
    whole = sorted(np.linalg.norm(np.concatenate([*of.values()])) for of in vectors["bptt"])
    measured = cause.measure(model, batches, clip=(whole[0] + whole[1]) / 2)
    assert measured["bptt"]["clipped"] == pytest.approx(2 / 3)
    for rule, layer in itertools.product(vectors, "123"):
        units = [np.array(of[layer]) / np.linalg.norm(of[layer]) for of in vectors[rule]]
        lengths = [np.log10(np.linalg.norm(of[layer])) for of in vectors[rule]]
        cosines = [one @ other for one, other in itertools.combinations(units, 2)]
        expected = {"log10_length": np.mean(lengths), "alike": np.mean(cosines)}
        assert measured[rule]["layers"][layer] == pytest.approx(expected, abs=1e-5)
    assert cause.of_layer(np.zeros((2, 3))) == {"log10_length": None, "alike": None}
