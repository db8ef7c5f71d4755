"""Losses of hidden layers' outputs, in windows and behind a mask: under every rule the oracle's."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from laws.programs import case
from laws.table import MASK, TARGETS, B, C, T, inputs_of, signal_of, weighted_squares, weights_of
from slax_rules import OSTL, Penalty, firing_rate, sparsity, train_online
from stacks import deviation, pair, worst

EXACT = 1e-12


def squares(values):
    return (values**2).sum(axis=tuple(range(1, values.ndim)))


def waves(values):
    return jnp.sin(2 * values - 1).sum(axis=tuple(range(1, values.ndim)))


def of_mean(mean):
    return jnp.sin(3 * mean).sum() + mean.mean() ** 2


# A penalty of ours, its weight, and the loss and the slope as the oracle has them.
PENALTIES = [
    (Penalty(squares, 0.7, layers=(0, 1)), lambda y: ((y**2).sum(axis=1), 2 * y)),
    (firing_rate(0.1, 3.0, layers=(0,)), lambda m: (((m - 0.1) ** 2).sum() / 2, m - 0.1)),
    (sparsity(0.2, layers=(1,)), lambda y: (np.abs(y).sum(axis=1), np.where(y >= 0, 1.0, -1.0))),
    (Penalty(waves, 0.3, layers=(2,)), lambda y: (np.sin(2 * y - 1).sum(axis=1), 2 * np.cos(2 * y - 1))),
    (
        Penalty(of_mean, 0.8, layers=(1,), of_mean=True),
        lambda m: (np.sin(3 * m).sum() + m.mean() ** 2, 3 * np.cos(3 * m) + 2 * m.mean() / len(m)),
    ),
]
OURS = [penalty for penalty, _ in PENALTIES]


@dataclasses.dataclass(frozen=True)
class Counted:
    """A penalty of the oracle, of one layer, over the steps and samples that count."""

    layer: int
    penalty: Penalty
    function: object
    mask: np.ndarray

    def at(self, history, t):
        weight, factor = self.penalty.weight, weights_of(self.mask)[t]
        if self.penalty.of_mean:
            value, slope = self.function(oracle.series(history, "output", self.layer)[self.mask].mean(axis=0))

        def of_step(values):
            losses, slopes = (np.full(len(values), value), slope) if self.penalty.of_mean else self.function(values)
            counted = losses if self.penalty.of_mean else factor * losses
            return weight * counted, weight * factor[:, None] * slopes

        return oracle.Penalty(self.layer, of_step)


def theirs(mask=MASK):
    return [Counted(layer, penalty, function, mask) for penalty, function in PENALTIES for layer in penalty.layers]


NAMES = [
    *[
        "bptt",
        "rtrl",
        "ostl",
        "ostl_with_recurrence",
        "ottt",
        "otpe",
        "approximate_otpe",
        "sltt",
        "e_prop",
        "pp_prop",
        "s_tllr",
        "e_prop_random",
    ],
    *("ottt as the authors", "e_prop_direct", "decolle", "osttp"),
]


@pytest.mark.parametrize("name", NAMES)
def test_gradient_with_penalties_is_that_of_the_oracle(name):
    """Of each step and of a mean, of all layers; those that stay in their layer along routes that skip others."""
    here = case(name, "edges" if name not in ("rtrl", "decolle") else "chain")
    found = here.run(mask=MASK, penalties=OURS)
    expected = here.expected(mask=MASK, penalties=theirs())
    plain = here.expected(mask=MASK)
    assert abs(found.loss / (expected.loss + expected.penalty) - 1) < EXACT
    assert worst(found.gradients, expected.gradients) < EXACT
    for layer, other in zip(expected.gradients, plain.gradients, strict=True):
        assert deviation(layer["kernel"], other["kernel"]) > 0.02


def test_windows_and_default_layers_change_nothing():
    """A mean over the sequence is found in a first pass; spiking layers are penalized where none is named."""
    here = case("otpe", "edges")
    whole, cut = (here.run(mask=None, window=window, penalties=OURS) for window in (T, 4))
    assert worst(cut.gradients, whole.gradients) < EXACT
    named, spiking = (
        here.run(penalties=[Penalty(squares, 0.7, layers=layers), firing_rate(0.1, layers=layers)])
        for layers in (None, (0, 1))
    )
    assert worst(named.gradients, spiking.gradients) == 0


def test_online_updates_take_the_mean_since_the_start():
    """Gradient descent by hand with the oracle: penalties of the window, and those of a mean with the mean up to it."""
    rate, window, penalties = 0.3, 3, [PENALTIES[0], PENALTIES[1]]
    neuron = {"kind": "lif", "decay": 0.8, "threshold": 0.7, "fixed": True}
    model, layers = pair([7, 6, C], [neuron, neuron], edges=[(0, 0, 1)])
    x, signal = inputs_of("edges"), signal_of(TARGETS, np.ones((T, B), bool))
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
    ours = [penalty for penalty, _ in penalties]
    loss = train_online(
        model,
        optimizer,
        weighted_squares,
        jnp.asarray(x),
        jnp.asarray(TARGETS),
        rule=OSTL(),
        window=window,
        penalties=ours,
    )
    rule, past, losses = oracle.OSTL(), [], []
    carry = oracle.start(rule, layers, B)
    for start in range(0, T, window):
        past += oracle.forward(layers, x[start : start + window], carry.states, carry.past)
        known = np.ones((len(past), B), bool)
        counted = [Counted(n, one, function, known) for one, function in penalties for n in one.layers]
        total = [{name: 0.0 for name in layer.parameters()} for layer in layers]
        for t in range(start, start + window):
            now = [one.at(past, t) for one in counted]
            losses.append(oracle.penalties.own_losses(past[t], now)[0])
            carry, _, value, found = oracle.advance(rule, layers, carry, x[t], lambda y, t=t: signal(t, y), now)
            losses[-1] += value
            for sums, step in zip(total, found, strict=True):
                sums |= {name: sums[name] + step[name] / window for name in sums}
        layers = [stepped(layer, gradient, rate) for layer, gradient in zip(layers, total, strict=True)]
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-12)
    for index, layer in enumerate(layers):
        assert deviation(model.modules[2 * index].kernel[...], layer.kernel) < EXACT
    assert deviation(model.synapses[0].kernel[...], layers[0].edges[0].kernel) < EXACT


def stepped(layer, gradient, rate):
    """The layer after a step of gradient descent."""
    edges = tuple(
        dataclasses.replace(
            edge,
            kernel=edge.kernel - rate * gradient[f"edge{n}_kernel"],
            bias=edge.bias - rate * gradient[f"edge{n}_bias"],
        )
        for n, edge in enumerate(layer.edges)
    )
    new = {name: getattr(layer, name) - rate * gradient[name] for name in ("kernel", "bias")}
    return dataclasses.replace(layer, **new, edges=edges)
