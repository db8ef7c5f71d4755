"""Synapses whose weights are functions of parameters, under every rule.

A net of such synapses is compared with the same net of plain ones, whose kernels and biases are the effective weights: outputs
are the same, and so is the gradient, after the chain rule by hand.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from covering import combinations
from slax_neurons import (
    LI,
    LIF,
    Edge,
    LowRank,
    Masked,
    Quantized,
    RunningNorm,
    Standardized,
    Synapse,
    connect,
    with_effective_weights,
)
from slax_rules import (
    BPTT,
    OSTL,
    OTTT,
    RTRL,
    RULES,
    SLTT,
    TBPTT,
    Adaptive,
    LayerRule,
    SequenceLoss,
    SnAp,
    cross_entropy,
    fit,
    gradients,
    load_weights,
    save_weights,
    train_offline,
    train_online,
)
from stacks import deviation, inputs

T, B = 9, 3
LABELS = np.array([0, 3, 2])
F64 = {"param_dtype": jnp.float64}
LAYERWISE = [name for name, entry in RULES.items() if issubclass(entry.rule, LayerRule)]


def linear(n_in, n_out, seed=0, **options):
    return nnx.Linear(n_in, n_out, rngs=nnx.Rngs(seed), bias_init=nnx.initializers.uniform(0.4), **F64, **options)


def conv(n_in, n_out, seed=0, **options):
    options = {"padding": "VALID", "bias_init": nnx.initializers.uniform(0.4), **F64, **options}
    return nnx.Conv(n_in, n_out, (2, 2), rngs=nnx.Rngs(seed), **options)


def moved(norm):
    """The norm with other numbers than those that it starts with, large enough that neurons fire."""
    draws = np.random.default_rng(0).uniform(0.4, 1.4, (4, norm.out_features))
    for variable, values in zip((norm.scale, norm.offset, norm.mean, norm.var), draws, strict=True):
        variable[...] = jnp.asarray(values)
    return norm


class Excitatory(Synapse):
    """A user's own: weights are exponentials."""

    def __init__(self, synapse):
        self.geometry = synapse
        self.log_kernel = nnx.Param(synapse.kernel[...] - 1)
        del synapse.kernel

    def effective(self):
        return jnp.exp(self.log_kernel[...]), self.geometry.bias[...]


class Duck(nnx.Module):
    """A user's own, of no base class: a Linear whose rows share one bias, times a number."""

    def __init__(self, synapse):
        self.weights, self.factor = nnx.Param(synapse.kernel[...]), nnx.Param(jnp.asarray(1.7))

    def effective(self):
        weights = self.factor[...] * self.weights[...]
        return weights, weights.sum(axis=0) / 8

    def __call__(self, x):
        kernel, bias = self.effective()
        return x @ kernel + bias[None]


MAKES = {
    "masked": lambda synapse: Masked.random(synapse, 0.6, rngs=nnx.Rngs(5)),
    "standardized": lambda synapse: Standardized(synapse, 1.5),
    "low rank": lambda synapse: LowRank(synapse, rank=2),
    "4 bits": lambda synapse: Quantized(synapse, 4),
    "8 bits per output": lambda synapse: Quantized(synapse, 8, per_output=True),
    "norm": lambda synapse: moved(RunningNorm(synapse)),
    "norm of 4 bits of a mask": lambda synapse: moved(RunningNorm(Quantized(MAKES["masked"](synapse), 4))),
    "excitatory": Excitatory,
    "duck": Duck,
}
DENSE_ONLY = {"duck"}
NESTED = "norm of 4 bits of a mask"
each = pytest.mark.parametrize("name", MAKES)


def one_layer(name, *, kind="dense", neuron=LIF, edge=False):
    make = MAKES[name]
    neuron = neuron(**F64) if neuron is LI else neuron(threshold=0.5, **F64)
    if kind == "conv":
        return connect([make(conv(2, 3)), neuron, lambda x: x.reshape(x.shape[0], -1)])
    edges = [Edge(1, 0, synapse=make(linear(4, 4, 1)))] if edge else []
    return connect([make(linear(7, 4)), neuron], edges)


def data(kind="dense"):
    return inputs(T, B, 7 if kind == "dense" else (4, 3, 2))


def assert_same(ours, theirs, bound=1e-9):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert deviation(a.astype(jnp.float64), b.astype(jnp.float64)) < bound


def gradient_of(model, rule, x, **options):
    """The gradient, which leaves the model as it is."""
    return gradients(nnx.clone(model), cross_entropy, x, LABELS, rule=rule, **options)


@pytest.mark.parametrize(
    ("name", "kind"),
    dict.fromkeys(
        [
            *((NESTED, kind) for kind in ("dense", "conv", "edge")),
            *combinations(
                MAKES,
                ("dense", "conv", "edge"),
                valid=lambda name, kind: not (kind == "conv" and name in DENSE_ONLY),
                strength=1,
            ),
        ]
    ),
)
def test_one_layer_is_exact(name, kind, x64):
    """Equal to BPTT: OSTL for a LIF, OTTT for a LI, SLTT for one step; windows change nothing, and RTRL and SnAp agree.

    SnAp and windows of other lengths are tried with the synapse that consists of several, and that has running sums.
    """
    edge, x = kind == "edge", data("conv" if kind == "conv" else "dense")
    shape = "conv" if kind == "conv" else "dense"
    model = one_layer(name, kind=shape, edge=edge)
    _, exact = gradient_of(model, BPTT(), x)
    assert all(leaf.any() for leaf in jax.tree.leaves(exact))
    nested = name == NESTED
    for window in (1, 4, T) if kind == "dense" and nested else (4,):
        assert_same(gradient_of(model, OSTL(recurrence=edge), x, window=window)[1], exact)
    if kind == "dense":
        integrator = one_layer(name, neuron=LI)
        assert_same(gradient_of(integrator, OTTT(), x, window=4)[1], gradient_of(integrator, BPTT(), x)[1])
        assert_same(gradient_of(model, SLTT(), x, window=4)[1], gradient_of(model, TBPTT(steps=1), x)[1])
    elif kind == "edge":
        for rule in (RTRL(), SnAp(T)) if nested else (RTRL(),):
            assert_same(gradient_of(model, rule, x, window=4)[1], exact)


NETS = {
    "one": ("standardized", "norm of 4 bits of a mask", "low rank", "masked"),
    "two": ("duck", "excitatory", "8 bits per output", "norm"),
    "three": ("norm", "4 bits", "norm", "standardized"),
}
each_net = pytest.mark.parametrize("net", NETS)


def deep(net):
    """Two layers and a read-out, with a late edge, whose synapses are made of parameters too."""
    first, second, third, edge = (MAKES[name] for name in NETS[net])
    modules = [first(linear(7, 6, 0)), LIF(threshold=0.5, **F64), second(linear(6, 5, 1)), LIF(threshold=0.5, **F64)]
    modules += [third(linear(5, 4, 2)), LI(**F64)]
    return connect(modules, [Edge(1, 0, synapse=edge(linear(6, 6, 3)))])


def pulled_back(model, by_weights):
    """The chain rule by hand: from the gradient of the plain net to that of the net whose weights are made of parameters."""
    found = {}
    places = [(("modules", index), model.modules[index]) for index in (0, 2, 4)] + [
        (("synapses", 0), model.synapses[0])
    ]
    for place, synapse in places:
        mine = by_weights[place[0]][place[1]]
        C, c = np.asarray(mine["kernel"][...]), np.asarray(mine["bias"][...]) if "bias" in mine else None
        for path, value in by_hand(synapse, C, c).items():
            found[place + path] = value
    return found


def by_hand(synapse, C, c):
    """The gradients w.r.t. the parameters of a dense synapse by their paths, from those w.r.t. kernel and bias."""
    inner = getattr(synapse, "synapse", None)
    if isinstance(synapse, nnx.Linear):
        return {("kernel",): C, ("bias",): c}
    if isinstance(synapse, Excitatory):
        return {("log_kernel",): C * np.exp(synapse.log_kernel[...]), ("geometry", "bias"): c}
    if isinstance(synapse, Duck):
        both = C + c[None] / 8
        return {("weights",): synapse.factor[...] * both, ("factor",): (both * synapse.weights[...]).sum()}
    own = {}
    if isinstance(synapse, LowRank):
        left, right = np.asarray(synapse.left[...]), np.asarray(synapse.right[...])
        return {("left",): C @ right.T, ("right",): left.T @ C, ("synapse", "bias"): c}
    w, b = (
        np.asarray(array)
        for array in (inner.effective() if hasattr(inner, "effective") else (inner.kernel, inner.bias))
    )
    if isinstance(synapse, Masked):
        C = C * np.asarray(synapse.mask[...])
    if isinstance(synapse, Standardized):
        n, centered = w.shape[0], w - w.mean(0)
        root = np.sqrt(n * w.var(0, ddof=1) + synapse.eps)
        own = {("gain",): (C * centered / root).sum(0)}
        C = 1.5 / root * (C - (C * centered).sum(0) * n / (n - 1) * centered / root**2)
        C = C - C.mean(0)
    if isinstance(synapse, RunningNorm):
        root = np.sqrt(np.asarray(synapse.var[...]) + synapse.eps)
        own = {("offset",): c, ("scale",): ((C * w).sum(0) + c * (b - np.asarray(synapse.mean[...]))) / root}
        C, c = C * np.asarray(synapse.scale[...]) / root, c * np.asarray(synapse.scale[...]) / root
    return own | {("synapse", *path): value for path, value in by_hand(inner, C, c).items()}


@pytest.mark.parametrize("net, rule", combinations(NETS, LAYERWISE, strength=1))
def test_the_gradient_is_that_of_the_plain_net_by_the_chain_rule(net, rule, x64):
    """With one window for the plain net and several for the other, or the other way around."""
    model, x = deep(net), data()
    plain = with_effective_weights(model)
    windows = (T, 4) if net == "one" else (4, T)
    plain_rule, rule = (RULES[rule].make(rngs=nnx.Rngs(3), model=one) for one in (plain, model))
    loss, by_weights = gradient_of(plain, plain_rule, x, window=windows[0])
    same_loss, found = gradient_of(model, rule, x, window=windows[1])
    assert deviation(same_loss, loss) < 1e-12
    flat, expected = {path: leaf[...] for path, leaf in nnx.to_flat_state(found)}, pulled_back(model, by_weights)
    assert set(flat) == set(expected)
    for path, value in expected.items():
        assert deviation(flat[path], value) < 1e-9, path


@each_net
def test_learned_feedback_and_losses_of_sequences(net, x64):
    """Feedback has the shapes of the effective kernels, and learns by their gradients."""
    model, x = deep(net), data()
    plain = with_effective_weights(model)
    matrices = []
    for net in (plain, model):
        net, rule = nnx.clone(net), OSTL(route=Adaptive(net, rngs=nnx.Rngs(1)))
        optimizer = nnx.Optimizer((net, rule), optax.sgd(0.1), wrt=nnx.Param)
        train_offline(net, optimizer, cross_entropy, x, LABELS, rule=rule)
        matrices.append(nnx.state(rule, nnx.Param))
    assert_same(*matrices)
    mean = SequenceLoss(lambda y, labels: cross_entropy(y.mean(axis=0), labels))
    whole, cut = (gradients(nnx.clone(model), mean, x, LABELS, rule=OSTL(), window=window) for window in (T, 4))
    assert_same(cut, whole)


def test_a_synapse_that_occurs_twice_has_the_sum(x64):
    """In two layers, on an edge into its own layer, and behind the last neuron, where autodiff finds the gradient."""
    shared = moved(RunningNorm(linear(6, 6)))

    def stack(one, two, edge, last):
        modules = [linear(7, 6, 1), LIF(threshold=0.5, **F64), one, LIF(threshold=0.5, **F64), two, LI(**F64), last]
        return connect(modules, [Edge(3, 2, synapse=edge)])

    tied, free = stack(*[shared] * 4), stack(*(nnx.clone(shared) for _ in range(4)))
    x = data()
    for rule in (OSTL(), BPTT()):
        _, total = gradient_of(tied, rule, x)
        _, parts = gradient_of(free, rule, x)
        places = [parts["modules"][2], parts["modules"][4], parts["modules"][6], parts["synapses"][0]]
        for name in ("scale", "offset"):
            assert deviation(total["modules"][2][name][...], sum(place[name][...] for place in places)) < 1e-9
    counted = nnx.clone(tied)
    gradients(counted, cross_entropy, x, LABELS, rule=OSTL(), window=4)
    reference = nnx.clone(tied)
    gradients(reference, cross_entropy, x, LABELS)
    assert_same(nnx.state(counted, nnx.BatchStat), nnx.state(reference, nnx.BatchStat))


def norm_net(seed=0):
    modules = [
        RunningNorm(linear(7, 6, seed)),
        LIF(threshold=0.5, **F64),
        RunningNorm(linear(6, 4, seed + 1)),
        LI(**F64),
    ]
    return connect(modules, [Edge(1, 0, synapse=RunningNorm(linear(6, 6, seed + 2)))])


def statistics(model):
    return nnx.state(model, nnx.BatchStat)


RULES_OF_NORMS = [BPTT(), TBPTT(steps=4), OSTL(), OTTT(), RTRL(), RULES["decolle"].make(rngs=nnx.Rngs(0))]


@pytest.mark.parametrize("rule", RULES_OF_NORMS, ids=lambda rule: type(rule).__name__)
def test_statistics_are_those_of_one_pass_whatever_the_rule_and_the_window(rule, x64):
    x = data()
    reference = norm_net()
    gradients(reference, cross_entropy, x, LABELS)
    rows = x.reshape(T * B, 7)
    current = norm_net().modules[0].synapse(rows)
    assert deviation(reference.modules[0].mean[...], 0.1 * current.mean(0)) < 1e-12
    assert deviation(reference.modules[0].var[...], 0.9 + 0.1 * current.var(0)) < 1e-12
    mean = SequenceLoss(lambda y, labels: cross_entropy(y.mean(axis=0), labels))
    for window in (1, 4, T):
        for loss in (cross_entropy, mean):
            model = norm_net()
            _, gradient = gradients(model, loss, x, LABELS, rule=rule, window=window)
            assert_same(statistics(model), statistics(reference), 1e-12)
            assert not any("mean" in path or "var" in path for path, _ in nnx.to_flat_state(gradient))
    model = norm_net()
    model.eval()
    gradients(model, cross_entropy, x, LABELS, rule=rule, window=4)
    assert_same(statistics(model), statistics(norm_net()), 1e-12)


@pytest.mark.parametrize("rule", [BPTT(), OSTL()], ids=["BPTT", "OSTL"])
def test_statistics_move_once_for_each_step_of_training(rule, x64):
    """Once for a sequence, offline and online. A step that is not finite moves nothing."""
    x = data()
    one = norm_net()
    optimizer = nnx.Optimizer(one, optax.sgd(0.1), wrt=nnx.Param)
    train_offline(one, optimizer, cross_entropy, x, LABELS, rule=rule)
    reference = norm_net()
    gradients(reference, cross_entropy, x, LABELS)
    assert_same(statistics(one), statistics(reference), 1e-12)

    online = norm_net()
    optimizer = nnx.Optimizer(online, optax.sgd(0.0), wrt=nnx.Param)
    train_online(online, optimizer, cross_entropy, x, LABELS, rule=rule, window=4)
    assert_same(statistics(online), statistics(reference), 1e-12)

    broken = norm_net()
    optimizer = nnx.Optimizer(broken, optax.sgd(0.1), wrt=nnx.Param)
    assert jnp.isnan(train_offline(broken, optimizer, cross_entropy, x.at[3].set(jnp.nan), LABELS, rule=rule))
    assert_same(statistics(broken), statistics(norm_net()), 1e-12)


def test_fit_and_files_keep_statistics_and_masks(tmp_path, x64):
    def net():
        model = norm_net()
        model.modules[2] = RunningNorm(Masked.random(linear(6, 4, 1), 0.5, rngs=nnx.Rngs(2)))
        return model

    by_hand, fitted = net(), net()
    x = data()
    optimizer = nnx.Optimizer(by_hand, optax.sgd(0.1), wrt=nnx.Param)
    for _ in range(3):
        train_online(by_hand, optimizer, cross_entropy, x, LABELS, rule=OTTT(), window=4)
    optimizer = nnx.Optimizer(fitted, optax.sgd(0.1), wrt=nnx.Param)
    batches = [(x, LABELS)] * 3
    fit(fitted, optimizer, cross_entropy, batches, rule=OTTT(), update="online", window=4, progress=False)
    assert_same(nnx.state(fitted), nnx.state(by_hand), 1e-12)
    save_weights(tmp_path / "net.npz", fitted)
    read = connect(
        [RunningNorm(linear(7, 6, 8)), *net().modules[1:]], [Edge(1, 0, synapse=RunningNorm(linear(6, 6, 8)))]
    )
    load_weights(tmp_path / "net.npz", read)
    assert_same(nnx.state(read), nnx.state(fitted), 1e-15)


def equations(jaxpr, scans=()):
    """Each equation of a program and of those within it, with the lengths of the scans that it is in."""
    for equation in jaxpr.eqns:
        yield equation, scans
        within = (*scans, equation.params["length"]) if equation.primitive.name == "scan" else scans
        for program in jaxprs_in_params(equation.params):
            yield from equations(program, within)


@pytest.mark.parametrize("rule", [OTTT(), OSTL()], ids=["ottt", "ostl"])
def test_weights_are_made_once_per_window(rule, x64):
    """Each kernel is rounded in the scan over windows or outside of it, and never in one over steps, through which the edge of
    the first layer goes. The compiled program of one window has one rounding for each synapse, and the products of plain ones.
    """
    x = data()

    def net(make):
        layers = [make(linear(7, 6)), LIF(threshold=0.5, **F64), make(linear(6, 4, 1)), LIF(threshold=0.5, **F64)]
        return connect(layers, [Edge(1, 0, synapse=make(linear(6, 6, 2)))])

    def program(model, window):
        graphdef, state = nnx.split(model)

        def run(state):
            return gradients(nnx.merge(graphdef, state), cross_entropy, x, LABELS, rule=rule, window=window)

        return jax.jit(run).trace(state)

    quantized = net(MAKES["4 bits"])
    for window, places in ((T, {()}), (4, {(), (2,)})):
        listed = list(equations(program(quantized, window).jaxpr.jaxpr))
        assert any(window in scans for _, scans in listed)  # the steps of a window
        assert {scans for equation, scans in listed if equation.primitive.name == "round"} == places
    texts = {make: program(net(MAKES[make]), T).lower().compile().as_text() for make in ("4 bits", "8 bits per output")}
    texts["plain"] = program(net(lambda synapse: synapse), T).lower().compile().as_text()
    synapses = {"4 bits": 3, "8 bits per output": 3, "plain": 0}
    assert {make: text.count("round-nearest-even(") for make, text in texts.items()} == synapses
    assert len({text.count(" dot(") for text in texts.values()}) == 1


def mixed(*modules):
    return connect([*modules, LIF()])


@pytest.mark.parametrize("rule", [OSTL(), SLTT(), OTTT()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(
    ("make", "got", "instead"),
    [
        (
            lambda: mixed(nnx.Linear(7, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0))),
            "got Linear as module 0, followed by BatchNorm",
            r"wrap the synapse: slax_neurons\.RunningNorm\(Conv\(\.\.\.\)\)",
        ),
        (
            lambda: mixed(lambda x: x[:, :, None], nnx.Conv(1, 4, (3,), mask=jnp.ones((3, 1, 4)), rngs=nnx.Rngs(0))),
            "got Conv as module 1, followed by LIF",
            r"use slax_neurons\.Masked\(Conv\(\.\.\.\), mask\)",
        ),
        (
            lambda: connect([Standardized(nnx.Linear(7, 4, rngs=nnx.Rngs(0))), lambda x: x, LIF()]),
            "got Standardized as module 0, followed by Function",
            r"Use rule=RTRL\(\)",
        ),
    ],
    ids=["BatchNorm", "Conv with a mask", "not before a neuron"],
)
def test_refusals_name_the_neighbor_that_works(rule, make, got, instead):
    with pytest.raises(TypeError, match=f"{got}.*{instead}"):
        gradients(make(), cross_entropy, jnp.zeros((2, 3, 7)), jnp.zeros(3, int), rule=rule)


def test_a_batch_norm_on_an_edge_names_the_neighbor_that_works():
    model = connect(
        [nnx.Linear(7, 4, rngs=nnx.Rngs(0)), LIF()], [Edge(1, 0, synapse=nnx.BatchNorm(4, rngs=nnx.Rngs(0)))]
    )
    with pytest.raises(TypeError, match=r"the synapse of the edge from 1 to 0.*RunningNorm"):
        gradients(model, cross_entropy, jnp.zeros((2, 3, 7)), jnp.zeros(3, int), rule=OSTL())
