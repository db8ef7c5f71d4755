"""Train a deep network under one rule with several seeds, and measure its accuracy on the test split once, at the end."""

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
    """The results of the seeds 0, 1, ...; no step is selected by accuracy."""
    make = task_maker(config, spikes)
    numbers = []
    for seed in tqdm(range(config["seeds"]), desc=f"{config['task']}, {config['rule']}", unit="seed", disable=None):
        task_key, model_key, rule_key, train_key, test_key = random.split(random.key(seed), 5)
        task = make(task_key)
        model = NETWORKS[config["network"]](config, nnx.Rngs(model_key))
        losses = train(config, model, make_rule(config["rule"], rule_key), task, train_key)
        check_losses(f"deep, {config['task']}", seed, {config["rule"]: losses})
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
    return {"seeds": numbers}


def train(config: dict[str, Any], model: Connect, rule: Any, task: Task, key: jax.Array) -> jax.Array:
    """Train in place with Adam, whose rate falls to zero along half a cosine, and return the loss of each batch.

    BPTT makes one update for each sequence, and every other rule one for each window.
    """
    online = config["rule"] != "bptt"
    updates = -(-config["n_steps"] // config["online_window"]) if online else 1
    rate = optax.cosine_decay_schedule(config["learning_rate"], config["steps"] * updates)
    optimizer = nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)
    augment = Augmentation(**config["augmentation"])

    def step(model: Connect, rule: Any, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        batch_key, augment_key = random.split(key)
        inputs, labels = task.sample(batch_key, batch_size=config["batch_size"])
        inputs = augment(augment_key, inputs)
        if online:
            window = config["online_window"]
            return train_online(model, optimizer, cross_entropy, inputs, labels, rule=rule, window=window)
        return train_offline(model, optimizer, cross_entropy, inputs, labels, rule=rule)

    objects = (model, rule, optimizer)
    pure, state = training_step(objects, step)
    state, losses = jax.jit(partial(jax.lax.scan, pure))(state, random.split(key, config["steps"]))
    nnx.update(objects, state)
    return losses


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
