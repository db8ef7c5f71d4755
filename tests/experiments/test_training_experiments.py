"""The experiments that train rules: their networks, their scores, what is measured of them, and the rules that they name."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common import measures
from experiments.common.tasks import make_model
from experiments.deep import run as deep
from experiments.drawing import tables
from slax_rules import TBPTT, predict
from slax_rules import accuracy as share_right


def test_deep_networks_learn_by_windows_and_sum_probabilities():
    assert [deep.update_of({"rule": rule}) for rule in ("bptt", "ottt", "tbptt")] == ["offline", "online", "online"]
    assert deep.rule_of({"rule": "tbptt", "online_window": 3})() == TBPTT(steps=3)
    # One sure step for class 0 counts less than three that lean to class 1, though its outputs have the larger sum.
    outputs = jnp.array([[10.0, 0], [0, 1], [0, 1], [0, 1]])[:, None]
    assert float(share_right(outputs, jnp.array([0]))) == 1
    assert [float(measures.summed_accuracy(outputs, jnp.array([label]))) for label in (0, 1)] == [0, 1]


def test_deep_networks_say_which_test_samples_they_are_right_about():
    """By the law of their accuracy, which differs from the one of `slax_rules.accuracy` for some of these samples."""
    config, rng = {"layers": [9, 7, 3], "input_rate": 0.3, "initial_rate": 0.2}, np.random.default_rng(0)
    model, inputs, labels = make_model(config, nnx.Rngs(2)), rng.random((6, 40, 9)) < 0.4, np.arange(40) % 3
    model.modules[-2].kernel[...] *= 20  # small outputs have nearly the order of their softmax
    outputs = predict(model, jnp.asarray(inputs, jnp.float32))
    reached = float(measures.summed_accuracy(outputs, jnp.asarray(labels)))
    run = SimpleNamespace(seed=1, steps=[0, 5], test={5: reached}, validation={5: 0.5}, losses=np.ones(5))
    run.network = lambda step=5: (model, None)
    found = deep.numbers_of(run, SimpleNamespace(test=(inputs, labels), has_common_test=True))
    right = np.asarray(measures.is_right_in_sum(outputs, jnp.asarray(labels)), float)
    np.testing.assert_array_equal(tables.tested("digits", [found]), right[None])
    assert found["accuracy"] == reached == pytest.approx(right.mean())
    assert (right != measures.right(model, (inputs, labels))).any()
