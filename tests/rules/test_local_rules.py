"""Rules on whole networks against the oracle's equations, step by step: as closely as docs/rules.md says."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from rules.ledger import (
    CASES,
    LABELS,
    NETWORKS,
    SIGNAL,
    B,
    T,
    cuba_lif,
    deviation_from_oracle,
    jitted,
    lif,
    printed_bounds,
)
from slax_rules import (
    OSTL,
    OTPE,
    OTTT,
    RULES,
    SLTT,
    Ruled,
    cross_entropy,
    decolle,
    e_prop,
    local_losses,
    ostl,
    ottt,
    train_online,
)
from stacks import deviation, gradients_of, inputs, pair, worst

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


@pytest.mark.parametrize(("name", "network"), CASES, ids=lambda part: part)
def test_gradient_is_that_of_the_oracle(name, network, x64):
    limit = printed_bounds()[name, network]
    assert limit < 1e-9
    assert deviation_from_oracle(name, network) < limit


@pytest.mark.parametrize("name", [name for name in LOCAL if name != "decolle"])
def test_gradient_in_float32_is_that_of_the_oracle(name):
    assert deviation_from_oracle(name, "recurrent", jnp.float32) < 1e-4


# ---------------------------------------------------------------------------------------------------------------- options


def ours(cell, model, window=3, loss=cross_entropy):
    return gradients_of(model, jitted(cell, loss, inputs(T, B, 7), LABELS, window=window)[1])


def two_layers(**options):
    return pair([7, 6, 4], [lif(), lif(**options)])


def same(ours, theirs):
    return worst(ours, theirs) < 1e-12


def test_adaptive_feedback_is_a_parameter_with_the_gradient_of_the_kernel(x64):
    model, _ = two_layers()
    cell = e_prop(model, feedback="adaptive", rngs=nnx.Rngs(5))
    random = e_prop(model, feedback="random", rngs=nnx.Rngs(5))
    _, found = jitted(cell, cross_entropy, inputs(T, B, 7), LABELS, window=3)
    for index, matrices in found["feedback"].items():
        kernel = found["modules"][2 * index]["kernel"][...]
        np.testing.assert_array_equal(matrices[0][...], kernel)
        assert kernel.any()
    assert same(gradients_of(model, found), ours(random, model))
    assert deviation(found["modules"][0]["kernel"][...], ours(e_prop(model), model)[0]["kernel"]) > 0.1


def test_symmetric_feedback_is_feedback_through_the_kernels(x64):
    model, _ = two_layers()
    cell = e_prop(model, feedback="random", rngs=nnx.Rngs(5))
    for index, matrices in enumerate(cell.feedback):
        matrices[0][...] = model.modules[2 * index].kernel[...]
    assert same(ours(cell, model), ours(e_prop(model), model))


def test_random_feedback_is_no_parameter():
    model, _ = pair([7, 6, 4], [lif(), lif()], dtype=jnp.float32)
    paths = [
        path for path, _ in nnx.to_flat_state(nnx.state(e_prop(model, feedback="random", rngs=nnx.Rngs(5)), nnx.Param))
    ]
    assert paths == [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))]


def local(model, rule=None):
    return decolle(model, input_shape=(7,), n_outputs=4, rule=rule, rngs=nnx.Rngs(7))


def test_gradient_of_decolle_does_not_depend_on_what_is_above(x64):
    model, _ = two_layers()
    cell = local(model)
    before = ours(cell, model, loss=local_losses(cross_entropy))
    for leaf in (model.modules[2].kernel, model.modules[2].bias, model.modules[3].decay.unconstrained):
        leaf[...] = 1.3 * leaf[...]
    after = ours(cell, model, loss=local_losses(cross_entropy))
    for name, gradient in before[0].items():
        np.testing.assert_array_equal(gradient, after[0][name])
    assert deviation(before[1]["kernel"], after[1]["kernel"]) > 0.01


def test_each_layer_of_decolle_is_under_the_given_rule_with_its_own_loss(x64):
    """The first layer's gradient is that of a net of this layer and the read-out, which is exact under OSTL."""
    model, _ = two_layers()
    cell = local(model, OSTL())
    first, _ = pair([7, 6], [lif()])
    alone = local(first, OSTL())
    alone.read_outs[0][...] = cell.read_outs[0][...]
    loss = local_losses(cross_entropy)
    assert same(ours(cell, model, loss=loss)[:1], ours(alone, first, loss=loss))


# ------------------------------------------------------------------------------------------------------------ mixed rules


def test_each_layer_has_the_rule_that_it_is_given(x64):
    """All send the same signal down here, so each layer's gradient is that of its rule for all layers."""
    model, _ = pair([7, 6, 5, 4], [lif(), cuba_lif(), lif(decay=0.6)])
    mixed = ours(Ruled(model, [OTTT(), SLTT(), OSTL()]), model)
    for index, rule in enumerate(("ottt", "sltt", "ostl")):
        assert same(mixed[index : index + 1], ours(RULES[rule].wrap(model), model)[index : index + 1])


def test_a_layer_under_otpe_sends_the_mean_slope_down_whatever_is_below(x64):
    model, layers = pair([7, 6, 5, 4], [lif(), lif(decay=0.6), {"kind": "li"}])
    mixed = ours(Ruled(model, [OSTL(), OTPE(), OTPE()]), model)
    whole = oracle.otpe(layers, inputs(T, B, 7), SIGNAL).gradients
    assert same(mixed[1:], whole[1:])
    ostl_below_otpe = oracle.otpe(layers, inputs(T, B, 7), SIGNAL, next_decay=lambda layer, _: _decay(layer, layers))
    assert same(mixed[:1], ostl_below_otpe.gradients[:1])


def _decay(layer, layers):
    """0 for the first layer, where OTPE is then OSTL, and the decay above for the second."""
    return 0.0 if layer is layers[0] else layers[-1].neuron.decay


# -------------------------------------------------------------------------------------------------------- online training


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(("wrap", "rule"), [(ostl, oracle.OSTL()), (ottt, oracle.OTTT())], ids=["ostl", "ottt"])
def test_online_training_is_gradient_descent_by_window_with_traces_that_go_on(wrap, rule, window, x64):
    """Fixed neurons: the oracle steps their decays, the packages what is behind them."""
    rate = 0.3
    model, layers = pair([7, 6, 4], [lif(fixed=True), lif(decay=0.6, fixed=True)])
    x = inputs(T, B, 7)
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
    loss = nnx.jit(train_online, static_argnames=("loss_fn", "window"))(
        wrap(model), optimizer, cross_entropy, x, LABELS, window=window
    )
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
