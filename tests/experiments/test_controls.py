"""The controls: what an exchange of traces or signals between samples changes in a gradient, and what it leaves as it is; how
the networks are trained, and where their accuracies are shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiment_files import as_written, config_of, tables
from flax import nnx

from experiments.controls import run
from experiments.controls.exchange import Exchanged
from experiments.pipeline.job import settings_of
from slax_neurons import LI, LIF, connect, unroll
from slax_rules import OSTL, OTPE, RULES, SLTT, PerLayer, gradients

STEPS, SAMPLES = 7, 4


def stack(neuron, hidden=1):
    rngs = nnx.Rngs(0)
    layers = [module for _ in range(hidden) for module in (nnx.Linear(5, 5, rngs=rngs), neuron)]
    return connect([*layers, nnx.Linear(5, 3, rngs=rngs), LI(decay=0.8)])


def data():
    """Inputs that make neurons spike, and targets, of which `linear` makes signals that depend on no output."""
    draw = np.random.default_rng(0).normal
    return 2 * draw(size=(STEPS, SAMPLES, 5)).astype("float32"), draw(size=(STEPS, SAMPLES, 3)).astype("float32")


def linear(outputs, targets):
    return (outputs * targets).sum(axis=-1)


def gradient(model, rule, inputs, targets):
    """The gradient of bias and kernel of each layer, from the first to the last."""
    found = gradients(model, linear, inputs, targets, rule=rule)[1]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def of_next(values):
    return np.roll(values, -1, axis=1)


def check(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_exchanged_signals_are_those_of_the_next_samples_targets():
    model, rule, (inputs, targets) = stack(LIF(decay=0.9)), OTPE(), data()
    found, own = (gradient(model, one, inputs, targets) for one in (Exchanged(rule, "signals"), rule))
    check(found[:2], gradient(model, rule, inputs, of_next(targets))[:2])
    check(found[2:], own[2:])  # of the read-out
    assert not np.allclose(found[1], own[1], rtol=0.1)


@pytest.mark.parametrize("name", ["approximate_otpe", "otpe"])
def test_exchanged_traces_are_those_of_the_next_samples_past(name):
    """In a linear layer, whose traces depend on its inputs alone; SLTT has the part of the gradient without a past."""
    model, rule, (inputs, targets) = stack(LI(decay=0.7)), RULES[name].make(), data()
    found, own = (gradient(model, one, inputs, targets) for one in (Exchanged(rule, "traces"), rule))
    whole, now = (gradient(model, one, of_next(inputs), targets) for one in (rule, SLTT()))
    of_step = gradient(model, SLTT(), inputs, targets)
    check(found[:2], [whole[i] - now[i] + of_step[i] for i in (0, 1)])
    check(found[2:], own[2:])
    assert not np.allclose(found[1], own[1], rtol=0.1)


def test_an_exchange_in_one_layer_reaches_no_other_one():
    model, one = stack(LIF(decay=0.9), 2), Exchanged(SLTT(), "signals")
    mixed = (PerLayer([one, SLTT(), OSTL()]), PerLayer([SLTT(), one, OSTL()]))
    both, first, second = (gradient(model, rule, *data()) for rule in (PerLayer([one, one, OSTL()]), *mixed))
    check(both, [*first[:2], *second[2:4], *first[4:]])


def test_references_have_an_exact_read_out_above_no_traces_or_fixed_layers():
    config, model = {"layers": [5, 5, 5, 3], "variant": "itself"}, stack(LIF(decay=0.9), 2)
    without, fixed = (run.rule_of(config | {"rule": name})(model=model) for name in ("without_traces", "fixed"))
    assert without == PerLayer([SLTT(), SLTT(), OSTL()])
    found, exact = (gradient(model, rule, *data()) for rule in (fixed, OSTL()))
    assert not any(leaf.any() for leaf in found[:4])
    check(found[4:], exact[4:])


FULL = settings_of("controls", "full")


@pytest.mark.parametrize(("variant", "update"), [("itself", "offline"), ("each_step", "online")])
def test_updates_are_made_once_a_sequence_or_in_each_step(variant, update, monkeypatch):
    asked = {}
    monkeypatch.setattr(run, "choose", lambda config, *how, **_: asked.update(config, how=how) or ({}, []))
    job = "recall_recurrent/rmsprop/without_traces" + "_each_step" * (variant == "each_step")
    run.compute(config_of("controls", job, FULL, "full"))
    assert (asked["how"][0], asked["online_window"]) == (update, 1) and asked["rule"] in RULES


def test_a_recurrent_layer_gets_its_own_spikes_one_step_later():
    config = {"layers": [5, 6, 3], "initial_rate": 0.2, "input_rate": 0.4, "decay": 0.9, "read_out_decay": 0.9}
    fed, recurrent = (run.network(config | {"recurrent": of}, nnx.Rngs(0)) for of in (False, True))
    assert not any(leaf.shape == (6, 6) for leaf in jax.tree.leaves(nnx.state(fed)))
    graphdef, state = nnx.split(recurrent)
    (own,) = (leaf for leaf in jax.tree.leaves(state) if leaf.shape == (6, 6))
    np.testing.assert_allclose(own.T @ own, np.eye(6), atol=1e-5)

    @jax.jit
    def outputs(state, scale):
        model = nnx.merge(graphdef, state)
        return unroll(model, model.initialize_carry((SAMPLES, 5)), scale * jnp.asarray(data()[0]))

    alone = jax.tree.map(lambda leaf: 0 * leaf if leaf.shape == (6, 6) else leaf, state)
    for one, other in zip(*(jax.tree.leaves(outputs(of, 1e-3)) for of in (state, alone)), strict=True):
        np.testing.assert_array_equal(one, other)  # without spikes, not even the membranes
    same = np.asarray(outputs(state, 1.0)[1] == outputs(alone, 1.0)[1]).all(axis=(1, 2))
    assert same[0] and not same[-1]


def test_steps_of_rmsprop_are_those_of_its_equation():
    """After a gradient of 3 and one of 0, with squares of 0.99."""
    made = run.optimizer_of({"optimizer": "rmsprop"}, 0.01)
    state = made.init(jnp.zeros(1))
    for gradient, expected in ((3.0, 10), (0.0, 0)):
        step, state = made.update(jnp.array([gradient]), state)
        assert float(step[0]) == pytest.approx(-0.01 * expected, rel=1e-3)


def test_each_figure_has_the_accuracies_of_its_rules_and_variants_in_their_rows(tmp_path):
    ways = [f"{optimizer}/{rule}" for optimizer in ("adam", "rmsprop") for rule in ("bptt", "sltt")]
    jobs = [f"{task}/{way}" for task in ("recall", "adding") for way in (*ways, "rmsprop/otpe")]
    jobs += ["recall/adam/otpe", "recall/adam/without_traces", "recall/rmsprop/without_traces", "recall/adam/fixed"]
    jobs += [f"recall/adam/{one}" for one in ("without_traces_signals", "ottt", "otpe_traces", "ottt_signals")]
    jobs += ["time/adam/bptt"]  # of a task that is in neither figure
    results, means = [], {}
    for number, job in enumerate(jobs, start=30):
        config, means[job] = config_of("controls", job, FULL, "full"), number
        seeds = [{"accuracy": (number + apart) / 100} for apart in (-1, 1)]
        results.append(as_written(config, {"seeds": seeds, "trials": {"chosen": {"learning_rate": 0.1}}}))
    made, parts = tables("controls", results, tmp_path), ("task", "optimizer", "rule", "variant")
    found = {stem: {"/".join(row[name] for name in parts): float(row["mean"]) for row in made[stem]} for stem in made}
    assert len(found["controls_rmsprop"]) == 13 and len(found["controls_shuffled"]) == 8
    assert found["controls_rmsprop"]["adding/rmsprop/otpe/itself"] == pytest.approx(means["adding/rmsprop/otpe"] / 100)
