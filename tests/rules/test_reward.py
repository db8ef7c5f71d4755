"""Trials that wait for a reward: REINFORCE by hand, the oracle's three factors, and tasks that are learned."""

import dataclasses
import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from oracle.exact import RTRL as OracleRTRL
from oracle.local import OSTL as OracleOSTL
from oracle.local import OTPE as OracleOTPE
from oracle.local import OTTT as OracleOTTT
from oracle.local import SLTT as OracleSLTT
from oracle.local import STLLR as OracleSTLLR
from oracle.local import ApproximateOTPE as OracleApproximateOTPE
from oracle.local import EProp as OracleEProp
from oracle.local import OSTLWithH
from oracle.local import PPProp as OraclePPProp
from rules.ledger import layers_of, lif
from slax_neurons import LI, LIF, Dropout, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    OTTT,
    RTRL,
    SLTT,
    STLLR,
    UORO,
    Adaptive,
    ApproximateOTPE,
    Direct,
    EProp,
    FixedBases,
    Local,
    PPProp,
    SequenceLoss,
    Symmetric,
    Target,
    cross_entropy,
    extend_trial,
    gradients,
    reward_gradient,
    squared_error,
    start_trial,
)
from stacks import deviation, gradients_of, inputs, linear, pair, worst

T, B, C = 9, 3, 4
TOLERANCE = 1e-11
ACTIONS = np.random.default_rng(5).integers(0, C, (T, B))
REWARDS = np.random.default_rng(3).normal(size=(T, B))
SIGNAL = oracle.softmax_cross_entropy(ACTIONS)


def network(*, fixed: bool = False) -> Any:
    neurons = [lif(), lif(decay=0.6, reset="zero"), {"kind": "li", "decay": 0.7}]
    return pair([7, 6, 5, C], [neuron | {"fixed": fixed} for neuron in neurons], edges=[(0, 0, 1)])


def trial_of(
    model: Any, rule: Any, x: Any, window: int, *, rewards: Any = None, discount: float = 1.0, mask: Any = None
) -> list[dict[str, np.ndarray]]:
    """The sum over the ends of windows of what a reward there finds; actions are given."""
    trial = start_trial(model, x.shape[1:], rule=rule)
    total, mask = None, np.ones((T, B), bool) if mask is None else mask

    @nnx.jit
    def extend(model: Any, trial: Any, x: Any, actions: Any, mask: Any) -> Any:
        options = {"rule": rule, "discount": discount, "mask": mask}
        return extend_trial(model, trial, cross_entropy, x, lambda _: actions, **options)

    for start in range(0, len(x), window):
        part = slice(start, start + window)
        trial, _, taken = extend(model, trial, x[part], jnp.asarray(ACTIONS[part]), jnp.asarray(mask[part]))
        np.testing.assert_array_equal(taken, ACTIONS[part])
        reward = REWARDS if rewards is None else rewards
        found = reward_gradient(trial, jnp.asarray(reward[min(start + window, len(x)) - 1]))
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    return gradients_of(model, total)


def compiled(model: Any, trial: Any, loss_fn: Any, x: Any, act: Any, **options: Any) -> Any:
    """`extend_trial` in one program, as a loop calls it."""
    return nnx.jit(lambda model, trial, x: extend_trial(model, trial, loss_fn, x, act, **options))(model, trial, x)


def at_ends(window: int) -> np.ndarray:
    """The rewards that `trial_of` sees."""
    rewards = np.zeros((T, B))
    ends = [min(start + window, T) - 1 for start in range(0, T, window)]
    rewards[ends] = REWARDS[ends]
    return rewards


def s_tllr() -> Any:
    numbers = (0.7, 0.3, 1.1, -0.4)
    hidden = [OracleSTLLR(*numbers, bias_trace=False) for _ in range(2)]
    return STLLR(*numbers), oracle.PerLayer([*hidden, OracleOTTT(bias_trace=False)])


RULES: dict[str, Any] = {
    "rtrl": (RTRL(), OracleRTRL()),
    "ostl": (OSTL(), OracleOSTL()),
    "ostl_with_recurrence": (OSTL(recurrence=True), OSTLWithH()),
    "ottt": (OTTT(), OracleOTTT()),
    "sltt": (SLTT(), OracleSLTT()),
    "otpe": (OTPE(), OracleOTPE()),
    "approximate_otpe": (ApproximateOTPE(), OracleApproximateOTPE()),
    "e_prop": (EProp(), OracleEProp()),
    "pp_prop": (PPProp(decay=0.8), OraclePPProp(0.8)),
    "s_tllr": s_tllr(),
}
FIXED = {"pp_prop", "s_tllr"}


@pytest.mark.parametrize("name", RULES)
def test_gradient_under_every_rule_is_the_oracle_s_three_factors(name, x64):
    """Rewards at the ends of windows, whose length and discount differ from one rule to the next."""
    number = list(RULES).index(name)
    window, discount = (1, 3, 4)[number % 3], (0.8, 1.0)[number % 2]
    model, layers = network(fixed=name in FIXED)
    rule, theirs = RULES[name]
    x = inputs(T, B, 7)
    expected = oracle.rewarded(theirs, layers, x, SIGNAL, at_ends(window), gamma=discount)
    expected = [{key: T * value for key, value in layer.items()} for layer in expected.gradients]
    assert worst(trial_of(model, rule, x, window, discount=discount), expected) < TOLERANCE
    assert np.abs(expected[0]["kernel"]).max() > 1e-3


@pytest.mark.parametrize(("window", "discount"), [(1, 0.7), (4, 0.0), (4, 0.7), (T, 1.0)])
def test_windows_change_nothing_but_where_rewards_may_come(window, discount, x64):
    """One reward at the end: the same in pieces of every length, under a rule for layers."""
    model, layers = network()
    x, rewards = inputs(T, B, 7), np.zeros((T, B))
    rewards[-1] = REWARDS[-1]
    found = trial_of(model, OSTL(), x, window, rewards=rewards, discount=discount)
    expected = oracle.rewarded(OracleOSTL(), layers, x, SIGNAL, rewards, gamma=discount).gradients
    assert worst(found, [{key: T * value for key, value in layer.items()} for layer in expected]) < TOLERANCE


def test_under_bptt_the_gradient_flows_within_a_call(x64):
    model, layers = network()
    x, rewards = inputs(T, B, 7), np.zeros((T, B))
    rewards[-1] = REWARDS[-1]
    weights = REWARDS[-1]

    def signal(t, outputs):
        losses, slopes = SIGNAL(t, outputs)
        return weights * losses, weights[:, None] * slopes

    for window, expected in ((T, oracle.bptt(layers, x, signal)), (3, oracle.tbptt(layers, x, signal, 3))):
        found = trial_of(model, BPTT(), x, window, rewards=rewards)
        assert worst(found, [{k: T * v for k, v in layer.items()} for layer in expected.gradients]) < TOLERANCE


@pytest.mark.parametrize("way", [Direct, Target, Local, FixedBases])
def test_third_factor_goes_along_every_route(way, x64):
    """With projected targets, the target is what the model did; local losses are those of what it did."""
    model, layers = network()
    x = inputs(T, B, 7)
    way = way() if way is FixedBases else way(rngs=nnx.Rngs(6))
    sizes = zip(layers_of(model), (6, 5), strict=False)
    matrices = [np.asarray(way.matrix(layer, size, C, jnp.float64)) for layer, size in sizes]
    if isinstance(way, Target):
        theirs = oracle.Target(matrices, np.eye(C)[ACTIONS])
    else:
        theirs = (oracle.Direct if isinstance(way, Direct) else oracle.Local)(matrices)
    expected = oracle.rewarded(OracleEProp(route=theirs), layers, x, SIGNAL, at_ends(3), gamma=0.9).gradients
    found = trial_of(model, EProp(route=way), x, 3, discount=0.9)
    assert worst(found, [{key: T * value for key, value in layer.items()} for layer in expected]) < TOLERANCE
    assert min(np.abs(layer["kernel"]).max() for layer in expected) > 1e-4


def test_where_the_model_does_not_act_nothing_is_added_and_the_trace_decays(x64):
    model, layers = network()
    x, mask = inputs(T, B, 7), np.random.default_rng(8).uniform(size=(T, B)) < 0.5

    def signal(t, outputs):
        losses, slopes = SIGNAL(t, outputs)
        return mask[t] * losses, mask[t][:, None] * slopes

    expected = oracle.rewarded(OracleOTPE(), layers, x, signal, at_ends(3), gamma=0.8).gradients
    found = trial_of(model, OTPE(), x, 3, discount=0.8, mask=mask)
    assert worst(found, [{key: T * value for key, value in layer.items()} for layer in expected]) < TOLERANCE


@pytest.mark.parametrize("route", ["symmetric", "target"])
def test_an_action_may_be_nan_where_the_model_does_not_act(route, x64):
    model, _ = network()
    x, mask = inputs(T, B, 7), jnp.asarray(np.random.default_rng(8).uniform(size=(T, B)) < 0.5)
    actions = jnp.asarray(np.random.default_rng(1).normal(size=(T, B, C)))
    rule = EProp(route=Target(rngs=nnx.Rngs(6))) if route == "target" else EProp()

    @nnx.jit
    def trace(model, actions):
        trial = start_trial(model, (B, 7), rule=rule)
        return extend_trial(model, trial, squared_error, x, lambda _: actions, rule=rule, mask=mask)[0].trace

    missing, expected = trace(model, jnp.where(mask[..., None], actions, jnp.nan)), trace(model, actions)
    jax.tree.map(np.testing.assert_array_equal, missing, expected)
    assert all(leaf.any() for leaf in jax.tree.leaves(expected))


@pytest.mark.parametrize("route", [Symmetric(), Direct(rngs=nnx.Rngs(6))], ids=["symmetric", "direct"])
def test_a_rule_and_a_trial_are_arguments_of_nnx_jit(route, x64):
    """With the numbers of a rule that is closed over, and one program for all calls."""
    model, _ = network()
    x, rule, traced = inputs(8, B, 7), OSTL(route=route), 0

    def extend(model, rule, trial, x):
        nonlocal traced
        traced += 1
        return extend_trial(model, trial, cross_entropy, x, lambda y: y.argmax(axis=-1), rule=rule, discount=0.9)[0]

    given, closed = nnx.jit(extend), nnx.jit(lambda model, trial, x: extend(model, rule, trial, x))
    ours = nnx.jit(lambda model, rule: start_trial(model, (B, 7), rule=rule))(model, rule)
    theirs = start_trial(model, (B, 7), rule=rule)
    for piece in (x[:4], x[4:]):
        ours, theirs = given(model, rule, ours, piece), closed(model, theirs, piece)
    assert traced == 2
    found, expected = (gradients_of(model, reward_gradient(one, jnp.asarray(REWARDS[-1]))) for one in (ours, theirs))
    assert worst(found, expected) < TOLERANCE
    assert expected[0]["kernel"].any()


def test_states_of_a_trial_have_the_dtypes_that_steps_give_them():
    """The input is float32, as the first neuron, although the first weights are bfloat16."""
    half = {"param_dtype": jnp.bfloat16, "dtype": jnp.bfloat16}
    last = [nnx.Linear(4, C, rngs=nnx.Rngs(0), **half), LI(param_dtype=jnp.bfloat16)]
    model, x = connect([LIF(), lambda x: x.astype(jnp.bfloat16), *last]), inputs(2, B, 4, dtype=jnp.float32)

    @nnx.jit
    def extend(model, trial):
        return extend_trial(model, trial, cross_entropy, x, lambda y: y.argmax(axis=-1), rule=OSTL())[0]

    trial = start_trial(model, (B, 4), rule=OSTL())
    before, after = ([leaf.dtype for leaf in jax.tree.leaves(one)] for one in (trial, extend(model, trial)))
    assert before == after
    assert {jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)} <= set(before)


def test_parameters_may_change_between_the_pieces_of_a_trial(x64):
    """The trace is what was found with the parameters of its time; states and traces go on."""
    model, layers = network(fixed=True)
    x, gamma = inputs(T, B, 7), 0.9
    trial = start_trial(model, (B, 7), rule=OSTL())
    options = {"rule": OSTL(), "discount": gamma}
    trial, _, _ = compiled(model, trial, cross_entropy, x[:4], lambda y: jnp.asarray(ACTIONS[:4]), **options)
    for index in (0, 2):
        model.modules[index].kernel[...] *= 0.9
    trial, _, _ = compiled(model, trial, cross_entropy, x[4:], lambda y: jnp.asarray(ACTIONS[4:]), **options)
    found = gradients_of(model, reward_gradient(trial, jnp.asarray(REWARDS[-1])))
    last = np.zeros((T, B))
    last[[3, -1]] = REWARDS[-1]
    one = oracle.rewarded(OracleOSTL(), layers, x[:4], SIGNAL, last[:4], gamma=gamma)
    moved = [
        dataclasses.replace(layer, kernel=layer.kernel * (1.0 if index == 2 else 0.9))
        for index, layer in enumerate(layers)
    ]
    later = oracle.softmax_cross_entropy(ACTIONS[4:])
    two = oracle.rewarded(OracleOSTL(), moved, x[4:], later, last[4:], gamma=gamma, carry=one.carry)
    expected = [
        {key: gamma**5 * 4 * a[key] + 5 * b[key] for key in a}
        for a, b in zip(one.gradients, two.gradients, strict=True)
    ]
    assert worst(found, expected) < TOLERANCE


# --------------------------------------------------------------------------------------------------------------- REINFORCE


def test_reinforce_by_hand_of_one_layer_of_integrators(x64):
    """sum_t discount^(T-1-t) (softmax(y_t) - action_t) trace_t, times the reward, and a mean over samples."""
    model = connect([linear(5, C, 0), LI(decay=0.8, param_dtype=jnp.float64)])
    x, discount, reward = np.asarray(inputs(T, B, 5)), 0.9, REWARDS[-1]
    W, b = np.asarray(model.modules[0].kernel[...]), np.asarray(model.modules[0].bias[...])
    y, trace, ones = 0.0, np.zeros((B, 5)), 0.0
    kernel, bias = np.zeros((5, C)), np.zeros(C)
    for t in range(T):
        y = 0.8 * y + x[t] @ W + b
        trace, ones = 0.8 * trace + x[t], 0.8 * ones + 1
        p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
        weighed = discount ** (T - 1 - t) * reward[:, None] * (p - np.eye(C)[ACTIONS[t]]) / B
        kernel += trace.T @ weighed
        bias += ones * weighed.sum(axis=0)
    for rule, window in ((OSTL(), 2), (OTTT(), T), (RTRL(), 4)):
        rewards = np.zeros((T, B))
        rewards[-1] = reward
        (found,) = trial_of(model, rule, jnp.asarray(x), window, rewards=rewards, discount=discount)
        assert deviation(found["kernel"], kernel) < TOLERANCE
        assert deviation(found["bias"], bias) < TOLERANCE


def test_reinforce_by_hand_of_one_spiking_layer(x64):
    """The policy is the softmax of spikes: with a detached reset a trace of the inputs times the slope of the surrogate."""
    options = {"threshold": 0.7, "stop_reset_gradient": True, "param_dtype": jnp.float64}
    model = connect([linear(5, C, 0, use_bias=False), LIF(decay=0.8, **options)])
    x, reward = np.asarray(inputs(T, B, 5)), REWARDS[-1]
    W, u, trace, kernel = np.asarray(model.modules[0].kernel[...]), 0.0, np.zeros((B, 5)), np.zeros((5, C))
    for t in range(T):
        v = 0.8 * u + x[t] @ W
        s = (v >= 0.7).astype(float)
        u, psi = v - 0.7 * s, 1 / (25 * np.abs(v - 0.7) + 1) ** 2
        trace = 0.8 * trace + x[t]
        p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
        kernel += trace.T @ (psi * reward[:, None] * (p - np.eye(C)[ACTIONS[t]]) / B)
    rewards = np.zeros((T, B))
    rewards[-1] = reward
    (found,) = trial_of(model, OSTL(), jnp.asarray(x), 4, rewards=rewards)
    assert deviation(found["kernel"], kernel) < TOLERANCE


def test_mean_over_what_the_model_may_do_is_the_gradient_of_the_expected_reward(x64):
    """All sequences of three actions of two, each with its probability and a reward of its own."""
    steps = 3
    model = connect([linear(2, 2, 0), LI(decay=0.8, param_dtype=jnp.float64)])
    sequences = np.array(list(itertools.product(range(2), repeat=steps)))
    earned = np.random.default_rng(2).normal(size=len(sequences))
    one = inputs(steps, 1, 2, seed=3)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def probabilities(params):
        logits = nnx.merge(graphdef, params, rest).unroll(jax.tree.map(lambda c: c, carry), one)[1][:, 0]
        logs = jax.nn.log_softmax(logits)
        return jnp.exp(sum(logs[t][jnp.asarray(sequences[:, t])] for t in range(steps)))

    carry = model.initialize_carry((1, 2))
    exact = jax.grad(lambda params: (probabilities(params) * earned).sum())(params)
    batch = len(sequences)
    x = jnp.repeat(one, batch, axis=1)
    trial = start_trial(model, (batch, 2), rule=OSTL())
    trial, _, _ = compiled(model, trial, cross_entropy, x, lambda y: jnp.asarray(sequences.T), rule=OSTL())
    found = reward_gradient(trial, batch * probabilities(params) * earned)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert deviation(ours, -theirs) < TOLERANCE


def test_reward_of_one_is_supervised_learning(x64):
    """With a reward of 1 for each sample and the labels as actions: the gradient of the loss, summed over steps."""
    model, _ = network()
    x, labels = inputs(T, B, 7), jnp.array([0, 3, 2])
    trial = start_trial(model, (B, 7), rule=OSTL())

    def act(outputs):
        return jnp.broadcast_to(labels, outputs.shape[:2])

    trial, _, _ = compiled(model, trial, cross_entropy, x, act, rule=OSTL())
    found = gradients_of(model, reward_gradient(trial, jnp.ones(B)))
    expected = gradients_of(model, gradients(model, cross_entropy, x, labels, rule=OSTL(), window=4)[1])
    assert worst(found, [{key: T * value for key, value in layer.items()} for layer in expected]) < TOLERANCE


def test_actions_that_are_numbers(x64):
    """Gaussian noise around the outputs: squared errors in place of cross entropies."""
    model, layers = network()
    x, noise = inputs(T, B, 7), jnp.asarray(np.random.default_rng(1).normal(size=(T, B, C)))
    trial = start_trial(model, (B, 7), rule=OTTT())
    trial, outputs, actions = compiled(model, trial, squared_error, x, lambda y: y + noise, rule=OTTT())
    np.testing.assert_allclose(actions, outputs + noise)
    rewards = np.zeros((T, B))
    rewards[-1] = REWARDS[0]

    def signal(t, y):
        error = y - np.asarray(actions[t])
        return (error**2).mean(axis=1), 2 * error / C

    expected = oracle.rewarded(OracleOTTT(), layers, x, signal, rewards).gradients
    found = gradients_of(model, reward_gradient(trial, jnp.asarray(REWARDS[0])))
    assert worst(found, [{key: T * value for key, value in layer.items()} for layer in expected]) < TOLERANCE


# ------------------------------------------------------------------------------------------------------- tasks, refusals

CUE, ACT, END = 5, 10, 14  # steps: cues, then noise, an action, then noise until the reward arrives


def trials(key: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
    """One of two groups of four inputs fires in the first steps; the third group is noise."""
    cue_key, noise_key, spike_key = jax.random.split(key, 3)
    cues = jax.random.randint(cue_key, (batch,), 0, 2)
    rates = jnp.repeat(jax.nn.one_hot(cues, 2), 4, axis=1)[None] * (jnp.arange(END) < CUE)[:, None, None]
    noise = jax.random.bernoulli(noise_key, 0.3, (END, batch, 4))
    shown = jax.random.uniform(spike_key, rates.shape) < 0.6 * rates
    return jnp.concatenate([shown, noise], axis=-1).astype(jnp.float32), cues


@functools.partial(nnx.jit, static_argnames="discount")
def update(model: Any, optimizer: Any, key: jax.Array, sign: float, discount: float) -> jax.Array:
    """A step up the reward of trials, one for the right action in step ACT, which arrives three steps later."""
    data_key, action_key = jax.random.split(key)
    x, cues = trials(data_key, 32)
    acts = jnp.zeros((END, 32), bool).at[ACT].set(True)
    options = {"rule": OSTL(), "discount": discount}
    trial = start_trial(model, x.shape[1:], rule=OSTL())
    trial, _, actions = extend_trial(
        model,
        trial,
        cross_entropy,
        x[: ACT + 1],
        lambda outputs: jax.random.categorical(action_key, outputs),
        mask=acts[: ACT + 1],
        **options,
    )
    none = jnp.zeros((END - ACT - 1, 32), int)
    trial, _, _ = extend_trial(
        model, trial, cross_entropy, x[ACT + 1 :], lambda _: none, mask=acts[ACT + 1 :], **options
    )
    rewards = (actions[ACT] == cues).astype(jnp.float32)
    optimizer.update(model, reward_gradient(trial, sign * (rewards - 0.5)))
    return rewards.mean()


def learned(seed: int, *, discount: float = 1.0, sign: float = 1.0) -> float:
    """The mean reward of the last 15 of 40 updates."""
    rngs = nnx.Rngs(seed)
    options = {"decay": 0.9, "threshold": 0.5}
    model = connect([nnx.Linear(12, 12, rngs=rngs), LIF(**options), nnx.Linear(12, 2, rngs=rngs), LI(decay=0.9)])
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)
    with jax.numpy_dtype_promotion("standard"):  # for Optax, whose step counter is an integer
        rewards = [update(model, optimizer, jax.random.key(1000 * seed + step), sign, discount) for step in range(40)]
    return float(np.mean(rewards[-15:]))


def test_what_to_do_is_learned_from_a_reward_that_comes_later():
    """Of chance 0.5. With the other sign the wrong action is learned, and without a trace nothing."""
    right, wrong, traceless = np.mean([learned(0), learned(1)]), learned(0, sign=-1.0), learned(0, discount=0.0)
    assert right > 0.85, (right, wrong, traceless)
    assert wrong < 0.15
    assert abs(traceless - 0.5) < 0.15


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda model: UORO(rngs=nnx.Rngs(0)), "random key in the state"),
        (lambda model: OSTL(route=Adaptive(model, rngs=nnx.Rngs(0))), "with parameters of its own"),
    ],
)
def test_rules_whose_samples_are_not_independent_are_refused(make, match):
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI()])
    with pytest.raises(TypeError, match=match):
        start_trial(model, (B, 7), rule=make(model))


@pytest.mark.parametrize("mask", ["sequence", "step"])
def test_dropout_is_refused_until_it_is_off(mask):
    """A trial starts each sample from the same state, in which the masks would be."""
    drop = Dropout(0.5, mask=mask, rngs=nnx.Rngs(1))
    model = connect([nnx.Linear(7, 6, rngs=nnx.Rngs(0)), LIF(), drop, nnx.Linear(6, C, rngs=nnx.Rngs(0)), LI()])
    with pytest.raises(TypeError, match=r"call model.eval\(\) to switch dropout off"):
        start_trial(model, (B, 7), rule=OSTL())
    model.eval()
    trial = start_trial(model, (B, 7), rule=OSTL())
    x, act = inputs(2, B, 7, dtype=jnp.float32), lambda y: y.argmax(axis=-1)
    trial, _, _ = compiled(model, trial, cross_entropy, x, act, rule=OSTL())
    assert trial.trace["modules"][0]["kernel"][...].shape == (B, 7, 6)


@pytest.mark.parametrize(
    ("mask", "act", "match"),
    [
        (jnp.ones((B, T), bool), None, r"Got a mask of bool\[3, 9\], expected bool\[9, 3\].*Make it with valid_steps"),
        (jnp.ones((T, B)), None, r"Got a mask of float32\[9, 3\], expected bool\[9, 3\]"),
        (None, lambda y: y[-1].argmax(axis=-1), r"act made actions of shape \[3\] .* expected \[9, 3, ...\]"),
        (None, lambda y: y.argmax(axis=-1).T, r"act made actions of shape \[3, 9\] .* expected \[9, 3, ...\]"),
        (
            None,
            lambda y: y.argmax(axis=-1)[:, :1],
            r"act made actions of shape \[9, 1\] .* one for each step and sample",
        ),
    ],
)
def test_masks_and_actions_of_another_shape_are_refused(mask, act, match):
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI()])
    trial, x = start_trial(model, (B, 7), rule=OSTL()), inputs(T, B, 7, dtype=jnp.float32)
    act = act or (lambda y: y.argmax(axis=-1))
    with pytest.raises(ValueError, match=match):
        extend_trial(model, trial, cross_entropy, x, act, rule=OSTL(), mask=mask)


def test_a_piece_in_which_the_model_does_not_act_only_waits():
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI()])
    trial, x = start_trial(model, (B, 7), rule=OSTL()), inputs(T, B, 7, dtype=jnp.float32)
    none, act = jnp.zeros((T, B), bool), lambda y: y.argmax(axis=-1)
    trial, _, _ = compiled(model, trial, cross_entropy, x, act, rule=OSTL(), mask=none)
    assert not any(leaf.any() for leaf in jax.tree.leaves(trial.trace))


def test_discounts_outside_the_unit_interval_are_refused():
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI()])
    trial = start_trial(model, (B, 7), rule=OSTL())
    x = inputs(T, B, 7, dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"discount=1.5, expected a number in \[0, 1\]"):
        extend_trial(model, trial, cross_entropy, x, lambda y: y.argmax(axis=-1), rule=OSTL(), discount=1.5)


@pytest.mark.parametrize("shape", [(), (B + 1,), (T, B), (B, 1), (1,)])
def test_rewards_of_another_shape_than_one_for_each_sample_are_refused(shape):
    """A reward for each step would be summed over the wrong axis."""
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI()])
    trial = start_trial(model, (B, 7), rule=OSTL())
    with pytest.raises(
        ValueError, match=rf"rewards of shape {re.escape(str(list(shape)))}, expected \[3\].*add the gradients"
    ):
        reward_gradient(trial, jnp.ones(shape))


def test_a_loss_of_the_sequence_is_refused():
    """Its gradient w.r.t. the outputs of a step has no discount of its own."""
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI()])
    trial, x = start_trial(model, (B, 7), rule=OSTL()), inputs(T, B, 7, dtype=jnp.float32)
    loss = SequenceLoss(lambda outputs, actions: cross_entropy(outputs.mean(axis=0), actions[-1]))
    with pytest.raises(
        TypeError, match=r"got a SequenceLoss, expected a loss of each step.*pass it to reward_gradient"
    ):
        extend_trial(model, trial, loss, x, lambda y: y.argmax(axis=-1), rule=OSTL())


@pytest.mark.parametrize("batch", [1, B + 1])
def test_inputs_of_another_number_of_samples_than_the_trial_are_refused(batch):
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI()])
    trial, x = start_trial(model, (B, 7), rule=OSTL()), inputs(T, batch, 7, dtype=jnp.float32)
    message = rf"inputs of shape \[9, {batch}, 7\], so {batch} samples, expected the 3 samples.*Start another trial"
    with pytest.raises(ValueError, match=message):
        extend_trial(model, trial, cross_entropy, x, lambda y: y.argmax(axis=-1), rule=OSTL())
