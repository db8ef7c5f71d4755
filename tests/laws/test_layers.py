"""What a stack may be made of under a rule for layers, a rule and a route for each layer, and what the rule keeps over time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
import slax_neurons as sn
import slax_rules as sr
from laws import table
from laws.table import F64, LABELS, LI, NETWORKS, PENALTIES, TARGETS, B, T, X, case, layers_of, lif
from slax_neurons import LI as Integrator
from slax_neurons import LIF, Delay, Edge, SpikingNeuron, Surrogate, Trainable, connect, unroll
from slax_neurons.neurons.cuba_lif import CuBaLIFState
from stacks import deviation, furthest, gradients_of, inputs, linear, pair, worst

pytestmark = pytest.mark.slow
EXACT = 1e-12
SIGNAL = oracle.softmax_cross_entropy(LABELS)


def run(model, rule=None, window=3, x=X, loss=sr.cross_entropy, labels=LABELS, **options):
    rule = {} if rule is None else {"rule": rule}
    return sr.gradients(model, loss, jnp.asarray(x), labels, window=window, **rule, **options)[1]


def fires(**options):
    return LIF(**{"threshold": 0.5, **options}, **F64)


# --------------------------------------------------------------------------------------------------------- stacks of stacks


def nested_and_flat():
    """One network twice: a stack in a stack which is read late there, with a learned delay inside, and one chain."""
    delay = Delay(6, 2, delays=Trainable(np.linspace(0, 1.7, 6)), **F64)
    modules = [linear(7, 6, 0), fires(), delay, linear(6, 6, 1), fires(decay=0.7), linear(6, 4, 2), Integrator(**F64)]
    inner, late, own = linear(6, 6, 3), linear(6, 4, 4), linear(4, 4, 5)
    part = connect(modules[:5], [Edge(4, 3, 1, inner)])
    nested = connect([part, *modules[5:]], [Edge(0, 1, 3, late), Edge(2, 1, 1, own)])
    return nested, connect(modules, [Edge(4, 3, 1, inner), Edge(4, 5, 3, late), Edge(6, 5, 1, own)])


def test_a_nested_stack_read_late_is_one_chain():
    """From a carry of its own."""
    found = []
    for model in nested_and_flat():
        carry, _ = nnx.jit(unroll)(model, model.initialize_carry((B, 7)), jnp.asarray(X[:3]))
        gradient = run(model, sr.OTPE(), 3, X[3:], carry=carry)
        leaves = [np.asarray(leaf[...]) for _, leaf in nnx.to_flat_state(gradient)]
        found.append(sorted(leaves, key=lambda g: (g.shape, np.abs(g).sum())))
    assert furthest(*found) < EXACT
    paths = ([path for path, _ in nnx.to_flat_state(of)] for of in (gradient, nnx.state(model, nnx.Param)))
    assert next(paths) == next(paths)


def test_a_synapse_in_several_places_has_the_sum():
    """In two layers, on an edge into its own layer, behind the last neuron."""
    parts = []
    for same in (True, False):
        shared = linear(6, 6, 0)
        places = [shared if same else linear(6, 6, 0) for _ in range(4)]
        modules = [linear(7, 6, 1), fires(), places[0], fires(), places[1], Integrator(**F64), places[2]]
        found = run(connect(modules, [Edge(3, 2, 1, places[3])]), sr.OSTL())
        each = [found["modules"][index]["kernel"][...] for index in ((2,) if same else (2, 4, 6))]
        parts.append(sum(each) + (0 if same else found["synapses"][0]["kernel"][...]))
    assert deviation(*parts) < EXACT


def test_dropout_passes_signals_through_its_mask():
    model = connect([linear(7, 6, 0), fires(), sn.Dropout(0.5, rngs=nnx.Rngs(0)), linear(6, 4, 1), fires()])
    carry = model.initialize_carry((B, 7), nnx.Rngs(1))
    mask = carry[2].astype(jnp.float64)
    assert 0 < mask.mean() < 1
    held = [*model.modules[:2], lambda rows: rows * jnp.tile(mask, (rows.shape[0] // B, 1)) * 2, *model.modules[3:]]
    assert furthest(run(model, sr.OSTL(), carry=carry), run(connect(held), sr.OSTL())) < EXACT


def test_a_neuron_on_its_inputs_is_one_behind_the_identity():
    """A function before it, and one between layers whose derivative signals pass."""
    bare = connect([lambda x: x, fires(decay=Trainable(0.6)), lambda x: jnp.tanh(x), linear(7, 4, 0), fires()])
    one = nnx.Linear(7, 7, use_bias=False, rngs=nnx.Rngs(0), **F64)
    one.kernel[...] = jnp.eye(7)
    ours, theirs = (run(model, sr.OTTT())["modules"] for model in (bare, connect([one, *bare.modules[1:]])))
    assert furthest([ours[1], ours[3]], [theirs[1], theirs[3]]) < EXACT
    assert all(leaf.any() for leaf in jax.tree.leaves(ours))


class TwoStates(sn.Neuron):
    """A neuron of a user: a filtered current and an adapting threshold, coupled both ways, two states of two kinds."""

    def __init__(self):
        super().__init__(param_dtype=jnp.float64)
        self.rate = nnx.Param(jnp.array([[0.3, 0.4, 0.5, 0.6]], jnp.float64))
        self.gain = nnx.Param(jnp.array([0.7], jnp.float64))  # one for all units
        self.leak = nnx.Param(jnp.array(0.9, jnp.float64))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"v": jnp.zeros(input_shape, jnp.float64), "w": jnp.zeros(input_shape, jnp.float64)}

    def __call__(self, carry, inputs):
        v = self.rate[...] * carry["v"] + self.gain[...][None] * inputs - 0.3 * carry["w"]
        spikes = LIF(spike_fn=Surrogate(lambda x: jnp.exp(-jnp.abs(x)))).spike_fn(v - 0.5 - 0.2 * carry["w"])
        return {"v": v - spikes, "w": self.leak[...] * carry["w"] + 0.5 * spikes * v}, spikes


def test_any_element_wise_neuron_is_exact_as_last_layer():
    model = connect([linear(7, 6, 0), fires(), linear(6, 4, 1), TwoStates()])
    exact, online = run(model)["modules"], run(model, sr.OSTL())["modules"]
    assert furthest([online[2], online[3]], [exact[2], exact[3]]) < 1e-11
    assert deviation(online[0]["kernel"][...], exact[0]["kernel"][...]) > 0.1


class Late(SpikingNeuron):
    """A LIF whose current, a leaky sum of inputs, arrives one step late: no input reaches a spike within its step."""

    carry_type = CuBaLIFState
    linear = True

    def integrate(self, carry, inputs):
        return CuBaLIFState(0.7 * carry[0] + inputs, 0.9 * carry[1] + carry[0])

    def fire(self, membrane):
        after, spikes = self.spike(membrane[1])
        return CuBaLIFState(membrane[0], after), spikes


def test_input_traces_take_a_current_that_arrives_late():
    neuron = Late(threshold=0.5, reset="subtract", stop_reset_gradient=True, **F64)
    model = connect([linear(7, 6, 0), neuron, linear(6, 4, 1), Integrator(**F64)])
    eligibility, exact = run(model, sr.OSTL())["modules"], run(model)["modules"]
    trace = run(model, sr.OTTT(bias_trace=False))["modules"]
    assert deviation(trace[0]["kernel"][...], eligibility[0]["kernel"][...]) < 1e-11
    assert not trace[0]["bias"][...].any()  # without a trace nothing of it is left
    summed = run(model, sr.ApproximateOTPE())["modules"]
    assert deviation(summed[2]["kernel"][...], exact[2]["kernel"][...]) < 1e-11
    assert summed[0]["kernel"][...].any()


def test_one_layer_with_learned_delays_is_exact():
    """Gaussian ones, in groups, at both borders and beyond; in front of a convolution."""

    def delay(n, d, **options):
        return Delay(n, 5, delays=Trainable(d), **options, **F64)

    rng = np.random.default_rng(3)
    beyond = delay(7, np.r_[0.0, 5.0, rng.uniform(0, 5, 5)])
    beyond.delays.unconstrained[0, 2:4] = jnp.array([-0.7, 5.3])
    blocks = sn.BlockDiagonal(14, 4, 2, rngs=nnx.Rngs(1), **F64)
    conv = nnx.Conv(2, 4, (3, 3), strides=(2, 2), rngs=nnx.Rngs(1), **F64)
    images = inputs(T, B, (4, 4, 2))
    for modules, x in (
        ([beyond, linear(7, 4, 0), fires()], X),
        ([delay(7, rng.uniform(0, 5, (2, 7)), groups=2, width=0.8), blocks, fires(threshold=0.2)], X),
        ([delay(2, [0.3, 1.6]), conv, fires(threshold=0.2), lambda s: s.reshape(s.shape[0], -1)[:, :4]], images),
    ):
        model = connect(modules)
        exact = run(model, None, None, x)
        assert all(np.abs(leaf).min() > 1e-9 for leaf in jax.tree.leaves(exact["modules"][0]))
        assert furthest(run(model, sr.OSTL(), 3, x), exact) < 1e-9


def mean_of(x, *options):
    with jax.numpy_dtype_promotion("standard"):  # Flax divides by a NumPy integer
        return nnx.avg_pool(x, *options)


def test_signals_pass_maps_of_currents():
    """Of convolutions, one in groups; the step alone is what TBPTT has of one step."""
    convs = [
        nnx.Conv(i, o, (3, 3), padding="VALID", feature_group_count=g, rngs=nnx.Rngs(i), **F64)
        for i, o, g in ((2, 4, 2), (4, 3, 1))
    ]
    layers = [[conv, lambda x: 2 * mean_of(x, (2, 2), (2, 2)), fires(threshold=0.1)] for conv in convs]
    flatten = lambda x: x.reshape(len(x), -1)  # noqa: E731
    model = connect([*layers[0], *layers[1], flatten, linear(3, 4, 1), Integrator(**F64)])
    images = inputs(T, B, (10, 10, 2))
    found = run(model, sr.SLTT(), x=images)
    assert furthest(found, run(model, sr.TBPTT(steps=1), x=images)) < 1e-11
    assert all(leaf.any() for leaf in jax.tree.leaves(found))


def test_a_layer_with_maps_of_its_current_is_exact():
    """At the border too, where a bias counts less; an edge into the convolution passes the maps, one into a map does not."""
    conv, one = (nnx.Conv(2, 4, (k, k), rngs=nnx.Rngs(k), **F64) for k in (3, 1))
    skip = nnx.Conv(2, 4, (2, 2), (2, 2), rngs=nnx.Rngs(5), **F64)
    modules = [
        lambda x: x,
        conv,
        lambda x: mean_of(x, (3, 3), (2, 2), "SAME"),
        lambda x: x[:, ::-1],
        fires(threshold=0.2, stop_reset_gradient=True),
        lambda s: s.reshape(len(s), -1)[:, :4],
    ]
    model, images = connect(modules, [Edge(0, 1, synapse=one), Edge(0, 2, synapse=skip)]), inputs(T, B, (4, 4, 2))
    exact = run(model, x=images)
    assert all(furthest(run(model, rule, x=images), exact) < 1e-11 for rule in (sr.OSTL(), sr.OTTT()))
    assert all(leaf.any() for leaf in jax.tree.leaves(exact))


def noisy(rule=None, seed=0):
    return run(connect([sn.Dropout(0.5, per="step", rngs=nnx.Rngs(seed)), linear(7, 4, 0), fires()]), rule)


@pytest.mark.parametrize("rule", [sr.TBPTT(T), sr.OSTL()])
def test_noise_is_that_of_its_seed_under_every_rule_and_window(rule):
    """So that a rule which is exact for one layer is so here."""
    assert furthest(noisy(rule), noisy()) < 1e-11 and furthest(noisy(), noisy(seed=1)) > 0.01


# --------------------------------------------------------------------------------------------------- a list, a route, a loss


ROUTES = {
    "symmetric": lambda model: sr.Symmetric(),
    "adaptive": lambda model: sr.Adaptive(model, rngs=nnx.Rngs(5)),
    "bases": lambda model: sr.FixedBases(),
    **{
        kind.__name__.lower(): functools.partial(lambda model, kind: kind(rngs=nnx.Rngs(5)), kind=kind)
        for kind in (sr.Random, sr.Direct, sr.Target, sr.Local)
    },
}
OF_A_LAYER = {"ostl": (sr.OSTL, oracle.ostl), "ottt": (sr.OTTT, oracle.ottt), "sltt": (sr.SLTT, oracle.sltt)}


@pytest.mark.parametrize(
    "listed",
    [
        [("ostl", "direct", "direct"), ("ottt", "random", "symmetric"), ("sltt", "symmetric", "symmetric")],
        [("ottt", "target", "target"), ("sltt", "adaptive", "random"), ("ostl", "random", "random")],
        [("sltt", "local", "local"), ("ostl", "bases", "bases"), ("ottt", "adaptive", "adaptive")],
    ],
)
def test_layers_of_a_list_have_their_own_rules_and_routes(listed):
    """What a layer finds in a list, it finds under its rule for all layers and the route that brings it its signal: its own
    where that skips layers, or that of the layer above."""
    model, layers = NETWORKS["edges"].pair()
    x, routes = table.inputs_of("edges"), {name: ROUTES[name](model) for _, *names in listed for name in names}
    rule = sr.PerLayer([OF_A_LAYER[name][0](route=routes[own]) for name, own, _ in listed])
    batch = {"loss": table.weighted_squares, "labels": jnp.asarray(TARGETS), "x": x}
    found = gradients_of(model, run(model, rule, **batch))
    for index, (name, _, way) in enumerate(listed):
        ours, theirs = OF_A_LAYER[name]
        route = table.route_of(ours(route=routes[way]), model, layers, TARGETS)
        expected = theirs(layers, x, table.signal_of(TARGETS, table.ALL), route=route).gradients
        assert worst(found[index : index + 1], expected[index : index + 1]) < EXACT


def test_a_layer_under_otpe_in_a_list_sends_the_mean_slope_down():
    model, layers = pair([7, 6, 5, 4], [lif(), lif(decay=0.6), LI])
    mixed, whole = (
        gradients_of(model, run(model, sr.PerLayer([sr.OSTL(), sr.OTPE(), sr.OSTL()]))),
        oracle.otpe(layers, X, SIGNAL).gradients,
    )
    assert worst(mixed[1:], whole[1:]) < EXACT
    decay = oracle.otpe(layers, X, SIGNAL, next_decay=lambda layer, _: 0.0 if layer is layers[0] else 0.7).gradients
    assert worst(mixed[:1], decay[:1]) < EXACT


def two_losses(y, targets):
    return sr.cross_entropy(y["a"], targets["a"]) + sr.squared_error(y["b"], targets["b"])


def of_both(y, targets):
    """The same losses of outputs behind each other."""
    labels = jnp.argmax(targets[:, :3], axis=1)
    return sr.cross_entropy(y[:, :3], labels) + sr.squared_error(y[:, 3:], targets[:, 3:])


@pytest.mark.parametrize("kind", [sr.Direct, sr.Target, sr.Local])
def test_signals_of_several_outputs_are_concatenated(kind):
    sizes, neurons = [7, 6, 4], [lif(), LI]
    labels, numbers = np.array([0, 2, 1]), np.random.default_rng(0).normal(size=(B, 1))
    two = pair(sizes, neurons, ends=[lambda y: {"a": y[:, :3], "b": y[:, 3:]}]).model
    one, targets = pair(sizes, neurons).model, jnp.asarray(np.concatenate([np.eye(3)[labels], numbers], axis=1))
    rule, marked = sr.OTTT(route=kind(rngs=nnx.Rngs(5))), {"a": jnp.asarray(labels), "b": jnp.asarray(numbers)}
    found = run(two, rule, loss=two_losses, labels=marked)
    assert furthest(found, run(one, rule, loss=of_both, labels=targets)) < EXACT


class SignOfError(sr.Direct):
    def signal(self, layer, outputs, feedback):
        return super().signal(layer, outputs, feedback._replace(error=jnp.sign(feedback.error)))


def test_a_signal_of_any_form_is_that_of_any_window():
    model, rule = pair([7, 6, 4], [lif(), LI]).model, sr.SLTT(route=SignOfError(rngs=nnx.Rngs(6)))
    assert furthest(run(model, rule, 1), run(model, rule, 3)) < EXACT


OF_MEAN = sr.SequenceLoss(lambda y, t: sr.cross_entropy(y.mean(axis=0), t))


@pytest.mark.parametrize("rule", ["rtrl", "decolle"])
def test_losses_of_a_sequence_are_those_of_any_windows(rule):
    """Also where layers have losses of their own."""
    (model, _), penalties = pair([7, 6, 4], [lif(), LI], edges=[(0, 0, 1)]), [sr.firing_rate(0.1, 3.0)]
    rule = sr.RULES[rule].make(rngs=nnx.Rngs(5))
    ours, whole = (run(model, rule, window, loss=OF_MEAN, penalties=penalties) for window in (5, T))
    assert furthest(ours, whole) < EXACT


def test_targets_are_divided_by_the_losses_that_count():
    model, _ = pair([7, 6, 4], [lif(), LI])
    mask = jnp.ones((T, B), bool).at[3, 1:].set(False).at[0, 0].set(False)
    of_mean = sr.SequenceLoss(lambda y, t, mask: sr.cross_entropy(y.mean(axis=0), t))
    rule = sr.SLTT(route=ROUTES["target"](model))
    step, sequence = (run(model, rule, loss=loss, mask=mask) for loss in (sr.cross_entropy, of_mean))
    assert furthest(sequence["modules"][0], step["modules"][0]) < EXACT


def test_secondary_replaces_psi_in_both_terms_and_not_below():
    """Twice psi doubles what hidden layers find, and not what they send down."""

    def slope(x):
        return 1 / (1 + 4 * jnp.abs(x)) ** 2

    hidden = [linear(7, 6, 0), fires(spike_fn=Surrogate(slope)), linear(6, 5, 1), fires(spike_fn=Surrogate(slope))]
    model, double = connect([*hidden, linear(5, 4, 2), Integrator(**F64)]), Surrogate(lambda x: 2 * slope(x))
    one, two = (run(model, sr.STLLR(0.7, 0.3, 1.1, -0.4, secondary=psi))["modules"] for psi in (None, double))
    for index, factor in ((0, 2), (2, 2), (4, 1)):
        assert furthest(two[index], jax.tree.map(lambda leaf, factor=factor: factor * leaf, one[index])) < EXACT
        assert all(leaf.any() for leaf in jax.tree.leaves(one[index]))


def test_bases_are_waves_over_the_units():
    waves, model = np.sin(np.linspace(50, 512, 4) * np.arange(6)[:, None]), pair([7, 6, 4], [lif(), LI]).model
    for waveform, wave in (("square", np.sign(waves)), ("sine", waves)):
        matrix = sr.FixedBases(waveform).matrix(layers_of(model)[0], 6, 4, jnp.float64)
        np.testing.assert_allclose(matrix, wave / 6, atol=1e-9)


# ------------------------------------------------------------------------------------------------------- adaptive and online


def kernels_of(model, rule):
    """The kernels and the matrices in their place."""
    layers = layers_of(model)
    return [[np.asarray(layer.synapses[0].kernel[...]), np.asarray(rule.route.kernels(layer)[0])] for layer in layers]


@pytest.mark.parametrize("online", [False, True])
def test_adaptive_matrices_become_the_kernels_under_decay(online):
    """Kolen and Pollack: both get the same gradient, and what sets them apart decays. A tied synapse has two matrices."""
    tied = linear(6, 6, 0)
    model = connect([linear(7, 6, 3), fires(), tied, fires(), linear(6, 4, 1), fires()], [Edge(3, 2, 1, tied)])
    rule = sr.EProp(route=sr.Adaptive(model, rngs=nnx.Rngs(5)))
    before, start = kernels_of(model, rule), [m[...] for m in rule.route.matrices[1]]
    decays = optax.chain(optax.add_decayed_weights(0.0005), optax.sgd(100.0))
    optimizer = nnx.Optimizer((model, rule), decays, wrt=nnx.Param)
    train = functools.partial(sr.train_online, window=3) if online else sr.train_offline
    train(model, optimizer, sr.cross_entropy, jnp.asarray(X), LABELS, rule=rule)
    shrink = 0.95 ** (T // 3 if online else 1)
    for (kernel, matrix), (new_kernel, new_matrix) in zip(before, kernels_of(model, rule), strict=True):
        assert deviation(new_matrix - new_kernel, shrink * (matrix - kernel)) < 1e-10
        assert np.abs(new_kernel - shrink * kernel).max() > 1e-4
    apart = [np.asarray(m[...] - shrink * old) for m, old in zip(rule.route.matrices[1], start, strict=True)]
    assert deviation(*apart) < 1e-9
    assert not jax.tree.leaves(nnx.state(sr.EProp(route=sr.Random(rngs=nnx.Rngs(5))), nnx.Param))


@pytest.mark.parametrize(
    ("ours", "rule", "window"),
    [(sr.OSTL(), oracle.OSTL(), 3), (sr.OTTT(), oracle.OTTT(), 3), (sr.OTPE(), oracle.OTPE(), 1)],
    ids=["ostl", "ottt", "otpe by step"],
)
def test_online_training_is_descent_by_window(ours, rule, window):
    """New delays read the inputs before them. Losses of layers, of means too, are those of the window. Neurons are fixed: the
    oracle steps decays, the packages what is behind them."""
    rate, d, penalties = 0.3, np.array([0.3, 2.0, 1.6, 0.4, 3.1, 4.2, 0.7]), PENALTIES[:2] if window == 3 else []
    neurons = [lif(fixed=True), lif(decay=0.6, fixed=True)]
    model, layers = pair([7, 6, 4], neurons, edges=[(0, 0, 1)], delays={0: d})
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
    options = {"rule": ours, "window": window, "penalties": [penalty for penalty, _ in penalties]}
    loss = sr.train_online(model, optimizer, sr.cross_entropy, jnp.asarray(X), LABELS, **options)
    losses, x = [], np.asarray(X)
    carry = oracle.start(rule, layers, B)
    for start in range(0, T, window):
        history = oracle.forward(layers, x[start : start + window], carry.states, carry.past)
        own = table.by_oracle(penalties, table.ALL[:window])
        total = [{name: 0.0 for name in layer.parameters()} for layer in layers]
        for t in range(start, start + window):
            here = [one.at(history, t - start) for one in own]
            carry, value, found = oracle.advance(rule, layers, carry, x[t], functools.partial(SIGNAL, t), here)
            losses.append(value + oracle.own_losses(layers, here)[0])
            for sums, step in zip(total, found, strict=True):
                sums |= {name: sums[name] - rate * step[name] / window for name in sums}
        layers = [layer.moved(step) for layer, step in zip(layers, total, strict=True)]
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-12)
    pairs = [(model.modules[0].delays.value[0], layers[0].delays)]
    pairs.append((model.synapses[0].kernel[...], layers[0].edges[0].kernel))
    for place, layer in zip((1, 3), layers, strict=True):
        pairs += [(model.modules[place].kernel[...], layer.kernel), (model.modules[place].bias[...], layer.bias)]
    assert max(deviation(*both) for both in pairs) < 1e-11
    assert np.abs(layers[0].delays - d).max() > 1e-4


def test_gradient_in_single_precision_is_that_of_the_oracle():
    here = case("otpe", "edges")
    model, _ = NETWORKS["edges"].pair(dtype=jnp.float32)
    x, targets = jnp.asarray(here.inputs, jnp.float32), jnp.asarray(TARGETS, jnp.float32)
    found = sr.gradients(model, table.weighted_squares, x, targets, rule=here.rule, window=3)[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    assert worst(gradients_of(model, found), here.expected().gradients) < 1e-4


OPTIONS = {"threshold": 0.3, **F64}


class ByPlace(LIF):
    """The first units of a sample excite and the others inhibit, told by their place in [B, N]."""

    linear = True

    def fire(self, membrane):
        carry, spikes = super().fire(membrane)
        return carry, self.signed(spikes)

    def signed(self, spikes):
        return jnp.concatenate([spikes[:, :2], -spikes[:, 2:]], axis=1)


class FromTheEnd(ByPlace):
    linear = True

    def signed(self, spikes):
        return jnp.concatenate([spikes[..., :2], -spikes[..., 2:]], axis=-1)


@pytest.mark.parametrize("rule", [sr.OSTL(), sr.STLLR()])
def test_a_neuron_may_tell_its_units_by_their_place_in_a_step(rule):
    made = (
        [linear(7, 6, 0), neuron, linear(6, 4, 1), neuron] for neuron in (ByPlace(**OPTIONS), FromTheEnd(**OPTIONS))
    )
    by_place, from_the_end = (run(connect(modules), rule) for modules in made)
    assert furthest(by_place, from_the_end) < EXACT and any(leaf.any() for leaf in jax.tree.leaves(by_place))
