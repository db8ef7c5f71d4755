"""Measure the time and memory of one gradient of each rule, on one task."""

from typing import Any

from experiments.common.costs import costs_of_rules
from experiments.common.learning import gradient_rule
from slax_rules import RULES


def compute(config: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The costs of a jitted forward pass and gradient of a batch, by rule, and of BPTT that recomputes."""

    def maker(name: str) -> Any:
        return lambda **given: gradient_rule(name, RULES[name].make(**given))

    return {"rules": costs_of_rules(config, {name: maker(name) for name in config["rules"]})}
