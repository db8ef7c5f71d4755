"""Train one rule with several seeds, and measure the activity of the hidden layers during training.

At some steps of training, the result has the test accuracy and, for each hidden layer, the spikes per step and unit and the
share of units that never spike. For the first seed it also has one test sample before and after training: all spikes, and a few
membranes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.common.learning import at_one_rate
from experiments.common.samples import make_sampler
from slax_neurons import Connect


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The numbers of all seeds, and the sample of the first seed."""
    config = config | {"steps": config["measure_at"][-1]}
    sampler, where, at = make_sampler(config, None), f"activity: under {config['rule']}", config["measure_at"]
    seeds, sample = [], None
    for run in at_one_rate(config, sampler, where, evaluate_at=at):
        inputs = sampler(run.seed).test[0]
        stages = [
            {"step": step, "accuracy": run.test[step]} | jax.tree.map(float, measure(run.network(step)[0], inputs))
            for step in at
        ]
        seeds.append({"seed": run.seed, "stages": stages})
        sample = sample or {
            name: look(run.network(step)[0], inputs[:, :1]) for name, step in (("before", 0), ("after", at[-1]))
        }
    return {"seeds": seeds, "sample": shown(config, sample or {})}


@nnx.jit
def measure(model: Connect, inputs: jax.Array) -> dict[str, Any]:
    """For each hidden layer the spikes per step and unit, and the share of units without a spike."""
    spikes = {layer: of["spikes"] for layer, of in look(model, inputs).items()}
    return {
        "rates": {layer: of.mean() for layer, of in spikes.items()},
        "silent": {layer: (of.sum((0, 1)) == 0).mean() for layer, of in spikes.items()},
    }


@nnx.jit
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
