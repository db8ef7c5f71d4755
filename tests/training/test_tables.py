"""What a notebook and a paper show: norms by name, tables, and learning curves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib import pyplot as plt

from slax_neurons import LI, LIF, connect, health, summary
from slax_rules import BPTT, OTPE, accuracy, cross_entropy, gradient_norms, gradients, sweep
from slax_rules.train.intervals import interval

INPUTS = jax.random.bernoulli(jax.random.key(0), 0.4, (12, 4, 8)).astype(jnp.float32)
LABELS = jnp.array([0, 1, 2, 0])


def stack(rngs):
    return connect([nnx.Linear(8, 6, rngs=rngs), LIF(), nnx.Linear(6, 3, rngs=rngs), LI()])


def test_norms_of_a_gradient_have_readable_names():
    model = stack(nnx.Rngs(0))
    _, gradient = gradients(model, cross_entropy, INPUTS, LABELS)
    norms = gradient_norms(gradient, model)
    assert sorted(norms) == ["0 Linear/bias", "0 Linear/kernel", "2 Linear/bias", "2 Linear/kernel"]
    kernel = np.asarray(gradient["modules"][2]["kernel"][...])
    np.testing.assert_allclose(norms["2 Linear/kernel"], np.sqrt((kernel**2).sum()), rtol=1e-6)
    assert sorted(gradient_norms(gradient))[0] == "modules/0/bias"


def test_a_cell_that_ends_with_a_table_shows_it():
    model = stack(nnx.Rngs(0))
    for table in (summary(model, (4, 8)), health(model, INPUTS)):
        assert repr(table) == str(table) and "LIF" in repr(table)


def test_learning_curves_are_means_of_runs_within_the_limits():
    found = sweep(
        stack, optax.sgd, cross_entropy, lambda seed: [(INPUTS, LABELS)] * 6, rules={"bptt": BPTT(), "otpe": OTPE()},
        rates=[0.1], seeds=[0, 1], validation=[(INPUTS, LABELS)], metric=accuracy, mode="max",
        evaluate_at=(0, 2),
    )  # fmt: skip
    curves = found.curves("validation")
    for rule, curve in curves.items():
        assert curve["batches"].tolist() == [0, 2, 6]
        scores = [[run.score("validation", step) for run in found.best[rule]] for step in (0, 2, 6)]
        np.testing.assert_allclose(curve["mean"], np.mean(scores, axis=1))
        raw = [interval(np.array(of)) for of in scores]
        np.testing.assert_allclose(curve["high"], np.clip([one["high"] for one in raw], 0, 1))
        assert (curve["low"] >= 0).all() and (curve["high"] <= 1).all()
    figure, ax = plt.subplots()
    found.draw_curves(ax, "validation")
    assert [line.get_label() for line in ax.get_lines()] == ["bptt", "otpe"]
    plt.close(figure)
    assert len(repr(found).splitlines()) == 3


def with_decay(rngs, decay, width=6):
    return connect([nnx.Linear(8, width, rngs=rngs), LIF(decay=decay), nnx.Linear(width, 3, rngs=rngs), LI()])


def test_any_setting_can_be_swept():
    """Each point is the training with this setting alone, and the best one is chosen."""
    options = {"rules": {"otpe": OTPE()}, "seeds": 2, "validation": [(INPUTS, LABELS)]}
    data = lambda seed: [(INPUTS, LABELS)] * 3  # noqa: E731
    settings = {"decay": [0.5, 0.9], "width": [4]}
    found = sweep(with_decay, optax.sgd, cross_entropy, data, rates=[0.3, 0.1], settings=settings, **options)
    assert found.points == tuple(
        {"rate": rate, "decay": decay, "width": 4} for decay in (0.5, 0.9) for rate in (0.1, 0.3)
    )
    assert found.validation("otpe").shape == (4, 2) and found.rates == (0.1, 0.3)
    alone = sweep(lambda rngs: with_decay(rngs, 0.9, 4), optax.sgd, cross_entropy, data, rates=[0.3, 0.1], **options)
    for point, index in ((2, 0), (3, 1)):
        for run, same in zip(found.trials["otpe"][point], alone.trials["otpe"][index], strict=True):
            np.testing.assert_array_equal(run.losses, same.losses)
    best = int(np.argmax(found.validation("otpe").mean(axis=1)))
    assert found.chosen["otpe"] == found.points[best] and found.best["otpe"] == found.trials["otpe"][best]
    assert found.rows()[0]["decay"] == found.chosen["otpe"]["decay"] and "decay" in str(found).splitlines()[0]
