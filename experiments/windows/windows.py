"""The gradients of all rules as a function of the window length K, and their costs.

At the end of a window the carry becomes a constant. For TBPTT(K) the window defines the rule: K = T is BPTT. For a rule that
carries its traces from window to window, the gradient of a sequence is the same for every K, up to rounding.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.common.costs import costs, gradient_programs
from experiments.common.learning import at_one_rate, gradient_rule
from experiments.common.measures import layer_of, plain_layers
from experiments.common.samples import key_of, make_sampler
from slax_neurons import Connect
from slax_rules import RULES, agreement, cross_entropy, gradients

STAGES = ("initial", "trained")

Batch = tuple[jax.Array, jax.Array]
Cell = tuple[str, int]  # the name of a rule and a window


class Seed(NamedTuple):
    """The data of one seed: the network at each stage, the batch, and the key for the random draws of rules."""

    models: dict[str, Connect]
    batch: Batch
    rule_key: jax.Array


def compute(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The agreement with BPTT, and the cost.

    Returns:
        Numbers and times, each a list under "cells". The numbers have, for each rule, window and stage, "layers": for each
        seed and layer, the cosine and norm ratio to BPTT, None where a gradient is zero; and "change": for each seed, the
        distance of the gradient from the same rule's gradient with a single window, |g_K - g_T| / |g_T|, over all parameters.
        The times have, for each rule and window, the times of a jitted forward pass and gradient in all rounds, in
        ms, and temporaries, in bytes.
    """
    seeds = list(trained_seeds(config))
    cells = [(rule, window) for rule in config["rules"] for window in config["windows"]]
    given = {cell: (rule_of(cell, STAGES[0], seeds[0]), cell[1]) for cell in cells}
    timed = gradient_programs(seeds[0].models[STAGES[0]], given, seeds[0].batch)
    reference = nnx.jit(lambda model, *batch: gradients(model, cross_entropy, *batch)[1])
    numbers = []
    for stage in STAGES:
        found: dict[Cell, list[dict[str, Any]]] = {cell: [] for cell in cells}
        for seed in seeds:
            made = {cell: program(*arguments(cell, stage, seed)) for cell, (program, _) in timed.items()}
            bptt = reference(seed.models[stage], *seed.batch)
            for rule, window in cells:
                whole = made[rule, max(config["windows"])]
                change, layers = compare(seed.models[stage], made[rule, window], bptt, whole)
                found[rule, window].append({"change": float(change), "layers": plain_layers(layers)})
        numbers += [
            {"rule": rule, "window": window, "stage": stage, "seeds": of_seeds}
            for (rule, window), of_seeds in found.items()
        ]
    times = costs(timed, config["repeats"])
    return {"cells": numbers}, {
        "cells": [{"rule": rule, "window": window} | times[rule, window] for rule, window in cells]
    }


def trained_seeds(config: dict[str, Any]) -> Iterator[Seed]:
    """For each seed the network before and after training with BPTT, and a batch not used in training."""
    sampler = make_sampler(config, None)
    for run in at_one_rate(config | {"rule": "bptt"}, sampler, "windows: under bptt", evaluate_at=(0,)):
        spikes, labels = sampler(run.seed).others(1)
        models = {stage: run.network(step)[0] for stage, step in zip(STAGES, run.steps, strict=True)}
        batch = jnp.asarray(spikes[0], jnp.float32), jnp.asarray(labels[0])
        yield Seed(models, batch, key_of(run.seed, "measurements"))


def rule_of(cell: Cell, stage: str, seed: Seed) -> Any:
    """The rule of a cell for the network of a stage."""
    name, window = cell
    pieces = {"steps": window} if name == "tbptt" else {}
    return gradient_rule(name, RULES[name].make(rngs=nnx.Rngs(seed.rule_key), model=seed.models[stage], **pieces))


def arguments(cell: Cell, stage: str, seed: Seed) -> tuple[Any, ...]:
    """The arguments of a cell's program: the state of network and rule, and a batch."""
    return nnx.split((seed.models[stage], rule_of(cell, stage, seed)))[1], *seed.batch


@nnx.jit
def compare(model: Connect, gradient: nnx.State, bptt: nnx.State, whole: nnx.State) -> tuple[jax.Array, dict[str, Any]]:
    def length(tree: nnx.State) -> jax.Array:
        return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))

    change = length(jax.tree.map(jnp.subtract, gradient, whole)) / length(whole)
    return change, agreement(gradient, bptt, group=layer_of(model))
