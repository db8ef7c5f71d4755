"""What cells under a rule have in common, whatever the rule."""

from typing import Any, NamedTuple

import jax
from flax import nnx


class OnlineCell(nnx.RNNCellBase):
    """A cell whose carry holds the traces of a rule, so that its gradient is the same for every window.

    `default_window` is the number of steps to work on at once where none is asked for, `rule_name` what errors call the rule.
    """

    @property
    def default_window(self) -> int:
        raise NotImplementedError

    @property
    def rule_name(self) -> str:
        raise NotImplementedError


class RuledCarry(NamedTuple):
    """The carry of a stack under local rules: that of the plain stack, written out, and each layer's traces."""

    plain: tuple
    traces: tuple


def traces_of(carry: Any) -> list[Any]:
    """The traces in a carry, one entry for each stack under local rules."""
    return [part.traces for part in _parts(carry)[0] if isinstance(part, RuledCarry)]


def with_traces(carry: Any, traces: list[Any]) -> Any:
    """The carry with these traces in the place of its own."""
    parts, structure = _parts(carry)
    new = iter(traces)
    return jax.tree.unflatten(
        structure, [part._replace(traces=next(new)) if isinstance(part, RuledCarry) else part for part in parts]
    )


def _parts(carry: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(carry, is_leaf=lambda part: isinstance(part, RuledCarry))
