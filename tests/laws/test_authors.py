"""Gradients of the code of OTPE's authors, and of slax 0.0.1, against those of the oracle.

`git show a72f03d4:tests/references/otpe/record.py` ran their code. test_laws.py compares the packages with the oracle.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

import oracle
from oracle.traces import eligibilities
from stacks import deviation, worst

FOLDER = Path(__file__).parent.parent / "references" / "otpe"
EXACT = 1e-12
RULES = {
    "ostl": oracle.OSTL(),
    "ottt": oracle.OTTT(bias_trace=False),
    "otpe": oracle.OTPE(),
    "approximate_otpe": oracle.ApproximateOTPE(bias_trace=False),
}
FRONT = ("otpe_front", "approximate_otpe_front")


@cache
def recorded(file, case):
    """The arrays of a case, by name."""
    with np.load(FOLDER / f"{file}.npz") as arrays:
        return {name.removeprefix(f"{case}/"): arrays[name] for name in arrays if name.startswith(f"{case}/")}


def leaves(case, prefix="", factor=1.0):
    """Kernel and bias of each layer, or what a rule gave for them, times a factor."""
    depth = range(len(case["decay"]))
    return [{name: factor * case[f"{prefix}{name}_{index}"] for name in ("kernel", "bias")} for index in depth]


def rule_of(name):
    """Their `_front` is an output layer under OTPE whose spikes the loss reads as a leaky sum: a read-out above it."""
    return RULES[name.removesuffix("_front")], name in FRONT


def layers_of(case, read_out=False):
    """The oracle's layers; the read-out is a leaky sum of the spikes of the last one, with its decay."""
    spike = oracle.fast_sigmoid(float(case["slope"]))
    neurons = [oracle.LIF(float(decay), 1.0, spike, "subtract", stop_reset_gradient=False) for decay in case["decay"]]
    pairs = zip(leaves(case), neurons, strict=True)
    layers = [oracle.Layer(**weights, neuron=neuron, fixed=neuron.parameters) for weights, neuron in pairs]
    if read_out:
        neuron = oracle.LI(float(case["decay"][-1]))
        layers.append(oracle.Layer(np.eye(layers[-1].size), None, neuron, fixed=neuron.parameters))
    return layers


def by_oracle(rule, case, read_out=False):
    """The loss, and the gradients of all layers but the read-out."""
    rule = rule if callable(rule) else partial(oracle.run, rule)
    result = rule(layers_of(case, read_out), case["inputs"], oracle.softmax_cross_entropy(case["labels"]))
    return result.loss, result.gradients[: len(case["decay"])]


def deviations(found, expected):
    """Of the kernels, and of the biases, by layer."""
    pairs = list(zip(found, expected, strict=True))
    return ([deviation(a[name], b[name]) for a, b in pairs] for name in ("kernel", "bias"))


def cosines(found, exact):
    """Of the kernels, by layer."""
    pairs = [(a["kernel"].ravel(), b["kernel"].ravel()) for a, b in zip(found, exact, strict=True)]
    return np.array([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs])


# ------------------------------------------------------------------------------------------------------------- the authors


@pytest.mark.parametrize("case", ["slow", "fast"])
@pytest.mark.parametrize("name", ["bptt", *RULES, *FRONT])
def test_oracle_has_the_gradient_of_the_authors(name, case):
    case = recorded("authors", case)
    rule, read_out = (oracle.bptt, False) if name == "bptt" else rule_of(name)
    loss, found = by_oracle(rule, case, read_out)
    assert abs(loss - case[f"{name}/loss"]) < EXACT
    assert worst(found, leaves(case, f"{name}/")) < EXACT


# ------------------------------------------------------------------------------------- where their definitions are others


@pytest.mark.parametrize("name", ["otpe", "approximate_otpe"])
def test_sums_of_the_authors_decay_as_the_layer(name):
    """If the decays differ. The sum of ours is that of the membrane that receives the spikes, and closer to BPTT."""
    case = recorded("authors", "unequal")
    assert worst(by_oracle(RULES["ottt"], case)[1], leaves(case, "ottt/")) < EXACT  # whose traces decay as the layer
    theirs, rule = leaves(case, f"{name}/"), RULES[name]
    own = type(rule)(next_decay=lambda layer, _: layer.neuron.decay, **{} if name == "otpe" else {"bias_trace": False})
    assert worst(by_oracle(own, case)[1], theirs) < EXACT
    _, found = by_oracle(rule, case)
    kernels, _ = deviations(found, theirs)
    assert min(kernels[:-1]) > 0.5 and kernels[-1] < EXACT
    exact = by_oracle(oracle.bptt, case)[1]
    gain = cosines(found, exact) - cosines(theirs, exact)
    assert gain[0] > 0.05 and gain[1] > 0.002


# ---------------------------------------------------------------------------------------------------------------- slax 0.0.1


@pytest.mark.parametrize(
    ("name", "rule"), [("bptt", oracle.bptt), ("rtrl", oracle.bptt), ("ostl", RULES["ostl"]), ("ottt", RULES["ottt"])]
)
def test_slax_001_has_our_gradient_times_t_over_b(name, rule):
    """It divides the sum over the steps by the size of the batch; `train_offline` has the mean. No trace for biases in OTTT."""
    case = recorded("slax", "three_layers")
    steps, batch = case["inputs"].shape[:2]
    loss, found = by_oracle(rule, case)
    assert abs(loss - case[f"{name}/loss"]) < EXACT
    assert worst(found, leaves(case, f"{name}/", 1.0 if name == "bptt" else batch / steps)) < EXACT


class Slax001OTPE(oracle.OTPE):
    """With one or both of the defects of slax 0.0.1: traces that take each step twice, and psi in signals beside its mean."""

    def __init__(self, *, twice, psi):
        super().__init__()
        self.twice, self.psi = twice, psi

    def layer_step(self, layer, trace, step, above):
        if self.twice and above is not None:
            trace = (eligibilities(layer, trace[0], step)[1], *trace[1:])
        trace, credit = super().layer_step(layer, trace, step, above)
        if self.psi and above is not None:
            credit = credit._replace(factor=credit.factor * step.psi)
        return trace, credit


def test_otpe_of_slax_001_has_two_defects_and_no_other():
    case = recorded("slax", "three_layers")
    steps, batch = case["inputs"].shape[:2]
    theirs = leaves(case, "otpe/", batch / steps)
    assert worst(by_oracle(Slax001OTPE(twice=True, psi=True), case)[1], theirs) < EXACT
    for twice, psi in ((True, False), (False, True), (False, False)):
        assert worst(by_oracle(Slax001OTPE(twice=twice, psi=psi), case)[1], theirs) > 0.1
    exact, (_, ours) = by_oracle(oracle.bptt, case)[1], by_oracle(RULES["otpe"], case)
    np.testing.assert_allclose(cosines(ours, exact), [0.936, 0.999, 1.0], atol=6e-4)
    np.testing.assert_allclose(cosines(theirs, exact), [0.748, 0.991, 1.0], atol=6e-4)
