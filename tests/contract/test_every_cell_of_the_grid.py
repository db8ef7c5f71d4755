"""Laws of the grid: each rule for layers, which carries the past, with each route, which carries signals to a layer.

Which of the 72 cells a law is tried in:

    GRID        every cell: the gradient is the oracle's, with edges, in windows and behind a mask
    SOME        each rule with one route, and each route at least once, 9 cells: convolutions, and a Linear behind the last
                neuron. What a route makes of a kernel depends on the synapse, and what a rule traces on the inputs, but not
                each on the other.
    ON_DEVICES  SOME, each on 2 or on 8 devices, has the gradient of one device; tests/rules/test_devices.py has every
                rule of the registry but UORO. The gradient is summed over devices in one place, loop/windows.py, which
                knows neither the rule nor the route. With EVERY_COMBINATION=1, each route under `ostl` and `approximate
                otpe`, and each rule with `symmetric` and `target`, 30 cells, on 2 and on 8.
"""

import dataclasses
import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from covering import EVERY
from oracle.routes import ToHidden
from rules.ledger import layers_of, matrices_of, route_of
from slax_neurons import LI, LIF, Delay, Edge, Trainable, connect
from slax_rules import (
    DECOLLE,
    OSTL,
    OTPE,
    OTTT,
    SLTT,
    STLLR,
    Adaptive,
    ApproximateOTPE,
    Direct,
    EProp,
    FixedBases,
    LayerGradient,
    LayerRule,
    Local,
    Penalty,
    PPProp,
    Random,
    Route,
    SequenceLoss,
    Symmetric,
    Target,
    cross_entropy,
    gradients,
    linearize,
    squared_error,
    train_offline,
    train_online,
)
from stacks import Conv, deviation, gradients_of, inputs, linear, pair, worst

T, B, C = 8, 3, 4
WINDOW = 2  # four windows in one scan: one program for all
EXACT = 1e-12
TRUE = 1e-9
TARGETS = np.random.default_rng(0).normal(size=(T, B, C))
LABELS = np.array([0, 3, 2])
NO_MASK = np.ones((T, B), bool)
MASK = np.random.default_rng(4).uniform(size=(T, B)) < 0.6
MASK[2:4] = False  # a window without a loss that counts
MISSING = np.where(MASK[..., None], TARGETS, np.nan)


@dataclasses.dataclass(frozen=True)
class SignSymmetric(Route):
    """A user's own route: signals pass down through the signs of the weights."""

    def kernels(self, layer):
        return [jnp.sign(synapse.kernel[...]) for synapse in layer.current_synapses]


S_TLLR = {"lambda_pre": 0.7, "lambda_post": 0.3, "alpha_pre": 1.1, "alpha_post": -0.4}


def s_tllr(layers, x, signal, *, route=None):
    """A last layer that does not fire has OTTT."""
    hidden = oracle.STLLR(*S_TLLR.values(), None, False)
    last = hidden if hasattr(layers[-1].neuron, "spike") else oracle.OTTT(False)
    return oracle.run(oracle.PerLayer([*[hidden] * (len(layers) - 1), last], route=route), layers, x, signal)


# Each rule with its definition by the oracle, (layers, inputs, signal, route=...) -> Result.
RULES = {
    "sltt": (SLTT, oracle.sltt),
    "ostl": (OSTL, oracle.ostl),
    "ostl with recurrence": (functools.partial(OSTL, recurrence=True), functools.partial(oracle.ostl, with_h=True)),
    "ottt": (OTTT, oracle.ottt),
    "otpe": (OTPE, oracle.otpe),
    "approximate otpe": (ApproximateOTPE, oracle.approximate_otpe),
    "e-prop": (EProp, oracle.e_prop),
    "pp-prop": (functools.partial(PPProp, decay=0.8), functools.partial(oracle.pp_prop, decay=0.8)),
    "s-tllr": (functools.partial(STLLR, **S_TLLR), s_tllr),
}
ROUTES = {
    "symmetric": lambda model: Symmetric(),
    "random": lambda model: Random(rngs=nnx.Rngs(5)),
    "adaptive": lambda model: Adaptive(model, rngs=nnx.Rngs(5)),
    "direct": lambda model: Direct(rngs=nnx.Rngs(5)),
    "target": lambda model: Target(rngs=nnx.Rngs(5)),
    "local": lambda model: Local(rngs=nnx.Rngs(5)),
    "bases": lambda model: FixedBases(),
    "own": lambda model: SignSymmetric(),
}
SKIP = ("direct", "target", "local", "bases")
DO_NOT_SEE_ABOVE = ("target", "local", "bases")
FIXED_NEURONS = ("pp-prop", "s-tllr")
GRID = [(rule, route) for rule in RULES for route in ROUTES]
# Each rule, and each route, at least once.
SOME = [(rule, list(ROUTES)[(index + 1) % len(ROUTES)]) for index, rule in enumerate(RULES)]
ON_DEVICES = [(*cell, devices) for cell, devices in zip(SOME, itertools.cycle((2, 8)))]  # see above
if EVERY:
    cells = [cell for cell in GRID if cell[0] in ("ostl", "approximate otpe") or cell[1] in ("symmetric", "target")]
    ON_DEVICES = [(*cell, devices) for cell, devices in itertools.product(cells, (2, 8))]
grid = pytest.mark.parametrize(("rule", "route"), GRID)
some = pytest.mark.parametrize(("rule", "route"), SOME)
on_devices = pytest.mark.parametrize(("rule", "route", "devices"), ON_DEVICES)


def make(rule, route, model):
    return RULES[rule][0](route=ROUTES[route](model))


def lif(**options):
    return {"kind": "lif", "decay": 0.8, "threshold": 0.5, **options}


def neurons_of(rule):
    options = {"fixed": rule in FIXED_NEURONS}
    return [lif(**options), lif(decay=0.6, reset="zero", **options), {"kind": "li", **options}]


def layers(rule, *, n_in=5, edges=True):
    """Two layers of LIF and a read-out, as a stack and as the oracle's layers, with edges: recurrent, late ones down and
    up, and one within the step over a layer. A rule with recurrence takes the first of them alone."""
    wired = [(0, 0, 1), (1, 0, 2), (0, 1, 1), (0, 2, 0)] if edges else []
    if rule == "ostl with recurrence":
        wired = [edge for edge in wired if edge[0] == edge[1]]
    return pair([n_in, 5, 6, C], neurons_of(rule), edges=wired)


def convolutions(rule):
    """Two convolutions, one in groups and one with strides, and a Linear."""
    second = Conv(3, (2, 2), strides=(2, 2), padding="VALID")
    return pair([(4, 4, 2), Conv(4, (3, 3), groups=2), second, C], neurons_of(rule))


def signal_of_targets(t, outputs):
    """The loss `squared_error` and its derivative, as the oracle reads them."""
    difference = outputs - TARGETS[t]
    return np.square(difference).mean(axis=-1), 2 * difference / C


def weights_of(mask):
    """The weight of each loss in a mean over all, for the mean over those that count."""
    return mask * mask.size / mask.sum()


def oracle_route(made, model, theirs, x, mask=NO_MASK):
    """The oracle's route with the matrices of a rule of ours; a Linear behind the last neuron passes signals through itself."""
    if isinstance(made.route, Random | Adaptive | SignSymmetric):
        matrices = matrices_of(made, model)
        return oracle.Matrices([*matrices, *({"kernel": layer.kernel} for layer in theirs[len(matrices) :])])
    route = route_of(made, model, theirs, x)
    if isinstance(made.route, Target):
        return oracle.Target(route.matrices, TARGETS * weights_of(mask)[..., None])
    if isinstance(made.route, Direct):
        return DirectFromLast(route.matrices)
    return route


class DirectFromLast(oracle.Direct):
    """The error of the last layer; of a Linear behind the last neuron this is that of the outputs themselves."""

    def below(self, layers, index, cotangent):
        last = index == len(layers) - 1
        direct = [(hidden, cotangent @ B.T) for hidden, B in enumerate(self.matrices)] if last else []
        return direct + ToHidden.below(self, layers, index, cotangent)


def expected(rule, made, model, theirs, x, mask=NO_MASK):
    """The oracle's gradients under a rule of ours, for the loss `squared_error` and TARGETS."""
    x = np.asarray(x)

    def signal(t, outputs):
        losses, slopes = signal_of_targets(t, outputs)
        return weights_of(mask)[t] * losses, weights_of(mask)[t][:, None] * slopes

    return RULES[rule][1](theirs, x, signal, route=oracle_route(made, model, theirs, x, mask))


def furthest(ours, theirs):
    return max(deviation(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def same_bits(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(ours), nnx.as_pure(theirs))


def below_the_last(gradient):
    """The gradients of the modules of the hidden layers."""
    return {index: part for index, part in gradient["modules"].items() if index < 4}


# ------------------------------------------------------------------------------------------------------------- every cell


def masked_gradient(rule, model, x):
    """In windows, with targets that are missing where they do not count."""
    return gradients(model, squared_error, x, MISSING, rule=rule, window=WINDOW, mask=jnp.asarray(MASK))


def check(rule, route, model, theirs, x):
    """Compare with the oracle in windows and behind a mask; return the rule and its gradient."""
    made = make(rule, route, model)
    loss, gradient = masked_gradient(made, model, x)
    assert jax.tree.structure(gradient) == jax.tree.structure(nnx.state(model, nnx.Param))
    result = expected(rule, made, model, theirs, x, MASK)
    assert abs(float(loss) / result.loss - 1) < EXACT
    assert worst(gradients_of(model, gradient), result.gradients) < TRUE
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient["modules"]))
    return made, gradient


@grid
def test_gradient_is_that_of_the_oracle_in_windows_and_behind_a_mask(rule, route, x64):
    """Also: the loss is that of the plain forward pass, and hidden layers that do not see what is above do not depend on it."""
    model, theirs = layers(rule)
    x = inputs(T, B, 5)
    made, gradient = check(rule, route, model, theirs, x)
    if route in DO_NOT_SEE_ABOVE:
        for synapse in (model.modules[4], *model.synapses[3:]):
            synapse.kernel[...] *= 1.3
        changed = masked_gradient(made, model, x)[1]
        same_bits(below_the_last(changed), below_the_last(gradient))
        assert deviation(changed["modules"][4]["kernel"][...], gradient["modules"][4]["kernel"][...]) > 1e-3


@some
def test_gradient_of_convolutions_is_that_of_the_oracle(rule, route, x64):
    model, theirs = convolutions(rule)
    check(rule, route, model, theirs, inputs(T, B, (4, 4, 2)))


@pytest.mark.parametrize("rule", RULES)
def test_routes_differ(rule, x64):
    """No law may hold for want of a difference: the first layer has another gradient along each, the last one the same."""
    model, theirs = layers(rule)
    x = np.asarray(inputs(T, B, 5))
    found = {
        route: expected(rule, make(rule, route, model), model, theirs, x, MASK).gradients
        for route in ROUTES
        if route != "adaptive"  # which starts from the matrices of "random"
    }
    for one, gradient in found.items():
        assert deviation(gradient[2]["kernel"], found["symmetric"][2]["kernel"]) < EXACT
        others = (other for other in found if deviation(gradient[0]["kernel"], found[other][0]["kernel"]) < 0.1)
        assert list(others) == [one]


def under(rule, model, loss_fn=squared_error, targets=TARGETS, *, window=WINDOW, **options):
    x = inputs(T, B, model.modules[0].kernel.shape[0])
    return gradients(model, loss_fn, x, targets, rule=rule, window=window, **options)[1]


# ------------------------------------------------------------------------------------------------------- some of each kind


def split_in_two(outputs):
    return {"a": outputs[..., :1], "b": outputs[..., 1:]}


def sum_of_two(outputs, targets):
    """The loss of the heads together."""
    return squared_error(jnp.concatenate(list(outputs.values()), axis=-1), jnp.concatenate(list(targets.values()), -1))


@pytest.mark.parametrize("route", SKIP)
def test_several_heads_have_the_gradient_of_one_head_with_all_outputs(route, x64):
    """Behind a Linear after the last neuron; tests/rules/test_routes.py has them behind the neuron."""
    model, _ = layers("ottt")
    one, two = (rewired(model, [linear(C, C, 9), *head]) for head in ([], [split_in_two]))
    gradient = under(make("ottt", route, one), one)
    heads = under(make("ottt", route, two), two, sum_of_two, split_in_two(TARGETS))
    assert furthest(heads, gradient) < EXACT


def rewired(model, ends):
    """A stack with the same modules and edges, and more modules behind the last one."""
    pairs = zip(model.edges, model.synapses, strict=True)
    edges = [Edge(edge.sender, edge.receiver, edge.steps, synapse) for edge, synapse in pairs]
    return connect([*model.modules, *ends], edges)


@some
def test_a_linear_behind_the_last_neuron_has_its_exact_gradient(rule, route, x64):
    """The last layer is then the one below it, whose signal comes through it, and the error is that of the outputs."""
    model, theirs = pair([5, 5, 6, C], [*neurons_of(rule)[:2], {"kind": "none"}])
    made, x = make(rule, route, model), inputs(T, B, 5)
    found = gradients_of(model, under(made, model))
    exact = oracle.bptt(theirs, np.asarray(x), signal_of_targets).gradients
    assert worst(found[2:], exact[2:]) < TRUE
    hidden = expected(rule, made, model, theirs, x).gradients[:2]
    assert worst(found[:2], hidden) < TRUE


# --------------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(("rule", "route"), [("ostl", "adaptive"), ("s-tllr", "direct"), ("otpe", "local")])
def test_training_moves_every_parameter_against_its_gradient(rule, route, x64):
    """Offline by the gradient, online with each window; the matrices of adaptive feedback as their kernels."""
    moved = {}
    for name, train in (("offline", train_offline), ("online", train_online)):
        model, _ = layers(rule)
        made = make(rule, route, model)
        has_parameters = bool(jax.tree.leaves(nnx.state(made, nnx.Param)))
        trained = (model, made) if has_parameters else model
        before = jax.tree.leaves(nnx.state(trained, nnx.Param))
        before = [np.asarray(leaf) for leaf in before]
        optimizer = nnx.Optimizer(trained, optax.sgd(0.01), wrt=nnx.Param)
        train(model, optimizer, squared_error, inputs(T, B, 5), TARGETS, rule=made, window=WINDOW)
        after = jax.tree.leaves(nnx.state(trained, nnx.Param))
        moved[name] = [np.asarray(new) - old for new, old in zip(after, before, strict=True)]
        assert all(step.any() for step in moved[name])
        assert has_parameters == (route == "adaptive")
        if has_parameters:
            kernels = [layer.current_synapses for layer in layers_of(model)]
            first, _ = layers(rule)
            for index, old in enumerate(make(rule, route, first).route.matrices):
                for place, matrix in enumerate(old):
                    step = (
                        kernels[index][place].kernel[...] - layers_of(first)[index].current_synapses[place].kernel[...]
                    )
                    assert deviation(made.route.matrices[index][place][...] - matrix[...], step) < TRUE
    model, _ = layers(rule)
    gradient = jax.tree.leaves(under(make(rule, route, model), model))
    steps = [-0.01 * np.asarray(leaf) for leaf in gradient]
    assert furthest(moved["offline"][: len(steps)], steps) < TRUE
    assert furthest(moved["online"], moved["offline"]) > TRUE


class Mixed(oracle.Symmetric):
    """A route for each layer: what reaches a layer is chosen by its own one, and what passes below it as well."""

    def __init__(self, routes):
        super().__init__()
        self.routes = routes

    def skips(self, index):
        return isinstance(self.routes[index], ToHidden) and index < len(self.routes) - 1

    def signals(self, steps, signal, t):
        losses, signals = super().signals(steps, signal, t)
        signals = [
            self.routes[index].signals(steps, signal, t)[1][index] if self.skips(index) else received
            for index, received in enumerate(signals)
        ]
        return losses, signals

    def below(self, layers, index, cotangent):
        route = self.routes[index]
        through = oracle.Symmetric() if isinstance(route, ToHidden) else route
        parts = [part for part in through.below(layers, index, cotangent) if not self.skips(part[0])]
        for hidden, other in enumerate(self.routes):
            if index == len(layers) - 1 and self.skips(hidden) and isinstance(other, oracle.Direct):
                parts.append((hidden, cotangent @ other.matrices[hidden].T))
        return parts


# The rules and routes of three layers, from the first to the last.
LISTS = [
    [("ostl", "direct"), ("ottt", "random"), ("sltt", "symmetric")],
    [("ottt", "target"), ("sltt", "own"), ("ostl", "random")],
    [("sltt", "local"), ("ostl", "target"), ("ottt", "direct")],
    [("ostl", "symmetric"), ("ottt", "bases"), ("ostl", "adaptive")],
    [("ostl", "random"), ("sltt", "direct"), ("ottt", "own")],
]
OF_A_LAYER = {"ostl": oracle.OSTL, "ottt": oracle.OTTT, "sltt": oracle.SLTT}


@pytest.mark.parametrize("listed", LISTS, ids=lambda listed: ", ".join(route for _, route in listed))
def test_layers_of_a_list_have_their_own_rules_and_routes(listed, x64):
    model, theirs = layers("ostl")
    rules, x = [make(rule, route, model) for rule, route in listed], np.asarray(inputs(T, B, 5))
    found = gradients_of(model, under(rules, model))
    route = Mixed([oracle_route(made, model, theirs, x) for made in rules])
    per_layer = oracle.PerLayer([OF_A_LAYER[rule]() for rule, _ in listed], route=route)
    assert worst(found, oracle.run(per_layer, theirs, x, signal_of_targets).gradients) < TRUE


# ---------------------------------------------------------------------------------------------------------------- devices


@functools.cache
def measured_on_devices():
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (root / "tests", root)))}
    program = Path(__file__).with_name("grid_on_devices.py")
    run = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@on_devices
def test_several_devices_find_the_gradient_of_one(rule, route, devices):
    """In windows and behind a mask, by which one device has no samples that count."""
    assert measured_on_devices()[f"{rule}, {route}, {devices}"] < EXACT


# ------------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("rule", RULES)
def test_the_route_that_is_not_named_is_symmetric(rule):
    kind, _ = RULES[rule]
    assert kind() == kind(route=Symmetric())
    assert hash(kind()) == hash(kind(route=Symmetric()))


def test_decolle_is_ottt_with_local_losses(x64):
    model, _ = layers("ottt")
    same_bits(under(DECOLLE(rngs=nnx.Rngs(5)), model), under(OTTT(route=Local(rngs=nnx.Rngs(5))), model))


@pytest.mark.parametrize("route", ["symmetric", "target"])
def test_s_tllr_with_the_decay_of_a_lif_and_its_causal_term_alone_is_ottt(route, x64):
    """Of stacks of LIF with one decay, without the trace of the bias."""
    neurons = [lif(fixed=True), lif(fixed=True), lif(fixed=True)]
    model = pair([5, 5, 6, C], neurons, edges=[(0, 0, 1), (0, 2, 0)]).model
    ours = under(STLLR(lambda_pre=0.8, alpha_post=0.0, route=ROUTES[route](model)), model)
    same_bits(ours, under(OTTT(bias_trace=False, route=ROUTES[route](model)), model))


@pytest.mark.parametrize("rule", ["sltt", "otpe", "s-tllr"])
def test_direct_feedback_of_two_layers_is_random_feedback(rule, x64):
    """The last layer fires, so that the error is not that of the outputs."""
    fixed = rule in FIXED_NEURONS
    model = pair([5, 6, C], [lif(fixed=fixed), lif(fixed=fixed)]).model
    random, direct = (under(make(rule, route, model), model) for route in ("random", "direct"))
    assert furthest(direct, random) < EXACT


def weighted_sum(outputs, targets):
    """A loss whose gradient does not depend on the outputs."""
    return jnp.sum(outputs * targets, axis=-1)


@pytest.mark.parametrize("rule", ["otpe", "s-tllr"])
def test_direct_feedback_does_not_read_the_weights_above(rule, x64):
    """The error depends on them, if it depends on the outputs: not so under a loss that is linear."""
    model, _ = layers(rule)
    made = make(rule, "direct", model)
    before = under(made, model, weighted_sum)
    for synapse in (model.modules[4], *model.synapses[3:]):
        synapse.kernel[...] *= -0.7
    after = under(made, model, weighted_sum)
    same_bits(below_the_last(before), below_the_last(after))


@pytest.mark.parametrize("waveform", ["square", "sine"])
def test_fixed_bases_are_values(waveform):
    assert STLLR(route=FixedBases(waveform)) == STLLR(route=FixedBases(waveform))
    assert FixedBases("square") != FixedBases("sine")
    assert not jax.tree.leaves(STLLR(route=FixedBases(waveform)))


def test_targets_of_a_sequence_are_divided_as_precisely_as_the_loss(x64):
    """By the steps and samples of all windows together: 4 x 3, or those that a mask counts."""
    model, _ = layers("sltt", edges=False)
    mask = jnp.ones((T, B), bool).at[3, 1:].set(False).at[0, 0].set(False)
    loss_fn = SequenceLoss(lambda outputs, labels, *mask: cross_entropy(outputs.mean(axis=0), labels))
    made = make("sltt", "target", model)
    step = under(made, model, cross_entropy, LABELS, mask=mask)["modules"]
    for window in (WINDOW, T):
        sequence = under(made, model, loss_fn, LABELS, mask=mask, window=window)["modules"]
        for index in range(4):
            assert furthest(sequence[index], step[index]) < EXACT


# ---------------------------------------------------------------------------------------------------------------- refused


def without_kernel():
    """A stack with an edge within the step that has no synapse, from the first layer to the second."""
    modules = [
        linear(5, 5, 0),
        LIF(threshold=0.5, param_dtype=jnp.float64),
        linear(5, 4, 1),
        LIF(param_dtype=jnp.float64),
    ]
    return connect(
        [*modules, linear(4, C, 2), LI(param_dtype=jnp.float64)], [Edge(1, 2, 0, synapse=lambda x: x[..., :4])]
    )


def test_random_and_adaptive_feedback_need_a_kernel_in_each_edge_and_the_others_do_not(x64):
    model = without_kernel()
    message = (
        r"replaces each kernel with a matrix, got an edge with a Function, .*Linear or Conv, or use route=Symmetric\(\)"
    )
    with pytest.raises(TypeError, match=f"Random {message}"):
        under(OSTL(route=Random(rngs=nnx.Rngs(0))), model)
    with pytest.raises(TypeError, match=f"Adaptive {message}"):
        Adaptive(model, rngs=nnx.Rngs(0))
    for route in ("symmetric", "direct"):
        assert under(make("ostl", route, model), model)["modules"][0]["kernel"][...].any()


def test_adaptive_feedback_is_that_of_its_model(x64):
    model, _ = layers("ostl")
    other = pair([5, 5, C], [lif(), {"kind": "li"}]).model
    with pytest.raises(TypeError, match=r"Adaptive got a layer 0 .*Make the route with its own model: Adaptive\(model"):
        under(OSTL(route=Adaptive(other, rngs=nnx.Rngs(0))), model)
    under(OSTL(route=Adaptive(other, rngs=nnx.Rngs(0))), other)


def first_half(outputs, targets):
    return squared_error(outputs[..., :2], targets)


@pytest.mark.parametrize(
    ("loss_fn", "targets", "message"),
    [
        (first_half, TARGETS[..., :2], r"got targets \[2, 3, 2\] for outputs \[2, 3, 4\], expected labels, or numbers"),
        (
            lambda y, t: squared_error(y, t["track"]),
            {"track": TARGETS},
            r"got targets in the structure .*track.* for outputs in the structure",
        ),
    ],
    ids=["shape", "structure"],
)
def test_targets_in_another_shape_than_the_outputs_cannot_be_projected(loss_fn, targets, message, x64):
    model, _ = layers("ostl", edges=False)
    with pytest.raises(TypeError, match=rf"A route that sends targets to hidden layers {message}.*Use route=Direct"):
        under(make("ostl", "target", model), model, loss_fn, targets)
    under(make("ostl", "direct", model), model, loss_fn, targets)


@pytest.mark.parametrize("rule", FIXED_NEURONS)
def test_rules_without_gradients_of_neuron_parameters_say_so_along_every_route(rule):
    model = pair([5, 5, C], [lif(), {"kind": "li"}], dtype=jnp.float32).model
    x = inputs(T, B, 5, dtype=jnp.float32)
    name = {"pp-prop": "PPProp", "s-tllr": "STLLR"}[rule]
    message = rf"{name} is not defined for parameters of a neuron, got a L.*Fix them, or use OSTL"
    for route in ROUTES:
        with pytest.raises(TypeError, match=message):
            gradients(model, cross_entropy, x, LABELS, rule=make(rule, route, model))
    gradients(model, cross_entropy, x, LABELS, rule=OSTL(route=ROUTES["direct"](model)))


def test_a_secondary_activation_is_that_of_spiking_neurons():
    model = pair([5, 5, C], [{"kind": "li", "fixed": True}] * 2, dtype=jnp.float32).model
    x = inputs(T, B, 5, dtype=jnp.float32)
    with pytest.raises(TypeError, match=r"STLLR\(secondary=...\) .* got a LI\. Leave it out for this layer"):
        gradients(model, cross_entropy, x, LABELS, rule=STLLR(secondary=LIF().spike_fn))
    gradients(model, cross_entropy, x, LABELS, rule=STLLR())


def delays(features):
    return Delay(features, 2, delays=Trainable(np.linspace(0.2, 1.7, features)), param_dtype=jnp.float64)


def test_learned_delays_have_their_place_before_the_synapse_of_a_layer_along_every_route(x64):
    """Those of another place are refused; the neighbor works, and its gradient is the oracle's elsewhere."""
    neurons = [LIF(decay=decay, threshold=0.5, param_dtype=jnp.float64) for decay in (0.8, 0.6)]
    read_out = LI(decay=0.9, param_dtype=jnp.float64)
    wrong = connect([delays(5), lambda x: 2 * x, linear(5, 5, 0), neurons[0], linear(5, C, 1), read_out])
    right = connect(
        [delays(5), linear(5, 5, 0), neurons[0], delays(5), linear(5, 6, 1), neurons[1], linear(6, C, 2), read_out]
    )
    x = inputs(T, B, 5)
    for route in ROUTES:
        with pytest.raises(
            TypeError, match=r"a Delay with learned delays as module 0, which is not right before the synapse"
        ):
            gradients(wrong, squared_error, x, TARGETS, rule=make("ostl", route, wrong))
    for route in ("symmetric", "local"):  # tests/rules/test_learned_delays.py has others, with the oracle's gradients
        gradient = gradients(right, squared_error, x, TARGETS, rule=make("ostl", route, right), window=WINDOW)[1]
        assert all(leaf.any() for leaf in jax.tree.leaves(gradient))


@dataclasses.dataclass(frozen=True)
class OnlyThisStep(LayerRule):
    """A user's own rule."""

    def initialize_traces(self, layer, inputs, states):
        return ()

    def window(self, layer, window, traces, signal):
        psi = jax.vmap(lambda point: linearize(layer.neuron, point).psi)(window.points)
        synapses = tuple(
            {"kernel": jnp.einsum("kbi,kbn->in", x, psi * signal), "bias": jnp.sum(psi * signal, axis=(0, 1))}
            for x in window.inputs
        )
        return LayerGradient(synapses, (), psi * signal), traces


def of_step(values):
    return jnp.sum(jnp.square(values), axis=-1)


def test_penalties_of_membranes_need_a_rule_that_reads_them(x64):
    """A user's own rule has penalties of outputs without further ado, as part of its signal, along every route."""
    model = pair([5, 5, 6, C], [lif(fixed=True), lif(fixed=True), {"kind": "li", "fixed": True}]).model
    for of, layer in (("outputs", 0), ("membranes", 1)):
        penalties = [Penalty(of_step, of=of, layers=(layer,))]
        for route in ("symmetric", "direct"):
            own, sltt = (kind(route=ROUTES[route](model)) for kind in (OnlyThisStep, SLTT))
            if of == "outputs":
                found = under(own, model, penalties=penalties)
                assert furthest(found, under(sltt, model, penalties=penalties)) < EXACT
                without = under(own, model)["modules"]
                assert furthest(found["modules"][0], without[0]) > 1e-3
                same_bits(found["modules"][2], without[2])
            else:
                message = (
                    r"OnlyThisStep got a penalty of the membranes of layer 1, .*of=\"outputs\", or a rule such as OSTL"
                )
                with pytest.raises(TypeError, match=message):
                    under(own, model, penalties=penalties)
                under(OSTL(route=own.route), model, penalties=penalties)
