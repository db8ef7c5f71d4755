"""One rule of each kind, for laws of how rules are run: under jit, over windows, behind a mask, as a stream.

The others fill the same traces with other numbers, which the oracle checks (rules/test_local_rules.py and
contract/test_every_cell_of_the_grid.py), or are one of these along another route or under another name.
"""

from covering import EVERY
from slax_rules import RULES


def first_of_each(key):
    """The first line of the registry with each value of a key."""
    return list({key(entry): name for name, entry in reversed(RULES.items())}.values())


OF_EACH_CLASS = first_of_each(lambda entry: (entry.rule, "recurrence" in entry.options))
OF_EACH_CLASS_AND_ROUTE = sorted({*OF_EACH_CLASS, *first_of_each(lambda entry: entry.route)})


KINDS = (
    *("bptt", "tbptt"),  # autodiff over all steps and over some
    *("ostl", "ostl_with_recurrence", "ottt", "otpe", "e_prop", "pp_prop", "s_tllr"),  # traces of their own
    *("decolle", "e_prop_adaptive"),  # losses of each layer, and parameters of the rule
    *("rtrl", "snap", "uoro"),  # influences of the whole network, a part of them, and by draws
    "fptt",  # in the optimizer
)


# A kind stands for the other rules of its class, OTTT for SLTT too, and OTPE for its approximation. A rule of any other class
# is of a kind of its own.
STOOD_FOR = {RULES[name].rule for name in (*KINDS, "sltt", "approximate_otpe")}


def of_each_kind(names=RULES):
    """Of the names of rules one of each kind, in the same order, or with EVERY_COMBINATION=1 all."""
    return [name for name in names if EVERY or name in KINDS or RULES[name].rule not in STOOD_FOR]
