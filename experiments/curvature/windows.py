"""The gradients of all rules as a function of the window length K, and their costs.

At the end of a window the carry becomes a constant. For TBPTT(K) the window defines the rule: K = T is BPTT. For a rule that
carries its traces from window to window, the gradient of a sequence is the same for every K, up to rounding.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.common.costs import costs
from experiments.common.learning import finite_runs, gradient_rule, train
from experiments.common.measures import layer_of, plain_layers
from experiments.common.samples import key_of, make_sampler
from experiments.common.tasks import make_model
from slax_neurons import Connect
from slax_rules import RULES, agreement, cross_entropy, gradients

STAGES = ("initial", "trained")

Batch = tuple[jax.Array, jax.Array]
Cell = tuple[str, int]  # the name of a rule and a window
Parts = tuple[Any, nnx.State, nnx.State]  # structure, parameters and the rest of a model and a rule


class Seed(NamedTuple):
    """The data of one seed: the parameters at each stage, the batch, and the key for the random draws of rules."""

    params: dict[str, nnx.State]
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
    model = make_model(config, nnx.Rngs(0))
    seeds = list(trained_seeds(config))
    cells = [(rule, window) for rule in config["rules"] for window in config["windows"]]
    programs = compiled(model, cells, seeds[0])
    exact = partial(parts, model, RULES["bptt"].make())
    reference = jax.jit(lambda params, batch: gradients(nnx.merge(*exact(params))[0], cross_entropy, *batch)[1])
    numbers = []
    for stage in STAGES:
        found: dict[Cell, list[dict[str, Any]]] = {cell: [] for cell in cells}
        for seed in seeds:
            made = {cell: program(*arguments(model, cell, stage, seed)) for cell, program in programs.items()}
            bptt = reference(seed.params[stage], seed.batch)
            for rule, window in cells:
                whole = made[rule, max(config["windows"])]
                compared = compare(model, made[rule, window], bptt, whole)
                layers = plain_layers(compared["layers"])
                found[rule, window].append({"change": float(compared["change"]), "layers": layers})
        numbers += [
            {"rule": rule, "window": window, "stage": stage, "seeds": of_seeds}
            for (rule, window), of_seeds in found.items()
        ]
    timed = {cell: (program, arguments(model, cell, STAGES[0], seeds[0])) for cell, program in programs.items()}
    times = costs(timed, config["repeats"])
    return {"cells": numbers}, {
        "cells": [{"rule": rule, "window": window} | times[rule, window] for rule, window in cells]
    }


def trained_seeds(config: dict[str, Any]) -> Iterator[Seed]:
    """For each seed the parameters before and after training with BPTT, and a batch not used in training."""
    sampler = make_sampler(config, None)
    options = {"rates": [config["learning_rate"]], "seeds": config["seeds"], "validates": False, "evaluate_at": (0,)}
    for run in finite_runs(train(config | {"rule": "bptt"}, "offline", sampler, "curvature: under bptt", **options)):
        spikes, labels = sampler(run.seed).others(1)
        params = {
            stage: nnx.state(run.network(step)[0], nnx.Param) for stage, step in zip(STAGES, run.steps, strict=True)
        }
        yield Seed(
            params, (jnp.asarray(spikes[0], jnp.float32), jnp.asarray(labels[0])), key_of(run.seed, "measurements")
        )


def rule_of(cell: Cell, model: Connect, key: jax.Array) -> Any:
    name, window = cell
    pieces = {"steps": window} if name == "tbptt" else {}
    return gradient_rule(name, RULES[name].make(rngs=nnx.Rngs(key), model=model, **pieces))


def parts(model: Connect, rule: Any, params: nnx.State) -> Parts:
    """The model and the rule split into parts, with other parameters in the model."""
    model = nnx.clone(model)
    nnx.update(model, params)
    return nnx.split((model, rule), nnx.Param, ...)


def compiled(model: Connect, cells: list[Cell], seed: Seed) -> dict[Cell, Any]:
    """The compiled program of each gradient. It takes parameters, the rest of the state of model and rule, and a batch."""

    def lowered(cell: Cell) -> Any:
        graphdef, params, rest = parts(model, rule_of(cell, model, seed.rule_key), seed.params[STAGES[0]])

        def gradient(params: nnx.State, rest: nnx.State, inputs: jax.Array, labels: jax.Array) -> nnx.State:
            model, rule = nnx.merge(graphdef, params, rest)
            return gradients(model, cross_entropy, inputs, labels, rule=rule, window=cell[1])[1]

        return jax.jit(gradient).lower(params, rest, *seed.batch)

    made = [lowered(cell) for cell in cells]
    with ThreadPoolExecutor() as pool:
        return dict(zip(cells, pool.map(lambda program: program.compile(), made), strict=True))


def arguments(model: Connect, cell: Cell, stage: str, seed: Seed) -> tuple[Any, ...]:
    """The arguments of a cell's program."""
    _, params, rest = parts(model, rule_of(cell, model, seed.rule_key), seed.params[stage])
    return params, rest, *seed.batch


@nnx.jit
def compare(model: Connect, gradient: nnx.State, bptt: nnx.State, whole: nnx.State) -> dict[str, Any]:
    def length(tree: nnx.State) -> jax.Array:
        return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))

    difference = jax.tree.map(jnp.subtract, gradient, whole)
    return {
        "change": length(difference) / length(whole),
        "layers": {
            layer: {"cosine": found.cosine, "norm_ratio": found.norm_ratio, "defined": found.defined}
            for layer, found in agreement(gradient, bptt, group=layer_of(model)).items()
        },
    }
