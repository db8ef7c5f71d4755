"""Rules on whole networks against the oracle's equations, step by step: as closely as docs/rules.md says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from covering import EVERY, combinations
from kinds_of_rules import OF_EACH_CLASS
from rules.ledger import (
    CASES,
    COMPARISONS,
    LABELS,
    NETWORKS,
    SIGNAL,
    B,
    T,
    cuba_lif,
    deviation_from_oracle,
    layers_of,
    lif,
    printed_bounds,
)
from slax_neurons import IF, LI, LIF, BlockDiagonal, Edge, Masked, Quantized, RunningNorm, Trainable, connect
from slax_rules import (
    BPTT,
    DECOLLE,
    OSTL,
    OTPE,
    OTTT,
    SLTT,
    Adaptive,
    ApproximateOTPE,
    EProp,
    Local,
    Random,
    SequenceLoss,
    cross_entropy,
    gradients,
    train_offline,
    train_online,
)
from stacks import deviation, gradients_of, inputs, linear, pair, worst

LOCAL = ("ostl", "otpe", "approximate_otpe", "ottt", "sltt", "e_prop", "pp_prop", "decolle")


@pytest.mark.parametrize("network", NETWORKS)
def test_every_spiking_layer_of_the_networks_fires_now_and_then(network, x64):
    """No comparison may hold for want of spikes."""
    net = NETWORKS[network]
    _, layers = net.pair()
    history = oracle.forward(layers, np.asarray(net.inputs()).reshape(T, B, -1))
    for index, neuron in enumerate(net.neurons):
        if neuron["kind"] not in ("li", "none"):
            assert 0.05 < oracle.series(history, "output", index).mean() < 0.8


# Every class of rules on all its networks; the others, which differ in route or name, on one of them or more.
OF_A_CLASS = [name for name, comparison in COMPARISONS.items() if EVERY or comparison.rule in OF_EACH_CLASS]
TRIED = [
    *(case for case in CASES if case[0] in OF_A_CLASS),
    *combinations(
        [name for name in COMPARISONS if name not in OF_A_CLASS],
        NETWORKS,
        valid=lambda *case: case in CASES,
        strength=1,
    ),
]


@pytest.mark.parametrize(("name", "network"), TRIED, ids=lambda part: part)
def test_gradient_is_that_of_the_oracle(name, network, x64):
    limit = printed_bounds()[name, network]
    assert limit < 1e-9
    assert deviation_from_oracle(name, network) < limit


@pytest.mark.parametrize("name", [name for name in LOCAL if name != "decolle"])
def test_gradient_in_float32_is_that_of_the_oracle(name):
    assert deviation_from_oracle(name, "recurrent", jnp.float32) < 1e-4


# ---------------------------------------------------------------------------------------------------------------- options


def found_by(rule, model, window=3):
    return gradients(model, cross_entropy, inputs(T, B, 7), LABELS, rule=rule, window=window)[1]


def ours(rule, model, window=3):
    return gradients_of(model, found_by(rule, model, window))


def two_layers(**options):
    return pair([7, 6, 4], [lif(), lif(**options)])


def same(ours, theirs):
    return worst(ours, theirs) < 1e-12


def adaptive(model, seed=5):
    return EProp(route=Adaptive(model, rngs=nnx.Rngs(seed)))


def moved_by(transformation, model, rule, steps=1):
    """The kernels and the matrices in their place, before and after steps of an optimizer of both."""

    def kernels():
        layers = layers_of(model)
        return [
            (np.asarray(layer.synapses[0].kernel[...]), np.asarray(rule.route.kernels(layer)[0])) for layer in layers
        ]

    before = kernels()
    optimizer = nnx.Optimizer((model, rule), transformation, wrt=nnx.Param)
    with jax.numpy_dtype_promotion("standard"):  # for Optax, whose step counter is an integer
        for _ in range(steps):
            train_offline(model, optimizer, cross_entropy, inputs(T, B, 7), LABELS, rule=rule)
    return before, kernels()


def test_adaptive_feedback_gives_the_gradient_of_random_feedback_with_its_matrices(x64):
    model, _ = two_layers()
    assert same(ours(adaptive(model), model), ours(EProp(route=Random(rngs=nnx.Rngs(5))), model))
    assert deviation(ours(adaptive(model), model)[0]["kernel"], ours(EProp(), model)[0]["kernel"]) > 0.1


def test_adaptive_matrices_move_as_the_kernels_do(x64):
    """They are parameters of the rule with the gradient of the kernel in whose place they are."""
    model, _ = two_layers()
    rule = adaptive(model)
    gradient = ours(rule, model)
    before, after = moved_by(optax.sgd(10.0), model, rule)
    for (kernel, matrix), (new_kernel, new_matrix), layer in zip(before, after, gradient, strict=True):
        assert deviation(new_matrix - matrix, -10 * layer["kernel"]) < 1e-12
        assert deviation(new_kernel - kernel, -10 * layer["kernel"]) < 1e-12
        assert deviation(kernel, matrix) > 0.5


def test_adaptive_matrices_become_equal_to_the_kernels_under_weight_decay(x64):
    """Kolen and Pollack: what sets them apart decays, since both get the same gradient. Without the decay it stays."""
    rate, decay, steps = 0.01, 5.0, 100
    model, _ = two_layers()
    before, after = moved_by(optax.adamw(rate, weight_decay=decay), model, adaptive(model), steps)
    for (kernel, matrix), (new_kernel, new_matrix) in zip(before, after, strict=True):
        assert deviation(new_matrix - new_kernel, (1 - rate * decay) ** steps * (matrix - kernel)) < 1e-6
        assert np.abs(new_matrix - new_kernel).max() < 0.01 * np.abs(matrix - kernel).max()
        assert np.abs(new_kernel).max() > 0.1
    model, _ = two_layers()
    before, after = moved_by(optax.adam(rate), model, adaptive(model), 10)
    for (kernel, matrix), (new_kernel, new_matrix) in zip(before, after, strict=True):
        assert deviation(new_matrix - new_kernel, matrix - kernel) < 1e-9


def over(wrap):
    """Two layers, of which the second has a wrapped kernel, after training with weight decay under adaptive feedback.

    Returns the effective kernel, the matrix in its place, the kernel that was wrapped, and how far apart the first two were.
    """
    options = {"param_dtype": jnp.float64}
    inner = linear(6, 4, 1)
    layers = [linear(7, 6, 0), LIF(threshold=0.5, **options), wrap(inner), LIF(threshold=0.5, **options)]
    model = connect(layers)
    before, after = moved_by(optax.adamw(0.01, weight_decay=5.0), model, adaptive(model), 100)
    return *after[1], np.asarray(inner.kernel[...]), np.abs(np.subtract(*before[1])).max()


SPARSE = np.arange(24).reshape(6, 4) % 3 > 0
BLOCKS = np.kron(np.eye(2), np.ones((3, 2))) > 0


@pytest.mark.parametrize(
    ("wrap", "present"),
    [
        (lambda inner: Masked(inner, SPARSE), SPARSE),
        (lambda inner: BlockDiagonal(6, 4, 2, rngs=nnx.Rngs(1), param_dtype=jnp.float64), BLOCKS),
    ],
    ids=["Masked", "BlockDiagonal"],
)
def test_adaptive_matrices_become_equal_to_the_connections_and_learn_where_there_are_none(wrap, present, x64):
    kernel, matrix, _, apart = over(wrap)
    assert np.abs(kernel - matrix)[present].max() < 0.01 * apart
    assert not kernel[~present].any() and np.abs(matrix[~present]).max() > 0.05


def test_adaptive_matrices_become_equal_to_the_weights_before_rounding(x64):
    kernel, matrix, weights, apart = over(lambda inner: Quantized(inner, bits=3))
    assert np.abs(weights - matrix).max() < 0.01 * apart
    assert np.abs(kernel - matrix).max() > 0.01 * apart


def test_adaptive_matrices_do_not_become_equal_to_a_normalized_kernel(x64):
    kernel, matrix, _, apart = over(lambda inner: RunningNorm(inner))
    assert np.abs(kernel - matrix).max() > 0.1 * apart


def test_adaptive_matrices_move_with_each_window_online(x64):
    model, _ = two_layers()
    rule = adaptive(model)
    before = [np.asarray(rule.route.kernels(layer)[0]) for layer in layers_of(model)]
    kernels = [np.asarray(layer.synapses[0].kernel[...]) for layer in layers_of(model)]
    optimizer = nnx.Optimizer((model, rule), optax.sgd(10.0), wrt=nnx.Param)
    train_online(model, optimizer, cross_entropy, inputs(T, B, 7), LABELS, rule=rule, window=3)
    assert optimizer.step == T // 3
    for layer, matrix, kernel in zip(layers_of(model), before, kernels, strict=True):
        moved = np.asarray(rule.route.kernels(layer)[0]) - matrix
        assert deviation(moved, np.asarray(layer.synapses[0].kernel[...]) - kernel) < 1e-12
        assert moved.any()


def test_symmetric_feedback_is_feedback_through_the_kernels(x64):
    model, _ = two_layers()
    rule = adaptive(model)
    for layer, matrices in zip(layers_of(model), rule.route.matrices, strict=True):
        matrices[0][...] = layer.synapses[0].kernel[...]
    assert same(ours(rule, model), ours(EProp(), model))


def test_every_rule_for_layers_takes_every_route(x64):
    """The last layer gets the same signal by each; the first another, unless nothing comes down to it."""
    model, _ = pair([7, 6, 4], [lif(fixed=True), lif(fixed=True)])
    routes = {
        "random": lambda: Random(rngs=nnx.Rngs(5)),
        "adaptive": lambda: Adaptive(model, rngs=nnx.Rngs(5)),
        "local": lambda: Local(rngs=nnx.Rngs(5)),
    }
    for rule in (OSTL, OTPE, OTTT, SLTT, EProp):
        symmetric = ours(rule(), model)
        found = {name: ours(rule(route=make()), model) for name, make in routes.items()}
        for layers in found.values():
            assert same(layers[1:], symmetric[1:])
            assert deviation(layers[0]["kernel"], symmetric[0]["kernel"]) > 0.1
        assert same(found["random"], found["adaptive"])
        assert deviation(found["local"][0]["kernel"], found["random"][0]["kernel"]) > 0.1


def test_random_feedback_is_no_parameter():
    rule = EProp(route=Random(rngs=nnx.Rngs(5)))
    assert not jax.tree.leaves(nnx.state(rule, nnx.Param))
    assert jax.tree.leaves(nnx.state(rule))


def test_gradient_of_decolle_does_not_depend_on_what_is_above(x64):
    model, _ = two_layers()
    rule = DECOLLE(rngs=nnx.Rngs(7))
    before = ours(rule, model)
    for leaf in (model.modules[2].kernel, model.modules[2].bias, model.modules[3].decay.unconstrained):
        leaf[...] = 1.3 * leaf[...]
    after = ours(rule, model)
    for name, gradient in before[0].items():
        np.testing.assert_array_equal(gradient, after[0][name])
    assert deviation(before[1]["kernel"], after[1]["kernel"]) > 0.01


def test_each_layer_under_a_local_route_has_its_own_loss(x64):
    """The first layer's gradient is that of a net of this layer and its read-out, which is exact under OSTL."""
    model, _ = two_layers()
    rule = OSTL(route=Local(rngs=nnx.Rngs(7)))
    first, _ = pair([7, 6], [lif()])
    Q = rule.route.matrix(layers_of(model)[0], 6, 4, jnp.float64)
    alone = connect([*first.modules, lambda spikes: spikes @ Q])
    exact = gradients_of(first, gradients(alone, cross_entropy, inputs(T, B, 7), LABELS)[1])
    assert same(ours(rule, model)[:1], exact)
    assert same(ours(rule, model)[1:], ours(OSTL(), model)[1:])


def test_loss_of_decolle_is_that_of_the_outputs_of_the_model(x64):
    model, _ = two_layers()
    x = inputs(T, B, 7)
    loss, _ = gradients(model, cross_entropy, x, LABELS, rule=DECOLLE(rngs=nnx.Rngs(7)), window=3)
    assert abs(float(loss) - float(gradients(model, cross_entropy, x, LABELS)[0])) < 1e-12


# ------------------------------------------------------------------------------------------------------------ mixed rules


def test_each_layer_has_the_rule_that_it_is_given(x64):
    """All send the same signal down here, so each layer's gradient is that of its rule for all layers."""
    model, _ = pair([7, 6, 5, 4], [lif(), cuba_lif(), lif(decay=0.6)])
    mixed = ours([OTTT(), SLTT(), OSTL()], model)
    for index, rule in enumerate((OTTT(), SLTT(), OSTL())):
        assert same(mixed[index : index + 1], ours(rule, model)[index : index + 1])


def test_a_layer_under_otpe_sends_the_mean_slope_down_whatever_is_below(x64):
    model, layers = pair([7, 6, 5, 4], [lif(), lif(decay=0.6), {"kind": "li"}])
    mixed = ours([OSTL(), OTPE(), OSTL()], model)
    whole = oracle.otpe(layers, inputs(T, B, 7), SIGNAL).gradients
    assert same(mixed[1:], whole[1:])
    ostl_below_otpe = oracle.otpe(layers, inputs(T, B, 7), SIGNAL, next_decay=lambda layer, _: _decay(layer, layers))
    assert same(mixed[:1], ostl_below_otpe.gradients[:1])


def _decay(layer, layers):
    """0 for the first layer, where OTPE is then OSTL, and the decay above for the second."""
    return 0.0 if layer is layers[0] else layers[-1].neuron.decay


# -------------------------------------------------------------------------------------------------------- online training


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(("ours", "rule"), [(OSTL(), oracle.OSTL()), (OTTT(), oracle.OTTT())], ids=["ostl", "ottt"])
def test_online_training_is_gradient_descent_by_window_with_traces_that_go_on(ours, rule, window, x64):
    """Fixed neurons: the oracle steps their decays, the packages what is behind them."""
    rate = 0.3
    model, layers = pair([7, 6, 4], [lif(fixed=True), lif(decay=0.6, fixed=True)])
    x = inputs(T, B, 7)
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
    loss = train_online(model, optimizer, cross_entropy, x, LABELS, rule=ours, window=window)
    carry, losses = oracle.start(rule, layers, B), []
    for start in range(0, T, window):
        total = [{name: 0.0 for name in layer.parameters()} for layer in layers]
        for t in range(start, start + window):
            signal = functools.partial(SIGNAL, t)
            carry, _, step_loss, gradients = oracle.advance(rule, layers, carry, np.asarray(x[t]), signal)
            losses.append(step_loss)
            for sums, step in zip(total, gradients, strict=True):
                sums |= {name: sums[name] + step[name] / window for name in sums}
        layers = [
            oracle.Layer(
                layer.kernel - rate * g["kernel"], layer.bias - rate * g["bias"], layer.neuron, fixed=layer.fixed
            )
            for layer, g in zip(layers, total, strict=True)
        ]
    for index, layer in enumerate(layers):
        synapse = model.modules[2 * index]
        assert deviation(synapse.kernel[...], layer.kernel) < 1e-12
        assert deviation(synapse.bias[...], layer.bias) < 1e-12
    assert abs(float(loss) - np.mean(losses)) < 1e-12


@pytest.mark.parametrize("rule", [OTTT(), ApproximateOTPE(output_decay=0.9)], ids=["ottt", "approximate_otpe"])
def test_a_membrane_exactly_at_its_threshold_has_spiked(rule, x64):
    """With round numbers an IF hits its threshold exactly, and the rule for one layer is exact."""
    synapse = nnx.Linear(1, 2, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    synapse.kernel[...] = jnp.full((1, 2), 0.5)
    model = connect([synapse, IF(threshold=Trainable(1.0), stop_reset_gradient=True, param_dtype=jnp.float64)])
    x = jnp.ones((6, 2, 1))
    loss = SequenceLoss(lambda y, t: jnp.sum(y * jnp.arange(1.0, 7.0)[:, None, None], axis=(0, 2)))
    _, exact = gradients(model, loss, x, jnp.zeros(2), rule=BPTT())
    _, found = gradients(model, loss, x, jnp.zeros(2), rule=rule, window=2)
    ours, theirs = (tree["modules"][1]["threshold"]["unconstrained"][...] for tree in (found, exact))
    assert theirs != 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("recurrence", [False, True])
def test_adaptive_matrices_of_a_tied_synapse_have_the_gradient_of_its_kernel(recurrence, x64):
    synapse = linear(6, 6, 0)
    neuron = LIF(threshold=0.5, param_dtype=jnp.float64)
    model = connect([synapse, neuron, linear(6, 4, 1), LI(param_dtype=jnp.float64)], [Edge(1, 0, 1, synapse)])
    rule = OSTL(recurrence=recurrence, route=Adaptive(model, rngs=nnx.Rngs(5)))
    before = [[matrix[...] for matrix in matrices] for matrices in rule.route.matrices]
    kernel = synapse.kernel[...]
    optimizer = nnx.Optimizer((model, rule), optax.sgd(1.0), wrt=nnx.Param)
    train_offline(model, optimizer, cross_entropy, inputs(12, 3, 6), jnp.array([0, 3, 2]), rule=rule, window=3)
    step = synapse.kernel[...] - kernel
    assert np.abs(step).max() > 0
    for matrix, old in zip(rule.route.matrices[0], before[0], strict=True):
        np.testing.assert_allclose(matrix[...] - old, step, rtol=1e-9, atol=1e-12)
