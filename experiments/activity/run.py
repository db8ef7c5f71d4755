"""Train one rule with several seeds, and measure the activity of the hidden layers during training.

At some steps of training, the result has the test accuracy and, for each hidden layer, the spikes per step and unit and the
share of units that never spike.
"""

from typing import Any

import jax
from flax import nnx

from experiments.common.learning import at_one_rate
from experiments.common.samples import make_sampler
from slax_neurons import Connect


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The numbers of all seeds."""
    config = config | {"steps": config["measure_at"][-1]}
    sampler, where, at = make_sampler(config, None), f"activity: under {config['rule']}", config["measure_at"]
    seeds = []
    for run in at_one_rate(config, sampler, where, evaluate_at=at):
        inputs = sampler(run.seed).test[0]
        stages = [
            {"step": step, "accuracy": run.test[step]} | jax.tree.map(float, measure(run.network(step)[0], inputs))
            for step in at
        ]
        seeds.append({"seed": run.seed, "stages": stages})
    return {"seeds": seeds}


@nnx.jit
def measure(model: Connect, inputs: jax.Array) -> dict[str, Any]:
    """For the input, "0", and each hidden layer, the spikes per step and unit, and the share of units without a spike."""
    _, outputs = model.outputs(model.initialize_carry(inputs.shape[1:]), inputs)
    spikes = {"0": inputs} | {str(index // 2 + 1): outputs[index] for index in range(1, len(model.modules) - 1, 2)}
    return {
        "rates": {layer: of.mean() for layer, of in spikes.items()},
        "silent": {layer: (of.sum((0, 1)) == 0).mean() for layer, of in spikes.items()},
    }
