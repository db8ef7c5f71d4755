"""The experiment on streams: which data come when, what is learned from, and the numbers of its figures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from experiment_files import as_written, config_of, tables
from flax import nnx
from jax import random

from experiments.common.samples import key_of
from experiments.common.tasks import make_model
from experiments.pipeline.job import settings_of
from experiments.streaming import run, sources
from slax_data import spike_trains
from slax_rules import RULES, cross_entropy, extend_stream, start_stream

SMALL = {"seeds": 2, "learning_rates": [0.003, 0.03], "segments": 2, "choosing_segments": 2, "segment": 5, "ends": 3}
TASK = {"source": "switch", "n_steps": 6, "layers": [12, 8, 3], "input_rate": 0.2}
SPEAKERS = ("ann", "bob", "cy")


def config(rule="otpe", experiment="streaming", **task):
    settings = settings_of(experiment, "tiny") | SMALL | {"rules": [rule], "tasks": {"switch": TASK | task}}
    return config_of(experiment, f"switch/{rule}", settings | {"online_window": 3})


@pytest.mark.parametrize("cut", [False, True])
def test_a_run_is_a_stream_that_is_extended_sample_by_sample(cut):
    """The same by hand: what was right is what the outputs of the stream say, before their label is learned."""
    settings = config(experiment="borders", cut_traces=True) if cut else config()
    source = sources.make_source(settings, None)
    shared, items = source.plan(key_of(1, "samples"), 2, False)
    network_key, _ = random.split(key_of(1, "start"))
    learner = run.make_learner(settings, source)
    right, losses = run.follow(settings, source, learner, [1], [0.3], "here", choosing=False)
    model, rule = make_model(settings, nnx.Rngs(network_key)), RULES["otpe"].make()
    optimizer = nnx.Optimizer(model, optax.adam(0.3), wrt=nnx.Param)
    stream = start_stream(model, optimizer, cross_entropy, (1, 12), rule=rule, window=3)
    at_rest, counts = stream.state.traces, np.arange(6) >= 3
    for number in range(10):
        spikes, label = source.sample(shared, jax.tree.map(lambda leaf, number=number: leaf[number], items))
        if cut:
            stream = dataclasses.replace(stream, state=stream.state._replace(traces=at_rest))
        stream, outputs, loss = extend_stream(stream, spikes[:, None], np.full((6, 1), label), mask=counts[:, None])
        totals = np.asarray(outputs)[counts, 0].sum(axis=0)
        assert right[0, number] == (totals[label] > np.delete(totals, label)).all()
        assert losses[0, number] == pytest.approx(float(loss.sum()) / counts.sum(), rel=1e-4)


def test_late_labels_are_learned_from_when_they_come():
    """Before the first label is there, all rates predict alike; with labels at once, they part earlier."""
    late = config(delay=4)
    source = sources.make_source(late, None)
    right, losses = run.follow(late, source, run.make_learner(late, source), [0, 0], [0.0, 0.3], "late")
    assert not losses[:, :4].any() and losses[0, 4:].all()
    assert (right[0, :5] == right[1, :5]).all()
    assert losses[0, 4] == losses[1, 4] and (losses[0, 6:] != losses[1, 6:]).any()


def test_manifolds_switch_between_segments_and_drift_along_them():
    jumps, drifts = (sources.make_source(config(source=name, segment=10), None) for name in ("switch", "drift"))
    shared, (place, _) = jumps.plan(random.key(0), 3, False)
    assert place.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    same, (moving, _) = drifts.plan(random.key(0), 3, False)
    assert np.allclose(moving, np.arange(30) / 10)
    assert all((one == two).all() for one, two in zip(jax.tree.leaves(shared), jax.tree.leaves(same), strict=True))
    key = random.key(1)
    at = [drifts.sample(same, (jnp.float32(where), key))[0] for where in (0.0, 0.1, 1.0)]
    there = jumps.sample(shared, (jnp.float32(1.0), key))[0]
    assert (at[2] == there).all() and (at[0] != at[2]).any()
    assert jnp.abs(at[0] - at[1]).sum() < jnp.abs(at[0] - at[2]).sum()
    chosen, _ = jumps.plan(random.key(0), 3, True)
    assert (chosen.phases != shared.phases).any()


def recordings(offset, number=20):
    """Recordings that tell their number and speaker: unit u spikes in the first step if its bit is set."""
    numbers = offset + np.arange(number)
    spikes = np.zeros((number, 6, 12), bool)
    spikes[:, 0] = (numbers[:, None] >> np.arange(12)) & 1
    return spike_trains(spikes, np.arange(number) % 3)


def test_speakers_take_turns_and_no_recording_comes_twice_before_all_have_come():
    names = [(name, part) for name in SPEAKERS for part in ("choice", "stream")]
    sets = {f"{name}_{part}": recordings(100 * number) for number, (name, part) in enumerate(names)}
    source = sources.speakers(config(segment=10), sets)
    for choosing, first in ((False, 1), (True, 0)):
        shared, items = source.plan(random.key(0), 6, choosing)
        spikes = [source.sample(shared, item)[0] for item in items]
        numbers = np.array([int((np.asarray(one[0]) * 2 ** np.arange(12)).sum()) for one in spikes])
        speakers = (numbers // 200).reshape(6, 10)
        assert (speakers == speakers[:, :1]).all()
        assert sorted(speakers[:3, 0]) == sorted(speakers[3:, 0]) == [0, 1, 2]
        assert len(set(numbers.tolist())) == 60 and ((numbers // 100) % 2 == first).all()
        labels = [int(source.sample(shared, item)[1]) for item in items]
        assert labels == ((numbers % 100) % 3).tolist()


def test_numbers_of_the_figures_follow_from_what_was_right(tmp_path):
    segment = "0" * 5 + "1" * 5  # right in the second half of each segment
    numbers = {"right": ["1" * 10 + segment * 2, "0" * 10 + segment * 2], "memory": {"measured": 4000, "inputs": 70}}
    made = tables("streaming", [as_written(config(segment=10), numbers)], tmp_path)
    found = {row["quantity"]: row for row in made["streaming"]}
    means = {name: float(row["mean"]) for name, row in found.items()}
    assert means == {"accuracy": 0.5, "early": 0.0, "late": 1.0, "recovery": 5.0, "bytes": 4000, "input_bytes": 70}
    assert {row["seeds"] for row in found.values()} == {"2"}
