"""The accuracy after online training, as a function of the number of steps K between two updates.

A sequence of T steps gives T / K updates at the same learning rate, so a small K gives more updates. For TBPTT(K), K also
defines the rule, so it is also trained with one update per sequence, where K affects only the gradient.
"""

from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import random

from experiments.common.training import (
    Update,
    check_losses,
    make_model,
    make_optimizer,
    make_rule,
    model_accuracy,
    training_step,
)
from slax_data import make_task
from slax_neurons import Connect
from slax_rules import cross_entropy, train_offline, train_online


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The test accuracies of all seeds, for each window and each update mode that depends on it."""
    numbers = []
    for update in updates(config["rule"]):
        for window in config["windows"]:
            program = jax.jit(partial(one_seed, config, update, window))
            accuracies = []
            for seed in range(config["seeds"]):
                accuracy, losses = program(random.key(seed))
                check_losses("curvature", seed, {f"{config['rule']} {update}, K = {window}": losses})
                accuracies.append(float(accuracy))
            numbers.append({"mode": update, "window": window, "accuracy": accuracies})
    return {"cells": numbers}


def updates(rule: str) -> list[Update]:
    """The update modes that depend on the window: with one update per sequence it matters only for TBPTT."""
    return ["offline", "online"] if rule == "tbptt" else ["online"]


def one_seed(config: dict[str, Any], update: Update, window: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The test accuracy and the training losses; the key determines all random draws, equally for all rules, windows and
    update modes."""
    task_key, model_key, rule_key, train_key, test_key = random.split(key, 5)
    layers = config["layers"]
    sizes = {"n_units": layers[0], "n_classes": layers[-1], "n_steps": config["n_steps"]}
    task = make_task("randman", task_key, code=config["code"], **sizes)
    model = make_model(config, nnx.Rngs(model_key))
    rule = make_rule(config["rule"], model, rule_key, **({"steps": window} if config["rule"] == "tbptt" else {}))
    objects = (model, rule, make_optimizer(config, model, rule, config["learning_rate"][update]))
    run = train_offline if update == "offline" else train_online

    def train_on(model: Connect, rule: Any, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        batch = task.sample(key, batch_size=config["batch_size"])
        return run(model, optimizer, cross_entropy, *batch, rule=rule, window=window)

    step, state = training_step(objects, train_on)
    state, losses = jax.lax.scan(step, state, random.split(train_key, config["steps"]))
    nnx.update(objects, state)
    test_set = task.sample(test_key, batch_size=config["test_size"], split="test")
    return model_accuracy(model, *test_set), losses
