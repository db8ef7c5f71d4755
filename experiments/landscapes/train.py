"""Train the network of a task under one rule with several seeds, and keep its parameters along the way.

The numbers are losses and accuracies. The arrays have one entry for each path of a parameter, [seeds, checkpoints, ...].
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.training import (
    check_losses,
    loss_of_params,
    make_rule,
    model_accuracy,
    trained_by,
    training_step,
)
from experiments.landscapes.problem import Problem, make_problem
from slax_neurons import Connect
from slax_rules import TBPTT, cross_entropy, train_offline, train_online
from slax_rules.training.paths import by_path


def compute(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The losses and accuracies of the seeds 0, 1, ..., computed by a single program, and the parameters."""
    program = jax.jit(partial(one_seed, config))
    seeds, trained = [], []
    for seed in tqdm(range(config["seeds"]), desc=config["rule"], unit="seed", disable=None):
        numbers, params, losses = jax.tree.map(np.asarray, program(random.key(seed)))
        check_losses(f"landscapes of {config['task']}: under {config['rule']} {config['mode']}", seed, losses)
        seeds.append({"seed": seed} | {name: values.tolist() for name, values in numbers.items()})
        trained.append(params)
    return {"seeds": seeds}, {path: np.stack([params[path] for params in trained]) for path in trained[0]}


def one_seed(config: dict[str, Any], key: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """The test loss and test accuracy of each checkpoint, the checkpoints, leaves [checkpoints, ...] by path, and the
    training losses."""
    problem = make_problem(config, key)
    checkpoints, losses = train_with_checkpoints(config, problem)
    loss = loss_of_params(problem.model, *problem.test_set)
    graphdef, _, rest = nnx.split(problem.model, nnx.Param, ...)

    def measure(params: nnx.State) -> dict[str, jax.Array]:
        return {
            "loss": loss(params),
            "accuracy": model_accuracy(nnx.merge(graphdef, params, rest), *problem.test_set),
        }

    return jax.lax.map(measure, checkpoints), by_path(checkpoints), losses


def train_with_checkpoints(config: dict[str, Any], problem: Problem) -> tuple[nnx.State, jax.Array]:
    """The parameters before training and after every `checkpoint_every` batches, with leaves [checkpoints + 1, ...], and the
    losses of all batches.

    Online training updates after each step, as in slax; TBPTT updates after its own number of steps.
    """
    rule = make_rule(config["rule"], problem.model, problem.rule_key)
    optimizer = nnx.Optimizer(trained_by(problem.model, rule), optax.adamax(config["learning_rate"]), wrt=nnx.Param)
    window = rule.steps if isinstance(rule, TBPTT) else 1

    def train_on(model: Connect, rule: Any, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        if config["mode"] == "offline":
            return train_offline(model, optimizer, cross_entropy, *problem.sample(key), rule=rule)
        return train_online(model, optimizer, cross_entropy, *problem.sample(key), rule=rule, window=window)

    step, state = training_step((problem.model, rule, optimizer), train_on)

    def part(state: nnx.State, keys: jax.Array) -> tuple[nnx.State, tuple[nnx.State, jax.Array]]:
        before = nnx.filter_state(state[0], nnx.Param)
        state, losses = jax.lax.scan(step, state, keys)
        return state, (before, losses)

    keys = random.split(problem.train_key, (config["checkpoints"], config["checkpoint_every"]))
    state, (checkpoints, losses) = jax.lax.scan(part, state, keys)
    last = nnx.filter_state(state[0], nnx.Param)
    return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), checkpoints, last), losses.ravel()
