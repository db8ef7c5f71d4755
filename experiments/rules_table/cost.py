"""Measure the time and memory of one gradient of each rule, on one task.

All rules are compiled first and then take turns, so that other load on the machine affects all of them equally. The numbers
differ from run to run, so they are kept separate from the results.
"""

import time
from typing import Any

import jax
from flax import nnx
from jax import random

from experiments.common.learning import gradient_rule
from experiments.common.networks import make_model
from experiments.common.tasks import task_maker
from slax_neurons import Connect
from slax_rules import RULES, cross_entropy, gradients


def compute(config: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The times of a jitted forward pass and gradient of a batch, in ms, and the temporaries, in bytes, of each rule."""
    task_key, model_key, rule_key, batch_key = random.split(random.key(0), 4)
    model = make_model(config, nnx.Rngs(model_key))
    batch = task_maker(config, None)(task_key).sample(batch_key, batch_size=config["batch_size"])
    programs = {name: compiled(name, model, rule_key, batch) for name in config["rules"]}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(config["repeats"] + 1):
        for name, (program, state) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(state, *batch))
            times[name].append(1e3 * (time.perf_counter() - start))
    costs = {
        name: {
            "milliseconds": times[name][1:],  # the first call warms up
            "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
        }
        for name, (program, _) in programs.items()
    }
    return {"rules": costs}


def compiled(name: str, model: Connect, key: jax.Array, batch: tuple) -> tuple[Any, nnx.State]:
    """The compiled program of a rule's gradient, and the state of model and rule that it takes before the batch."""
    graphdef, state = nnx.split((model, gradient_rule(name, RULES[name].make(rngs=nnx.Rngs(key), model=model))))

    def gradient(state: nnx.State, inputs: jax.Array, labels: jax.Array) -> nnx.State:
        model, rule = nnx.merge(graphdef, state)
        return gradients(model, cross_entropy, inputs, labels, rule=rule)[1]

    return jax.jit(gradient).lower(state, *batch).compile(), state
