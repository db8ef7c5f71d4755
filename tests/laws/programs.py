"""The gradients that the laws read. `gradients` keeps one compiled program for a rule, a network and a window, to which inputs,
targets and the mask are arguments: a law that changes these alone costs milliseconds."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import oracle
from laws.table import (
    ALL,
    NETWORKS,
    TABLE,
    TARGETS,
    WINDOW,
    inputs_of,
    made,
    route_of,
    signal_of,
    weighted_squares,
    weights_of,
)
from slax_neurons import Connect
from slax_rules import LayerRule, gradients
from stacks import gradients_of


class Found(NamedTuple):
    loss: float
    gradients: list[dict[str, np.ndarray]]  # per layer and name, as the oracle has them


class Case(NamedTuple):
    """A rule of the table on a network, which nothing changes."""

    name: str
    model: Connect
    layers: list[oracle.Layer]
    rule: Any
    inputs: np.ndarray

    def run(
        self, x: Any = None, targets: Any = TARGETS, mask: Any = ALL, window: int | None = WINDOW, **options: Any
    ) -> Found:
        """By the package. Without a mask, a program of its own."""
        x = jnp.asarray(self.inputs if x is None else x)
        mask = None if mask is None else jnp.asarray(mask)
        loss, found = gradients(
            self.model, weighted_squares, x, jnp.asarray(targets), rule=self.rule, window=window, mask=mask, **options
        )
        return Found(float(loss), gradients_of(self.model, found))

    def expected(self, x: Any = None, targets: Any = TARGETS, mask: Any = ALL, rule: Any = None, **options: Any) -> Any:
        """By the oracle: under this rule, or another one of the oracle's."""
        if rule is None:
            rule = TABLE[self.name].oracle
            if isinstance(self.rule, LayerRule):
                weighted = targets * weights_of(mask)[..., None]
                options = options | {"route": route_of(self.rule, self.model, self.layers, weighted)}
        return rule(self.layers, self.inputs if x is None else x, signal_of(targets, mask), **options)


@functools.cache
def case(name: str, network: str) -> Case:
    entry = TABLE[name]
    model, layers = NETWORKS[network].pair(fixed=entry.fixed, own_edges=entry.own_edges)
    return Case(name, model, layers, made(name, model), inputs_of(network))
