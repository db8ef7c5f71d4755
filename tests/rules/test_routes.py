"""What routes send, against the oracle: errors, targets, losses of sequences, several outputs, and what a user's route sends.

Each rule with each route is in tests/contract/test_every_cell_of_the_grid.py."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from oracle.local import OSTL, OTTT, STLLR
from rules.ledger import LABELS, SIGNAL, B, T, layers_of, lif
from slax_rules import OSTL as OurOSTL
from slax_rules import OTPE as OurOTPE
from slax_rules import OTTT as OurOTTT
from slax_rules import STLLR as OurSTLLR
from slax_rules import (
    Direct,
    Local,
    PerStep,
    SequenceLoss,
    Target,
    Teaching,
    cross_entropy,
    gradients,
    squared_error,
)
from stacks import deviation, gradients_of, inputs, linear, pair, worst

TOLERANCE = 1e-11
TARGETS = np.eye(4)[LABELS]


def s_tllr(layers: Any, x: Any, signal: Any, *, route: Any = None) -> oracle.Result:
    """The last layer does not fire, and has OTTT."""
    rules = [STLLR(0.7, 0.3, 1.1, -0.4, bias_trace=False) for _ in layers[:-1]]
    return oracle.run(oracle.PerLayer([*rules, OTTT(bias_trace=False)], route=route), layers, x, signal)


ROUTES = {
    "direct": lambda: Direct(rngs=nnx.Rngs(6)),
    "target": lambda: Target(rngs=nnx.Rngs(7)),
    "local": lambda: Local(rngs=nnx.Rngs(8)),
}
EDGES = {"edges": [(0, 0, 1), (1, 0, 1), (2, 0, 2), (0, 2, 0), (0, 1, 3)]}


def network(name: str, *, fixed: bool = False) -> Any:
    neurons = [lif(), lif(decay=0.6, reset="zero"), {"kind": "li", "decay": 0.7}]
    return pair([7, 6, 5, 4], [neuron | {"fixed": fixed} for neuron in neurons], edges=EDGES.get(name, []))


def matrices(route: Any, model: Any, layers: Any, size: int = 4) -> list[np.ndarray]:
    """Those of the hidden layers, [N, C] each."""
    pairs = zip(layers_of(model)[:-1], layers, strict=False)
    return [np.asarray(route.matrix(ours, theirs.size, size, jnp.float64)) for ours, theirs in pairs]


def oracle_route(name: str, rule: Any, model: Any, layers: Any, targets: Any = TARGETS) -> Any:
    found = matrices(rule.route, model, layers)
    kinds = {"direct": oracle.Direct, "local": oracle.Local}
    return oracle.Target(found, targets) if name == "target" else kinds[name](found)


def ours(
    model: Any, rule: Any, x: Any, window: int | None = 3, loss: Any = cross_entropy, labels: Any = LABELS, **options
):
    loss, found = gradients(model, loss, x, labels, rule=rule, window=window, **options)
    return float(loss), gradients_of(model, found)


# ------------------------------------------------------------------------------------------ error, targets, masks, losses


@pytest.mark.parametrize("last", ["lif", "none"])
def test_error_of_direct_feedback_is_that_of_the_last_current_or_of_the_outputs(last, x64):
    """The cotangent of the current, psi delta, of a layer that fires; of the outputs where a Linear ends the stack."""
    top = lif(reset="zero") if last == "lif" else {"kind": "none"}
    model, layers = pair([7, 6, 5, 4], [lif(), lif(decay=0.6), top])
    rule, x = OurOSTL(route=Direct(rngs=nnx.Rngs(6))), inputs(T, B, 7)
    found = [
        np.asarray(rule.route.matrix(layer, size, 4, jnp.float64))
        for layer, size in zip(layers_of(model)[: 2 if last == "none" else -1], (6, 5), strict=True)
    ]
    if last == "none":
        found = found[:1]  # the last layer with a neuron is the top
    history = oracle.forward(layers, x)
    e = np.stack(
        [SIGNAL(t, steps[-1].output)[1] * (steps[-1].psi if last == "lif" else 1.0) for t, steps in enumerate(history)]
    )
    gradient = ours(model, rule, x)[1]
    for index, matrix in enumerate(found):
        alone = oracle.ostl(layers[: index + 1], x, oracle.linear(e @ matrix.T)).gradients[index]
        assert worst([gradient[index]], [alone]) < TOLERANCE
    if last == "none":
        rest = oracle.ostl(layers, x, SIGNAL).gradients[1:]
        assert worst(gradient[1:], rest) < TOLERANCE


def test_error_of_direct_feedback_is_what_the_rule_of_the_last_layer_passes_below(x64):
    """Under OTPE for the last layer of a list: g delta with the leaky mean g of psi, and not psi delta."""
    model, layers = pair([7, 6, 4], [lif(), lif(reset="zero")])
    route, x, k = Direct(rngs=nnx.Rngs(6)), inputs(T, B, 7), 0.6
    matrix = np.asarray(route.matrix(layers_of(model)[0], 6, 4, jnp.float64))
    g, weight, sent, by_psi = 0.0, 0.0, [], []
    for t, steps in enumerate(oracle.forward(layers, x)):
        delta, psi = SIGNAL(t, steps[-1].output)[1], steps[-1].psi
        g, weight = (k * weight * g + psi) / (k * weight + 1), k * weight + 1
        sent.append(g * delta)
        by_psi.append(psi * delta)
    found = ours(model, [OurOSTL(route=route), OurOTPE(output_decay=k)], x)[1][:1]
    expected, other = (oracle.ostl(layers[:1], x, oracle.linear(np.stack(e) @ matrix.T)) for e in (sent, by_psi))
    assert worst(found, expected.gradients) < TOLERANCE
    assert worst(found, other.gradients) > 1e-3


def test_targets_of_each_step_are_sent_as_they_are(x64):
    """Numbers in the shape of the outputs, and labels of each step, which are one-hot."""
    model, layers = network("chain")
    x, rng = inputs(T, B, 7), np.random.default_rng(3)
    rule = OurOSTL(route=Target(rngs=nnx.Rngs(7)))
    numbers, labels = rng.normal(size=(T, B, 4)), rng.integers(0, 4, (T, B))

    def squares(t, y):
        return ((y - numbers[t]) ** 2).mean(axis=1), (y - numbers[t]) / 2

    for signal, loss, targets, sent in (
        (squares, squared_error, numbers, numbers),
        (oracle.softmax_cross_entropy(labels), cross_entropy, labels, np.eye(4)[labels]),
    ):
        _, found = ours(model, rule, x, 1, loss, PerStep(jnp.asarray(targets)))
        expected = oracle.ostl(layers, x, signal, route=oracle_route("target", rule, model, layers, sent))
        assert worst(found, expected.gradients) < TOLERANCE


@pytest.mark.parametrize(("route", "window"), [("direct", 4), ("target", 1), ("local", T)])
def test_loss_of_a_sequence_sends_what_the_same_loss_of_steps_sends(route, window, x64):
    whole = SequenceLoss(lambda y, labels: jax.vmap(cross_entropy, (0, None))(y, labels).mean(axis=0))
    model, layers = network("chain")
    rule, x = OurOSTL(route=ROUTES[route]()), inputs(T, B, 7)
    loss, found = ours(model, rule, x, window, whole)
    expected = oracle.ostl(layers, x, SIGNAL, route=oracle_route(route, rule, model, layers))
    assert worst(found, expected.gradients) < TOLERANCE
    assert abs(loss - expected.loss) < TOLERANCE


# -------------------------------------------------------------------------------------------------- several outputs, a user's


class TwoHeads(nnx.Module):
    """Two outputs of the last layer's: labels and numbers."""

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        return {"a": x[:, :3], "b": x[:, 3:] ** 2}


def two_losses(y: Any, targets: Any) -> jax.Array:
    return cross_entropy(y["a"], targets["a"]) + squared_error(y["b"], targets["b"])


@pytest.mark.parametrize("route", ["direct", "target", "local"])
def test_signals_of_several_outputs_are_those_of_all_of_them_behind_each_other(route, x64):
    from rules.ledger import with_end

    plain, layers = network("chain")
    model, x = with_end(plain, TwoHeads()), inputs(T, B, 7)
    rng = np.random.default_rng(0)
    labels, numbers = np.array([0, 2, 1]), rng.normal(size=(B, 1))
    targets = {"a": jnp.asarray(labels), "b": jnp.asarray(numbers)}
    rule = OurOTTT(route=ROUTES[route]())
    _, found = ours(model, rule, x, 3, two_losses, targets)

    def of_heads(y, power):
        losses, derivative = oracle.softmax_cross_entropy(labels)(0, y[:, :3])
        error = y[:, 3:] ** power - numbers
        slope = 2 * error * power * y[:, 3:] ** (power - 1)
        return losses + (error**2)[:, 0], np.concatenate([derivative, slope], axis=1)

    sent = np.concatenate([np.eye(3)[labels], numbers], axis=1)
    way = oracle_route(route, rule, model, layers, sent)
    if route == "local":  # the read-outs of hidden layers are the outputs themselves

        class OfReadOut(oracle.Local):
            def signals(self, steps, signal, t):
                losses, top = oracle.Symmetric().signals(steps, signal, t)
                hidden = [
                    of_heads(step.output @ Q, 1)[1] @ Q.T / B for step, Q in zip(steps, self.matrices, strict=False)
                ]
                return losses, [*hidden, *top[2:]]

        way = OfReadOut(way.matrices)
    expected = oracle.ottt(layers, x, lambda t, y: of_heads(y, 2), route=way)
    assert worst(found, expected.gradients) < TOLERANCE


def largest(error: Any, xp: Any) -> Any:
    """The error of the output that is most wrong alone."""
    return xp.where(abs(error) == abs(error).max(axis=-1, keepdims=True), error, 0)


class LargestError(Direct):
    def signal(self, layer, outputs, teaching: Teaching):
        return super().signal(layer, outputs, teaching._replace(error=largest(teaching.error, jnp)))


class OracleLargestError(oracle.Direct):
    def below(self, layers, index, cotangent):
        return super().below(layers, index, largest(cotangent, np) if index == self.top else cotangent)


class SignOfError(Direct):
    def signal(self, layer, outputs, teaching: Teaching):
        return super().signal(layer, outputs, teaching._replace(error=jnp.sign(teaching.error)))


@pytest.mark.parametrize(
    ("make", "theirs", "fixed"),
    [(OurOSTL, oracle.ostl, False), (lambda **o: OurSTLLR(0.7, 0.3, 1.1, -0.4, **o), s_tllr, True)],
    ids=["ostl", "s_tllr"],
)
def test_a_signal_of_a_user_is_what_it_says(make, theirs, fixed, x64):
    model, layers = network("edges", fixed=fixed)
    x, made = inputs(T, B, 7), make(route=LargestError(rngs=nnx.Rngs(6)))
    expected = theirs(layers, x, SIGNAL, route=OracleLargestError(matrices(made.route, model, layers)))
    assert worst(ours(model, made, x)[1], expected.gradients) < TOLERANCE


def test_a_route_that_is_not_proportional_to_the_error_depends_on_the_window(x64):
    """The error is divided by the number of losses of the window, and its signs are not: windows then count by length."""
    model, _ = network("chain")
    rule, x = OurOSTL(route=SignOfError(rngs=nnx.Rngs(6))), inputs(T, B, 7)
    one, three = (ours(model, rule, x, window)[1] for window in (1, 3))
    for index in (0, 1):
        assert deviation(three[index]["kernel"], 3 * one[index]["kernel"]) < TOLERANCE
    assert worst(three[2:], one[2:]) < TOLERANCE


# ---------------------------------------------------------------------------------------------------------- rules by layer


def test_rules_of_layers_along_one_route_are_the_oracle_s(x64):
    model, layers = network("chain", fixed=True)
    x, route = inputs(T, B, 7), Local(rngs=nnx.Rngs(8))
    mixed = [OurOTTT(route=route), OurSTLLR(0.7, 0.3, 1.1, -0.4, route=route), OurOSTL(route=route)]
    theirs = oracle.PerLayer(
        [OTTT(), STLLR(0.7, 0.3, 1.1, -0.4, bias_trace=False), OSTL()],
        route=oracle.Local(matrices(route, model, layers)),
    )
    assert worst(ours(model, mixed, x)[1], oracle.run(theirs, layers, x, SIGNAL).gradients) < TOLERANCE


def test_layers_that_share_a_synapse_share_its_gradient_along_direct_routes(x64):
    """One Linear in two places: the sum of both layers' gradients."""
    from slax_neurons import LIF, connect

    shared = linear(6, 6, 0)
    options = {"threshold": 0.7, "param_dtype": jnp.float64}
    model = connect([shared, LIF(decay=0.8, **options), shared, LIF(decay=0.6, **options), linear(6, 4, 2)])
    apart = connect(
        [linear(6, 6, 0), LIF(decay=0.8, **options), linear(6, 6, 0), LIF(decay=0.6, **options), linear(6, 4, 2)]
    )
    x, rule = inputs(T, B, 6), OurOSTL(route=Direct(rngs=nnx.Rngs(6)))
    one = gradients(model, cross_entropy, x, LABELS, rule=rule)[1]["modules"]
    two = gradients(apart, cross_entropy, x, LABELS, rule=rule)[1]["modules"]
    assert deviation(one[0]["kernel"][...], two[0]["kernel"][...] + two[2]["kernel"][...]) < TOLERANCE
