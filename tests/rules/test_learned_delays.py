"""Learned delays under every rule for layers: the oracle's gradient, and BPTT's of one layer."""

import dataclasses
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
from oracle.local import STLLR as OracleSTLLR
from rules.ledger import LABELS, SIGNAL, B, T, cuba_lif, layers_of, lif
from slax_neurons import LI, LIF, BlockDiagonal, Delay, Edge, Trainable, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    OTTT,
    SLTT,
    STLLR,
    ApproximateOTPE,
    Checkpoints,
    Direct,
    EProp,
    Penalty,
    PPProp,
    Random,
    cross_entropy,
    firing_rate,
    fit,
    gradients,
    train_online,
)
from stacks import deviation, gradients_of, inputs, linear, pair, worst

TOLERANCE = 1e-11
WINDOWS = (1, 4, T)
LONGEST = 5
DTYPE = {"param_dtype": jnp.float64}


def delays_of(n: int, seed: int, longest: float = LONGEST) -> np.ndarray:
    """Between steps, at a whole number of them, and none; the shorter ones let signals pass down."""
    d = np.random.default_rng(seed).uniform(0, longest, n)
    d[:3] = 0.0, 2.0, 0.4
    return d


def delayed(
    name: str = "edges", *, fixed: bool = False, where: tuple[int, ...] = (0, 1, 2), trained: bool = True
) -> tuple[Any, list[Any], dict[int, int]]:
    """A stack of three layers with delays before the synapses of some, the oracle's, and the place of each Delay."""
    edges = {"edges": [(0, 0, 1), (1, 0, 2), (0, 2, 0), (2, 2, 1)], "chain": []}[name]
    neurons = [lif(), cuba_lif(reset="zero"), {"kind": "li", "decay": 0.7}]
    plain, layers = pair([7, 6, 5, 4], [neuron | {"fixed": fixed} for neuron in neurons], edges=edges)
    modules: list[Any] = []
    places: dict[int, int] = {}
    for index in range(3):
        if index in where:
            n = layers[index].kernel.shape[0]
            d = delays_of(n, index)
            places[index] = len(modules)
            modules.append(Delay(n, LONGEST, delays=Trainable(d) if trained else d, **DTYPE))
            layers[index] = dataclasses.replace(layers[index], delays=d)
        modules += plain.modules[2 * index : 2 * index + 2]

    def place(module: int) -> int:
        return modules.index(plain.modules[module])

    pairs = zip(plain.edges, plain.synapses, strict=True)
    wired = [Edge(place(edge.sender), place(edge.receiver), edge.steps, synapse) for edge, synapse in pairs]
    return connect(modules, wired), layers, places


def read(model: Any, found: Any, places: dict[int, int]) -> list[dict[str, np.ndarray]]:
    """Gradients as the oracle gives them, of the delays too."""
    result = gradients_of(model, found)
    for layer, place in places.items():
        if place in found["modules"]:
            result[layer]["delays"] = np.asarray(found["modules"][place]["delays"]["unconstrained"][...])[0]
    return result


def ours(built: Any, rule: Any, window: Any = 4, **options: Any) -> tuple[float, list[dict[str, np.ndarray]]]:
    model, _, places = built
    loss, found = gradients(model, cross_entropy, inputs(T, B, 7), LABELS, rule=rule, window=window, **options)
    return float(loss), read(model, found, places)


def s_tllr(layers: Any, x: Any, signal: Any, **running: Any) -> oracle.Result:
    rules = [OracleSTLLR(0.7, 0.3, 1.1, -0.4, bias_trace=False) for _ in layers[:-1]]
    route = running.pop("route", None)
    whole = oracle.PerLayer([*rules, OracleOTTT(bias_trace=False)], route=route)
    return oracle.run(whole, layers, x, signal, **running)


RULES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sltt": (SLTT(), oracle.sltt, {}),
    "ostl": (OSTL(), oracle.ostl, {}),
    "ostl_with_recurrence": (OSTL(recurrence=True), oracle.ostl, {"with_h": True}),
    "ottt": (OTTT(), oracle.ottt, {}),
    "otpe": (OTPE(), oracle.otpe, {}),
    "approximate_otpe": (ApproximateOTPE(), oracle.approximate_otpe, {}),
    "e_prop": (EProp(), oracle.e_prop, {}),
    "pp_prop": (PPProp(decay=0.8), oracle.pp_prop, {"decay": 0.8}),
    "s_tllr": (STLLR(0.7, 0.3, 1.1, -0.4), s_tllr, {}),
}
FIXED = {"pp_prop", "s_tllr"}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_for_layers_has_the_oracle_s_gradient_of_delays(name, x64):
    """Before each of three layers, in a net with edges; windows differ from one rule to the next."""
    built = delayed("chain" if name == "ostl_with_recurrence" else "edges", fixed=name in FIXED)
    rule, theirs, options = RULES[name]
    loss, found = ours(built, rule, WINDOWS[list(RULES).index(name) % 3])
    expected = theirs(built[1], inputs(T, B, 7), SIGNAL, **options)
    assert worst(found, expected.gradients) < TOLERANCE
    assert abs(loss - expected.loss) < TOLERANCE
    assert all(np.abs(layer["delays"]).max() > 1e-4 for layer in expected.gradients)


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_of_every_length_give_the_same(window, x64):
    """Longer and shorter than the delays."""
    built = delayed()
    expected = oracle.otpe(built[1], inputs(T, B, 7), SIGNAL).gradients
    assert worst(ours(built, OTPE(), window)[1], expected) < TOLERANCE


MASK = np.random.default_rng(4).uniform(size=(T, B)) < 0.5


def test_masks_take_losses_and_no_inputs_away(x64):
    """What a masked step has as its input arrives later."""
    mask = MASK.copy()
    mask[4:8] = False
    built = delayed()
    weights = mask * mask.size / mask.sum()

    def signal(t, outputs):
        losses, slopes = SIGNAL(t, outputs)
        return weights[t] * losses, weights[t][:, None] * slopes

    found = ours(built, OSTL(), 4, mask=jnp.asarray(mask))[1]
    assert worst(found, oracle.ostl(built[1], inputs(T, B, 7), signal).gradients) < TOLERANCE


@pytest.mark.parametrize("name", ["ostl", "ottt"])
def test_signals_pass_down_by_the_input_of_the_same_step_alone(name, x64):
    """In a deeper net: with delays of at least one step nothing comes down; with shorter ones, their share."""
    rule, theirs, options = RULES[name]
    model, layers, places = delayed("chain", where=(1,))
    x = inputs(T, B, 7)
    for least, passes in ((0.0, True), (1.0, False)):
        d = np.clip(delays_of(6, 3) + least, 0, LONGEST)
        model.modules[places[1]].delays.unconstrained[...] = jnp.asarray(d)[None]
        here = [layers[0], dataclasses.replace(layers[1], delays=d), layers[2]]
        found = ours((model, here, places), rule)[1]
        expected = theirs(here, x, SIGNAL, **options).gradients
        assert worst(found, expected) < TOLERANCE
        assert (np.abs(found[0]["kernel"]).max() > 1e-6) == passes
        exact = oracle.bptt(here, x, SIGNAL).gradients
        assert deviation(found[0]["kernel"], exact[0]["kernel"]) > 0.1


def test_fixed_delays_pass_the_same_share_down_and_have_no_gradient(x64):
    built = delayed(trained=False)
    found = ours(built, OSTL())[1]
    expected = oracle.ostl(built[1], inputs(T, B, 7), SIGNAL).gradients
    without = [{name: value for name, value in layer.items() if name != "delays"} for layer in expected]
    assert worst(found, without) < TOLERANCE


@pytest.mark.parametrize("route", ["random", "direct"])
def test_routes_send_through_delays_as_the_oracle_says(route, x64):
    """A random matrix stands for the kernel behind the delay, whose share of the same step it keeps."""
    built = delayed()
    model, layers, _ = built
    way = Random(rngs=nnx.Rngs(5)) if route == "random" else Direct(rngs=nnx.Rngs(6))
    rule, x = EProp(route=way), inputs(T, B, 7)
    sizes = zip(layers_of(model), (6, 5), strict=False)
    if route == "random":
        theirs: Any = oracle.Matrices([_current_matrices(rule, model, index) for index in range(3)])
    else:
        theirs = oracle.Direct([np.asarray(way.matrix(layer, size, 4, jnp.float64)) for layer, size in sizes])
    expected = oracle.e_prop(layers, x, SIGNAL, route=theirs).gradients
    assert worst(ours(built, rule)[1], expected) < TOLERANCE


def _current_matrices(rule: Any, model: Any, index: int) -> dict[str, np.ndarray]:
    layer = layers_of(model)[index]
    names = ["kernel", *(f"edge{number}_kernel" for number in range(len(layer.current_synapses) - 1))]
    return dict(zip(names, map(np.asarray, rule.route.kernels(layer)), strict=True))


def test_penalties_reach_delays(x64):
    def squares(values):
        return (values**2).sum(axis=-1)

    built = delayed()
    penalties = [Penalty(squares, 0.7, of="membranes", layers=(0, 1)), firing_rate(0.1, 3.0, layers=(0,))]
    found = ours(built, OSTL(), penalties=penalties)[1]

    def of_membranes(v):
        return 0.7 * (v**2).sum(axis=1), 1.4 * v

    def rates(mean):
        value, slope = oracle.firing_rate(0.1)(mean)
        return 3 * value, 3 * slope

    theirs = [
        *(oracle.Penalty(index, of_membranes, "membranes") for index in (0, 1)),
        oracle.PenaltyOfMean(0, rates),
    ]
    expected = oracle.ostl(built[1], inputs(T, B, 7), SIGNAL, penalties=theirs).gradients
    assert worst(found, expected) < TOLERANCE


@pytest.mark.parametrize("window", [1, 3])
def test_online_training_is_gradient_descent_by_hand(window, x64):
    """New delays read the inputs before them; traces go on."""
    rate = 0.5
    model, layers, places = delayed("chain", fixed=True, where=(0, 1))
    x = inputs(T, B, 7)
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
    train_online(model, optimizer, cross_entropy, x, LABELS, rule=OSTL(), window=window)
    rule = OracleOSTL()
    carry, stored = oracle.start(rule, layers, B), [layer.delays for layer in layers]
    for start in range(0, T, window):
        total = [{name: 0.0 for name in layer.parameters()} for layer in layers]
        for t in range(start, start + window):
            carry, _, _, found = oracle.advance(rule, layers, carry, np.asarray(x[t]), lambda y, t=t: SIGNAL(t, y))
            for sums, step in zip(total, found, strict=True):
                sums |= {name: sums[name] + step[name] / window for name in sums}
        for index, gradient in enumerate(total):
            new = {name: getattr(layers[index], name) - rate * gradient[name] for name in ("kernel", "bias")}
            if index in places:  # clipped where it is used, not where it is stored
                stored[index] = stored[index] - rate * gradient["delays"]
                new["delays"] = np.clip(stored[index], 0, LONGEST)
            layers[index] = dataclasses.replace(layers[index], **new)
    for index, place in places.items():
        moved = model.modules[place].delays.value[0]
        assert deviation(moved, layers[index].delays) < 1e-10
        assert np.abs(moved - delays_of(len(moved), index)).max() > 1e-4
        assert deviation(model.modules[place + 1].kernel[...], layers[index].kernel) < 1e-10


# ----------------------------------------------------------------------------------------------- one layer, equal to BPTT


def one_layer(kind: str, detached: bool) -> tuple[Any, tuple[int, ...]]:
    """A Delay, a synapse and a LIF; delays at both borders and beyond them are among those of "borders"."""
    neuron = LIF(decay=Trainable(0.8), threshold=0.5, stop_reset_gradient=detached, **DTYPE)

    def delay(n: int, *, groups: int = 1, width: float | None = None) -> Delay:
        d = np.random.default_rng(3).uniform(0, LONGEST, (groups, n))
        d.flat[:2] = 0.0, LONGEST
        return Delay(n, LONGEST, groups=groups, delays=Trainable(d), width=width, **DTYPE)

    match kind:
        case "linear":
            return connect([delay(7), linear(7, 4, 0), neuron]), (7,)
        case "Gaussian":
            return connect([delay(7, width=0.8), linear(7, 4, 0), neuron]), (7,)
        case "borders":
            beyond = delay(7)
            beyond.delays.unconstrained[0, 2:4] = jnp.array([-0.7, LONGEST + 0.3])
            return connect([beyond, linear(7, 4, 0), neuron]), (7,)
        case "groups" | "Gaussian groups":
            blocks = BlockDiagonal(14, 4, 2, rngs=nnx.Rngs(1), **DTYPE)
            blocks.kernel[...] *= 2
            width = 0.8 if kind == "Gaussian groups" else None
            return connect([delay(7, groups=2, width=width), blocks, neuron]), (7,)
        case "one delay for all":
            shared = Delay(7, LONGEST, delays=Trainable(1.4), **DTYPE)
            return connect([shared, linear(7, 4, 0), neuron]), (7,)
        case "convolution":
            conv = nnx.Conv(2, 4, (3, 3), strides=(2, 2), rngs=nnx.Rngs(1), **DTYPE)
            conv.kernel[...] *= 2
            return connect([delay(2), conv, neuron, lambda s: s.reshape(s.shape[0], -1)[:, :4]]), (4, 4, 2)
        case "grouped convolution":
            conv = nnx.Conv(4, 4, (2, 2), padding="VALID", feature_group_count=2, rngs=nnx.Rngs(1), **DTYPE)
            conv.kernel[...] *= 2
            return connect([delay(2, groups=2), conv, neuron, lambda s: s.mean(axis=(1, 2))]), (4, 4, 2)
        case "image":
            flat = connect([delay(2), linear(2, 4, 0), neuron, lambda s: s.mean(axis=(1, 2))])
            return flat, (4, 4, 2)
    raise AssertionError(kind)


KINDS = [
    "linear",
    "Gaussian",
    "borders",
    "groups",
    "Gaussian groups",
    "one delay for all",
    "convolution",
    "grouped convolution",
    "image",
]


def furthest(ours: Any, theirs: Any) -> float:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(deviation(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rule", "detached"), [(OSTL(), False), (OTTT(), True)], ids=["ostl", "ottt"])
def test_one_layer_has_the_gradient_of_bptt(rule, detached, kind, x64):
    model, shape = one_layer(kind, detached)
    x = inputs(T, B, shape)
    exact = gradients(model, cross_entropy, x, LABELS, rule=BPTT())[1]
    by_delay = np.asarray(exact["modules"][0]["delays"]["unconstrained"][...])
    assert np.abs(by_delay).min() > 1e-7
    for window in (1, 4):
        found = gradients(model, cross_entropy, x, LABELS, rule=rule, window=window)[1]
        assert furthest(found, exact) < 1e-9


def test_groups_are_the_oracle_s_edges_with_a_part_of_the_kernel(x64):
    """One group in the chain and the other as a connection from the same inputs, in a net of two layers."""
    model, _ = one_layer("groups", False)
    model.modules[0].delays.unconstrained[0, 1] = 4.5  # at the longest delay the derivatives are of two sides
    model = connect([*model.modules, linear(4, 4, 2), LI(decay=0.7, **DTYPE)])
    blocks, delay = model.modules[1], model.modules[0].delays.value
    kernel = np.zeros((2, 7, 4))
    for group in (0, 1):
        kernel[group][:, 2 * group : 2 * group + 2] = np.asarray(blocks.kernel[group])
    bias, top = np.asarray(blocks.bias[...]), model.modules[3]
    lower = oracle.Layer(
        kernel[0],
        bias,
        oracle.LIF(0.8, 0.5, oracle.fast_sigmoid()),
        (oracle.Edge(-1, 0, kernel[1], delays=delay[1]),),
        delays=delay[0],
    )
    upper = oracle.Layer(np.asarray(top.kernel[...]), np.asarray(top.bias[...]), oracle.LI(0.7), fixed=("decay",))
    x = inputs(T, B, 7)
    for rule, theirs in ((OSTL(), oracle.ostl), (OTPE(), oracle.otpe)):
        found = gradients(model, cross_entropy, x, LABELS, rule=rule, window=4)[1]["modules"]
        expected = theirs([lower, upper], x, SIGNAL).gradients[0]
        by_delay = np.asarray(found[0]["delays"]["unconstrained"][...])
        assert deviation(by_delay[0], expected["delays"]) < TOLERANCE
        assert deviation(by_delay[1], expected["edge0_delays"]) < TOLERANCE
        assert deviation(found[1]["kernel"][0], expected["kernel"][:, :2]) < TOLERANCE
        assert deviation(found[1]["kernel"][1], expected["edge0_kernel"][:, 2:]) < TOLERANCE


# ---------------------------------------------------------------------------------------- nested stacks, training, refusals


@pytest.mark.parametrize("name", ["ostl", "otpe", "s_tllr"])
def test_delays_of_nested_stacks_are_those_of_the_outer(name, x64):
    rule = RULES[name][0]
    model, _, places = delayed("chain", fixed=name in FIXED)
    parts = list(model.modules)
    assert places == {0: 0, 1: 3, 2: 6}
    nested = connect([parts[0], parts[1], connect([parts[2], connect([parts[3]]), parts[4]]), *parts[5:]])
    x = inputs(T, B, 7)
    flat = gradients(model, cross_entropy, x, LABELS, rule=rule, window=4)[1]["modules"]
    found = gradients(nested, cross_entropy, x, LABELS, rule=rule, window=4)[1]["modules"]
    assert furthest(found[0], flat[0]) < 1e-12
    assert furthest(found[2]["modules"][1]["modules"][0], flat[3]) < 1e-12
    assert furthest(found[4], flat[6]) < 1e-12


def test_a_fit_with_an_online_rule_resumes_with_the_delays_it_had(tmp_path):
    def train(epochs: int, **options: Any) -> Any:
        rngs = nnx.Rngs(0)
        model = connect(
            [
                Delay(7, LONGEST, rngs=rngs),
                nnx.Linear(7, 6, rngs=rngs),
                LIF(threshold=0.5),
                nnx.Linear(6, 4, rngs=rngs),
                LI(),
            ]
        )
        optimizer = nnx.Optimizer(model, optax.sgd(0.5, momentum=0.9), wrt=nnx.Param)
        batches = [(inputs(T, B, 7, seed, jnp.float32), jnp.asarray(LABELS)) for seed in range(2)]
        options = options | {"rule": OSTL(), "update": "online", "window": 3, "progress": False}
        fit(model, optimizer, cross_entropy, batches, epochs=epochs, **options)
        return nnx.state(model, nnx.Param)

    whole = train(2)
    first = train(1, checkpoints=Checkpoints(tmp_path, every=1))
    assert furthest(first["modules"][0], whole["modules"][0]) > 1e-4
    resumed = train(2, checkpoints=Checkpoints(tmp_path, every=1))
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_delays_are_learned_under_an_online_rule(x64):
    """Two inputs fire at times that only the right delays bring together; the weights are fixed."""
    delay = Delay(2, 6, delays=Trainable([0.5, 0.5]), width=2.0, **DTYPE)
    synapse = linear(2, 1, 0)
    synapse.kernel[...], synapse.bias[...] = jnp.ones((2, 1)), jnp.zeros(1)
    model = connect([delay, synapse, LI(decay=0.3, **DTYPE)])
    x = jnp.zeros((10, 1, 2)).at[0, 0, 0].set(1.0).at[4, 0, 1].set(1.0)
    aim = jnp.zeros((10, 1, 1)).at[6].set(2.0)
    from slax_rules import PerStep, squared_error, train_offline

    optimizer = nnx.Optimizer(model, optax.sgd(20.0), wrt=nnx.PathContains("delays"))
    with jax.numpy_dtype_promotion("standard"):
        losses = [
            float(train_offline(model, optimizer, squared_error, x, PerStep(aim), rule=OSTL(), window=2))
            for _ in range(150)
        ]
    assert losses[-1] < 0.8 * losses[0]
    first, second = model.modules[0].delays.value[0]
    assert abs(first - second - 4) < 0.5, (first, second)


def options_of(case: str) -> tuple[Any, Any, str]:
    d = Delay(6, 3, **DTYPE)
    hidden = [linear(7, 6, 0), LIF(**DTYPE)]
    top = [linear(6, 4, 1), LI(**DTYPE)]
    match case:
        case "behind the last neuron":
            return (
                connect([*hidden, linear(6, 6, 1), LI(**DTYPE), d]),
                OSTL(),
                "not right before the synapse of a layer",
            )
        case "before a function":
            stack = connect([*hidden, d, lambda x: x, *top])
            return stack, OSTL(), r"as module 2, .*, or fix its delays: Delay\("
        case "before a neuron":
            return connect([*hidden, d, LI(**DTYPE)]), OTTT(), "not right before the synapse of a layer"
        case "edge from it":
            return (
                connect([*hidden, d, *top], [Edge(2, 0, 1, linear(6, 6, 5))]),
                OSTL(),
                "an edge that begins at module 2, a Delay",
            )
        case "recurrence":
            stack = connect([Delay(7, 3, **DTYPE), *hidden, *top], [Edge(2, 1, 1, linear(6, 6, 5))])
            return stack, OSTL(recurrence=True), r"which it does not follow. Use OSTL\(\), or RTRL\(\)"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case", ["behind the last neuron", "before a function", "before a neuron", "edge from it", "recurrence"]
)
def test_delays_elsewhere_are_refused_with_what_to_do(case, x64):
    model, rule, match = options_of(case)
    with pytest.raises((TypeError, ValueError), match=match):
        gradients(model, cross_entropy, inputs(T, B, 7), LABELS, rule=rule)
