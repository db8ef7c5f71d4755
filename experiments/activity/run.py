"""Train one rule with several seeds, and measure the activity of the hidden layers during training.

At some steps of training, the result has the test accuracy and, for each hidden layer, the spikes per step and unit and the
share of units that never spike. For the first seed it also has one test sample before and after training: all spikes, and a few
membranes.
"""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.training import (
    check_losses,
    check_rising,
    make_model,
    make_rule,
    model_accuracy,
    train_in_parts,
)
from slax_data import held_out, make_task
from slax_neurons import Connect


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the seeds 0, 1, ..., computed by a single program, and the sample of the first seed."""
    check_rising(config["measure_at"])
    program = jax.jit(partial(one_seed, config))
    seeds, samples = [], []
    for seed in tqdm(range(config["seeds"]), desc=config["rule"], unit="seed", disable=None):
        stages, sample, losses = program(random.key(seed))
        check_losses("activity", seed, {config["rule"]: losses})
        numbers = [jax.tree.map(float, stage) for stage in stages]
        seeds.append(
            {
                "seed": seed,
                "stages": [{"step": step} | of for step, of in zip(config["measure_at"], numbers, strict=True)],
            }
        )
        samples.append(sample)
    return {"seeds": seeds, "sample": shown(config, samples[0])}


def one_seed(config: dict[str, Any], key: jax.Array) -> tuple[list[dict[str, Any]], dict[str, Any], jax.Array]:
    """The results of `measure` at each of the steps, one test sample before and after, and the training losses. The key
    determines all random draws."""
    task_key, model_key, rule_key, train_key, test_key = random.split(key, 5)
    layers = config["layers"]
    task = make_task(
        "randman", task_key, n_units=layers[0], n_classes=layers[-1], n_steps=config["n_steps"], code=config["code"]
    )
    model = make_model(config, nnx.Rngs(model_key))
    rule = make_rule(config["rule"], model, rule_key)
    test_set = held_out(task, test_key, config["eval_size"])
    keys = random.split(train_key, config["measure_at"][-1])
    parts = [keys[start:end] for start, end in itertools.pairwise([0, *config["measure_at"]])]
    sample = partial(task.sample, batch_size=config["batch_size"])
    stages, seen, losses = [], [], []
    for losses_of_part in train_in_parts(config, "offline", model, rule, sample, parts):
        stages.append(measure(model, test_set))
        seen.append(look(model, test_set[0][:, :1]))
        losses.append(losses_of_part)
    return stages, {"before": seen[0], "after": seen[-1]}, jnp.concatenate(losses)


def measure(model: Connect, test_set: tuple[jax.Array, jax.Array]) -> dict[str, Any]:
    """The test accuracy, and for each hidden layer the spikes per step and unit and the share of units without a spike."""
    spikes = {layer: of["spikes"] for layer, of in look(model, test_set[0]).items()}
    return {
        "accuracy": model_accuracy(model, *test_set),
        "rates": {layer: of.mean() for layer, of in spikes.items()},
        "silent": {layer: (of.sum((0, 1)) == 0).mean() for layer, of in spikes.items()},
    }


def look(model: Connect, inputs: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """The spikes, membranes before the reset and thresholds of each hidden layer, [T, B, N]; layer "0" is the input."""
    carry = model.initialize_carry(inputs.shape[1:])
    _, outputs = model.outputs(carry, inputs)
    seen = {"0": {"spikes": inputs}}
    for index in range(1, len(model.modules) - 1, 2):
        _, membranes = model.modules[index].pre_reset_states(carry[index], outputs[index - 1])
        threshold = jnp.broadcast_to(model.modules[index].threshold(membranes), membranes.shape)
        seen[str(index // 2 + 1)] = {"spikes": outputs[index], "membranes": membranes, "threshold": threshold}
    return seen


def shown(config: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
    """A sample as JSON: spikes as pairs of step and unit, and the membranes of some units, the same before and after."""
    listed: dict[str, Any] = {}
    for when, layers in sample.items():
        for layer, of in layers.items():
            spikes = np.asarray(of["spikes"])[:, 0]
            numbers = {"units": spikes.shape[1], "spikes": np.argwhere(spikes > 0).tolist()}
            if "membranes" in of:
                counts = np.asarray(sample["after"][layer]["spikes"])[:, 0].sum(0)
                units = np.argsort(-counts, kind="stable")[: config["shown_units"]]
                for name in ("membranes", "threshold"):
                    numbers[name] = {str(unit): np.asarray(of[name], np.float64)[:, 0, unit].tolist() for unit in units}
            listed.setdefault(when, {})[layer] = numbers
    return listed
