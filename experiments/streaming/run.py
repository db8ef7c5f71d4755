"""Learn from streams under one rule, one sample after the other without an end or a reset, and record which predictions were
right. Each prediction is made before its label is learned.

All rules start from the same weights and see the same streams. The learning rate is the one with the most right predictions on
other streams. With `cut_traces`, the traces of the rule are zero at the beginning of each sample.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.costs import bytes_of
from experiments.common.learning import online_window, trials_without_second, with_rate_in_state
from experiments.common.samples import key_of, seeds_of
from experiments.common.tasks import make_model
from experiments.streaming.sources import Source, make_source
from slax_rules import BPTT, RULES, accuracy, cross_entropy, extend_stream, look_ahead, start_stream
from slax_rules.stream import Stream
from slax_rules.train.sweep_training import COMPILER_OPTIONS


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """ "trials", the trials of the learning rate; "right", for each seed a text of zeros and ones, one for each sample; and
    "memory", the bytes of the rule for a sample, in addition to parameters and optimizer."""
    source, rates = make_source(config, spikes), sorted(config["learning_rates"])
    learner, where = make_learner(config, source), f"streaming, {config['task']} under {config['rule']}"
    seeds = [seed for seed in seeds_of(config, config["rate_seeds"]) for _ in rates]
    right, _ = follow(config, source, learner, seeds, rates * config["rate_seeds"], f"{where}, learning rates")
    scores = right.mean(axis=1).reshape(config["rate_seeds"], len(rates))
    best = rates[int(np.argmax(scores.mean(axis=0)))]
    trials = trials_without_second(rates, scores.tolist(), best)
    seeds = list(seeds_of(config))
    right, losses = follow(config, source, learner, seeds, [best] * len(seeds), where, choosing=False)
    for seed, of_seed in zip(seeds, losses, strict=True):
        wrong = np.flatnonzero(~np.isfinite(of_seed))
        if wrong.size:
            raise SystemExit(f"{where}, seed {seed}, the loss of sample {wrong[0] + 1} is not finite.")
    return {
        "trials": trials,
        "right": ["".join("01"[one] for one in of_seed.astype(int)) for of_seed in right],
        "memory": memory(config),
    }


class Learner(NamedTuple):
    """Programs for several streams at once.

    begin: `begin(keys, rates)`, the learners before the first sample.
    visit: `visit(learners, shared, items, late, known)`, the learners after a segment, and whether their predictions were right
        and their losses, by stream and sample. They predict `items`, and learn from `late` where it is `known`.
    """

    begin: Callable[..., Any]
    visit: Callable[..., tuple[Any, jax.Array, jax.Array]]


def follow(
    config: dict[str, Any],
    source: Source,
    learner: Learner,
    seeds: list[int],
    rates: list[float],
    what: str,
    choosing: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each prediction was right, and the losses, by stream and sample. Each stream has a seed and a learning rate."""
    segments = config["choosing_segments"] if choosing else config["segments"]
    plans = {seed: source.plan(key_of(seed, "samples"), segments, choosing) for seed in set(seeds)}
    shared = plans[seeds[0]][0] if source.is_common else stacked([plans[seed][0] for seed in seeds])
    items = stacked([plans[seed][1] for seed in seeds])
    learners = learner.begin(jnp.stack([key_of(seed, "start") for seed in seeds]), jnp.asarray(rates))
    number, found = segments * config["segment"], []
    for first in tqdm(range(0, number, config["segment"]), desc=what, unit="segment", disable=None):
        now = np.arange(first, first + config["segment"])
        late = now - config["delay"]
        parts = (jax.tree.map(lambda leaf, which=which: leaf[:, np.maximum(which, 0)], items) for which in (now, late))
        learners, right, losses = learner.visit(learners, shared, *parts, jnp.asarray(late >= 0))
        found.append((np.asarray(right), np.asarray(losses)))
    right, losses = (np.concatenate(of, axis=1) for of in zip(*found, strict=True))
    return right, losses


def stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def make_learner(config: dict[str, Any], source: Source) -> Learner:
    """The programs of a rule."""

    def start(key: jax.Array, rate: Any) -> Stream:
        network_key, rule_key = random.split(key)
        model = make_model(config, nnx.Rngs(network_key))
        rule = RULES[config["rule"]].make(rngs=nnx.Rngs(rule_key), model=model)
        optimizer = nnx.Optimizer(model, with_rate_in_state(config["optimizer"]), wrt=nnx.Param)
        optimizer.opt_state.hyperparams["learning_rate"][...] = rate
        shape = (1, config["layers"][0])
        return start_stream(model, optimizer, cross_entropy, shape, rule=rule, window=window_of(config, rule))

    # The first half of a sample is not enough to know it.
    counts = jnp.arange(config["n_steps"]) >= config["n_steps"] // 2

    def begin(key: jax.Array, rate: jax.Array) -> Any:
        begun = start(key, rate)
        return begun, begun.state

    def visit(learner: Any, shared: Any, items: Any, late: Any, known: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        learner, (right, losses) = jax.lax.scan(partial(step, shared), learner, (items, late, known))
        return learner, right, losses

    def step(shared: Any, learner: Any, now: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        before, ahead = learner
        item, late, known = now
        if config.get("cut_traces"):
            state = before.state._replace(traces=jax.tree.map(jnp.zeros_like, before.state.traces))
            before = dataclasses.replace(before, state=state)
        spikes, label = source.sample(shared, late)
        extended = extend_stream(before, spikes[:, None], jnp.full((len(spikes), 1), label), mask=counts[:, None])
        outputs = extended.outputs
        if config["delay"]:
            spikes, label = source.sample(shared, item)
            ahead, outputs = look_ahead(before, ahead, spikes[:, None])
        after = jax.tree.map(partial(jnp.where, known), extended.stream, before)
        right = accuracy(outputs, label[None], counts[:, None])
        return (after, ahead), (right, jnp.where(known, extended.losses.sum() / counts.sum(), 0))

    shared_axis = None if source.is_common else 0
    visit_all = jax.jit(jax.vmap(visit, in_axes=(0, shared_axis, 0, 0, None)), compiler_options=COMPILER_OPTIONS)
    return Learner(jax.jit(jax.vmap(begin)), visit_all)


def window_of(config: dict[str, Any], rule: Any) -> int:
    """Steps between two updates: a sample under BPTT."""
    return config["n_steps"] if isinstance(rule, BPTT) else online_window(config, rule)


def memory(config: dict[str, Any]) -> dict[str, int | None]:
    """The bytes of the gradient of a sample: "measured", "counted", and those of its "inputs", besides; under BPTT also
    "recomputed", measured with recomputation, whose gradient is the same."""
    model = make_model(config, nnx.Rngs(0))
    rule, shape = RULES[config["rule"]].make(rngs=nnx.Rngs(0), model=model), (config["n_steps"], 1, config["layers"][0])
    found = bytes_of(model, rule, shape, window_of(config, rule))
    if isinstance(rule, BPTT):
        found["recomputed"] = bytes_of(model, BPTT(remat=True), shape, None)["measured"]
    return found
