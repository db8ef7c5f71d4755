"""Measure the time and memory of one gradient of each rule, on one task."""

from typing import Any

from flax import nnx

from experiments.common.costs import costs, example, gradient_program
from experiments.common.learning import gradient_rule
from slax_rules import RULES


def compute(config: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The costs of a jitted forward pass and gradient of a batch, by rule."""
    model, key, batch = example(config)
    rules = {name: RULES[name].make(rngs=nnx.Rngs(key), model=model) for name in config["rules"]}
    programs = {name: gradient_program(model, gradient_rule(name, rule), batch) for name, rule in rules.items()}
    return {"rules": costs(programs, config["repeats"])}
