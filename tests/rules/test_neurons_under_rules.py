"""Every neuron with parameters for each unit under every rule: exact, equal to the oracle, or refused with a reason.

The neurons are LIF, CuBaLIF, ALIF, BRF and AdLIF in both of its forms; all of their parameters are trainable arrays.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from kinds_of_rules import of_each_kind
from slax_neurons import ALIF, BRF, LI, LIF, AdLIF, CuBaLIF, Edge, Trainable, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    OTTT,
    RTRL,
    RULES,
    SLTT,
    ApproximateOTPE,
    EProp,
    PPProp,
    SnAp,
    cross_entropy,
    gradients,
)
from stacks import deviation, gradients_of, inputs, linear, worst

T, B, N_IN, N, N_OUT = 8, 3, 5, 4, 4
LABELS = jnp.array([0, 3, 2])
SIGNAL = oracle.softmax_cross_entropy(np.asarray(LABELS))
Q, DT = 20.0, 0.01
SEED = 34  # of weights with which every unit of every neuron fires


class Kind(NamedTuple):
    """A neuron, the oracle's or None, the parameters, the factor of the weights that make it fire, and its other options."""

    neuron: Any
    oracle: Any
    parameters: dict[str, float]
    gain: float = 1.0
    options: tuple[tuple[str, Any], ...] = ()


ADLIF = {"decay": 0.8, "adaptation_decay": 0.9, "a": 0.2, "b": 0.4, "threshold": 0.9}
KINDS = {
    "lif": Kind(LIF, None, {"decay": 0.8, "threshold": 0.7}),
    "cuba_lif": Kind(CuBaLIF, None, {"synapse_decay": 0.6, "decay": 0.8, "threshold": 0.7}),
    "alif": Kind(ALIF, None, {"decay": 0.8, "adaptation_decay": 0.9, "beta": 0.3, "threshold": 0.7}),
    "adlif": Kind(AdLIF, oracle.AdLIF, ADLIF, 6.0),
    "symplectic adlif": Kind(
        AdLIF, oracle.AdLIF, ADLIF, 6.0, (("q", Q), ("reset", "zero"), ("stop_reset_gradient", True))
    ),
    "brf": Kind(
        BRF,
        oracle.BRF,
        {"omega": 30.0, "b_offset": 2.0, "threshold": 0.7, "refractory_decay": 0.8},
        80.0,
        (("dt", DT),),
    ),
}
NEW = ["adlif", "symplectic adlif", "brf"]  # those that tests/rules/ledger.py does not compare with the oracle
RECURRENT = (Edge(1, 0),)


def values(kind: str, per_neuron: bool) -> dict[str, Any]:
    spread = np.linspace(0.9, 1.0, N) if per_neuron else 1.0
    return {name: value * spread for name, value in KINDS[kind].parameters.items()}


def neuron(kind: str, *, per_neuron: bool = True, mark: Any = Trainable, dtype: Any = jnp.float64) -> Any:
    parameters = {name: mark(value) for name, value in values(kind, per_neuron).items()}
    form = {"form": "symplectic"} if kind == "symplectic adlif" else {}
    return KINDS[kind].neuron(**parameters, **dict(KINDS[kind].options), **form, param_dtype=dtype)


def synapse(kind: str, n_in: int, n_out: int, seed: int, dtype: Any = jnp.float64) -> nnx.Linear:
    layer = linear(n_in, n_out, seed, dtype)
    layer.kernel[...] *= KINDS[kind].gain
    return layer


def alone(kind: str, *, edges: tuple[Edge, ...] = (), **options: Any) -> Any:
    """One layer, whose outputs are those of the net."""
    model = connect([synapse(kind, N_IN, N, SEED), neuron(kind, **options)], edges, rngs=nnx.Rngs(1))
    for edge in model.synapses:
        edge.kernel[...] *= KINDS[kind].gain / 4
    return model


def below_a_read_out(kind: str, dtype: Any = jnp.float32, **options: Any) -> Any:
    """A layer, and leaky integrators with a fixed decay above it."""
    hidden = [synapse(kind, N_IN, N, SEED, dtype), neuron(kind, dtype=dtype, **options)]
    return connect([*hidden, linear(N, N_OUT, 1, dtype), LI(param_dtype=dtype)])


def found_by(rule: Any, model: Any, window: int | None = 3) -> Any:
    x = inputs(T, B, N_IN, dtype=model.modules[0].kernel.dtype)
    return gradients(model, cross_entropy, x, LABELS, rule=rule, window=window)[1]


def furthest(ours: Any, theirs: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(deviation, ours, theirs)))


def check_every_parameter(kind: str, gradient: Any) -> None:
    """Each parameter of each unit has a gradient, so that no comparison holds for want of one."""
    for name in KINDS[kind].parameters:
        leaf = gradient["modules"][1][name]["unconstrained"][...]
        assert leaf.shape == (N,)
        assert leaf.all(), name


# ------------------------------------------------------------------------------------------------------------------ exact


@pytest.mark.parametrize("kind", KINDS)
def test_ostl_trains_every_parameter_of_every_unit_of_one_layer_exactly(kind, x64):
    model = alone(kind)
    exact = found_by(BPTT(), model)
    check_every_parameter(kind, exact)
    assert furthest(found_by(OSTL(), model), exact) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_ostl_with_recurrence_does_so_for_one_recurrent_layer(kind, x64):
    model = alone(kind, edges=RECURRENT)
    exact = found_by(BPTT(), model)
    check_every_parameter(kind, exact)
    assert furthest(found_by(OSTL(recurrence=True), model), exact) < 1e-9
    if kind == "symplectic adlif":
        assert furthest(found_by(OSTL(), model), exact) > 1e-3


@pytest.mark.parametrize("kind", ["symplectic adlif", "brf"])
@pytest.mark.parametrize("rule", [OTPE(), EProp(), RTRL(), SnAp(n=2)], ids=lambda rule: type(rule).__name__)
def test_rules_that_are_exact_in_the_last_layer_are_so_for_the_new_neurons(rule, kind, x64):
    model = alone(kind)
    assert furthest(found_by(rule, model), found_by(BPTT(), model)) < 1e-9


@pytest.mark.parametrize("kind", ["symplectic adlif", "brf"])
def test_snap_1_leaves_out_what_passes_from_state_to_state(kind, x64):
    model = alone(kind)
    assert furthest(found_by(SnAp(n=1), model), found_by(BPTT(), model)) > 1e-3


# ----------------------------------------------------------------------------------------------------- against the oracle

# The rules in two layers with an edge; those that filter outputs need one decay, since that of the neurons is an array or none.
COMPARED = {
    "ostl": (OSTL(), oracle.ostl, {}),
    "otpe": (OTPE(output_decay=0.7), oracle.otpe, {"next_decay": lambda *_: 0.7}),
    "e_prop": (EProp(output_decay=0.7), oracle.e_prop, {"kappa": 0.7}),
    "sltt": (SLTT(), oracle.sltt, {}),
    "pp_prop": (PPProp(decay=0.8), oracle.pp_prop, {"decay": 0.8}),
}
# Those that need the same parameters in the entire layer.
COMPARED_ALIKE = {
    "ottt": (OTTT(), oracle.ottt, {}),
    "approximate_otpe": (
        ApproximateOTPE(output_decay=0.7),
        oracle.approximate_otpe,
        {"next_decay": lambda *_: 0.7},
    ),
}


def two_layers(kind: str, *, fixed: bool = False, per_neuron: bool = True) -> tuple[Any, list[oracle.Layer]]:
    """Two layers of the neuron, the first recurrent, as a stack and as the oracle's layers."""
    mark = (lambda value: value) if fixed else Trainable
    synapses = [synapse(kind, N_IN, N, 0), synapse(kind, N, N, 1)]
    recurrent = synapse(kind, N, N, 2)
    recurrent.kernel[...] /= 4
    neurons = [neuron(kind, per_neuron=per_neuron, mark=mark) for _ in synapses]
    model = connect(
        [synapses[0], neurons[0], synapses[1], neurons[1]], [Edge(1, 0, synapse=recurrent)], rngs=nnx.Rngs(0)
    )
    theirs = KINDS[kind].oracle(**values(kind, per_neuron), **dict(KINDS[kind].options))

    def layer(synapse, edges=()):
        weights = np.asarray(synapse.kernel[...]), np.asarray(synapse.bias[...])
        return oracle.Layer(*weights, theirs, edges, fixed=theirs.parameters if fixed else ())

    edge = oracle.Edge(0, 1, np.asarray(recurrent.kernel[...]), np.asarray(recurrent.bias[...]))
    return model, [layer(synapses[0], (edge,)), layer(synapses[1])]


def check_against_the_oracle(rule, theirs, options, model, layers):
    x = inputs(T, B, N_IN)
    expected = theirs(layers, np.asarray(x), SIGNAL, **options)
    history = oracle.forward(layers, np.asarray(x))
    for index in range(2):
        assert 0.05 < oracle.series(history, "output", index).mean() < 0.9
    assert worst(gradients_of(model, found_by(rule, model)), expected.gradients) < 1e-9


@pytest.mark.parametrize("kind", NEW)
@pytest.mark.parametrize("name", COMPARED)
def test_rules_give_the_gradient_of_the_oracle_for_two_layers_with_parameters_per_neuron(name, kind, x64):
    check_against_the_oracle(*COMPARED[name], *two_layers(kind, fixed=name == "pp_prop"))


@pytest.mark.parametrize("kind", ["adlif", "symplectic adlif"])
@pytest.mark.parametrize("name", COMPARED_ALIKE)
def test_traces_of_inputs_give_the_gradient_of_the_oracle_for_adlif_with_parameters_of_the_layer(name, kind, x64):
    check_against_the_oracle(*COMPARED_ALIKE[name], *two_layers(kind, per_neuron=False))


# ---------------------------------------------------------------------------------------------------------------- refused

# What those say that refuse parameters per neuron; every other rule trains them.
INPUTS_FILTERED = "filters the inputs of a layer as its neurons would, which needs"
NO_NEURON_PARAMETERS = "is not defined for parameters of a neuron"
REFUSALS = {
    "ottt": INPUTS_FILTERED,
    "approximate_otpe": INPUTS_FILTERED,
    "decolle": INPUTS_FILTERED,
    "etlp": INPUTS_FILTERED,
    "pp_prop": NO_NEURON_PARAMETERS,
    "s_tllr": NO_NEURON_PARAMETERS,
    "tess": NO_NEURON_PARAMETERS,
}
THIS_STEP_ALONE = {"sltt", "dfa", "drtp"}
# FPTT is another rule with an optimizer around it.
each_rule = pytest.mark.parametrize(
    "name", [name for name in RULES if name != "fptt" and name in (*of_each_kind(), "sltt", "etlp")]
)


def under(name: str, model: Any) -> Any:
    return found_by(RULES[name].make(rngs=nnx.Rngs(3), model=model), model)


@each_rule
def test_a_rule_trains_parameters_per_neuron_or_says_why_not_and_which_rule_does(name):
    """The traces of SLTT, which are none, give no gradient for those that act on the output of later steps alone."""
    for kind in KINDS if name in REFUSALS else ("symplectic adlif",):
        model = below_a_read_out(kind)
        if name in REFUSALS:
            with pytest.raises(TypeError, match=rf"{REFUSALS[name]}.*{KINDS[kind].neuron.__name__}.*se OSTL\(\)"):
                under(name, model)
        else:
            found = {name: leaf["unconstrained"][...] for name, leaf in under(name, model)["modules"][1].items()}
            assert set(found) == set(KINDS[kind].parameters)
            assert all(jnp.isfinite(leaf).all() for leaf in found.values())
            none = {parameter for parameter, leaf in found.items() if not leaf.any()}
            assert none == (set(found) & {"adaptation_decay", "a", "b"} if name in THIS_STEP_ALONE else set())


@each_rule
def test_a_rule_takes_a_layer_of_brf_or_says_that_it_needs_linear_neurons(name):
    """With parameters of the layer that are fixed, so that nothing else can be the reason."""
    model = below_a_read_out("brf", per_neuron=False, mark=lambda value: value)
    if REFUSALS.get(name) == INPUTS_FILTERED:
        with pytest.raises(TypeError, match=r"a neuron that is linear except for its spikes .*got BRF\. Use OSTL\(\)"):
            under(name, model)
    else:
        assert all(leaf.any() for leaf in jax.tree.leaves(under(name, model)))
