"""The experiments of the OTPE paper: the authors' samples, network, loss and accuracy, and when cosines are measured."""

import numpy as np
import pytest
from experiment_files import as_written
from flax import nnx
from jax import random
from scipy import stats

from experiments.common.samples import random_bits
from experiments.otpe_paper import draws, plot, run
from slax_data import upstream_randman
from slax_rules import cross_entropy, evaluate

SIZES = {"n_classes": 3, "n_units": 4, "dim": 2, "alpha": 1.0}


def test_interpolated_samples_are_those_of_the_equation():
    """Against the draw of all samples by the equation itself, with its 999 harmonics."""
    with random_bits():
        table, key = draws.curves(random.key(3), **SIZES), random.key(5)
        ours = draws.draw(table, key, n_classes=3, n_steps=50, size=700)
        spikes, labels = upstream_randman(
            random.key(3), key, **SIZES, n_steps=50, samples_per_class=1000, batch_size=700
        )
    np.testing.assert_array_equal(ours.labels, labels)
    steps = np.where(np.asarray(spikes).any(axis=0), np.asarray(spikes).argmax(axis=0), 50)
    apart = np.abs(steps - np.asarray(ours.levels, int))
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3


def test_network_loss_and_accuracy_are_the_authors():
    """Against their equations in NumPy: u <- sigmoid(tau) u + W s + b, a spike at u >= 1, which takes 1 away."""
    config = {"layers": [6, 5, 5, 3], "tau": 3, "slope": 10}
    model, rng = run.network(config, nnx.Rngs(1)), np.random.default_rng(0)
    for synapse in model.modules[::2]:
        assert not np.asarray(synapse.bias[...]).any()
        synapse.kernel[...] *= 3
    inputs, labels = (rng.random((8, 9, 6)) < 0.5).astype(np.float32), np.arange(9) % 3
    membranes, outputs = [np.zeros((9, size)) for size in (5, 5, 3)], []
    for s in inputs:
        for index, u in enumerate(membranes):
            u = u / (1 + np.exp(-3.0)) + s @ np.asarray(model.modules[2 * index].kernel[...], float)
            s = (u >= 1).astype(float)
            membranes[index] = u - s
        outputs.append(s)
    outputs = np.array(outputs)
    losses = np.log(np.exp(outputs).sum(axis=-1)) - outputs[:, np.arange(9), labels]
    found = evaluate(model, cross_entropy, [(inputs, labels)], metrics={"accuracy": run.count_accuracy})
    counts = outputs.sum(axis=0)
    right = (counts.argmax(axis=-1) == labels) & (counts.max(axis=-1) > 0)
    assert 0 < right.mean() < 1
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5) and found["accuracy"] == pytest.approx(right.mean())


def result_of(weights, accuracies, cosines, manifold=0, task="time_offline_20"):
    config = {"task": task, "slope": 10, "tau": 3, "layers": [5, 4, 4, 3], "evaluate_every": 2}
    rules = {rule: {"accuracy": {"test": numbers}} for rule, numbers in accuracies.items()}
    seeds = [{"weights": weights, "rules": rules, "cosines": cosines}]
    return as_written(config | {"manifold": manifold, "weights": [weights]}, {"seeds": seeds})


def test_jobs_of_a_seed_are_joined_and_manifolds_are_kept_apart_from_each_other_and_from_printed_numbers():
    cosines = [{"otpe": {"1/kernel": [of]}} for of in (0.8, 0.9, 0.7)]
    results = [result_of(1, {"bptt": [0.5]}, cosines[1]), result_of(0, {"bptt": [0.4]}, cosines[0])]
    results += [result_of(weights, {"otpe": [0.1 * weights]}, {}) for weights in (0, 1)]
    results.append(result_of(0, {"bptt": [0.9], "otpe": [0.9]}, cosines[2], manifold=1))
    rows = [dict(zip(plot.COLUMNS, row, strict=True)) for row in plot.rows(plot.prepare(results))]
    values = {(row["manifold"], row["rule"], row["quantity"]): row["values"] for row in rows}
    assert values[0, "otpe", "cosine"] == "0.8 0.9" and values[1, "otpe", "cosine"] == "0.7"
    assert values[0, "bptt", "last_accuracy"] == "0.4 0.5" and values[0, "otpe", "last_accuracy"] == "0 0.1"
    (first,) = (row for row in rows if row["quantity"] == "cosine" and row["manifold"] == 0)
    assert first["printed"] == 0.9322559 and first["difference"] == pytest.approx(0.85 - 0.9322559)
    half = stats.t.isf(0.025, 1) * np.std([0.8, 0.9], ddof=1) * np.sqrt(1 / 2 + 1 / 5)  # of five further seeds
    assert first["next_from"] == pytest.approx(0.85 - half) and first["next_to"] == 1
    assert all(row["printed"] is None for row in rows if row["manifold"] == 1)
