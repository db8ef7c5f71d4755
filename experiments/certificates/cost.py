"""Measure the time and memory of a gradient of all rules in the recurrent network."""

from typing import Any

from flax import nnx
from jax import random

from experiments.certificates.run import network, rules_of
from experiments.common.costs import costs, gradient_programs
from experiments.common.tasks import task_maker


def compute(config: dict[str, Any]) -> dict[str, Any]:
    task_key, model_key, rule_key, batch_key = random.split(random.key(0), 4)
    batch = task_maker(config, None)(task_key).sample(batch_key, batch_size=config["batch_size"])
    model = network(config, nnx.Rngs(model_key))
    made = rules_of(config).items()
    rules = {name: (make(rngs=nnx.Rngs(rule_key), model=model), config["window"]) for name, make in made}
    return {"costs": costs(gradient_programs(model, rules, batch), config["repeats"])}
