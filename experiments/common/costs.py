"""The time and memory of gradients. All programs are compiled first and then take turns, so that other load on the machine
affects all of them equally. The numbers differ from run to run, so they are kept separate from the results."""

import time
from collections.abc import Hashable, Mapping
from typing import Any

import jax
from flax import nnx
from jax import random

from experiments.common.tasks import make_model, task_maker
from slax_neurons import Connect
from slax_rules import cross_entropy, gradients

Program = tuple[Any, tuple[Any, ...]]  # compiled, with its arguments


def example(config: dict[str, Any], spikes: Any = None) -> tuple[Connect, jax.Array, tuple[Any, Any]]:
    """The network and a batch of a task, and a key for the random draws of rules."""
    task_key, model_key, rule_key, batch_key = random.split(random.key(0), 4)
    batch = task_maker(config, spikes)(task_key).sample(batch_key, batch_size=config["batch_size"])
    return make_model(config, nnx.Rngs(model_key)), rule_key, batch


def gradient_program(model: Connect, rule: Any, batch: tuple[Any, Any], window: int | None = None) -> Program:
    """The program of a rule's gradient of a batch."""
    graphdef, state = nnx.split((model, rule))

    @jax.jit
    def gradient(state: nnx.State, *batch: jax.Array) -> nnx.State:
        model, rule = nnx.merge(graphdef, state)
        return gradients(model, cross_entropy, *batch, rule=rule, window=window)[1]

    return gradient.lower(state, *batch).compile(), (state, *batch)


def costs(programs: Mapping[Any, Program], repeats: int) -> dict[Any, dict[str, Any]]:
    """The times of each program in all rounds, in ms, and its temporaries, in bytes."""
    times: dict[Hashable, list[float]] = {name: [] for name in programs}
    for _ in range(repeats + 1):
        for name, (program, arguments) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {
            "milliseconds": times[name][1:],  # the first call warms up
            "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
        }
        for name, (program, _) in programs.items()
    }
