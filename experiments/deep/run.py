"""Train a deep network under one rule with several seeds, and evaluate each on the test split after its last batch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.tasks import task_maker
from experiments.common.training import check_losses, loss_at_the_end, make_rule, training_step
from experiments.deep.networks import NETWORKS
from slax_data import Augmentation, Task, held_out
from slax_neurons import Connect, unroll
from slax_rules import cross_entropy, train_offline, train_online


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The results of the seeds 0, 1, ..., trained by a single program; no step is selected by accuracy."""
    return {"seeds": results(config, task_maker(config, spikes))}


def results(config: dict[str, Any], make: Callable[[jax.Array], Task]) -> list[dict[str, Any]]:
    """The numbers of each seed on the test split of the task that `make` makes of a key."""
    numbers: list[dict[str, Any]] = []
    program = None
    for seed in tqdm(range(config["seeds"]), desc=f"{config['task']}, {config['rule']}", unit="seed", disable=None):
        task_key, model_key, rule_key, train_key, test_key = random.split(random.key(seed), 5)
        task = make(task_key)
        model = NETWORKS[config["network"]](config, nnx.Rngs(model_key))
        pieces = {"steps": config["online_window"]} if config["rule"] == "tbptt" else {}
        rule = make_rule(config["rule"], model, rule_key, **pieces)
        objects = (model, rule, make_optimizer(config, model))
        state = nnx.state(objects)
        if program is None:  # the network and the task are the same for all seeds except for their numbers
            program = jax.jit(partial(jax.lax.scan, training_step(objects, partial(train_on, config, task))[0]))
        state, losses = program(state, random.split(train_key, config["steps"]))
        check_losses(f"deep, {config['task']}", seed, {config["rule"]: losses})
        nnx.update(objects, state)
        model.eval()
        unseen = held_out(task, test_key, config["test_size"])
        numbers.append(
            {
                "seed": seed,
                "accuracy": float(accuracy_of(model, *unseen)),
                "loss": float(loss_at_the_end(losses)),
                "spikes": {name: float(rate) for name, rate in activity(model, unseen[0]).items()},
            }
        )
    return numbers


def make_optimizer(config: dict[str, Any], model: Connect) -> nnx.Optimizer:
    """Adam, whose rate falls to zero along half a cosine."""
    updates = -(-config["n_steps"] // config["online_window"]) if is_online(config) else 1
    rate = optax.cosine_decay_schedule(config["learning_rate"], config["steps"] * updates)
    return nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)


def is_online(config: dict[str, Any]) -> bool:
    """Whether there is an update for each window: under every rule except BPTT."""
    return config["rule"] != "bptt"


def train_on(
    config: dict[str, Any], task: Task, model: Connect, rule: Any, optimizer: nnx.Optimizer, key: jax.Array
) -> jax.Array:
    """Train on one batch, changed at random, and return its loss."""
    batch_key, augment_key = random.split(key)
    inputs, labels = task.sample(batch_key, batch_size=config["batch_size"])
    inputs = Augmentation(**config["augmentation"])(augment_key, inputs)
    if is_online(config):
        window = config["online_window"]
        return train_online(model, optimizer, cross_entropy, inputs, labels, rule=rule, window=window)
    return train_offline(model, optimizer, cross_entropy, inputs, labels, rule=rule)


@nnx.jit
def accuracy_of(model: Connect, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of samples whose label is the most probable class, by the sum over time of the softmax of the outputs."""
    _, outputs = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    return jnp.mean(jax.nn.softmax(outputs).sum(axis=0).argmax(axis=-1) == labels)


@nnx.jit
def activity(model: Connect, inputs: jax.Array) -> dict[str, jax.Array]:
    """The mean spikes per step and unit of each layer of spiking neurons, numbered from 1."""
    _, outputs = model.outputs(model.initialize_carry(inputs.shape[1:]), inputs)
    spiking = [
        spikes for module, spikes in zip(model.modules, outputs, strict=True) if getattr(module, "spikes", False)
    ]
    return {str(number): spikes.mean() for number, spikes in enumerate(spiking, 1)}
