"""Accuracy after training online, by the steps K between two updates.

A sequence of T steps is T / K updates, at one learning rate, so that with a small K there are more of them. For the plain cell
K is the rule besides, TBPTT(K), and it is trained with one update per sequence too, where K only sets the gradient.
"""

from functools import partial
from typing import Any

import jax
import optax
from flax import nnx
from jax import random

from experiments.training import loss_of, make_model, test_accuracy, under_rule
from slax_data import make_task
from slax_rules import RULES, train_offline, train_online


def online(config: dict[str, Any]) -> list[dict[str, Any]]:
    """For each window, and each way to train that depends on it, the test accuracies of all seeds."""
    numbers = []
    for mode in modes(config["rule"]):
        for window in config["windows"]:
            program = jax.jit(partial(one_seed, config, mode, window))
            accuracies = [float(program(random.key(seed))) for seed in range(config["seeds"])]
            numbers.append({"mode": mode, "window": window, "accuracy": accuracies})
    return numbers


def modes(rule: str) -> list[str]:
    """With one update per sequence the window changes nothing but for the plain cell, and FPTT has one for each window."""
    return ["deferred", "online"] if rule == "tbptt" else ["online"]


def one_seed(config: dict[str, Any], mode: str, window: int, key: jax.Array) -> jax.Array:
    """Test accuracy; the key draws all that is drawn, alike for all rules, windows and ways to train."""
    task_key, model_key, rule_key, train_key, test_key = random.split(key, 5)
    layers = config["layers"]
    sizes = {"n_units": layers[0], "n_classes": layers[-1], "n_steps": config["n_steps"]}
    task = make_task("randman", task_key, code=config["code"], **sizes)
    cell = under_rule(config["rule"], make_model(config, nnx.Rngs(model_key)), rule_key)
    rule, transformation = RULES[config["rule"]], optax.adamax(config["learning_rate"][mode])
    if rule.optimizer:
        transformation = rule.optimizer(transformation, **config["optimizer_options"])
    optimizer = nnx.Optimizer(cell, transformation, wrt=nnx.Param)
    graphdef, state = nnx.split((cell, optimizer))
    run = train_offline if mode == "deferred" else train_online

    def step(state: nnx.State, key: jax.Array) -> tuple[nnx.State, jax.Array]:
        cell, optimizer = nnx.merge(graphdef, state)
        run(cell, optimizer, loss_of, *task.sample(key, batch_size=config["batch_size"]), window=window)
        return nnx.state((cell, optimizer)), None

    state, _ = jax.lax.scan(step, state, random.split(train_key, config["steps"]))
    test_set = task.sample(test_key, batch_size=config["test_size"], split="test")
    return test_accuracy(nnx.merge(graphdef, state)[0], *test_set)
