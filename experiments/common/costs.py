"""The time and memory of gradients, measured. All programs are compiled first and then take turns, so that other load on the
machine affects all of them equally. The numbers differ from run to run, so they are kept separate from the results."""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import random

from experiments.common.tasks import make_model, task_maker
from slax_neurons import Connect
from slax_rules import BPTT, cost, cross_entropy, gradients

RECOMPUTED = "recomputed"  # BPTT(remat=True), whose gradient is that of BPTT
LEAST = 3  # rounds, also if they take longer than asked for

Program = tuple[Any, tuple[Any, ...]]  # a program with its arguments


def costs_of_rules(
    config: dict[str, Any], rules: Mapping[str, Callable[..., Any]], spikes: Any = None, window: int | None = None
) -> dict[str, dict[str, Any]]:
    """The costs of a jitted forward pass and gradient of a batch of a task under each rule, `rules[name](rngs=..., model=...)`,
    in the configured number of `repeats`; and of BPTT that recomputes, under RECOMPUTED."""
    task_key, model_key, rule_key, batch_key = random.split(random.key(0), 4)
    batch = task_maker(config, spikes)(task_key).sample(batch_key, batch_size=config["batch_size"])
    model = make_model(config, nnx.Rngs(model_key))
    made = {name: (make(rngs=nnx.Rngs(rule_key), model=model), window) for name, make in rules.items()}
    made[RECOMPUTED] = BPTT(remat=True), None
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


def bytes_of(model: Connect, rule: Any, shape: tuple[int, ...], window: int | None) -> dict[str, int | None]:
    """The bytes per sample of a gradient, "measured" and "counted" by `slax_rules.cost`, and those of its "inputs", besides."""
    found = cost(model, rule, shape, window=window)
    return {"measured": found.measured_bytes, "counted": found.counted_bytes, "inputs": found.input_bytes}


def costs(programs: Mapping[Any, Program], repeats: int) -> dict[Any, dict[str, Any]]:
    """The times of each program in all rounds, in ms; its temporaries, in bytes; and, besides, the bytes of its inputs."""
    calls = {name: partial(program, *arguments) for name, (program, arguments) in programs.items()}
    return {
        name: {
            "milliseconds": [1e3 * seconds for seconds in times],
            "temporary_bytes": programs[name][0].memory_analysis().temp_size_in_bytes,
            "input_bytes": programs[name][1][1].nbytes,
        }
        for name, times in times_of(calls, repeats).items()
    }


def times_of(calls: Mapping[Any, Callable[[], Any]], repeats: int, seconds: float = math.inf) -> dict[Any, list[float]]:
    """The seconds of each call, in rounds in which all take turns, until these have taken so many seconds. The first round
    warms up, and does not count."""
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for repeat in range(repeats + 1):
        if repeat == 1:
            end = time.perf_counter() + seconds
        elif repeat > LEAST and time.perf_counter() > end:
            break
        for key, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if repeat:
                times[key].append(time.perf_counter() - start)
    return times
