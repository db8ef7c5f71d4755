"""The probe of a gradient's bias: its numbers, and that they are those of the parameters and the batch of the moment."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import cross_entropy, gradients, ostl
from slax_rules.fit import fit
from slax_rules.probe import GradientBias, agreement
from slax_rules.sampling import Sampler

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


def test_probe_measures_at_the_parameters_and_the_batch_of_its_step():
    """A model trained with TBPTT(1) against BPTT, recomputed by hand from the parameters at that step.

    What counts of the plain model is its structure.
    """
    model, optimizer = made()
    probe = GradientBias(nnx.clone(model), every=4)
    history = fit(model, optimizer, cross_entropy, SAMPLER, window=1, callbacks=[probe])
    inputs, labels = SAMPLER.batch(0, 3)
    _, truncated = gradients(model, cross_entropy, inputs, labels, window=1)
    _, whole = gradients(model, cross_entropy, inputs, labels)
    expected = agreement(truncated, whole)
    (record,) = history.records
    for path, measured in expected.items():
        assert record[f"cosine/{path}"] == pytest.approx(float(measured.cosine), rel=1e-5)
        assert record[f"norm_ratio/{path}"] == pytest.approx(float(measured.norm_ratio), rel=1e-5)
    assert record["cosine/modules/0/kernel"] < 0.999


def test_a_rule_shares_its_parameters_with_the_plain_model_through_training():
    """OSTL's gradient of the last layer is that of BPTT, at every step, and the plain model is trained with it."""
    model, optimizer = made()
    before = np.asarray(model.modules[0].kernel[...])
    probe = GradientBias(model, every=2, group=lambda path: path.rpartition("/")[0])
    history = fit(ostl(model), optimizer, cross_entropy, SAMPLER, epochs=2, callbacks=[probe])
    for number in ("cosine", "norm_ratio"):
        np.testing.assert_allclose(history.series(f"{number}/modules/2")[1], np.ones(4), rtol=1e-5)
    assert (history.series("cosine/modules/0")[1] < 0.9999).all()
    assert not np.array_equal(model.modules[0].kernel[...], before)


def test_a_silent_layer_has_no_cosine():
    model, optimizer = made()
    model.modules[0].bias[...] = jnp.full(6, -jnp.inf)
    history = fit(model, optimizer, cross_entropy, SAMPLER, callbacks=[GradientBias(model, every=4)])
    assert history.records[0]["cosine/modules/2/kernel"] is None
    assert history.records[0]["cosine/modules/2/bias"] == pytest.approx(1)


def test_a_model_of_another_shape_is_refused():
    rngs = nnx.Rngs(0)
    other = connect([nnx.Linear(N, 7, rngs=rngs), LIF(), nnx.Linear(7, C, rngs=rngs), LI()])
    with pytest.raises(ValueError, match="a plain model with modules/0/bias, modules/0/kernel, modules/2/kernel"):
        fit(*made(), cross_entropy, SAMPLER, callbacks=[GradientBias(other, every=1)])
