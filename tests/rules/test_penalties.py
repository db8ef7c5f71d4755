"""Losses of hidden layers: under every rule for layers the oracle's, under BPTT and RTRL the gradient of the sum itself."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from oracle.local import OSTL as OracleOSTL
from oracle.local import OTTT as OracleOTTT
from oracle.local import SLTT as OracleSLTT
from rules.ledger import LABELS, SIGNAL, B, T, lif, route_of
from slax_neurons import LI, LIF, Edge, Neuron, RunningSum, connect, unroll
from slax_neurons.kernels import KERNELS
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    OTTT,
    RTRL,
    SLTT,
    STLLR,
    TBPTT,
    ApproximateOTPE,
    Direct,
    EProp,
    FixedBases,
    Local,
    Penalty,
    PPProp,
    Random,
    Sampler,
    SequenceLoss,
    SnAp,
    Target,
    cross_entropy,
    evaluate,
    firing_rate,
    fit,
    gradients,
    sparsity,
    train_offline,
    train_online,
)
from slax_rules.penalties import Probe, Probed
from stacks import Conv, deviation, gradients_of, inputs, linear, pair, worst

TOLERANCE = 1e-11
WINDOWS = (1, 3, T)

# --------------------------------------------------------------------------------------------- functions, of both packages


def features(values: Any) -> tuple[int, ...]:
    return tuple(range(1, values.ndim))


def squares(values: Any) -> Any:
    return (values**2).sum(axis=features(values))


def waves(values: Any) -> Any:
    return jnp.sin(2 * values - 1).sum(axis=features(values))


def of_mean(mean: Any) -> Any:
    return jnp.sin(3 * mean).sum() + mean.mean() ** 2


def rate_error(mean: Any) -> Any:
    return ((mean - 0.1) ** 2).sum() / 2


DERIVATIVES = {
    squares: lambda y: ((y**2).sum(axis=1), 2 * y),
    waves: lambda y: (np.sin(2 * y - 1).sum(axis=1), 2 * np.cos(2 * y - 1)),
    of_mean: lambda m: (np.sin(3 * m).sum() + m.mean() ** 2, 3 * np.cos(3 * m) + 2 * m.mean() / len(m)),
    rate_error: lambda m: (((m - 0.1) ** 2).sum() / 2, m - 0.1),
    "l1": lambda y: (np.abs(y).sum(axis=1), np.where(y >= 0, 1.0, -1.0)),  # of a unit that is silent, too
}

OUTPUTS = [
    Penalty(squares, 0.7, layers=(0, 1)),
    firing_rate(0.1, 3.0, layers=(0,)),
    sparsity(0.2, layers=(1,)),
    Penalty(waves, 0.3, layers=(2,)),
]
MEMBRANES = [
    Penalty(waves, 0.5, of="membranes", layers=(0, 2)),
    Penalty(of_mean, 0.8, of="membranes", layers=(1,), of_mean=True),
]


def derivatives_of(penalty: Penalty) -> Any:
    function = penalty.function
    if isinstance(getattr(function, "target", None), float):
        function = rate_error
    return DERIVATIVES.get(function, DERIVATIVES["l1"])


@dataclasses.dataclass(frozen=True)
class Counted:
    """A penalty of the oracle over the steps and samples that count."""

    layer: int
    penalty: Penalty
    joins: bool
    mask: np.ndarray

    def at(self, history: Any, t: int) -> oracle.Penalty:
        weight = self.mask[t] * self.mask.size / self.mask.sum()
        function = derivatives_of(self.penalty)
        if not self.penalty.of_mean:

            def of_step(values):
                losses, slopes = function(values)
                return self.penalty.weight * weight * losses, self.penalty.weight * weight[:, None] * slopes

            return oracle.Penalty(self.layer, of_step, self.penalty.of, self.joins)
        field = "output" if self.penalty.of == "outputs" else "membrane"
        value, slope = function(oracle.series(history, field, layer=self.layer)[self.mask].mean(axis=0))

        def of_whole(values):
            return np.full(len(values), self.penalty.weight * value), self.penalty.weight * weight[:, None] * slope

        return oracle.Penalty(self.layer, of_whole, self.penalty.of, self.joins)


def theirs(penalties: list[Penalty], *, joins: bool = False, mask: Any = None, spiking: Any = (0, 1)) -> list[Counted]:
    mask = np.ones((T, B), bool) if mask is None else mask
    return [
        Counted(layer, one, joins, mask)
        for one in penalties
        for layer in (spiking if one.layers is None else one.layers)
    ]


# -------------------------------------------------------------------------------------------------------- rules for layers


def s_tllr(layers: Any, x: Any, signal: Any, **running: Any) -> oracle.Result:
    from oracle.local import STLLR as OracleSTLLR

    rules = [OracleSTLLR(0.7, 0.3, 1.1, -0.4, bias_trace=False) for _ in layers[:-1]]
    return oracle.run(oracle.PerLayer([*rules, OracleOTTT(bias_trace=False)]), layers, x, signal, **running)


RULES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sltt": (SLTT(), oracle.sltt, {}),
    "ostl": (OSTL(), oracle.ostl, {}),
    "ostl_with_recurrence": (OSTL(recurrence=True), oracle.ostl, {"with_h": True}),
    "ottt": (OTTT(), oracle.ottt, {}),
    "ottt_without_bias_trace": (OTTT(bias_trace=False), oracle.ottt, {"bias_trace": False}),
    "otpe": (OTPE(), oracle.otpe, {}),
    "approximate_otpe": (ApproximateOTPE(), oracle.approximate_otpe, {}),
    "e_prop": (EProp(), oracle.e_prop, {}),
    "pp_prop": (PPProp(decay=0.8), oracle.pp_prop, {"decay": 0.8}),
    "s_tllr": (STLLR(0.7, 0.3, 1.1, -0.4), s_tllr, {}),
}
FIXED = {"pp_prop", "s_tllr"}
EDGES = {"recurrent": [(0, 0, 1), (1, 1, 2)], "edges": [(0, 0, 1), (1, 0, 1), (2, 0, 2), (0, 2, 0), (0, 1, 3)]}


def network(name: str = "edges", *, fixed: bool = False) -> Any:
    neurons = [lif(), lif(decay=0.6, reset="zero"), {"kind": "li", "decay": 0.7}]
    sizes = [7, 6, 5, 4]
    if name == "conv":
        sizes = [(4, 4, 2), Conv(3, (3, 3)), Conv(3, (2, 2), strides=(2, 2), padding="VALID"), 4]
    return pair(sizes, [neuron | {"fixed": fixed} for neuron in neurons], edges=EDGES.get(name, []))


def ours(model: Any, rule: Any, x: Any, window: Any, penalties: Any, loss: Any = cross_entropy, **options: Any):
    loss, found = gradients(model, loss, x, LABELS, rule=rule, window=window, penalties=penalties, **options)
    return float(loss), gradients_of(model, found)


def compare(name: str, penalties: list[Penalty], window: int, net: str = "edges", mask: Any = None) -> None:
    net = "recurrent" if name == "ostl_with_recurrence" and net == "edges" else net
    rule, of_oracle, options = RULES[name]
    model, layers = network(net, fixed=name in FIXED)
    x = inputs(T, B, (4, 4, 2) if net == "conv" else 7)
    given = {} if mask is None else {"mask": jnp.asarray(mask)}
    loss, found = ours(model, rule, x, window, penalties, **given)
    signal = SIGNAL if mask is None else masked(SIGNAL, mask)
    expected = of_oracle(layers, x, signal, **options, penalties=theirs(penalties, joins=name == "s_tllr", mask=mask))
    assert worst(found, expected.gradients) < TOLERANCE
    assert abs(loss - (expected.loss + expected.penalty)) < TOLERANCE * abs(loss)
    plain = of_oracle(layers, x, signal, **options)
    for index in range(3):
        changed = deviation(expected.gradients[index]["kernel"], plain.gradients[index]["kernel"])
        assert changed > 0.02, index


def masked(signal: Any, mask: Any) -> Any:
    weights = mask * mask.size / mask.sum()

    def of_step(t: int, outputs: Any) -> Any:
        losses, slopes = signal(t, outputs)
        return weights[t] * losses, weights[t][:, None] * slopes

    return of_step


@pytest.mark.parametrize("name", RULES)
def test_penalties_under_every_rule_for_layers_are_the_oracle_s(name, x64):
    """Of each step and of the mean, of outputs and membranes, of all layers, in a net with edges and in windows.

    S-TLLR has no trace of a membrane: its refusal is a test below.
    """
    compare(name, OUTPUTS if name == "s_tllr" else [*OUTPUTS, *MEMBRANES], 3)


@pytest.mark.parametrize("window", WINDOWS)
def test_penalties_do_not_depend_on_the_window(window, x64):
    """Those of a mean over the whole sequence included: it is found in a first pass."""
    compare("otpe", [*OUTPUTS, *MEMBRANES], window)


MASK = np.random.default_rng(4).uniform(size=(T, B)) < 0.6


@pytest.mark.parametrize(("name", "window"), [("ostl", 4), ("approximate_otpe", 1), ("ottt", T)])
def test_penalties_are_of_the_steps_and_samples_that_count(name, window, x64):
    """In their losses, in their means, and in their gradients; a window in which nothing counts is among them."""
    mask = MASK.copy()
    mask[4:8] = False
    compare(name, [*OUTPUTS, *MEMBRANES], window, mask=mask)


@pytest.mark.parametrize("name", ["ottt", "e_prop"])
def test_penalties_of_convolutions(name, x64):
    compare(name, [*OUTPUTS, *MEMBRANES], 4, net="conv")


def test_layers_are_the_spiking_ones_by_default(x64):
    model, layers = network()
    x = inputs(T, B, 7)
    penalties = [Penalty(squares, 0.7), firing_rate(0.1, 2.0), sparsity(0.3)]
    loss, found = ours(model, OSTL(), x, 3, penalties)
    expected = oracle.ostl(layers, x, SIGNAL, penalties=theirs(penalties))
    assert worst(found, expected.gradients) < TOLERANCE
    assert abs(loss - expected.loss - expected.penalty) < TOLERANCE
    named = [dataclasses.replace(one, layers=(0, 1)) for one in penalties]
    assert worst(found, ours(model, OSTL(), x, 3, named)[1]) == 0


@pytest.mark.parametrize(
    ("name", "kind"), [("ostl", Direct), ("otpe", Local), ("ottt", Target), ("approximate_otpe", FixedBases)]
)
def test_penalties_stay_in_their_layer_along_routes_that_skip_layers(name, kind, x64):
    """A hidden layer's penalty passes to no layer below, as it does otherwise; the last layer's is part of the error."""
    rule, of_oracle, options = RULES[name]
    route = kind() if kind is FixedBases else kind(rngs=nnx.Rngs(6))
    model, layers = network()
    x, penalties = inputs(T, B, 7), [*OUTPUTS, *MEMBRANES]
    made = dataclasses.replace(rule, route=route)
    found = ours(model, made, x, T, penalties)[1]
    run = functools.partial(of_oracle, layers, x, SIGNAL, **options, route=route_of(made, model, layers, x))
    assert worst(found, run(penalties=theirs(penalties)).gradients) < TOLERANCE
    # The oracle has this law: a penalty of the second layer is none of the first.
    alone, plain = run(penalties=theirs([Penalty(squares, 9.0, layers=(1,))])).gradients, run().gradients
    assert worst(alone[:1], plain[:1]) < 1e-12
    assert deviation(alone[1]["kernel"], plain[1]["kernel"]) > 0.1


def test_penalties_pass_below_through_the_matrices_of_random_feedback(x64):
    model, layers = network()
    x, penalties = inputs(T, B, 7), [*OUTPUTS, *MEMBRANES]
    made = OSTL(route=Random(rngs=nnx.Rngs(6)))
    run = functools.partial(oracle.ostl, layers, x, SIGNAL, route=route_of(made, model, layers, x))
    assert worst(ours(model, made, x, T, penalties)[1], run(penalties=theirs(penalties)).gradients) < TOLERANCE
    alone, plain = run(penalties=theirs([Penalty(squares, 9.0, layers=(1,))])).gradients, run().gradients
    assert deviation(alone[0]["kernel"], plain[0]["kernel"]) > 0.1


def test_each_layer_weighs_its_penalties_with_its_own_rule(x64):
    model, layers = network("recurrent")
    x = inputs(T, B, 7)
    penalties = [*OUTPUTS, *MEMBRANES]
    found = ours(model, [OTTT(), SLTT(), OSTL()], x, 3, penalties)[1]
    whole = oracle.PerLayer([OracleOTTT(), OracleSLTT(), OracleOSTL()])
    expected = oracle.run(whole, layers, x, SIGNAL, penalties=theirs(penalties))
    assert worst(found, expected.gradients) < TOLERANCE


def test_loss_of_a_sequence_and_penalties_add_up(x64):
    whole = SequenceLoss(lambda y, labels: jax.vmap(cross_entropy, (0, None))(y, labels).mean(axis=0))
    model, layers = network()
    x, penalties = inputs(T, B, 7), [*OUTPUTS, *MEMBRANES]
    loss, found = ours(model, OSTL(), x, 4, penalties, whole)
    expected = oracle.ostl(layers, x, SIGNAL, penalties=theirs(penalties))
    assert worst(found, expected.gradients) < TOLERANCE
    assert abs(loss - expected.loss - expected.penalty) < TOLERANCE


# --------------------------------------------------------------------------------------------------------- online training


@pytest.mark.parametrize("window", [1, 3])
def test_online_updates_take_the_mean_since_the_start(window, x64):
    """Gradient descent by hand with the oracle: penalties of the window, and those of a mean with the mean up to it."""
    rate, penalties = 0.3, [OUTPUTS[0], OUTPUTS[1], *MEMBRANES]
    model, layers = network("recurrent", fixed=True)
    x = inputs(T, B, 7)
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
    loss = train_online(model, optimizer, cross_entropy, x, LABELS, rule=OSTL(), window=window, penalties=penalties)
    rule = OracleOSTL()
    carry, losses, past = oracle.start(rule, layers, B), [], []
    for start in range(0, T, window):
        here = oracle.forward(layers, x[start : start + window], carry.states, carry.past)
        past += here
        total = [{name: 0.0 for name in layer.parameters()} for layer in layers]
        for t in range(window):
            now = [one.at(past, start + t) for one in up_to(penalties, start + window)]
            carry, _, value, found = oracle.advance(
                rule, layers, carry, np.asarray(x[start + t]), lambda y, t=t: SIGNAL(t, y), now
            )
            values = oracle.penalties.own_losses(here[t], now)[0]
            losses.append(value + values)
            for sums, step in zip(total, found, strict=True):
                sums |= {name: sums[name] + step[name] / window for name in sums}
        layers = [moved(layer, gradient, rate) for layer, gradient in zip(layers, total, strict=True)]
    assert abs(float(loss) - np.mean(losses)) < 1e-10
    for index, layer in enumerate(layers):
        assert deviation(model.modules[2 * index].kernel[...], layer.kernel) < 1e-10
        assert deviation(model.modules[2 * index].bias[...], layer.bias) < 1e-10


def up_to(penalties: list[Penalty], steps: int) -> list[Counted]:
    return theirs(penalties, mask=np.ones((steps, B), bool))


def moved(layer: oracle.Layer, gradient: dict[str, np.ndarray], rate: float) -> oracle.Layer:
    edges = tuple(
        dataclasses.replace(
            edge,
            kernel=edge.kernel - rate * gradient[f"edge{number}_kernel"],
            bias=edge.bias - rate * gradient[f"edge{number}_bias"],
        )
        for number, edge in enumerate(layer.edges)
    )
    return dataclasses.replace(
        layer, kernel=layer.kernel - rate * gradient["kernel"], bias=layer.bias - rate * gradient["bias"], edges=edges
    )


def test_offline_step_is_one_of_the_gradient(x64):
    model, layers = network("recurrent", fixed=True)
    x, penalties = inputs(T, B, 7), [*OUTPUTS, *MEMBRANES]
    optimizer = nnx.Optimizer(model, optax.sgd(0.3), wrt=nnx.Param)
    loss = train_offline(model, optimizer, cross_entropy, x, LABELS, rule=OTTT(), window=3, penalties=penalties)
    expected = oracle.ottt(layers, x, SIGNAL, penalties=theirs(penalties))
    assert abs(float(loss) - expected.loss - expected.penalty) < TOLERANCE
    for index, layer in enumerate(layers):
        new = layer.kernel - 0.3 * expected.gradients[index]["kernel"]
        assert deviation(model.modules[2 * index].kernel[...], new) < 1e-12


def test_fit_trains_with_penalties_and_evaluates_without(x64):
    def batch(key):
        return inputs(T, B, 7), jnp.asarray(LABELS)

    model, layers = network("recurrent", fixed=True)
    penalties = [firing_rate(0.1, 3.0), MEMBRANES[0]]
    optimizer = nnx.Optimizer(model, optax.sgd(0.0), wrt=nnx.Param)
    sampler = Sampler(batch, jax.random.key(0), steps=1)
    history = fit(model, optimizer, cross_entropy, sampler, rule=OSTL(), penalties=penalties)
    expected = oracle.ostl(layers, inputs(T, B, 7), SIGNAL, penalties=theirs(penalties))
    assert abs(history.losses[0] - expected.loss - expected.penalty) < 1e-6
    held_out = evaluate(model, cross_entropy, [(inputs(T, B, 7), jnp.asarray(LABELS))])
    assert abs(held_out["loss"] - expected.loss) < 1e-6


# ------------------------------------------------------------------------------------------------------------- exact rules


class Smooth(Neuron):
    """A LIF with a sigmoid for spikes, so that its loss has a gradient."""

    linear = True

    def __init__(self, decay: float):
        super().__init__(param_dtype=jnp.float64)
        self.decay = decay

    @property
    def membrane_decay(self) -> float:
        return self.decay

    def integrate(self, carry, inputs):
        return self.decay * carry + inputs

    def fire(self, membrane):
        spikes = jax.nn.sigmoid(4 * (membrane - 1))
        return membrane - spikes, spikes


def smooth_net(edges: bool = True) -> Any:
    back = linear(3, 3, 8)
    modules = [linear(2, 3, 0), Smooth(0.8), linear(3, 3, 1), Smooth(0.6), linear(3, 3, 2), LI(param_dtype=jnp.float64)]
    return connect(modules, [Edge(3, 0, 2, back)] if edges else [])


ALL_KINDS = [
    Penalty(squares, 0.7, layers=(0, 2)),
    Penalty(rate_error, 3.0, layers=(0, 1), of_mean=True),
    Penalty(waves, 0.5, of="membranes", layers=(0, 1)),
    Penalty(of_mean, 0.8, of="membranes", layers=(1, 2), of_mean=True),
]


def of_small(model: Any, rule: Any, penalties: Any = ALL_KINDS, window: Any = None, **options: Any) -> Any:
    labels = jnp.array([0, 2])
    return gradients(
        model, cross_entropy, inputs(6, 2, 2), labels, rule=rule, window=window, penalties=penalties, **options
    )


def difference_quotients(model: Any, **options: Any) -> list[np.ndarray]:
    """Of the loss with its penalties, by every parameter, to the fourth order."""
    leaves, structure = jax.tree.flatten(nnx.state(model, nnx.Param))
    found = []
    for number, leaf in enumerate(leaves):
        quotient = np.zeros(leaf.shape)
        for place in np.ndindex(leaf.shape):
            at = {}
            for n in (-2, -1, 1, 2):
                shifted = leaf.at[place].add(n * 1e-3)
                nnx.update(model, jax.tree.unflatten(structure, [*leaves[:number], shifted, *leaves[number + 1 :]]))
                at[n] = float(of_small(model, BPTT(), **options)[0])
            quotient[place] = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12e-3)
        found.append(quotient)
    nnx.update(model, jax.tree.unflatten(structure, leaves))
    return found


@pytest.mark.parametrize("mask", [None, np.array([[1, 0], [0, 0], [1, 1], [0, 1], [1, 1], [0, 1]], bool)])
def test_bptt_and_rtrl_have_the_gradient_of_loss_and_penalties(mask, x64):
    """By central differences of the loss that is handed out, with and without a mask, in windows."""
    model, options = smooth_net(), {} if mask is None else {"mask": jnp.asarray(mask)}
    _, exact = of_small(model, BPTT(), **options)
    for ours, quotient in zip(jax.tree.leaves(exact), difference_quotients(model, **options), strict=True):
        np.testing.assert_allclose(ours, quotient, rtol=1e-7, atol=1e-9)
    for window in (1, 4):
        loss, forward = of_small(model, RTRL(), window=window, **options)
        assert abs(float(loss) - float(of_small(model, BPTT(), **options)[0])) < 1e-12
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), forward, exact)


@pytest.mark.parametrize("penalty", [firing_rate(0.3, 2.0), sparsity(0.4)], ids=["firing_rate", "sparsity"])
@pytest.mark.parametrize(("rule", "window"), [(BPTT(), None), (OSTL(), 4)], ids=["bptt", "ostl"])
def test_rates_of_penalties_do_not_see_padding_under_a_mask(rule, window, penalty, x64):
    """Loss, gradient and online training are those of the recording alone; without a mask, silence lowers its rates."""
    x, labels = inputs(T, 1, 7) + 1, jnp.array([2])
    padded = jnp.concatenate([x, jnp.full((5, 1, 7), 3.0)])
    mask = jnp.arange(T + 5)[:, None] < T

    def net():
        neurons = [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}]
        return pair([7, 6, 4], neurons).model

    def trained(*batch):
        model = net()
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        loss = train_online(model, optimizer, cross_entropy, *batch, rule=rule, window=T, penalties=[penalty])
        return loss, nnx.state(model, nnx.Param)

    options = {"rule": rule, "window": window, "penalties": [penalty]}
    alone = gradients(net(), cross_entropy, x, labels, **options)
    same(gradients(net(), cross_entropy, padded, labels, mask, **options), alone)
    assert abs(float(alone[0]) - float(gradients(net(), cross_entropy, padded, labels, **options)[0])) > 1e-3
    same(trained(padded, labels, mask), trained(x, labels))


def test_rules_that_truncate_are_exact_where_they_reach(x64):
    """BPTT truncated after the whole sequence, and SnAp of as many steps as it takes; after less, they are not."""
    model = smooth_net()
    exact = of_small(model, BPTT())[1]
    for rule in (TBPTT(6), SnAp(6)):
        found = of_small(model, rule)[1]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found, exact)
    assert (
        deviation(of_small(model, TBPTT(1))[1]["modules"][0]["kernel"][...], exact["modules"][0]["kernel"][...]) > 0.01
    )


def same(ours: Any, theirs: Any) -> None:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    assert max(deviation(a, b) for a, b in pairs) < 1e-9


ONE_LAYER = [
    Penalty(squares, 0.7, layers=(0,)),
    Penalty(waves, 0.5, of="membranes", layers=(0,)),
    firing_rate(0.1, 3.0, layers=(0,)),
    Penalty(of_mean, 0.8, of="membranes", layers=(0,), of_mean=True),
]


@pytest.mark.parametrize(("rule", "detached"), [(OSTL(), False), (OTTT(), True)], ids=["ostl", "ottt"])
def test_rules_that_are_exact_in_one_layer_are_so_with_penalties(rule, detached, x64):
    model, _ = pair([7, 4], [lif(stop_reset_gradient=detached)])
    x = inputs(T, B, 7)
    exact = gradients(model, cross_entropy, x, LABELS, penalties=ONE_LAYER)
    found = gradients(model, cross_entropy, x, LABELS, rule=rule, window=4, penalties=ONE_LAYER)
    same(found, exact)


def test_ostl_with_recurrence_is_exact_in_a_recurrent_layer_with_penalties(x64):
    model, _ = pair([7, 4], [lif()], edges=[(0, 0, 1)])
    x = inputs(T, B, 7)
    exact = gradients(model, cross_entropy, x, LABELS, penalties=ONE_LAYER)
    same(gradients(model, cross_entropy, x, LABELS, rule=OSTL(recurrence=True), window=4, penalties=ONE_LAYER), exact)


@pytest.mark.parametrize("rule", [OTPE(), EProp()], ids=["otpe", "e_prop"])
def test_rules_that_are_exact_below_an_integrating_read_out_are_so_with_penalties(rule, x64):
    """The sum over time is for what the read-out integrates; a penalty of the layer itself is not summed."""
    model, _ = pair([7, 6, 4], [lif(), {"kind": "li", "decay": 0.7}])
    x = inputs(T, B, 7)
    penalties = [*ONE_LAYER, Penalty(waves, 0.3, layers=(1,)), Penalty(of_mean, 0.4, layers=(1,), of_mean=True)]
    exact = gradients(model, cross_entropy, x, LABELS, penalties=penalties)
    same(gradients(model, cross_entropy, x, LABELS, rule=rule, window=4, penalties=penalties), exact)


def test_loss_under_bptt_is_that_of_the_outputs_and_the_penalties(x64):
    model, layers = network()
    x, penalties = inputs(T, B, 7), [*OUTPUTS, *MEMBRANES]
    expected = oracle.bptt(layers, x, SIGNAL, penalties=theirs(penalties))
    loss, found = ours(model, BPTT(), x, None, penalties)
    assert abs(loss - expected.loss - expected.penalty) < TOLERANCE
    assert worst(found, expected.gradients) < TOLERANCE


# ------------------------------------------------------------------------------------------------------------------ stacks


@pytest.mark.parametrize("rule", [BPTT(), OSTL(), OTTT(), RTRL()], ids=lambda rule: type(rule).__name__)
def test_layers_of_nested_stacks_count_as_if_they_were_in_the_outer(rule, x64):
    def parts():
        options = {"param_dtype": jnp.float64}
        return [
            linear(7, 6, 0),
            LIF(decay=0.8, threshold=0.7, **options),
            linear(6, 5, 1),
            LIF(decay=0.6, threshold=0.7, **options),
            linear(5, 4, 2),
            LI(decay=0.7, **options),
        ]

    one = parts()
    nested = connect([one[0], one[1], connect([connect(one[2:4]), one[4]]), one[5]])
    x, penalties = inputs(T, B, 7), [*OUTPUTS, *MEMBRANES]
    loss, flat = gradients(connect(parts()), cross_entropy, x, LABELS, rule=rule, window=None, penalties=penalties)
    other, found = gradients(nested, cross_entropy, x, LABELS, rule=rule, window=None, penalties=penalties)
    assert abs(float(loss) - float(other)) < 1e-12
    same(found["modules"][2]["modules"][0]["modules"][0]["kernel"][...], flat["modules"][2]["kernel"][...])
    same(found["modules"][0]["kernel"][...], flat["modules"][0]["kernel"][...])


class Rows(nnx.Module):
    """A module that counts the rows of a sequence."""

    accumulates = True

    def __init__(self):
        self.rows, self.counted = RunningSum(jnp.zeros(())), nnx.Variable(jnp.zeros(()))

    def __call__(self, x):
        self.rows[...] += x.shape[0]
        return x

    def end_sequence(self):
        self.counted[...] = self.rows[...]
        self.rows[...] = jnp.zeros(())


@pytest.mark.parametrize("rule", [BPTT(), TBPTT(3), OSTL()], ids=lambda rule: type(rule).__name__)
def test_a_nested_stack_that_a_penalty_reads_counts_its_rows_once(rule, x64):
    rows = Rows()
    model = connect([connect([rows, linear(7, 4, 0), LIF(param_dtype=jnp.float64)]), LI(param_dtype=jnp.float64)])
    gradients(model, cross_entropy, inputs(T, B, 7), LABELS, rule=rule, penalties=[firing_rate(0.1)])
    assert float(rows.counted[...]) == T * B


@pytest.mark.parametrize("quantity", ["outputs", "membranes"])
def test_a_penalty_leaves_the_choice_of_the_kernel(quantity):
    model, x = connect([LIF(), LI()]), inputs(T, B, 4, dtype=jnp.float32)
    probed = Probed(model, (Probe(0, quantity),))
    carry = probed.initialize_carry(x.shape[1:])
    program = {
        kernel: str(jax.make_jaxpr(functools.partial(unroll, probed, carry, kernel=kernel))(x)) for kernel in KERNELS
    }
    assert program["fused"].count("pallas_call") == 2 + (quantity == "membranes")
    assert "pallas_call" not in program["scan"]
    assert program["plain"] != program["scan"]


# ---------------------------------------------------------------------------------------------------------- several devices

PROGRAM = Path(__file__).with_name("penalties_on_devices.py")


def test_several_devices_give_the_numbers_of_one():
    """Of a batch with a mask, in windows, and of online training; in a process of its own, with four virtual devices."""
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    program = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True)
    assert program.returncode == 0, program.stderr
    found = json.loads(program.stdout)
    assert set(found) == {"BPTT", "OSTL", "online"}
    assert {name: value for name, value in found.items() if not value < 1e-12} == {}


# ---------------------------------------------------------------------------------------------------------------- refusals


def far(values: Any) -> Any:
    return jnp.sum(values**2)


class Whole(LIF):
    """A LIF in one piece."""

    def __call__(self, carry, inputs):
        return self.fire(self.integrate(carry, inputs))


REFUSALS = [
    ([Penalty(squares, layers=(2,))], OSTL(), ValueError, r"layer 2 of a model with 2 layers .* from 0 to 1"),
    ([Penalty(squares, layers=(-1,))], BPTT(), ValueError, "penalty for layer -1"),
    (
        [Penalty(far)],
        OSTL(),
        ValueError,
        r"made \[\] of the outputs \[3, 6\] of one step, expected one loss per sample",
    ),
    ([Penalty(lambda mean: mean, of_mean=True)], OSTL(), ValueError, r"made \[6\] of the mean .*, expected one number"),
    ([Penalty(waves, of="membranes")], STLLR(), TypeError, r"STLLR got a penalty of the membranes of layer 0"),
]


@pytest.mark.parametrize(("penalties", "rule", "error", "match"), REFUSALS)
def test_refusals_say_what_came_and_what_to_do(penalties, rule, error, match, x64):
    model, _ = pair([7, 6, 4], [lif(fixed=True), {"kind": "li", "fixed": True}])
    with pytest.raises(error, match=match):
        gradients(model, cross_entropy, inputs(T, B, 7), LABELS, rule=rule, penalties=penalties)


@pytest.mark.parametrize("rule", [BPTT(), OSTL()], ids=["bptt", "ostl"])
def test_a_neuron_in_one_piece_has_no_membrane_for_a_penalty(rule, x64):
    hidden = Whole(param_dtype=jnp.float64)
    model = connect([linear(7, 6, 0), hidden, linear(6, 4, 1), LI(param_dtype=jnp.float64)])
    x = inputs(T, B, 7)
    with pytest.raises(TypeError, match=r"membranes of a Whole, which does not define .* of=\"outputs\""):
        gradients(model, cross_entropy, x, LABELS, rule=rule, penalties=[Penalty(waves, of="membranes")])
    assert jnp.isfinite(gradients(model, cross_entropy, x, LABELS, rule=rule, penalties=[Penalty(waves)])[0])


def test_penalties_need_layers_of_neurons(x64):
    read_out = connect([linear(7, 4, 0), LI(param_dtype=jnp.float64)])
    x = inputs(T, B, 7)
    with pytest.raises(TypeError, match=r"without layers of spiking neurons.*layers=\(0,\)"):
        gradients(read_out, cross_entropy, x, LABELS, penalties=[firing_rate(0.1)])
    assert gradients(read_out, cross_entropy, x, LABELS, penalties=[Penalty(squares, layers=(0,))])[0] > 0
    cell = nnx.GRUCell(7, 4, rngs=nnx.Rngs(0), param_dtype=jnp.float64, dtype=jnp.float64)
    with pytest.raises(TypeError, match="GRUCell without layers of neurons, expected a stack"):
        gradients(cell, cross_entropy, x, LABELS, penalties=[firing_rate(0.1)])


def test_options_of_penalties_are_checked():
    with pytest.raises(ValueError, match=r"target=1.5, expected spikes per step, a number in \[0, 1\]"):
        firing_rate(1.5)
