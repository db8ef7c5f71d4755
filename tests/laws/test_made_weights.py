"""Synapses whose weights are functions of parameters, under rules.

A net of such synapses is compared with the same net of plain ones, whose kernels and biases are the effective weights: outputs
are the same, and so is the gradient, after the chain rule, for which JAX differentiates the weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from laws.table import F64, LABELS, SPIKES, B, T, X
from neurons import test_synapses
from slax_neurons import LI, LIF, Edge, RunningNorm, connect, with_effective_weights
from stacks import deviation, furthest, linear


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


MAKES = test_synapses.MAKES | {"duck": Duck}


def gradient_of(model, rule, x=X, window=3, loss=sr.cross_entropy):
    """The gradient, which leaves the model as it is."""
    return sr.gradients(nnx.clone(model), loss, jnp.asarray(x), LABELS, rule=rule, window=window)


def fires():
    return LIF(threshold=0.5, **F64)


def test_one_layer_is_exact():
    """With a convolution and with an edge to itself, made of several and with running sums."""
    make, loops = MAKES["norm of 4 bits of a mask"], [Edge(1, 0, synapse=MAKES["norm"](linear(4, 4, 1)))]
    conv = nnx.Conv(2, 3, (2, 2), padding="VALID", rngs=nnx.Rngs(0), bias_init=nnx.initializers.uniform(0.4), **F64)
    images = SPIKES[..., :24].reshape(T, B, 4, 3, 2).astype(float)
    convolved = connect([make(conv), fires(), lambda x: x.reshape(x.shape[0], -1)])
    for model, x in ((convolved, images), (connect([make(linear(7, 4, 0)), fires()], loops), X)):
        exact = gradient_of(model, sr.BPTT(), x)[1]
        assert all(leaf.any() for leaf in jax.tree.leaves(exact))
        assert furthest(gradient_of(model, sr.OSTL(recurrence=True), x)[1], exact) < 1e-9


NETS = {
    "one": ("standardized", "norm of 4 bits of a mask", "low rank", "masked"),
    "two": ("duck", "norm", "8 bits per output", "duck"),
}


def deep(net):
    """Two layers and a read-out, with a late edge, whose synapses are made of parameters too."""
    first, second, third, edge = (MAKES[name] for name in NETS[net])
    modules = [first(linear(7, 6, 0)), fires(), second(linear(6, 5, 1)), fires(), third(linear(5, 4, 2)), LI(**F64)]
    return connect(modules, [Edge(1, 0, synapse=edge(linear(6, 6, 3)))])


def by_parameters(synapse, gradient):
    """The gradient w.r.t. the parameters of a synapse, from that w.r.t. its effective kernel and bias."""
    if isinstance(synapse, nnx.Linear):
        return gradient
    graphdef, params, rest = nnx.split(synapse, nnx.Param, ...)
    _, pull = jax.vjp(lambda params: nnx.merge(graphdef, params, rest).effective(), params)
    return pull((gradient["kernel"][...], gradient["bias"][...]))[0]


@pytest.mark.parametrize(("net", "name"), [("one", "otpe"), ("two", "ottt")])
def test_the_gradient_is_that_of_the_plain_net_by_the_chain_rule(net, name):
    """With one window for the plain net and several for the other."""
    model = deep(net)
    plain = with_effective_weights(model)
    rules = (sr.RULES[name].make(rngs=nnx.Rngs(3), model=one) for one in (plain, model))
    (loss, by_weights), (same, found) = (
        gradient_of(one, rule, window=window) for one, rule, window in zip((plain, model), rules, (T, 3), strict=True)
    )
    assert deviation(same, loss) < 1e-12
    assert furthest(found["synapses"][0], by_parameters(model.synapses[0], by_weights["synapses"][0])) < 1e-9
    for index in (0, 2, 4):
        expected = by_parameters(model.modules[index], by_weights["modules"][index])
        assert furthest(found["modules"][index], expected) < 1e-9


def test_learned_feedback_is_that_of_the_effective_kernels():
    matrices, model = [], deep("one")
    for net in (with_effective_weights(model), model):
        net, rule = nnx.clone(net), sr.OSTL(route=sr.Adaptive(net, rngs=nnx.Rngs(1)))
        optimizer = nnx.Optimizer((net, rule), optax.sgd(0.1), wrt=nnx.Param)
        sr.train_offline(net, optimizer, sr.cross_entropy, jnp.asarray(X), LABELS, rule=rule)
        matrices.append(nnx.state(rule, nnx.Param))
    assert furthest(*matrices) < 1e-9


def statistics(model):
    return nnx.state(model, nnx.BatchStat)


def norm_net(tied=False):
    first, second, edge = RunningNorm(linear(7, 6, 0)), RunningNorm(linear(6, 6, 1)), RunningNorm(linear(6, 6, 2))
    last = second if tied else RunningNorm(linear(6, 6, 1))
    return connect([first, fires(), second, fires(), last, LI(**F64)], [Edge(1, 0, synapse=edge)])


def test_statistics_are_those_of_one_pass():
    """Of a synapse in two places those of both; the loss of a whole sequence needs a pass of its own, which counts once."""
    reference = norm_net(tied=True)
    sr.gradients(reference, sr.cross_entropy, jnp.asarray(X), LABELS)
    current = norm_net().modules[0].synapse(jnp.asarray(X.reshape(T * B, 7)))
    assert deviation(reference.modules[0].mean[...], 0.1 * current.mean(0)) < 1e-12
    assert deviation(reference.modules[0].var[...], 0.9 + 0.1 * current.var(0)) < 1e-12
    whole = sr.SequenceLoss(lambda y, labels: sr.cross_entropy(y.mean(axis=0), labels))
    ways = (
        (sr.TBPTT(steps=4), sr.cross_entropy, None),
        (sr.OSTL(), whole, 3),
    )  # test_statistics_move_once has the others
    for rule, loss, window in ways:
        model = norm_net(tied=True)
        _, gradient = sr.gradients(model, loss, jnp.asarray(X), LABELS, rule=rule, window=window)
        assert furthest(statistics(model), statistics(reference)) < 1e-12
        assert not any("mean" in path or "var" in path for path, _ in nnx.to_flat_state(gradient))
    one, other = (connect([RunningNorm(linear(7, 4, 0)), fires()]) for _ in range(2))
    sr.gradients(one, sr.cross_entropy, jnp.asarray(X), LABELS)
    sr.gradients(other, sr.cross_entropy, jnp.asarray(X), LABELS, rule=sr.RTRL(), window=4)
    assert furthest(statistics(other), statistics(one)) < 1e-12
    model = norm_net()
    model.eval()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(statistics(model))]
    sr.gradients(model, sr.cross_entropy, jnp.asarray(X), LABELS)
    assert furthest(jax.tree.leaves(statistics(model)), before) == 0


def test_statistics_move_once_for_each_finite_step():
    reference, x = norm_net(), X.copy()
    sr.gradients(reference, sr.cross_entropy, jnp.asarray(X), LABELS)
    for train in (sr.train_online, sr.train_offline):
        model = norm_net()
        optimizer = nnx.Optimizer(model, optax.sgd(0.0), wrt=nnx.Param)
        train(model, optimizer, sr.cross_entropy, jnp.asarray(X), LABELS, rule=sr.OSTL())
        assert furthest(statistics(model), statistics(reference)) < 1e-12
    x[3] = np.nan
    before = jax.tree.map(np.asarray, statistics(model))
    assert jnp.isnan(sr.train_offline(model, optimizer, sr.cross_entropy, jnp.asarray(x), LABELS, rule=sr.OSTL()))
    assert furthest(statistics(model), before) == 0
