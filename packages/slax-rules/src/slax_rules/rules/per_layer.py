"""A rule for each layer of a stack."""

import dataclasses
from collections.abc import Sequence

from slax_rules.rules.base import Layer, LayerRule, Layerwise, StepSize


@dataclasses.dataclass(frozen=True)
class PerLayer(Layerwise):
    """A rule for each layer of a stack, from the first to the last.

    Args:
        rules: a `LayerRule` for each layer; each has its own route.

    Raises:
        TypeError: anything other than a list of rules for layers, such as `BPTT()` in it.
        ValueError: when it is used, another number of rules than layers.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, SLTT, PerLayer, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=PerLayer([SLTT(), OSTL()]))
    """

    rules: Sequence[LayerRule]

    def __post_init__(self) -> None:
        rules = self.rules
        if not isinstance(rules, list | tuple) or not rules or not all(isinstance(one, LayerRule) for one in rules):
            raise TypeError(f"PerLayer got {rules!r}, expected a rule for each layer: PerLayer([OTPE(), SLTT()]).")
        object.__setattr__(self, "rules", tuple(rules))

    @property
    def title(self) -> str:
        return ", ".join(dict.fromkeys(rule.title for rule in self.rules))

    @property
    def has_local_losses(self) -> bool:
        return any(rule.has_local_losses for rule in self.rules)

    def default_window(self, size: StepSize) -> int:
        return max(rule.default_window(size) for rule in self.rules)

    def for_layers(self, layers: Sequence[Layer]) -> tuple[LayerRule, ...]:
        if len(self.rules) != len(layers):
            raise ValueError(f"PerLayer got {len(self.rules)} rules for {len(layers)} layers, expected one for each.")
        return tuple(rule.for_layer(layer) for rule, layer in zip(self.rules, layers, strict=True))
