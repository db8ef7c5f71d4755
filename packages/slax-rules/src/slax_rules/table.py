"""The table of learning rules: what each is made of, when it is exact, what it leaves out."""

import dataclasses
from collections.abc import Callable

from flax import nnx

from slax_rules.approximate_otpe import approximate_otpe
from slax_rules.e_prop import e_prop
from slax_rules.ostl import ostl
from slax_rules.otpe import otpe
from slax_rules.ottt import ottt
from slax_rules.pp_prop import pp_prop
from slax_rules.sltt import sltt


@dataclasses.dataclass(frozen=True)
class Rule:
    """A learning rule: `gradients(rule.wrap(model), ..., window=rule.window)`.

    Args:
        title: as it is called in print.
        wrap: maps a plain cell to the cell under the rule.
        window: the window that makes the rule out of a plain cell, None for the whole sequence; or None where the rule is
            in the cell and the window changes nothing.
        equals_bptt: when its gradient is that of BPTT.
        drops: what its gradient leaves out.
    """

    title: str
    wrap: Callable[[nnx.RNNCellBase], nnx.RNNCellBase]
    window: int | None
    equals_bptt: str
    drops: str


def _plain(model: nnx.RNNCellBase) -> nnx.RNNCellBase:
    return model


RULES: dict[str, Rule] = {
    "bptt": Rule(
        title="BPTT",
        wrap=_plain,
        window=None,
        equals_bptt="always",
        drops="nothing",
    ),
    "ostl": Rule(
        title="OSTL",
        wrap=ostl,
        window=None,
        equals_bptt="last layer of a stack; one layer; a layer above which nothing has a memory",
        drops="paths through time in the layers above",
    ),
    "ottt": Rule(
        title="OTTT",
        wrap=ottt,
        window=None,
        equals_bptt="where OSTL does, if no gradient passes the reset",
        drops="paths through time in the layers above, and through spikes",
    ),
    "sltt": Rule(
        title="SLTT",
        wrap=sltt,
        window=None,
        equals_bptt="a sequence of one step",
        drops="all paths through time",
    ),
    "otpe": Rule(title="OTPE", wrap=otpe, window=None, equals_bptt="", drops=""),
    "approximate_otpe": Rule(title="approximate OTPE", wrap=approximate_otpe, window=None, equals_bptt="", drops=""),
    "e_prop": Rule(title="e-prop", wrap=e_prop, window=None, equals_bptt="", drops=""),
    "pp_prop": Rule(title="pp-prop", wrap=pp_prop, window=None, equals_bptt="", drops=""),
}
