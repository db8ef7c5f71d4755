"""Train one rule with several seeds, and measure the activity of the hidden layers during training.

At some steps of training, the result has the test accuracy and, for each hidden layer, the spikes per step and unit and the
share of units that never spike. For the first seed it also has one test sample before and after training: all spikes, and a few
membranes.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.common.samples import make_sampler
from experiments.common.trainer import make_trainer
from experiments.common.training import check_losses, check_rising, make_model, make_rule, model_accuracy
from experiments.common.trials import start_of
from slax_neurons import Connect


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the seeds 0, 1, ..., and the sample of the first seed."""
    check_rising(config["measure_at"])
    config = config | {"steps": config["measure_at"][-1]}
    part = math.gcd(*config["measure_at"])
    sampler = make_sampler(config, None, part)
    trainer = make_trainer(config, "offline", make_model, partial(make_rule, config["rule"]))
    measured = jax.jit(lambda trained, test: measure(trainer.network(trained)[0], test))
    seen = jax.jit(lambda trained, inputs: look(trainer.network(trained)[0], inputs))
    seeds, sample = [], None
    for seed in tqdm(range(config["seeds"]), desc=config["rule"], unit="seed", disable=None):
        samples, start = sampler(seed), start_of(trainer, seed)
        parts = list(trainer.train_in_parts(start, config["learning_rate"], samples.parts()))
        check_losses(f"activity: under {config['rule']}", seed, np.concatenate([losses for _, losses in parts]))
        after = [start, *(trained for trained, _ in parts)]  # after each part
        stages = {step: after[step // part] for step in config["measure_at"]}
        numbers = {step: jax.tree.map(float, measured(trained, samples.test)) for step, trained in stages.items()}
        seeds.append({"seed": seed, "stages": [{"step": step} | of_step for step, of_step in numbers.items()]})
        one = samples.test[0][:, :1]
        sample = sample or {"before": seen(after[0], one), "after": seen(after[-1], one)}
    return {"seeds": seeds, "sample": shown(config, sample or {})}


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
