"""Measure the time and memory of a gradient of all rules in the recurrent network, and of sketched RTRL by rank and with its
bound."""

from typing import Any

import jax
from flax import nnx
from jax import random

from experiments.certificates.run import network, rules_of
from experiments.common.costs import Program, costs, gradient_programs
from experiments.common.tasks import task_maker
from slax_neurons import Connect
from slax_rules import SketchedRTRL, certified_gradient, cross_entropy


def compute(config: dict[str, Any]) -> dict[str, Any]:
    task_key, model_key, rule_key, batch_key = random.split(random.key(0), 4)
    batch = task_maker(config, None)(task_key).sample(batch_key, batch_size=config["batch_size"])
    model = network(config, nnx.Rngs(model_key))
    rules = {name: make(rngs=nnx.Rngs(rule_key), model=model) for name, make in rules_of(config).items()}
    ranks = {str(rank): SketchedRTRL(rank) for rank in config["ranks"]}
    made = {("rules", name): rule for name, rule in rules.items()} | {("ranks", rank): ranks[rank] for rank in ranks}
    programs = gradient_programs(model, {name: (rule, config["window"]) for name, rule in made.items()}, batch)
    programs |= {("bounds", rank): with_bound(model, rule, batch, config["window"]) for rank, rule in ranks.items()}
    found: dict[str, dict[str, Any]] = {"rules": {}, "ranks": {}, "bounds": {}}
    for (kind, name), numbers in costs(programs, config["repeats"]).items():
        found[kind][name] = numbers
    return {"costs": found}


def with_bound(model: Connect, rule: SketchedRTRL, batch: tuple[Any, ...], window: int) -> Program:
    """The program of a gradient of a batch with its bound."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def gradient(state: nnx.State, *batch: jax.Array) -> tuple[Any, ...]:
        model = nnx.merge(graphdef, state)
        return tuple(certified_gradient(model, cross_entropy, *batch, rule=rule, window=window))

    return gradient.lower(state, *batch).compile(), (state, *batch)
