"""Routes under every rule for layers against the oracle: the matrices are those of the route, the equations are not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from oracle.local import OSTL, OTTT, STLLR
from rules.ledger import LABELS, SIGNAL, B, T, layers_of, lif, matrices_of
from slax_rules import OSTL as OurOSTL
from slax_rules import OTPE as OurOTPE
from slax_rules import OTTT as OurOTTT
from slax_rules import SLTT as OurSLTT
from slax_rules import STLLR as OurSTLLR
from slax_rules import ApproximateOTPE as OurApproximateOTPE
from slax_rules import (
    Direct,
    FixedBases,
    Local,
    PerStep,
    Random,
    Route,
    SequenceLoss,
    Symmetric,
    Target,
    Teaching,
    cross_entropy,
    gradients,
    squared_error,
)
from slax_rules import EProp as OurEProp
from slax_rules import PPProp as OurPPProp
from stacks import Conv, deviation, gradients_of, inputs, linear, pair, worst

TOLERANCE = 1e-11
FIXED = {"pp_prop", "s_tllr"}  # rules without a gradient of neurons' parameters
TARGETS = np.eye(4)[LABELS]


def s_tllr(layers: Any, x: Any, signal: Any, *, route: Any = None) -> oracle.Result:
    """The last layer does not fire, and has OTTT."""
    rules = [STLLR(0.7, 0.3, 1.1, -0.4, bias_trace=False) for _ in layers[:-1]]
    return oracle.run(oracle.PerLayer([*rules, OTTT(bias_trace=False)], route=route), layers, x, signal)


RULES = {
    "sltt": (OurSLTT, oracle.sltt, {}),
    "ostl": (OurOSTL, oracle.ostl, {}),
    "ostl_with_recurrence": (lambda **o: OurOSTL(recurrence=True, **o), oracle.ostl, {"with_h": True}),
    "ottt": (OurOTTT, oracle.ottt, {}),
    "otpe": (OurOTPE, oracle.otpe, {}),
    "approximate_otpe": (OurApproximateOTPE, oracle.approximate_otpe, {}),
    "e_prop": (OurEProp, oracle.e_prop, {}),
    "pp_prop": (lambda **o: OurPPProp(decay=0.8, **o), oracle.pp_prop, {"decay": 0.8}),
    "s_tllr": (lambda **o: OurSTLLR(0.7, 0.3, 1.1, -0.4, **o), s_tllr, {}),
}
ROUTES = {
    "random": lambda: Random(rngs=nnx.Rngs(5)),
    "direct": lambda: Direct(rngs=nnx.Rngs(6)),
    "target": lambda: Target(rngs=nnx.Rngs(7)),
    "local": lambda: Local(rngs=nnx.Rngs(8)),
    "bases": lambda: FixedBases("sine"),
}
SIZES = {
    "chain": [7, 6, 5, 4],
    "recurrent": [7, 6, 5, 4],
    "edges": [7, 6, 5, 4],
    "conv": [(4, 4, 2), Conv(4, (3, 3), groups=2), Conv(3, (2, 2), strides=(2, 2), padding="VALID"), 4],
}
EDGES = {"recurrent": [(0, 0, 1), (1, 1, 2)], "edges": [(0, 0, 1), (1, 0, 1), (2, 0, 2), (0, 2, 0), (0, 1, 3)]}
WINDOWS = (1, 3, T)


def network(name: str, *, fixed: bool = False) -> Any:
    neurons = [lif(), lif(decay=0.6, reset="zero"), {"kind": "li", "decay": 0.7}]
    return pair(SIZES[name], [neuron | {"fixed": fixed} for neuron in neurons], edges=EDGES.get(name, []))


def matrices(route: Any, model: Any, layers: Any, size: int = 4) -> list[np.ndarray]:
    """Those of the hidden layers, [N, C] each."""
    pairs = zip(layers_of(model)[:-1], layers, strict=False)
    return [np.asarray(route.matrix(ours, theirs.size, size, jnp.float64)) for ours, theirs in pairs]


def oracle_route(name: str, rule: Any, model: Any, layers: Any, targets: Any = TARGETS) -> Any:
    if name == "random":
        return oracle.Matrices(matrices_of(rule, model))
    found = matrices(rule.route, model, layers)
    kinds = {"direct": oracle.Direct, "local": oracle.Local, "bases": oracle.Local}
    return oracle.Target(found, targets) if name == "target" else kinds[name](found)


def ours(
    model: Any, rule: Any, x: Any, window: int | None = 3, loss: Any = cross_entropy, labels: Any = LABELS, **options
):
    loss, found = gradients(model, loss, x, labels, rule=rule, window=window, **options)
    return float(loss), gradients_of(model, found)


def compare(rule: str, route: str, name: str, window: int) -> None:
    model, layers = network(name, fixed=rule in FIXED)
    make, theirs, options = RULES[rule]
    made, x = make(route=ROUTES[route]()), inputs(T, B, SIZES[name][0])
    loss, found = ours(model, made, x, window)
    expected = theirs(layers, x, SIGNAL, **options, route=oracle_route(route, made, model, layers))
    assert abs(loss - expected.loss) < TOLERANCE
    assert worst(found, expected.gradients) < TOLERANCE
    symmetric = theirs(layers, x, SIGNAL, **options)
    assert deviation(symmetric.gradients[0]["kernel"], expected.gradients[0]["kernel"]) > 0.1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_with_every_route_is_the_oracle_s_in_a_net_with_edges(rule, route, x64):
    """Windows differ from one pair to the next; the next test has all of them."""
    window = WINDOWS[(list(RULES).index(rule) + list(ROUTES).index(route)) % 3]
    compare(rule, route, "recurrent" if rule == "ostl_with_recurrence" else "edges", window)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("rule", "route"),
    [("ostl", "random"), ("otpe", "direct"), ("s_tllr", "target"), ("ottt", "local"), ("e_prop", "bases")],
)
def test_windows_of_every_length_give_the_oracle_s_gradient(rule, route, window, x64):
    compare(rule, route, "chain", window)


@pytest.mark.parametrize("number", range(len(RULES)))
def test_every_rule_and_every_route_is_the_oracle_s_in_a_convolutional_net(number, x64):
    route = list(ROUTES)[number % len(ROUTES)]
    compare(list(RULES)[number], route, "conv", WINDOWS[number % 3])


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


MASK = np.random.default_rng(4).uniform(size=(T, B)) < 0.5


def masked(signal: Any, mask: Any) -> Any:
    """The mean over T and B of what the oracle sums is the mean over the losses that count."""
    weights = mask * mask.size / mask.sum()

    def of_step(t: int, outputs: Any) -> Any:
        losses, derivatives = signal(t, outputs)
        return weights[t] * losses, weights[t][:, None] * derivatives

    return of_step


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("route", [name for name in ROUTES if name != "bases"])
def test_what_is_masked_sends_no_signal_along_any_route(route, window, x64):
    """A window without a loss that counts is among them."""
    mask = MASK.copy()
    mask[4:8] = False
    model, layers = network("chain")
    rule, x = OurOTPE(route=ROUTES[route]()), inputs(T, B, 7)
    loss, found = ours(model, rule, x, window, mask=jnp.asarray(mask))
    sent = TARGETS * (mask * mask.size / mask.sum())[..., None]
    way = oracle_route(route, rule, model, layers, sent)
    expected = oracle.otpe(layers, x, masked(SIGNAL, mask), route=way)
    assert worst(found, expected.gradients) < TOLERANCE
    assert abs(loss - expected.loss) < TOLERANCE


@pytest.mark.parametrize("window", [2, T])
def test_targets_of_each_step_are_sent_as_they_are(window, x64):
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
        _, found = ours(model, rule, x, window, loss, PerStep(jnp.asarray(targets)))
        expected = oracle.ostl(layers, x, signal, route=oracle_route("target", rule, model, layers, sent))
        assert worst(found, expected.gradients) < TOLERANCE


@pytest.mark.parametrize("window", [1, 4, T])
@pytest.mark.parametrize("route", ["direct", "target", "local"])
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


@dataclasses.dataclass(frozen=True)
class Signs(Route):
    """Sign-symmetric feedback, as a user would write it."""

    def kernels(self, layer):
        return [jnp.sign(synapse.kernel[...]) for synapse in layer.current_synapses]


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


@pytest.mark.parametrize("rule", ["ostl", "otpe", "s_tllr"])
def test_routes_of_a_user_are_what_they_say_under_every_rule(rule, x64):
    make, theirs, options = RULES[rule]
    model, layers = network("edges", fixed=rule in FIXED)
    x = inputs(T, B, 7)
    signs = [
        {name: np.sign(value) for name, value in layer.parameters().items() if name.endswith("kernel")}
        for layer in layers
    ]
    found = ours(model, make(route=Signs()), x)[1]
    expected = theirs(layers, x, SIGNAL, **options, route=oracle.Matrices(signs))
    assert worst(found, expected.gradients) < TOLERANCE
    made = make(route=LargestError(rngs=nnx.Rngs(6)))
    expected = theirs(layers, x, SIGNAL, **options, route=OracleLargestError(matrices(made.route, model, layers)))
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


def test_each_layer_has_the_route_of_its_rule(x64):
    """Below a layer with `Direct` no signal passes; its own signal does not come from above."""
    model, layers = network("chain")
    x = inputs(T, B, 7)
    direct = Direct(rngs=nnx.Rngs(6))
    found = ours(model, [OurOSTL(), OurOSTL(route=direct), OurOSTL()], x)[1]
    expected = oracle.ostl(layers, x, SIGNAL).gradients[2]
    assert worst(found[2:], [expected]) < TOLERANCE
    B_1 = np.asarray(direct.matrix(layers_of(model)[1], 5, 4, jnp.float64))
    history = oracle.forward(layers, x)
    e = np.stack([SIGNAL(t, steps[-1].output)[1] for t, steps in enumerate(history)])
    both = oracle.ostl(layers[:2], x, oracle.linear(e @ B_1.T)).gradients
    assert worst(found[:2], both) < TOLERANCE


def test_rules_of_layers_along_one_route_are_the_oracle_s(x64):
    model, layers = network("chain", fixed=True)
    x, route = inputs(T, B, 7), Local(rngs=nnx.Rngs(8))
    mixed = [OurOTTT(route=route), OurSTLLR(0.7, 0.3, 1.1, -0.4, route=route), OurOSTL(route=route)]
    theirs = oracle.PerLayer(
        [OTTT(), STLLR(0.7, 0.3, 1.1, -0.4, bias_trace=False), OSTL()],
        route=oracle.Local(matrices(route, model, layers)),
    )
    assert worst(ours(model, mixed, x)[1], oracle.run(theirs, layers, x, SIGNAL).gradients) < TOLERANCE


def test_symmetric_is_what_rules_do_by_themselves(x64):
    model, _ = network("edges")
    x = inputs(T, B, 7)
    for make in (OurOSTL, OurOTPE):
        jax.tree.map(
            np.testing.assert_array_equal, ours(model, make(), x)[1], ours(model, make(route=Symmetric()), x)[1]
        )


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
