"""S-TLLR against the oracle's two sums, and where it is another rule."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from oracle.local import OTTT as OracleOTTT
from oracle.local import STLLR as OracleSTLLR
from rules.ledger import LABELS, SIGNAL, B, T, alif, cuba_lif, lif
from slax_neurons import LIF, Surrogate, Trainable, connect
from slax_rules import OTTT, RULES, STLLR, FixedBases, cross_entropy, gradients
from stacks import Conv, deviation, gradients_of, inputs, linear, pair, worst

TOLERANCE = 1e-11
OPTIONS = {"lambda_pre": 0.7, "lambda_post": 0.3, "alpha_pre": 1.1, "alpha_post": -0.4}
LI = {"kind": "li", "decay": 0.7}
NETWORKS: dict[str, Any] = {
    "lif": ([7, 6, 5, 4], [lif(), lif(decay=0.6, reset="zero"), LI], []),
    "last fires": ([7, 6, 4], [lif(reset="none"), cuba_lif()], [(1, 1, 1)]),
    "two states": ([7, 6, 5, 4], [alif(), cuba_lif(reset="zero"), LI], [(0, 0, 1), (1, 0, 2), (0, 2, 0)]),
    "hidden LI": ([7, 6, 5, 4], [LI, lif(), LI], []),
    "conv": (
        [(4, 4, 2), Conv(4, (3, 3), groups=2), Conv(3, (2, 2), strides=(2, 2), padding="VALID"), 4],
        [lif(), lif(decay=0.6), LI],
        [],
    ),
}


def network(name: str) -> Any:
    sizes, neurons, edges = NETWORKS[name]
    return pair(sizes, [neuron | {"fixed": True} for neuron in neurons], edges=edges)


def ours(model: Any, rule: Any, window: int | None = 3, **options: Any) -> list[dict[str, np.ndarray]]:
    first = model.modules[0]
    shape = 7 if hasattr(first, "in_features") and first.kernel.ndim == 2 else (4, 4, 2)
    found = gradients(model, cross_entropy, inputs(T, B, shape), LABELS, rule=rule, window=window, **options)[1]
    return gradients_of(model, found)


def theirs(name: str, layers: Any, activation: Any = None, **options: Any) -> list[dict[str, np.ndarray]]:
    """A read-out that does not fire has OTTT."""
    numbers = list((OPTIONS | options).values())
    rules: list[Any] = [OracleSTLLR(*numbers, activation, bias_trace=False) for _ in layers]
    if NETWORKS[name][1][-1] is LI:
        rules[-1] = OracleOTTT(bias_trace=False)
    return oracle.run(oracle.PerLayer(rules), layers, inputs(T, B, NETWORKS[name][0][0]), SIGNAL).gradients


@pytest.mark.parametrize("window", [1, 4, T])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_is_the_oracle_s_in_windows_of_every_length(name, window, x64):
    model, layers = network(name)
    assert worst(ours(model, STLLR(**OPTIONS), window), theirs(name, layers)) < TOLERANCE


def triangle(x: Any) -> Any:
    return 0.3 * (jnp if isinstance(x, jax.Array) else np).maximum(1 - abs(x), 0)


@pytest.mark.parametrize("name", ["lif", "two states", "conv"])
def test_secondary_takes_the_place_of_psi_in_both_terms(name, x64):
    """As in the oracle's definition, it is also the factor of the signal below there, and not here."""
    model, layers = network(name)
    x = inputs(T, B, NETWORKS[name][0][0])
    found = ours(model, STLLR(**OPTIONS, secondary=Surrogate(triangle)))

    class WithPsiBelow(OracleSTLLR):
        def layer_step(self, layer, trace, step, above):
            trace, credit = super().layer_step(layer, trace, step, above)
            return trace, credit._replace(factor=step.psi)

    numbers = tuple(OPTIONS.values())
    rules = [WithPsiBelow(*numbers, triangle, bias_trace=False) for _ in layers[:-1]]
    expected = oracle.run(oracle.PerLayer([*rules, OracleOTTT(bias_trace=False)]), layers, x, SIGNAL).gradients
    assert worst(found, expected) < TOLERANCE
    joined = theirs(name, layers, triangle)
    assert worst(found[1:], joined[1:]) < TOLERANCE
    assert deviation(found[0]["kernel"], joined[0]["kernel"]) > 0.1


def test_without_a_non_causal_term_it_is_ottt(x64):
    """For LIF neurons with the decay lambda_pre; to the last layer it gives OTTT whatever the options are."""
    model, _ = pair([7, 6, 5, 4], [lif(fixed=True), lif(reset="zero", fixed=True), LI | {"fixed": True}])
    expected = ours(model, OTTT(bias_trace=False))
    assert worst(ours(model, STLLR(0.8, 0.3, 1.0, 0.0)), expected) < TOLERANCE
    other = ours(model, STLLR(0.8, 0.3, 1.0, -0.1))
    assert worst(other[2:], expected[2:]) < TOLERANCE
    assert deviation(other[1]["kernel"], expected[1]["kernel"]) > 0.01
    assert worst([{"bias": layer["bias"]} for layer in other], [{"bias": layer["bias"]} for layer in expected]) < 1e-12
    longer = ours(model, STLLR(0.81, 0.3, 1.0, 0.0))
    assert deviation(longer[0]["kernel"], expected[0]["kernel"]) > 1e-3


def test_terms_add_up(x64):
    """The gradient is linear in alpha_pre and alpha_post; biases have no factor."""
    model, _ = network("two states")
    causal, other = ours(model, STLLR(0.7, 0.3, 1.0, 0.0)), ours(model, STLLR(0.7, 0.3, 0.0, 1.0))
    found = ours(model, STLLR(0.7, 0.3, 2.0, -3.0))
    for index in (0, 1):
        for name in causal[index]:
            one, two = causal[index][name], other[index][name]
            expected = one if name.endswith("bias") else 2 * one - 3 * two
            assert deviation(found[index][name], expected) < TOLERANCE


def test_non_causal_term_by_hand(x64):
    """One neuron, inputs only after its Psi: xhat is 0 when Psi is not, and the other way round."""
    synapse = linear(1, 1, 0, use_bias=False)
    synapse.kernel[...] = jnp.array([[2.0]])
    sharp = Surrogate(lambda x: (x >= 0).astype(x.dtype))  # Psi is the spike
    neuron = LIF(decay=0.5, threshold=1.0, reset="zero", spike_fn=sharp, param_dtype=jnp.float64)
    model = connect([synapse, neuron])
    x = jnp.array([1.0, 0.25, 0.25]).reshape(3, 1, 1)  # v is 2, 0.5, 0.75: it fires once
    weights = jnp.array([1.0, 10.0, 100.0])

    def loss(y: Any, weight: Any) -> jax.Array:
        return 3 * (y * weight).sum(axis=-1)

    from slax_rules import PerStep

    targets = PerStep(weights.reshape(3, 1, 1))
    rule = STLLR(0.5, 0.2, alpha_pre=7.0, alpha_post=-1.0)
    gradient = gradients(model, loss, x, targets, rule=rule, window=1)[1]["modules"][0]["kernel"][...]
    causal, non_causal = 7 * 1.0, -(10 * 1.0 * 0.25 + 100 * 0.2 * 0.25)
    assert abs(float(gradient[0, 0]) - (causal + non_causal)) < 1e-12


def test_tess_is_s_tllr_with_fixed_bases(x64):
    model, layers = network("lif")
    rule = RULES["tess"].make(**OPTIONS)
    assert rule == STLLR(**OPTIONS, route=rule.route) and isinstance(rule.route, FixedBases)
    waves = [
        np.sign(np.sin(np.linspace(50, 512, 4) * np.arange(n)[:, None])) / n for n in (6, 5)
    ]  # of the equation, not of the route
    rules = [OracleSTLLR(*OPTIONS.values(), bias_trace=False) for _ in layers[:-1]]
    whole = oracle.PerLayer([*rules, OracleOTTT(bias_trace=False)], route=oracle.Local(waves))
    assert worst(ours(model, rule), oracle.run(whole, layers, inputs(T, B, 7), SIGNAL).gradients) < TOLERANCE


@pytest.mark.parametrize(
    ("make", "neuron", "error", "match"),
    [
        ({"lambda_pre": 1.1}, None, ValueError, r"STLLR got lambda_pre=1.1, expected a number in \[0, 1\]"),
        ({"lambda_post": -0.1}, None, ValueError, r"STLLR got lambda_post=-0.1"),
        ({}, LIF(decay=Trainable(0.9)), TypeError, r"STLLR is not defined for parameters of a neuron, got a LIF"),
    ],
)
def test_refusals_say_what_came_and_what_to_do(make, neuron, error, match):
    with pytest.raises(error, match=match):
        rule = STLLR(**make)
        model = connect([linear(7, 4, 0, jnp.float32), neuron])
        gradients(model, cross_entropy, inputs(T, B, 7, dtype=jnp.float32), LABELS, rule=rule)


def test_secondary_needs_a_neuron_that_fires(x64):
    model, _ = network("hidden LI")
    with pytest.raises(TypeError, match=r"replaces the surrogate of a SpikingNeuron, got a LI. Leave it out"):
        ours(model, STLLR(secondary=Surrogate(triangle)))
