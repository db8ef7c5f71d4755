"""Train one task under one rule with several seeds, and measure its accuracy on the test split."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.tasks import task_maker
from experiments.common.training import (
    activity,
    check_losses,
    loss_at_the_end,
    make_model,
    make_rule,
    model_accuracy,
    train,
)
from slax_data import Task, held_out
from slax_rules import RULES


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The results of `one_seed` for the seeds 0, 1, ..., computed by a single program."""
    program = jax.jit(partial(one_seed, config, task_maker(config, spikes)))
    seeds = tqdm(range(config["seeds"]), desc=f"{config['task']}, {config['rule']}", unit="seed", disable=None)
    numbers = []
    for seed in seeds:
        stages, losses = program(random.key(seed))
        named = {f"{config['rule']} {update}": of_update for update, of_update in losses.items()}
        check_losses(f"accuracy of {config['task']}", seed, named)
        numbers.append({"seed": seed, **jax.tree.map(float, stages)})
    return {"seeds": numbers}


def one_seed(
    config: dict[str, Any], make: Callable[[jax.Array], Task], key: jax.Array
) -> tuple[dict[str, dict[str, Any]], dict[str, jax.Array]]:
    """The results of each update mode at the end of training, with no step selected by accuracy, and the losses of all steps.
    The key determines all random draws."""
    model_key, rule_key, train_key, batch_key, test_key, task_key = random.split(key, 6)
    task = make(task_key)
    model = make_model(config, nnx.Rngs(model_key))
    rule = make_rule(config["rule"], model, rule_key)
    sample = partial(task.sample, batch_size=config["batch_size"])
    seen = task.sample(batch_key, batch_size=config["train_size"])
    unseen = held_out(task, test_key, config["test_size"])
    graphdef, start = nnx.split((model, rule))
    stages, losses = {}, {}
    for update in RULES[config["rule"]].updates:
        model, rule = nnx.merge(graphdef, start, copy=True)
        losses[update] = train(config, update, model, rule, sample, random.split(train_key, config["steps"]))
        stages[update] = {
            "accuracy": model_accuracy(model, *unseen),
            "train_accuracy": model_accuracy(model, *seen),
            "loss": loss_at_the_end(losses[update]),
            "spikes": activity(model, unseen[0]),
        }
    return stages, losses
