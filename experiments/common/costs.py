"""The time and memory of gradients. All programs are compiled first and then take turns, so that other load on the machine
affects all of them equally. The numbers differ from run to run, so they are kept separate from the results."""

import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from flax import nnx
from jax import random

from experiments.common.tasks import make_model, task_maker
from slax_neurons import Connect
from slax_rules import cross_entropy, gradients

Program = tuple[Any, tuple[Any, ...]]  # a program with its arguments


def costs_of_rules(
    config: dict[str, Any], rules: Mapping[str, Callable[..., Any]], spikes: Any = None, window: int | None = None
) -> dict[str, dict[str, Any]]:
    """The costs of a jitted forward pass and gradient of a batch of a task under each rule, `rules[name](rngs=..., model=...)`,
    in the configured number of `repeats`."""
    task_key, model_key, rule_key, batch_key = random.split(random.key(0), 4)
    batch = task_maker(config, spikes)(task_key).sample(batch_key, batch_size=config["batch_size"])
    model = make_model(config, nnx.Rngs(model_key))
    made = {name: (make(rngs=nnx.Rngs(rule_key), model=model), window) for name, make in rules.items()}
    return costs(gradient_programs(model, made, batch), config["repeats"])


def gradient_programs(
    model: Connect, rules: Mapping[Any, tuple[Any, int | None]], batch: tuple[Any, ...]
) -> dict[Any, Program]:
    """The programs of the gradients of a batch under rules, each with its window, which are compiled side by side."""
    made = {name: lowered(model, rule, batch, window) for name, (rule, window) in rules.items()}
    with ThreadPoolExecutor() as pool:
        compiled = pool.map(lambda one: one[0].compile(), made.values())
        return {name: (program, made[name][1]) for name, program in zip(made, compiled, strict=True)}


def lowered(model: Connect, rule: Any, batch: tuple[Any, ...], window: int | None) -> Program:
    """The program of a rule's gradient of a batch before it is compiled. It takes the state of model and rule, and a batch."""
    graphdef, state = nnx.split((model, rule))

    @jax.jit
    def gradient(state: nnx.State, *batch: jax.Array) -> nnx.State:
        model, rule = nnx.merge(graphdef, state)
        return gradients(model, cross_entropy, *batch, rule=rule, window=window)[1]

    return gradient.lower(state, *batch), (state, *batch)


def temporary_bytes(model: Connect, rule: Any, batch: tuple[Any, ...], window: int | None) -> float:
    """The temporaries of this program for each sample, in bytes. It is not run, so its machine code may be slow."""
    program = lowered(model, rule, batch, window)[0].compile({"xla_backend_optimization_level": 0})
    return float(program.memory_analysis().temp_size_in_bytes / batch[0].shape[1])


def costs(programs: Mapping[Any, Program], repeats: int) -> dict[Any, dict[str, Any]]:
    """The times of each program in all rounds, in ms, and its temporaries, in bytes."""
    times: dict[Hashable, list[float]] = {name: [] for name in programs}
    for _ in range(repeats + 1):
        for name, (program, arguments) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times[name].append(1e3 * (time.perf_counter() - start))
    # The first call warms up.
    return {
        name: {"milliseconds": times[name][1:], "temporary_bytes": program.memory_analysis().temp_size_in_bytes}
        for name, (program, _) in programs.items()
    }
