"""Losses of hidden layers: of their outputs or membranes, of each step or of the mean activity."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from oracle import (
    Dense,
    Penalty,
    PenaltyOfMean,
    bptt,
    e_prop,
    firing_rate,
    forward,
    linear,
    ostl,
    otpe,
    ottt,
    pp_prop,
    rtrl,
    series,
    sltt,
    snap,
    stllr,
    tbptt,
    uoro,
)
from oracle.networks import carried_numbers
from small_networks import (
    DETACHED,
    EDGES,
    EXACT,
    FIRST,
    HIDDEN,
    LAST,
    NEURONS,
    RULES,
    SIGNAL,
    B,
    T,
    alif,
    cuba,
    dense,
    depth,
    deviation,
    difference_quotients,
    li,
    lif,
    network,
    smoothed,
    spikes,
    without_neuron_parameters,
)


def squares(values):
    return (values**2).sum(axis=1), 2 * values


def waves(values):
    return np.sin(2 * values - 1).sum(axis=1), 2 * np.cos(2 * values - 1)


def of_all(mean):
    """No sum over neurons: the loss of the mean of all neurons' mean."""
    return np.sin(3 * mean.mean()), np.full_like(mean, 3 * np.cos(3 * mean.mean()) / len(mean))


PENALTIES = {
    "outputs": [Penalty(0, squares)],
    "membranes": [Penalty(0, waves, "membranes")],
    "mean outputs": [PenaltyOfMean(0, firing_rate(0.1))],
    "mean membranes": [PenaltyOfMean(0, of_all, "membranes", window=5)],
    "all": [
        Penalty(0, squares),
        Penalty(1, waves, "membranes"),
        Penalty(1, waves, joins=False),
        PenaltyOfMean(0, firing_rate(0.1), window=3),
        PenaltyOfMean(1, of_all, "membranes"),
    ],
}
SILENT = linear(np.zeros((T, B, 4)))
NO_FUTURE = {name: rule for name, rule in RULES.items() if name != "bptt"}


def total(result):
    return result.loss + result.penalty


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize(
    ("neurons", "edges"),
    [
        ((lif(), li(0.6)), [(0, 0, 1)]),
        ((lif("zero"), cuba("zero")), [(1, 0, 2)]),
        ((alif(), Dense()), []),
        ((cuba(), None), [(0, 1, 1)]),
    ],
    ids=["lif li", "lif cuba", "alif none", "cuba per-neuron"],
)
def test_bptt_equals_finite_differences_of_loss_and_penalties(neurons, edges, penalties):
    layers = smoothed(network(*neurons, sizes=[2, 3, 4], edges=edges))
    inputs, penalties = spikes(steps=7, n=2), PENALTIES[penalties]
    result = bptt(layers, inputs, SIGNAL, penalties=penalties)
    without = bptt(layers, inputs, SIGNAL)
    assert result.loss == without.loss
    assert without.penalty == 0
    assert abs(result.penalty) > 1e-3
    assert deviation(result, without) > 1e-3
    quotients = difference_quotients(lambda other: total(bptt(other, inputs, SIGNAL, penalties=penalties)), layers)
    for index, name, place, quotient in quotients:
        assert abs(result.gradients[index][name][place] - quotient) < 1e-8, (index, name, place)


def test_penalty_is_the_mean_over_steps_and_samples_or_a_function_of_it():
    layers, inputs = network(lif(), li()), spikes()
    s = series(forward(layers, inputs), "output", layer=0)
    v = series(forward(layers, inputs), "membrane", layer=0)
    for penalty, value in (
        (Penalty(0, squares), (s**2).sum(axis=2).mean()),
        (Penalty(0, waves, "membranes"), np.sin(2 * v - 1).sum(axis=2).mean()),
        (PenaltyOfMean(0, firing_rate(0.1)), ((s.mean(axis=(0, 1)) - 0.1) ** 2).sum() / 2),
        (
            PenaltyOfMean(0, of_all, window=5),
            sum(n * np.sin(3 * s[a : a + n].mean()) for a, n in ((0, 5), (5, 5), (10, 2))) / T,
        ),
    ):
        for rule in (bptt, rtrl, ostl):
            assert rule(layers, inputs, SIGNAL, penalties=[penalty]).penalty == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("edges", EDGES)
def test_t1_rtrl_is_bptt_with_penalties(edges, penalties):
    layers = network(*(lif("zero"), alif(), cuba())[: depth(EDGES[edges])], edges=EDGES[edges])
    inputs, penalties = spikes(), PENALTIES[penalties]
    exact = bptt(layers, inputs, SIGNAL, penalties=penalties)
    assert deviation(rtrl(layers, inputs, SIGNAL, penalties=penalties), exact) < EXACT
    assert deviation(exact, bptt(layers, inputs, SIGNAL)) > 0.05


def test_snap_and_uoro_take_penalties_too():
    layers, inputs, penalties = network(lif(), cuba(), li()), spikes(), PENALTIES["all"]
    exact = bptt(layers, inputs, SIGNAL, penalties=penalties)
    assert deviation(snap(layers, inputs, SIGNAL, penalties=penalties), exact) < EXACT
    noise = np.ones((1, B, carried_numbers(layers)[1]))
    exact = bptt(layers, inputs[:1], SIGNAL, penalties=penalties)
    assert deviation(uoro(layers, inputs[:1], SIGNAL, noise, penalties=penalties), exact) < EXACT


def test_t16_uoro_is_bptt_in_the_mean_with_penalties():
    layers = network(lif(), cuba(), sizes=[3, 3, 2], edges=[(0, 0, 1)])
    inputs, draws, silent = spikes(steps=6, batch=1, n=3), 8192, linear(np.zeros((6, 1, 2)))
    exact = bptt(layers, inputs, silent, penalties=PENALTIES["all"]).gradients
    noise = np.random.default_rng(0).choice([-1.0, 1.0], (6, draws, carried_numbers(layers)[1]))
    found = uoro(layers, np.repeat(inputs, draws, axis=1), silent, noise, penalties=PENALTIES["all"]).gradients
    squares_of = [
        (np.sum((a[name] - b[name]) ** 2), np.sum(b[name] ** 2))
        for a, b in zip(found, exact, strict=True)
        for name in b
    ]
    assert np.sqrt(np.divide(*np.sum(squares_of, axis=0))) < 0.1


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("rule", NO_FUTURE)
def test_t8_every_rule_is_bptt_with_penalties_in_one_step_and_without_memory(rule, penalties):
    penalties = PENALTIES[penalties]
    for layers, inputs in (
        (network(lif(), alif(), cuba(), edges=[(0, 2, 0)]), spikes(steps=1)),
        (network(*[lif("zero", decay=0.0)] * 3), spikes()),
    ):
        exact = bptt(layers, inputs, SIGNAL, penalties=penalties)
        assert deviation(NO_FUTURE[rule](layers, inputs, SIGNAL, penalties=penalties), exact) < EXACT


@pytest.mark.parametrize("of", ["outputs", "membranes"])
@pytest.mark.parametrize("name", [name for name in NEURONS if name not in ("dense",)])
def test_t4_ostl_with_penalties_is_bptt_of_one_layer_and_of_one_below_memoryless_ones(name, of):
    inputs = spikes()
    penalties = [Penalty(0, waves, of), PenaltyOfMean(0, firing_rate(0.2), of)]
    for layers in (network(NEURONS[name]), network(NEURONS[name], dense(), Dense())):
        exact = bptt(layers, inputs, SIGNAL, penalties=penalties)
        assert deviation(ostl(layers, inputs, SIGNAL, penalties=penalties), exact) < EXACT
    # The penalty of a memoryless layer goes down as the loss does.
    layers = network(NEURONS[name], lif(decay=0.0))
    penalties = [Penalty(1, waves, of), Penalty(1, squares, of, joins=False)]
    exact = bptt(layers, inputs, SILENT, penalties=penalties)
    assert deviation(ostl(layers, inputs, SILENT, penalties=penalties), exact) < EXACT
    assert deviation(exact, bptt(layers, inputs, SIGNAL), layers=FIRST) > 0.1


@pytest.mark.parametrize("of", ["outputs", "membranes"])
def test_t4_with_h_ostl_with_penalties_is_bptt_of_a_recurrent_layer(of):
    layers, inputs = network(alif(), dense(), edges=[(0, 0, 1), (0, 0, 3)]), spikes()
    penalties = [Penalty(0, waves, of)]
    exact = bptt(layers, inputs, SIGNAL, penalties=penalties)
    assert deviation(ostl(layers, inputs, SIGNAL, with_h=True, penalties=penalties), exact) < EXACT
    assert deviation(ostl(layers, inputs, SIGNAL, penalties=penalties), exact) > 0.01


@pytest.mark.parametrize("penalties", PENALTIES)
def test_t5_ottt_with_penalties_is_ostl_without_a_gradient_through_resets(penalties):
    layers, inputs = network(DETACHED, cuba(stop=True), li(), edges=EDGES["everything"]), spikes()
    options = {"penalties": PENALTIES[penalties]}
    assert deviation(ottt(layers, inputs, SIGNAL, **options), ostl(layers, inputs, SIGNAL, **options)) < EXACT


@pytest.mark.parametrize("hidden", ["lif-subtract-diff", "lif-zero-detached", "cuba-zero-diff", "alif-diff"])
@pytest.mark.parametrize("last", [DETACHED, li(0.6)], ids=["lif", "li"])
def test_t6_otpe_in_two_layers_is_bptt_with_penalties_apart_from_the_signal_and_not_with_joined_ones(hidden, last):
    """The sums over time are of what the layer above makes of an output later; a penalty sees that of its step alone."""
    layers, inputs = network(NEURONS[hidden], last), spikes()
    for penalties in (
        [Penalty(0, squares, joins=False), Penalty(1, waves)],
        [Penalty(0, waves, "membranes"), Penalty(1, waves, "membranes")],
        [PenaltyOfMean(0, firing_rate(0.1), joins=False)],
    ):
        exact = bptt(layers, inputs, SIGNAL, penalties=penalties)
        assert deviation(otpe(layers, inputs, SIGNAL, penalties=penalties), exact) < EXACT
        if isinstance(last, type(li())):
            assert deviation(e_prop(layers, inputs, SIGNAL, penalties=penalties), exact) < EXACT
    joined = [Penalty(0, squares)]
    exact = bptt(layers, inputs, SIGNAL, penalties=joined)
    assert deviation(otpe(layers, inputs, SIGNAL, penalties=joined), exact, layers=FIRST) > 0.1


@pytest.mark.parametrize("of", ["outputs", "membranes"])
@pytest.mark.parametrize("middle", [DETACHED, li(0.6)], ids=["lif", "li"])
def test_penalties_apart_go_down_within_the_step(middle, of):
    """From a middle layer, as if it was the last one, without the mean of psi that signals from above pass."""
    layers, inputs = network(lif("zero"), middle, lif()), spikes()
    penalties = [Penalty(1, waves, of, joins=False)]
    exact = bptt(layers, inputs, SILENT, penalties=penalties)
    assert deviation(otpe(layers, inputs, SILENT, penalties=penalties), exact) < EXACT


@pytest.mark.parametrize("rule", ["otpe", "approximate-otpe", "e-prop"])
def test_joined_penalties_are_a_part_of_the_signal(rule):
    """A penalty of the outputs is then a loss whose derivative comes from above: of synapses of 1 beside those above."""
    layers, inputs = network(lif(), Dense()), spikes()
    options = {"kappa": 0.7} if rule == "e-prop" else {"next_decay": lambda *_: 0.7}
    layers = [layers[0], replace(layers[1], neuron=li(0.0), fixed=("decay",))]
    beside = np.hstack([layers[1].kernel, np.eye(6)])
    wide = [layers[0], replace(layers[1], kernel=beside, bias=np.zeros(10))]
    layers[1] = replace(layers[1], bias=np.zeros(4))

    def both(t, outputs):
        losses, derivatives = SIGNAL(t, outputs[:, :4])
        more, by_spikes = waves(outputs[:, 4:])
        return losses + more, np.hstack([derivatives, by_spikes])

    expected = RULES[rule](wide, inputs, both, **options)
    found = RULES[rule](layers, inputs, SIGNAL, penalties=[Penalty(0, waves)], **options)
    assert deviation(found, expected, layers=FIRST) < EXACT
    apart = RULES[rule](layers, inputs, SIGNAL, penalties=[Penalty(0, waves, joins=False)], **options)
    assert deviation(apart, expected, layers=FIRST) > 0.05


@pytest.mark.parametrize("rule", [ostl, partial(ostl, with_h=True), sltt, ottt, pp_prop])
def test_without_sums_over_time_it_is_all_the_same(rule):
    layers = without_neuron_parameters(network(lif(), alif(), cuba(), edges=EDGES["everything"]))
    inputs = spikes()
    a, b = (rule(layers, inputs, SIGNAL, penalties=[Penalty(1, waves, joins=joins)]) for joins in (True, False))
    assert deviation(a, b) < EXACT


def test_t9_sltt_with_penalties_is_bptt_of_steps_alone():
    layers, inputs = network(lif(), alif(), li(), edges=EDGES["skip"]), spikes()
    a = sltt(layers, inputs, SIGNAL, penalties=PENALTIES["all"])
    assert deviation(a, tbptt(layers, inputs, SIGNAL, 1, penalties=PENALTIES["all"])) < EXACT


def test_pp_prop_without_memory_is_sltt_with_penalties():
    layers, inputs = without_neuron_parameters(network(lif(), alif(), cuba())), spikes()
    a = pp_prop(layers, inputs, SIGNAL, decay=0.0, penalties=PENALTIES["all"])
    assert deviation(a, sltt(layers, inputs, SIGNAL, penalties=PENALTIES["all"])) < EXACT


@pytest.mark.parametrize("rule", [ottt, partial(stllr, pre_decay=0.8, post_decay=0.3)])
def test_membranes_owe_to_a_weight_the_decayed_sum_of_its_inputs(rule):
    layers, inputs = without_neuron_parameters(network(lif("zero"), li())), spikes()
    v = series(forward(layers, inputs), "membrane", layer=0)
    a = np.stack([sum(0.8 ** (t - k) * inputs[k] for k in range(t + 1)) for t in range(T)])
    found = rule(layers, inputs, SILENT, penalties=[Penalty(0, squares, "membranes")]).gradients[0]["kernel"]
    np.testing.assert_allclose(found, np.einsum("tbn,tbi->in", 2 * v, a) / (T * B), rtol=1e-11)


def test_membranes_under_pp_prop_are_their_explicit_sum():
    """As its estimate of an output, without the psi of the present step."""
    layers, inputs, decay = without_neuron_parameters(network(lif("zero"), li())), spikes(), 0.7
    history = forward(layers, inputs)
    v, D, d = (series(history, name, layer=0) for name in ("membrane", "D", "d"))
    ex = np.stack([sum(decay ** (t - k) * inputs[k] for k in range(t + 1)) for t in range(T)])
    ef = np.ones_like(v)
    for t in range(T):
        for k in range(t):
            ef[t] += decay ** (t - k) * 0.8 * np.prod(D[k + 1 : t, ..., 0, 0], axis=0) * d[k, ..., 0]
        ef[t] *= (1 - decay) / (1 - decay ** (t + 1))
    penalties = [Penalty(0, squares, "membranes")]
    found = pp_prop(layers, inputs, SILENT, decay=decay, penalties=penalties).gradients[0]["kernel"]
    np.testing.assert_allclose(found, np.einsum("tbn,tbn,tbi->in", 2 * v, ef, ex) / (T * B), rtol=1e-11)


def test_firing_rate_regularization_is_a_constant_signal():
    layers, inputs = network(lif(), li()), spikes()
    f = series(forward(layers, inputs), "output", layer=0).mean(axis=(0, 1))
    for rule in (ostl, ottt, sltt):
        found = rule(layers, inputs, SILENT, penalties=[PenaltyOfMean(0, firing_rate(0.2))]).gradients[0]
        expected = rule(layers[:1], inputs, linear(np.tile(f - 0.2, (T, B, 1)))).gradients[0]
        for name, gradient in found.items():
            np.testing.assert_allclose(gradient, expected[name], atol=1e-15)


def test_penalty_of_the_last_layer_goes_down_with_its_signal():
    layers, inputs = network(lif(), alif(), cuba()), spikes()

    def both(t, outputs):
        return tuple(a + b for a, b in zip(SIGNAL(t, outputs), waves(outputs), strict=True))

    for rule in (rule for name, rule in NO_FUTURE.items()):
        a = rule(layers, inputs, SIGNAL, penalties=[Penalty(2, waves)])
        b = rule(layers, inputs, both)
        assert deviation(a, b) < EXACT
        assert total(a) == pytest.approx(b.loss)


def test_penalties_of_hidden_layers_leave_those_above_alone():
    layers, inputs = network(lif(), alif(), cuba()), spikes()
    for rule in NO_FUTURE.values():
        a = rule(layers, inputs, SIGNAL, penalties=[Penalty(0, waves), Penalty(0, waves, "membranes")])
        b = rule(layers, inputs, SIGNAL)
        assert deviation(a, b, layers=slice(1, None)) == 0
        assert deviation(a, b, layers=FIRST) > 0.01
    a = ostl(layers, inputs, SIGNAL, penalties=[Penalty(1, waves)])
    assert deviation(a, ostl(layers, inputs, SIGNAL), layers=LAST) == 0
    assert deviation(a, ostl(layers, inputs, SIGNAL), layers=HIDDEN) > 0.1


def test_unknown_activity_is_refused():
    with pytest.raises(ValueError, match="a penalty is of 'outputs' or 'membranes', got 'spikes'"):
        bptt(network(lif()), spikes(), SIGNAL, penalties=[Penalty(0, squares, "spikes")])
