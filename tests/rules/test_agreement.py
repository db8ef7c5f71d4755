"""Agreement of gradients: its numbers, its names, and that it is that of the parameters and the batch of its step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Dropout, Edge, Trainable, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTTT,
    SLTT,
    TBPTT,
    UORO,
    GradientAgreement,
    Sampler,
    agreement,
    cross_entropy,
    fit,
    gradients,
    sparsity,
)

T, B, N, C = 6, 4, 5, 3


def sample(key):
    return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float32), jnp.arange(B) % C


SAMPLER = Sampler(sample, jax.random.key(1), steps=4)


def made():
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(N, 6, rngs=rngs), LIF(threshold=0.5), nnx.Linear(6, C, rngs=rngs), LI()])
    return model, nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)


def test_numbers_are_those_of_their_definitions(x64):
    g = {"a": jnp.array([1.0, -2.0, 0.0, 3.0]), "b": jnp.array([[5.0]])}
    r = {"a": jnp.array([2.0, 2.0, 5.0, 0.0]), "b": jnp.array([[1.0]])}
    ours = agreement(g, r)
    assert ours["a"].cosine == pytest.approx(-2 / np.sqrt(14 * 33), rel=1e-12)
    assert ours["a"].norm_ratio == pytest.approx(np.sqrt(14 / 33), rel=1e-12)
    assert ours["a"].sign_agreement == pytest.approx(1 / 3, rel=1e-12)  # where r is not zero
    assert ours["all"].cosine == pytest.approx(3 / np.sqrt(39 * 34), rel=1e-12)
    assert agreement(g, r, group=lambda path: "layer")["layer"] == ours["all"]


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_scale_changes_the_norm_ratio_alone(scale):
    g, r = jnp.array([1.0, 2.0, -1.0]), jnp.array([3.0, 1.0, 1.0])
    scaled, plain = agreement(g * scale, r)["all"], agreement(g, r)["all"]
    assert scaled.cosine == pytest.approx(float(plain.cosine), rel=1e-6) and scaled.defined
    assert scaled.norm_ratio == pytest.approx(scale * float(plain.norm_ratio), rel=1e-6)
    assert scaled.sign_agreement == plain.sign_agreement


@pytest.mark.parametrize(
    "g, r, defined, has_reference",
    [
        ([0.0, 0.0], [1.0, 2.0], False, True),
        ([1.0, 2.0], [0.0, 0.0], False, False),
        ([1.0, jnp.nan], [1.0, 2.0], False, False),
        ([1.0, 2.0], [1.0, jnp.inf], False, False),
    ],
)
def test_what_is_not_defined_is_flagged_and_never_nan(g, r, defined, has_reference):
    measured = agreement(jnp.array(g), jnp.array(r))["all"]
    assert (bool(measured.defined), bool(measured.has_reference)) == (defined, has_reference)
    assert np.isfinite([measured.cosine, measured.norm_ratio, measured.sign_agreement]).all()


def test_other_paths_are_refused():
    with pytest.raises(ValueError, match=r"paths \['a'\] in the gradient alone and \['b'\] in the reference alone"):
        agreement({"a": jnp.ones(1)}, {"b": jnp.ones(1)})


def test_layers_have_the_names_of_health_and_summary():
    """By index and class, through the stacks that they are in; an edge by its ends; a parameter of a neuron by its name."""
    rngs = nnx.Rngs(0)
    inner = connect([nnx.Linear(6, 6, rngs=rngs), LIF(decay=Trainable(0.9))], {0: [1]}, rngs=rngs)
    edges = [Edge(1, 0), Edge(1, 0, delay=2)]
    model = connect([nnx.Linear(N, 6, rngs=rngs), LIF(), inner, nnx.Linear(6, C, rngs=rngs), LI()], edges, rngs=rngs)
    gradient = gradients(model, cross_entropy, *sample(jax.random.key(0)))[1]
    named = agreement(gradient, gradient, model=model)
    layers = dict.fromkeys(name.rpartition("/")[0] for name in named if name != "all")
    assert sorted(layers) == [
        "0 Linear",
        "1 -> 0 Linear",
        "1 -> 0 Linear (2 steps late)",
        "2.0 Linear",
        "2.1 -> 2.0 Linear",
        "2.1 LIF/decay",
        "3 Linear",
    ]
    by_layer = agreement(gradient, gradient, model=model, group=lambda name: name.partition("/")[0])
    assert "2.1 LIF" in by_layer and "0 Linear" in by_layer and "all" not in by_layer
    assert {"modules/0/kernel", "all"} <= agreement(gradient, gradient).keys()
    cell = LIF(decay=Trainable(0.9))
    gradient = gradients(cell, cross_entropy, *sample(jax.random.key(0)))[1]
    assert "decay/unconstrained" in agreement(gradient, gradient, model=cell)


@pytest.mark.parametrize(
    "options, ours, theirs",
    [
        ({}, TBPTT(2), BPTT()),
        ({"rule": OTTT()}, OTTT(), BPTT()),
        ({"reference": TBPTT(3)}, TBPTT(2), TBPTT(3)),
        ({"rule": [OTTT(), OSTL()], "reference": SLTT(), "window": 2, "reference_window": 4}, [OTTT(), OSTL()], SLTT()),
    ],
)
def test_it_is_measured_at_the_parameters_and_the_batch_of_its_step(options, ours, theirs):
    """Of the rule that trains by default; computed again by hand from the parameters after that step."""
    model, optimizer = made()
    callback = GradientAgreement(every=4, **options)
    history = fit(model, optimizer, cross_entropy, SAMPLER, rule=TBPTT(2), callbacks=[callback])
    batch = SAMPLER.batch(0, 3)
    one, two = (gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in (ours, theirs))
    (record,) = history.records
    for name, measured in agreement(one, two, model=model).items():
        assert record[f"cosine/{name}"] == pytest.approx(float(measured.cosine), rel=1e-5)
        assert record[f"norm_ratio/{name}"] == pytest.approx(float(measured.norm_ratio), rel=1e-5)
        assert record[f"sign_agreement/{name}"] == pytest.approx(float(measured.sign_agreement), rel=1e-5)
    assert record["cosine/0 Linear/kernel"] < 0.999


@pytest.mark.parametrize("rule, steps", [(BPTT(), 3), (TBPTT(2), 2), (TBPTT(5), 3)])
def test_bptt_online_is_measured_as_the_truncated_gradient_that_it_is(rule, steps):
    """With updates after windows of three steps the gradient flows within them."""
    model, optimizer = made()
    callbacks = [GradientAgreement(every=4)]
    history = fit(model, optimizer, cross_entropy, SAMPLER, rule=rule, update="online", window=3, callbacks=callbacks)
    batch = SAMPLER.batch(0, 3)
    expected = agreement(
        gradients(model, cross_entropy, *batch, rule=TBPTT(steps))[1], gradients(model, cross_entropy, *batch)[1]
    )
    assert history.records[0]["cosine/all"] == pytest.approx(float(expected["all"].cosine), rel=1e-5)
    assert expected["all"].cosine < 0.999


def test_of_ostl_the_last_layer_alone_is_exact_throughout_training():
    model, optimizer = made()
    by_layer = GradientAgreement(every=2, group=lambda name: name.partition("/")[0])
    history = fit(model, optimizer, cross_entropy, SAMPLER, rule=OSTL(), epochs=2, callbacks=[by_layer])
    for number in ("cosine", "norm_ratio"):
        np.testing.assert_allclose(history.series(f"{number}/2 Linear")[1], np.ones(4), rtol=1e-5)
    assert (history.series("cosine/0 Linear")[1] < 0.9999).all()


def test_both_gradients_see_the_same_random_numbers_and_training_sees_none_of_it():
    """Dropout and a rule that draws; that a look changes nothing is bit for bit."""

    def train(callbacks):
        rngs = nnx.Rngs(0)
        model = connect(
            [
                nnx.Linear(N, 6, rngs=rngs),
                LIF(threshold=0.5),
                Dropout(0.3, rngs=rngs),
                nnx.Linear(6, C, rngs=rngs),
                LI(),
            ]
        )
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        history = fit(model, optimizer, cross_entropy, SAMPLER, rule=UORO(rngs=rngs), callbacks=callbacks)
        return history, jax.tree.leaves(nnx.state(model, nnx.Param))

    history, watched = train([GradientAgreement(2, rule=BPTT()), GradientAgreement(2)])
    same, _ = (history.records[index]["cosine/all"] for index in (0, 1))
    assert same == pytest.approx(1, abs=1e-6) and history.records[1]["cosine/all"] < 0.999
    jax.tree.map(np.testing.assert_array_equal, watched, train([])[1])


def test_penalties_of_the_training_are_part_of_both_gradients():
    """With a rate of zero the model stays the same, so that a penalty changes the comparison by its gradient alone."""

    def ratio(penalties):
        model, _ = made()
        still = nnx.Optimizer(model, optax.sgd(0.0), wrt=nnx.Param)
        looks = [GradientAgreement(1, rule=SLTT())]
        history = fit(model, still, cross_entropy, SAMPLER, penalties=penalties, callbacks=looks)
        return history.records[0]["norm_ratio/all"]

    assert abs(ratio([sparsity(100.0)]) - ratio([])) > 1e-2


def test_a_silent_layer_has_no_cosine():
    model, optimizer = made()
    model.modules[0].bias[...] = jnp.full(6, -1e30)
    with pytest.warns(UserWarning, match="Layer 1 LIF is silent"):
        history = fit(model, optimizer, cross_entropy, SAMPLER, callbacks=[GradientAgreement(every=4)])
    assert history.records[0]["cosine/2 Linear/kernel"] is None
    assert history.records[0]["cosine/2 Linear/bias"] == pytest.approx(1)
