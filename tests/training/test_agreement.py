"""Agreement of gradients: its numbers, its names, and that it is that of the parameters and the batch of its step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import LI, LIF, Dropout, Edge, Trainable, connect
from training.small import BATCHES, SAMPLER, C, N, made, numbers, same


def test_numbers_are_those_of_their_definitions(x64):
    g = {"a": jnp.array([1.0, -2.0, 0.0, 3.0]), "b": jnp.array([[5.0]])}
    r = {"a": jnp.array([2.0, 2.0, 5.0, 0.0]), "b": jnp.array([[1.0]])}
    ours, layer = jax.jit(lambda: (sr.agreement(g, r), sr.agreement(g, r, group=lambda path: "layer")["layer"]))()
    assert ours["a"].cosine == pytest.approx(-2 / np.sqrt(14 * 33), rel=1e-12)
    assert ours["a"].norm_ratio == pytest.approx(np.sqrt(14 / 33), rel=1e-12)
    assert ours["a"].sign_agreement == pytest.approx(1 / 3, rel=1e-12)  # where r is not zero
    assert ours["all"].cosine == pytest.approx(3 / np.sqrt(39 * 34), rel=1e-12)
    assert layer == ours["all"]


def test_scale_changes_the_norm_ratio_alone_and_what_is_not_defined_is_flagged_and_never_nan():
    g, r = jnp.array([1.0, 2.0, -1.0]), jnp.array([3.0, 1.0, 1.0])
    plain = sr.agreement(g, r)["all"]
    for scale in (1e-30, 1e30):
        scaled = sr.agreement(g * scale, r)["all"]
        assert scaled.cosine == pytest.approx(float(plain.cosine), rel=1e-6) and scaled.defined
        assert scaled.norm_ratio == pytest.approx(scale * float(plain.norm_ratio), rel=1e-6)
        assert scaled.sign_agreement == plain.sign_agreement
    for one, other, has_reference in ((0 * g, r, True), (g, 0 * r, False), (g * jnp.nan, r, False), (g, r / 0, False)):
        measured = sr.agreement(one, other)["all"]
        assert not measured.defined and measured.has_reference == has_reference
        assert np.isfinite([measured.cosine, measured.norm_ratio, measured.sign_agreement]).all()


def test_sums_of_half_precision_are_in_float32():
    """In bfloat16 the squares of these 4096 entries would add up to 256 only."""
    low, half = jnp.ones(4096, jnp.bfloat16), (jnp.arange(4096) < 2048).astype(jnp.bfloat16)
    found = sr.agreement(low, half)["all"]
    assert found.cosine.dtype == jnp.float32
    np.testing.assert_allclose([found.cosine, found.norm_ratio], np.sqrt([0.5, 2]), rtol=1e-6)
    assert not sr.agreement(low * 1e-39, half)["all"].defined  # below the smallest normal number


def test_layers_have_the_names_of_health_and_summary():
    """By index and class, through the stacks that they are in; an edge by its ends; a parameter of a neuron by its name."""
    rngs = nnx.Rngs(0)
    inner = connect([nnx.Linear(6, 6, rngs=rngs), LIF(decay=Trainable(0.9))], {0: [1]}, rngs=rngs)
    edges = [Edge(1, 0), Edge(1, 0, delay=2)]
    model = connect([nnx.Linear(N, 6, rngs=rngs), LIF(), inner, nnx.Linear(6, C, rngs=rngs), LI()], edges, rngs=rngs)
    params = nnx.state(model, nnx.Param)
    layer = {"model": model, "group": lambda name: name.partition("/")[0]}
    ways = {"model": model}, {}, layer
    found = jax.eval_shape(lambda: [sr.agreement(params, params, **options) for options in ways])
    named, plain, by_layer = found
    layers = ["0 Linear", "1 -> 0 Linear", "1 -> 0 Linear (2 steps late)", "2.0 Linear", "2.1 -> 2.0 Linear"]
    layers.append("2.1 LIF/decay")
    assert sorted({name.rpartition("/")[0] for name in named if name != "all"}) == [*layers, "3 Linear"]
    assert {"2.1 LIF", "0 Linear"} <= by_layer.keys() and "all" not in by_layer and "modules/0/kernel" in plain


@pytest.mark.parametrize(
    "training, options, ours, theirs",
    [
        ({"rule": sr.BPTT(), "window": 2}, {"rule": sr.OTTT(), "reference": sr.SLTT()}, sr.OTTT(), sr.SLTT()),
        # BPTT online is the truncated gradient: with updates after windows of three steps it flows within them.
        ({"rule": sr.BPTT(), "update": "online", "window": 3}, {}, sr.TBPTT(3), sr.BPTT()),
    ],
)
def test_it_is_measured_at_the_parameters_and_the_batch_of_its_step(training, options, ours, theirs):
    """Of the rule that trains by default; computed again by hand from the parameters after that step."""
    model, optimizer = made()
    looks = [sr.GradientAgreement(every=4, **options), sr.Every(4, lambda info: {"seconds": info.seconds})]
    history = sr.fit(model, optimizer, sr.cross_entropy, BATCHES, callbacks=looks, **training)
    inputs, labels = map(jnp.asarray, BATCHES[3])
    one, two = (sr.gradients(model, sr.cross_entropy, inputs, labels, rule=rule)[1] for rule in (ours, theirs))
    record = {name: number for one in history.records for name, number in one.items()}
    passed = record["comparison/seconds"]
    assert record["comparison/share"] == pytest.approx(passed / (passed + 4 * record["seconds"]))
    for name, measured in sr.agreement(one, two, model=model).items():
        for number in ("cosine", "norm_ratio", "sign_agreement"):
            assert record[f"{number}/{name}"] == pytest.approx(float(getattr(measured, number)), rel=1e-5)
    assert record["cosine/all"] < 0.999


def test_both_gradients_see_the_same_random_numbers_and_training_sees_none_of_it():
    """Dropout and a rule that draws; that a look changes nothing is bit for bit."""

    def train(callbacks):
        model, optimizer = made(modules=[Dropout(0.3, rngs=nnx.Rngs(1))])
        options = {"rule": sr.UORO(rngs=nnx.Rngs(2)), "callbacks": callbacks}
        history = sr.fit(model, optimizer, sr.cross_entropy, SAMPLER, **options)
        return history, numbers(model)

    history, watched = train([sr.GradientAgreement(2, rule=sr.BPTT()), sr.GradientAgreement(2)])
    same_rule, other = (history.records[index]["cosine/all"] for index in (0, 1))
    assert same_rule == pytest.approx(1, abs=1e-6) and other < 0.999
    assert same(watched, train([])[1])


def test_penalties_of_the_training_are_part_of_both_gradients():
    """With a rate of zero the model stays the same, so that a penalty changes the comparison by its gradient alone."""

    def ratio(penalties):
        still, looks = optax.sgd(0.0), [sr.GradientAgreement(1, rule=sr.SLTT())]
        history = sr.fit(*made(still), sr.cross_entropy, BATCHES[:1], penalties=penalties, callbacks=looks)
        return history.records[0]["norm_ratio/all"]

    assert abs(ratio([sr.sparsity(100.0)]) - ratio([])) > 1e-2


def test_norms_of_a_gradient_have_readable_names():
    model, _ = made()
    _, gradient = sr.gradients(model, sr.cross_entropy, *map(jnp.asarray, BATCHES[0]))
    norms = sr.gradient_norms(gradient, model)
    assert sorted(norms) == ["0 Linear/bias", "0 Linear/kernel", "2 Linear/bias", "2 Linear/kernel"]
    kernel = np.asarray(gradient["modules"][2]["kernel"][...])
    np.testing.assert_allclose(norms["2 Linear/kernel"], np.sqrt((kernel**2).sum()), rtol=1e-6)
